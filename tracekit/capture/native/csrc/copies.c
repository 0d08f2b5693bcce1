/* Record what Tensor.to copies; what other methods copy is recorded in Python (tracekit.capture.copies). */

#include "hotpath.h"

PyTypeObject *Copies_Type;

/* A row of COPIES, as tracekit.runfolder.spool packs it. */
#pragma pack(push, 1)
typedef struct {
    int64_t copy_id, span_id;
    int32_t run_index;
    int64_t thread_id;
    int32_t direction;
    int64_t size_bytes, start_ns, end_ns;
    int32_t fqn, parameter, operation, host_memory;
    int64_t host_address;
    int32_t file_path;
    int64_t file_offset;
    int32_t device;
    int64_t stream_id;
    bool non_blocking;
} CopyRow;
#pragma pack(pop)
#define COPY_FORMAT "<qqiqiqqqiiiiqiqiq?"

static PyObject *
record_in_python(Hook *hook, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *rest = PyTuple_New(nargs - 1), *kwargs = PyDict_New(), *result = NULL;
    if (rest == NULL || kwargs == NULL)
        goto done;
    for (Py_ssize_t i = 1; i < nargs; i++)
        PyTuple_SET_ITEM(rest, i - 1, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++)
        if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) < 0)
            goto done;
    result = PyObject_CallFunctionObjArgs(hook->record, args[0], rest, kwargs, NULL);
done:
    Py_XDECREF(rest);
    Py_XDECREF(kwargs);
    return result;
}

static bool
is_tuple_of(PyObject *value, Py_ssize_t size)
{
    if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == size)
        return true;
    PyErr_Format(PyExc_TypeError, "no tuple of %zd", size);
    return false;
}

static Interned
interned_at(PyObject *tuple, Py_ssize_t index)
{
    return (Interned)PyLong_AsLong(PyTuple_GET_ITEM(tuple, index));
}

/* Fills in what the host side is; returns 1 where it is a mapped file's page, 0, or -1. */
static int
place_host(Copies *copies, CopyRow *row, PyObject *host)
{
    PyObject *address = member(copies, &copies->data_ptr, host);
    if (address == NULL)
        return -1;
    int mapped = -1;
    PyObject *found = PyDict_GetItemWithError(copies->found, address);
    PyObject *place = found == NULL ? NULL : PyDict_GetItemWithError(copies->places, address);
    /* The memory map is read anew now and then: what was made of an older answer does not count. */
    if (place != NULL && PyTuple_GET_ITEM(place, 0) == found)
        Py_INCREF(place);
    else if (PyErr_Occurred() || (place = PyObject_CallOneArg(copies->place, host)) == NULL)
        goto done;
    if (is_tuple_of(place, 5)) {
        row->host_memory = interned_at(place, 1);
        row->file_path = interned_at(place, 2);
        row->file_offset = PyLong_AsLongLong(PyTuple_GET_ITEM(place, 3));
        row->host_address = PyLong_AsLongLong(address);
        mapped = PyErr_Occurred() ? -1 : PyTuple_GET_ITEM(place, 4) == Py_True;
    }
    Py_DECREF(place);
done:
    Py_DECREF(address);
    return mapped;
}

static int
name_weight(Copies *copies, Thread *thread, CopyRow *row, PyObject *host, PyObject *remote)
{
    if (thread->labelled) {
        row->fqn = thread->label_fqn;
        row->parameter = thread->label_parameter;
        return 0;
    }
    PyObject *label = PyObject_CallFunctionObjArgs(copies->find_label, host, remote, NULL);
    if (label == NULL)
        return -1;
    row->fqn = row->parameter = copies->empty;
    int named = label == Py_None || PyArg_ParseTuple(label, "ii", &row->fqn, &row->parameter);
    Py_DECREF(label);
    return named ? 0 : -1;
}

static int
name_device(Copies *copies, CopyRow *row, PyObject *remote)
{
    PyObject *device = member(copies, &copies->device, remote);
    PyObject *known = device == NULL ? NULL : PyDict_GetItemWithError(copies->devices, device);
    if (known != NULL)
        Py_INCREF(known);
    else if (device != NULL && !PyErr_Occurred())
        known = PyObject_CallOneArg(copies->device_of, device);
    Py_XDECREF(device);
    if (known == NULL)
        return -1;
    row->stream_id = NONE;
    if (is_tuple_of(known, 2)) {
        row->device = interned_at(known, 0);
        if (interned_at(known, 1) != NONE) {
            PyObject *stream = PyObject_CallOneArg(copies->stream, PyTuple_GET_ITEM(known, 1));
            if (stream != NULL && PyTuple_Check(stream) && PyTuple_GET_SIZE(stream) > 0)
                row->stream_id = PyLong_AsLongLong(PyTuple_GET_ITEM(stream, 0));
            Py_XDECREF(stream);
        }
    }
    Py_DECREF(known);
    return PyErr_Occurred() ? -1 : 0;
}

