/* The types Thread and Hooks: a thread's state and the recorder's, as Python sees them. */

#include "hotpath.h"

#include <sys/resource.h>

PyTypeObject *Thread_Type;

/* Thread */

static PyObject *
thread_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    int run_index;
    long long thread_id;
    if (!PyArg_ParseTuple(args, "iL", &run_index, &thread_id))
        return NULL;
    Thread *self = (Thread *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->run_index = run_index;
        self->thread_id = thread_id;
        self->group = Py_NewRef(Py_None);
    }
    return (PyObject *)self;
}

static int
thread_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Thread *)self)->group);
    return 0;
}

static int
thread_clear(PyObject *self)
{
    Py_CLEAR(((Thread *)self)->group);
    return 0;
}

static void
thread_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    thread_clear(self);
    PyMem_Free(((Thread *)self)->frames);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
thread_idle(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Thread *)self)->depth == 0);
}

static PyObject *
thread_span_id(PyObject *self, void *Py_UNUSED(closure))
{
    Thread *thread = (Thread *)self;
    return PyLong_FromLongLong(thread->depth ? thread->frames[thread->depth - 1].span_id : NONE);
}

static PyObject *
thread_get_label(PyObject *self, void *Py_UNUSED(closure))
{
    Thread *thread = (Thread *)self;
    if (!thread->labelled)
        Py_RETURN_NONE;
    return Py_BuildValue("(ii)", thread->label_fqn, thread->label_parameter);
}

static int
thread_set_label(PyObject *self, PyObject *label, void *Py_UNUSED(closure))
{
    Thread *thread = (Thread *)self;
    if (label == NULL || label == Py_None) {
        thread->labelled = false;
        return 0;
    }
    if (!PyTuple_Check(label)) {
        PyErr_SetString(PyExc_TypeError, "a label is two interned ids");
        return -1;
    }
    if (!PyArg_ParseTuple(label, "ii", &thread->label_fqn, &thread->label_parameter))
        return -1;
    thread->labelled = true;
    return 0;
}

static PyMemberDef thread_members[] = {
    {"thread_id", T_LONGLONG, offsetof(Thread, thread_id), READONLY, "Native thread id."},
    {"run_index", T_INT, offsetof(Thread, run_index), 0, "The run that this thread is in, or NONE."},
    {"copying", T_BOOL, offsetof(Thread, copying), 0, "A copy is being made: what it calls is no copy of its own."},
    {"group", T_OBJECT, offsetof(Thread, group), 0, "diffusers' ModuleGroup that is being moved."},
    {NULL},
};

static PyGetSetDef thread_getset[] = {
    {"idle", thread_idle, NULL, "No span is open.", NULL},
    {"span_id", thread_span_id, NULL, "The innermost open span, or NONE.", NULL},
    {"label", thread_get_label, thread_set_label, "Interned FQN and parameter of the weight being moved.", NULL},
    {NULL},
};

static PyType_Slot thread_slots[] = {
    {Py_tp_new, thread_new},         {Py_tp_dealloc, thread_dealloc}, {Py_tp_traverse, thread_traverse},
    {Py_tp_clear, thread_clear},     {Py_tp_members, thread_members}, {Py_tp_getset, thread_getset},
    {Py_tp_doc, "What is going on in one thread."},
    {0, NULL},
};

PyType_Spec Thread_Spec = {
    "tracekit_hotpath.Thread", sizeof(Thread), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, thread_slots,
};

/* Core: Python calls it Hooks, for what it makes. */

