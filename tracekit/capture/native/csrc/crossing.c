/* Tell from the arguments of a Tensor method whether the call crosses between host and device.
 *
 * Most calls of Tensor.to cross nothing, so that to find out must cost next to nothing. torch's own headers are not
 * used: a build against them takes a minute and holds for one release of torch; a tensor is asked by its attributes. */

#include "hotpath.h"

Names names;

int
prepare_names(void)
{
    struct {
        PyObject **name;
        const char *text;
    } all[] = {
        {&names.is_cpu, "is_cpu"}, {&names.is_meta, "is_meta"}, {&names.nbytes, "nbytes"}, {&names.dtype, "dtype"},
        {&names.element_size, "element_size"}, {&names.data_ptr, "data_ptr"}, {&names.device, "device"},
        {&names.non_blocking, "non_blocking"}, {&names.dim, "dim"}, {&names.offload, "offload"},
        {&names.before, "before"}, {&names.after, "after"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (*all[i].name == NULL && (*all[i].name = PyUnicode_InternFromString(all[i].text)) == NULL)
            return -1;
    return 0;
}

/* Small questions to Python objects; -1 with an exception set where they fail. */

int
is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    int result = value == Py_True ? 1 : value == Py_False ? 0 : PyObject_IsTrue(value);
    Py_DECREF(value);
    return result;
}

int64_t
as_int(PyObject *value) /* steals it */
{
    if (value == NULL)
        return -1;
    int64_t result = PyLong_AsLongLong(value);
    Py_DECREF(value);
    return result;
}

int64_t
ask(PyObject *object, PyObject *method)
{
    return as_int(PyObject_CallMethodNoArgs(object, method));
}

/* A dict's own value, else what its __missing__ makes of the key; a new reference. */
PyObject *
look_up(PyObject *dict, PyObject *key)
{
    PyObject *value = PyDict_GetItemWithError(dict, key);
    if (value != NULL)
        return Py_NewRef(value);
    return PyErr_Occurred() ? NULL : PyObject_GetItem(dict, key);
}

/* The argument at `index` (self is 0), or the keyword `name`; borrowed, NULL when it is not given. */
static PyObject *
argument(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, Py_ssize_t index, const char *name)
{
    if (nargs > index)
        return args[index];
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++)
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i), name) == 0)
            return args[nargs + i];
    return NULL;
}

/* Which calls cross; each returns 1, 0, or -1 with an exception set. As in tracekit.capture.crossing. */

static int
crosses_to(Hook *hook, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *target = argument(args, nargs, kwnames, 1, "device");
    if (target == NULL)
        target = argument(args, nargs, kwnames, 1, "other");
    if (target == NULL)
        return 0;
    PyObject *on_host = look_up(copies_of(hook)->sides, target);
    if (on_host == NULL)
        return -1;
    Py_DECREF(on_host); /* None, True or False */
    if (on_host == Py_None)
        return 0;
    int is_cpu = is_true(args[0], names.is_cpu);
    if (is_cpu < 0 || is_cpu == (on_host == Py_True))
        return is_cpu < 0 ? -1 : 0;
    int is_meta = is_true(args[0], names.is_meta);
    return is_meta < 0 ? -1 : !is_meta;
}

static int
crosses_from_host(Hook *Py_UNUSED(hook), PyObject *const *args, Py_ssize_t Py_UNUSED(nargs),
                  PyObject *Py_UNUSED(kwnames))
{
    return is_true(args[0], names.is_cpu);
}

static int
crosses_to_host(Hook *Py_UNUSED(hook), PyObject *const *args, Py_ssize_t Py_UNUSED(nargs),
                PyObject *Py_UNUSED(kwnames))
{
    int is_cpu = is_true(args[0], names.is_cpu);
    if (is_cpu != 0)
        return is_cpu < 0 ? -1 : 0;
    int is_meta = is_true(args[0], names.is_meta);
    return is_meta < 0 ? -1 : !is_meta;
}

static int
other_side(Hook *hook, PyObject *tensor, PyObject *source)
{
    if (source == NULL || !PyType_IsSubtype(Py_TYPE(source), (PyTypeObject *)copies_of(hook)->tensor_class))
        return 0;
    int into = is_true(tensor, names.is_cpu), from = into < 0 ? -1 : is_true(source, names.is_cpu);
    if (from < 0 || into == from)
        return from < 0 ? -1 : 0;
    int into_meta = is_true(tensor, names.is_meta), from_meta = into_meta < 0 ? -1 : is_true(source, names.is_meta);
    return from_meta < 0 ? -1 : !into_meta && !from_meta;
}

static int
crosses_copy(Hook *hook, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return other_side(hook, args[0], argument(args, nargs, kwnames, 1, "src"));
}

static int
crosses_assignment(Hook *hook, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *value = argument(args, nargs, kwnames, 2, "value");
    int crosses = other_side(hook, args[0], value);
    if (crosses <= 0)
        return crosses;
    int64_t dimensions = ask(value, names.dim); /* a 0-dimensional host value travels as a kernel's argument */
    return dimensions < 0 ? -1 : dimensions > 0;
}

int
choose_crossing(Hook *hook, const char *test)
{
    static const struct {
        const char *name;
        int (*crosses)(Hook *, PyObject *const *, Py_ssize_t, PyObject *);
    } all[] = {
        {"to", crosses_to},          {"from_host", crosses_from_host}, {"to_host", crosses_to_host},
        {"copy_", crosses_copy},     {"setitem", crosses_assignment},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (strcmp(all[i].name, test) == 0) {
            hook->crosses = all[i].crosses;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "no test of crossing is called %s", test);
    return -1;
}

/* Of what crosses, only Tensor.to is recorded in C: the others' crossings are few. */
bool
may_be_recorded_here(Hook *hook)
{
    return hook->crosses == crosses_to && !copies_of(hook)->in_python;
}