/* Bytes over the link: a blocking copy converts on the host, so that the link carries the device's dtype; one that does
 * not block converts on the device (torch's copy_kernel_cuda). */
static int64_t
carried_bytes(Copies *copies, PyObject *source, int64_t source_bytes, PyObject *result, PyObject *carried)
{
    PyObject *from = member(copies, &copies->dtype, source), *into = member(copies, &copies->dtype, result);
    bool same = from == into;
    Py_XDECREF(from);
    Py_XDECREF(into);
    if (from == NULL || into == NULL)
        return -1;
    if (same || carried == source)
        return source_bytes;
    int64_t from_size = as_int(member(copies, &copies->element_size, source));
    int64_t into_size = from_size < 0 ? -1 : as_int(member(copies, &copies->element_size, carried));
    return into_size < 0 || from_size == 0 ? -1 : source_bytes / from_size * into_size;
}

static int
asks_not_to_block(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++)
        if (PyUnicode_Compare(PyTuple_GET_ITEM(kwnames, i), names.non_blocking) == 0)
            return PyObject_IsTrue(args[nargs + i]);
    for (Py_ssize_t i = 2; i < nargs; i++)
        if (PyBool_Check(args[i]))
            return args[i] == Py_True;
    return 0;
}

/* Tensor.to from one side to the other: the call, then its row. The probe's work lies outside the measured call. */
static PyObject *
record_to(Hook *hook, Thread *thread, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Copies *copies = copies_of(hook);
    Core *core = hook->core;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyObject *source = args[0], *sample = NULL, *result = NULL;
    int to_device = is_true(copies, &copies->is_cpu, source), mapped = 0;
    int non_blocking = asks_not_to_block(args, nargs, kwnames);
    int64_t source_bytes = to_device < 0 ? -1 : as_int(member(copies, &copies->nbytes, source));
    CopyRow row = {.run_index = NONE};
    if (source_bytes < 0 || non_blocking < 0)
        return NULL;
    if (source_bytes == 0)
        return PyObject_Vectorcall(hook->original, args, nargsf, kwnames);
    if (to_device && (mapped = place_host(copies, &row, source)) < 0)
        return NULL;
    if (mapped && copies->probe != Py_None && source_bytes >= copies->min_probed_bytes &&
        (sample = PyObject_CallMethodOneArg(copies->probe, names.before, source)) == NULL)
        return NULL;
    thread->copying = true;
    row.start_ns = now_ns();
    result = PyObject_Vectorcall(hook->original, args, nargsf, kwnames);
    row.end_ns = now_ns();
    thread->copying = false;
    if (result == NULL)
        goto failed;

    PyObject *host = to_device ? source : result, *remote = to_device ? result : source;
    row.size_bytes = carried_bytes(copies, source, source_bytes, result, non_blocking ? host : remote);
    if (row.size_bytes < 0 || (!to_device && place_host(copies, &row, host) < 0) ||
        name_weight(copies, thread, &row, host, remote) < 0 || name_device(copies, &row, remote) < 0)
        goto failed;
    row.copy_id = core->next_copy++;
    row.span_id = thread->depth ? thread->frames[thread->depth - 1].span_id : NONE;
    row.run_index = thread->run_index;
    row.thread_id = thread->thread_id;
    row.direction = to_device ? copies->to_device : copies->to_host;
    row.operation = hook->operation;
    row.non_blocking = non_blocking;
    if (to_device)
        core->h2d_bytes += row.size_bytes;
    if (rows_add(&copies->rows, &row, sizeof(row)) < 0)
        goto failed;
    if (sample != NULL && sample != Py_None) {
        PyObject *copy_id = PyLong_FromLongLong(row.copy_id);
        PyObject *done =
            copy_id == NULL ? NULL : PyObject_CallMethodObjArgs(copies->probe, names.after, copy_id, sample, NULL);
        Py_XDECREF(copy_id);
        Py_XDECREF(done);
        if (done == NULL)
            goto failed;
    }
    Py_XDECREF(sample);
    return result;
failed:
    Py_XDECREF(sample);
    Py_XDECREF(result);
    return NULL;
}