static PyObject *
core_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    static uint64_t serials;
    PyObject *local, *spans;
    int forward, empty;
    if (!PyArg_ParseTuple(args, "OOii", &local, &spans, &forward, &empty))
        return NULL;
    Core *self = (Core *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->serial = ++serials;
    self->generation = 1;
    /* Aligned: no entry lies across two cache lines. */
    self->known = aligned_alloc(64, KNOWN_MODULES * sizeof(KnownModule));
    self->local = Py_NewRef(local);
    self->threads = PyList_New(0);
    self->component = PyUnicode_FromString("");
    self->sample_memory = Py_NewRef(Py_None);
    self->collections = PyList_New(0);
    self->forward = forward;
    self->empty = empty;
    if (self->known == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    memset(self->known, 0, KNOWN_MODULES * sizeof(KnownModule));
    if (self->threads == NULL || self->component == NULL || self->collections == NULL ||
        rows_from(&self->spans, spans, span_format) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
core_traverse(PyObject *op, visitproc visit, void *arg)
{
    Core *self = (Core *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->local);
    Py_VISIT(self->threads);
    Py_VISIT(self->spans.full);
    Py_VISIT(self->component);
    Py_VISIT(self->sample_memory);
    Py_VISIT(self->collections);
    return 0;
}

static int
core_clear(PyObject *op)
{
    Core *self = (Core *)op;
    Py_CLEAR(self->local);
    Py_CLEAR(self->threads);
    Py_CLEAR(self->spans.full);
    Py_CLEAR(self->spans.pending);
    Py_CLEAR(self->component);
    Py_CLEAR(self->sample_memory);
    Py_CLEAR(self->collections);
    return 0;
}

static void
core_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_clear(self);
    free(((Core *)self)->known);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
core_open(PyObject *op, PyObject *fqn)
{
    Thread *thread = current_thread((Core *)op);
    long id = PyLong_AsLong(fqn);
    if (thread == NULL || (id == -1 && PyErr_Occurred()))
        return NULL;
    Py_ssize_t depth = open_span((Core *)op, thread, (Interned)id, false);
    return depth < 0 ? NULL : PyLong_FromSsize_t(depth);
}

static PyObject *
core_open_move(PyObject *op, PyObject *args)
{
    int fqn, offload;
    Thread *thread = current_thread((Core *)op);
    if (thread == NULL || !PyArg_ParseTuple(args, "ip", &fqn, &offload))
        return NULL;
    Py_ssize_t depth = open_move((Core *)op, thread, fqn, offload ? OFFLOAD : ONLOAD);
    return depth < 0 ? NULL : PyLong_FromSsize_t(depth);
}

static bool
is_place(Thread *thread, Py_ssize_t depth)
{
    if (depth >= 0 && depth < thread->capacity)
        return true;
    PyErr_SetString(PyExc_ValueError, "no span was opened there");
    return false;
}

static PyObject *
core_close(PyObject *op, PyObject *args)
{
    int64_t end_ns = now_ns();
    Py_ssize_t depth;
    int kind, name, note;
    Thread *thread = current_thread((Core *)op);
    if (thread == NULL || !PyArg_ParseTuple(args, "niii", &depth, &kind, &name, &note) || !is_place(thread, depth))
        return NULL;
    if (close_span((Core *)op, thread, depth, kind, name, note, end_ns) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
core_close_move(PyObject *op, PyObject *args)
{
    Py_ssize_t depth;
    int kind, name;
    Thread *thread = current_thread((Core *)op);
    if (thread == NULL || !PyArg_ParseTuple(args, "nii", &depth, &kind, &name) || !is_place(thread, depth))
        return NULL;
    if (close_move((Core *)op, thread, depth, kind, name) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
core_next_copy(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(((Core *)op)->next_copy++);
}

static PyObject *
core_events_so_far(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(((Core *)op)->next_span + ((Core *)op)->next_copy);
}

static PyObject *
core_next_span(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(((Core *)op)->next_span++);
}

/* One of gc.callbacks: called (phase, info) before and after each collection, the many short ones included. */
static PyObject *
core_collecting(PyObject *op, PyObject *const *args, Py_ssize_t count)
{
    Core *self = (Core *)op;
    int64_t end_ns = now_ns(), start_ns = self->collecting_ns;
    if (count != 2 || !PyUnicode_Check(args[0]) || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "one of gc.callbacks is given a phase and a dict");
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(args[0], "start") == 0) {
        self->collecting_ns = now_ns();
        Py_RETURN_NONE;
    }
    self->collecting_ns = 0;
    if (start_ns != 0 && end_ns - start_ns >= MIN_COLLECTION_NS) {
        PyObject *generation = PyDict_GetItemString(args[1], "generation"); /* borrowed */
        if (note_collection(self, generation == NULL ? Py_None : generation, start_ns, end_ns) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
core_usage(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return Py_BuildValue("lll", usage.ru_inblock, usage.ru_majflt, usage.ru_minflt);
}

static PyObject *
core_forget_modules(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ((Core *)op)->generation++;
    Py_RETURN_NONE;
}

static PyObject *
core_copies(PyObject *Py_UNUSED(op), PyObject *args)
{
    return PyObject_Call((PyObject *)Copies_Type, args, NULL);
}

static PyMethodDef core_methods[] = {
    {"open", core_open, METH_O, "Open a span with this FQN; `close` takes what this returns."},
    {"close", core_close, METH_VARARGS, "Close a span (its place, kind, name, note) and write its row."},
    {"open_move", core_open_move, METH_VARARGS, "Open an onload or offload; `close_move` takes what this returns."},
    {"close_move", core_close_move, METH_VARARGS, "Close it (its place, kind, name)."},
    {"next_copy", core_next_copy, METH_NOARGS, "A new copy's id."},
    {"events_so_far", core_events_so_far, METH_NOARGS, "How many spans and copies there have been."},
    {"next_span", core_next_span, METH_NOARGS, "A new span's id."},
    {"collecting", (PyCFunction)(void (*)(void))core_collecting, METH_FASTCALL, "To be one of gc.callbacks."},
    {"usage", core_usage, METH_NOARGS, "Blocks read from disk, major and minor faults of the process."},
    {"forget_modules", core_forget_modules, METH_NOARGS, "The entries have changed: look modules up anew."},
    {"forward", forward_hook, METH_VARARGS, "Stand in for nn.Module.__call__ (original, entries)."},
    {"timed", timed_hook, METH_VARARGS, "A span around each call (original, kind, name, note)."},
    {"move", move_hook, METH_VARARGS, "Stand in for a hook's pre_forward or post_forward."},
    {"labelled", label_hook, METH_VARARGS, "Label copies inside each call with the weight it is given."},
    {"copies", core_copies, METH_VARARGS, "What `crossing` needs of a CopyRecorder."},
    {"crossing", crossing_hook, METH_VARARGS, "Stand in for a method of Tensor that may copy."},
    {NULL},
};

static PyMemberDef core_members[] = {
    {"component", T_OBJECT, offsetof(Core, component), 0, "What the live display calls the current phase."},
    {"sample_memory", T_OBJECT, offsetof(Core, sample_memory), 0, "Called at each onload's and offload's end."},
    {"collections", T_OBJECT, offsetof(Core, collections), READONLY, "Long collections that are no rows yet."},
    {"h2d_bytes", T_LONGLONG, offsetof(Core, h2d_bytes), 0, "Bytes copied to the device so far."},
    {NULL},
};

static PyType_Slot core_slots[] = {
    {Py_tp_new, core_new},         {Py_tp_dealloc, core_dealloc}, {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_clear},     {Py_tp_methods, core_methods}, {Py_tp_members, core_members},
    {Py_tp_doc, "Open spans, and the callables that stand in for the profiled libraries' own."},
    {0, NULL},
};

PyType_Spec Core_Spec = {
    "tracekit_hotpath.Hooks", sizeof(Core), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, core_slots,
};
