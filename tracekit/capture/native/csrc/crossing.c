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
        {&names.non_blocking, "non_blocking"},
        {&names.before, "before"},
        {&names.after, "after"},
        {&names.offload, "offload"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (*all[i].name == NULL && (*all[i].name = PyUnicode_InternFromString(all[i].text)) == NULL)
            return -1;
    return 0;
}

/* What torch gives Tensor is C functions behind descriptors, which are called directly. */
int
find_members(Copies *copies)
{
    struct {
        Member *member;
        const char *name;
    } all[] = {
        {&copies->is_cpu, "is_cpu"}, {&copies->is_meta, "is_meta"}, {&copies->nbytes, "nbytes"},
        {&copies->dtype, "dtype"}, {&copies->device, "device"}, {&copies->element_size, "element_size"},
        {&copies->data_ptr, "data_ptr"}, {&copies->dim, "dim"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        Member *found = all[i].member;
        if ((found->name = PyUnicode_InternFromString(all[i].name)) == NULL)
            return -1;
        PyObject *descriptor = PyObject_GetAttr(copies->tensor_class, found->name);
        if (descriptor == NULL)
            return -1;
        if (Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)) {
            found->get = ((PyGetSetDescrObject *)descriptor)->d_getset->get;
            found->closure = ((PyGetSetDescrObject *)descriptor)->d_getset->closure;
        } else if (Py_IS_TYPE(descriptor, &PyMethodDescr_Type)) {
            PyMethodDef *method = ((PyMethodDescrObject *)descriptor)->d_method;
            found->call = method->ml_flags == METH_NOARGS ? method->ml_meth : NULL;
        }
        Py_DECREF(descriptor); /* its class lives on */
    }
    return 0;
}

/* A property's value, or what a method without arguments gives. */
PyObject *
member(Copies *copies, const Member *asked, PyObject *tensor)
{
    if (PyObject_TypeCheck(tensor, (PyTypeObject *)copies->tensor_class)) {
        if (asked->get != NULL)
            return asked->get(tensor, asked->closure);
        if (asked->call != NULL)
            return asked->call(tensor, NULL);
    }
    PyObject *value = PyObject_GetAttr(tensor, asked->name);
    if (value == NULL || !PyCallable_Check(value))
        return value;
    Py_SETREF(value, PyObject_CallNoArgs(value));
    return value;
}

/* 1 or 0; -1 with an exception set where it fails. */
int
is_true(Copies *copies, const Member *asked, PyObject *tensor)
{
    PyObject *value = member(copies, asked, tensor);
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

/* What Sides says: 1 the host, 0 a device, -1 neither; -2 with an exception set. */
static int
side_of(Copies *copies, PyObject *target)
{
    Memo *memo = memo_of(copies->targets, target);
    if (memo->key == target)
        return memo->value;
    PyObject *on_host = look_up(copies->sides, target);
    if (on_host == NULL)
        return -2;
    Py_DECREF(on_host); /* None, True or False */
    int side = on_host == Py_None ? -1 : on_host == Py_True;
    int kept = PyDict_Contains(copies->sides, target); /* a tensor as a target is not */
    if (kept > 0)
        memo_set(memo, target, side);
    return kept < 0 ? -2 : side;
}

static int
crosses_to(Hook *hook, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *target = argument(args, nargs, kwnames, 1, "device");
    if (target == NULL)
        target = argument(args, nargs, kwnames, 1, "other");
    if (target == NULL)
        return 0;
    Copies *copies = copies_of(hook);
    int on_host = side_of(copies, target);
    if (on_host < 0)
        return on_host == -1 ? 0 : -1;
    int is_cpu = is_true(copies, &copies->is_cpu, args[0]);
    if (is_cpu < 0 || is_cpu == on_host)
        return is_cpu < 0 ? -1 : 0;
    int is_meta = is_true(copies, &copies->is_meta, args[0]);
    return is_meta < 0 ? -1 : !is_meta;
}

static int
crosses_from_host(Hook *hook, PyObject *const *args, Py_ssize_t Py_UNUSED(nargs),
                  PyObject *Py_UNUSED(kwnames))
{
    return is_true(copies_of(hook), &copies_of(hook)->is_cpu, args[0]);
}

static int
crosses_to_host(Hook *hook, PyObject *const *args, Py_ssize_t Py_UNUSED(nargs),
                PyObject *Py_UNUSED(kwnames))
{
    Copies *copies = copies_of(hook);
    int is_cpu = is_true(copies, &copies->is_cpu, args[0]);
    if (is_cpu != 0)
        return is_cpu < 0 ? -1 : 0;
    int is_meta = is_true(copies, &copies->is_meta, args[0]);
    return is_meta < 0 ? -1 : !is_meta;
}

static int
other_side(Hook *hook, PyObject *tensor, PyObject *source)
{
    Copies *copies = copies_of(hook);
    if (source == NULL || !PyObject_TypeCheck(source, (PyTypeObject *)copies->tensor_class))
        return 0;
    int into = is_true(copies, &copies->is_cpu, tensor);
    int from = into < 0 ? -1 : is_true(copies, &copies->is_cpu, source);
    if (from < 0 || into == from)
        return from < 0 ? -1 : 0;
    int into_meta = is_true(copies, &copies->is_meta, tensor);
    int from_meta = into_meta < 0 ? -1 : is_true(copies, &copies->is_meta, source);
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
    /* A 0-dimensional host value travels as a kernel's argument. */
    int64_t dimensions = as_int(member(copies_of(hook), &copies_of(hook)->dim, value));
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