static int
holds_its_bytes(Copies *copies, PyTypeObject *class)
{
    if (class == copies->holder)
        return 1;
    PyObject *holds = look_up(copies->holders, (PyObject *)class);
    if (holds == NULL)
        return -1;
    Py_DECREF(holds); /* True or False */
    if (holds == Py_True)
        copies->holder = class;
    return holds == Py_True;
}

PyObject *
tensor_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Hook *hook = (Hook *)op;
    Copies *copies = copies_of(hook);
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    int crosses = 0;
    if (nargs > 0) {
        int holds = holds_its_bytes(copies, Py_TYPE(args[0]));
        if (holds < 0 || (holds && (crosses = hook->crosses(hook, args, nargs, kwnames)) < 0))
            return NULL;
    }
    Thread *thread = crosses ? current_thread(hook->core) : NULL;
    if (crosses && thread == NULL)
        return NULL;
    if (!crosses || thread->copying)
        return PyObject_Vectorcall(hook->original, args, nargsf, kwnames);
    if (may_be_recorded_here(hook))
        return record_to(hook, thread, args, nargsf, kwnames);
    return record_in_python(hook, args, nargs, kwnames);
}

/* Copies */

static PyObject **
copies_field(Copies *self, size_t index)
{
    return (PyObject **)((char *)self + offsetof(Copies, place)) + index;
}

static const char *const copies_fields[] = {
    "place", "find_label", "device", "stream", "probe", "tensor_class",
    "sides", "holders", "places", "found", "devices",
};
#define COPIES_FIELDS (sizeof(copies_fields) / sizeof(*copies_fields))
#define FIRST_DICT 6

static PyObject *
copies_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *owner, *buffer;
    int to_device, to_host, empty;
    Py_ssize_t min_probed_bytes;
    if (!PyArg_ParseTuple(args, "OOiiin", &owner, &buffer, &to_device, &to_host, &empty, &min_probed_bytes))
        return NULL;
    Copies *self = (Copies *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->to_device = to_device;
    self->to_host = to_host;
    self->empty = empty;
    self->min_probed_bytes = min_probed_bytes;
    for (size_t i = 0; i < COPIES_FIELDS; i++) {
        PyObject *value = *copies_field(self, i) = PyObject_GetAttrString(owner, copies_fields[i]);
        if (value != NULL && i >= FIRST_DICT && !PyDict_Check(value))
            PyErr_Format(PyExc_TypeError, "%s is no dict", copies_fields[i]);
        if (PyErr_Occurred())
            goto failed;
    }
    if (!PyType_Check(self->tensor_class))
        PyErr_SetString(PyExc_TypeError, "tensor_class is no class");
    else if (find_members(self) == 0 && rows_from(&self->rows, buffer, COPY_FORMAT) == 0)
        return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static int
copies_traverse(PyObject *op, visitproc visit, void *arg)
{
    Copies *self = (Copies *)op;
    Py_VISIT(Py_TYPE(op));
    for (size_t i = 0; i < COPIES_FIELDS; i++)
        Py_VISIT(*copies_field(self, i));
    Py_VISIT(self->rows.full);
    return 0;
}

static void
copies_dealloc(PyObject *op)
{
    Copies *self = (Copies *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    for (size_t i = 0; i < COPIES_FIELDS; i++)
        Py_XDECREF(*copies_field(self, i));
    for (size_t i = 0; i < MEMOS; i++)
        Py_XDECREF(self->targets[i].key);
    Py_XDECREF(self->rows.full);
    Py_XDECREF(self->rows.pending);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef copies_members[] = {
    {"in_python", T_BOOL, offsetof(Copies, in_python), 0, "Record every crossing in Python."},
    {NULL},
};

static PyType_Slot copies_slots[] = {
    {Py_tp_new, copies_new},
    {Py_tp_dealloc, copies_dealloc},
    {Py_tp_traverse, copies_traverse},
    {Py_tp_members, copies_members},
    {Py_tp_doc, "What the recording of a copy needs to know."},
    {0, NULL},
};

PyType_Spec Copies_Spec = {
    "tracekit_hotpath.Copies", sizeof(Copies), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, copies_slots,
};
