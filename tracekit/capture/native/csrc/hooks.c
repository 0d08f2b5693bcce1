/* The callables that stand in for methods of the profiled libraries.
 *
 * A hook binds like a function (Py_TPFLAGS_METHOD_DESCRIPTOR), so that a call through an instance packs no arguments
 * and makes no bound method; it passes the arguments on as they came; and it is no Python frame, so that torch's frame
 * evaluator, which is on inside accelerate's hooks, does not stop at it. */

#include "hotpath.h"

PyTypeObject *Hook_Type;

static inline PyObject *
call_original(Hook *hook, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return PyObject_Vectorcall(hook->original, args, nargsf, kwnames);
}

/* A module's ModuleEntry (name, fqn, note, component), borrowed; NULL when it is not registered. */
static PyObject *
entry_of(PyObject *entries, PyObject *module)
{
    PyObject *key = PyLong_FromVoidPtr(module); /* what id() is */
    if (key == NULL)
        return NULL;
    PyObject *entry = PyDict_GetItemWithError(entries, key);
    Py_DECREF(key);
    return entry;
}

static inline Interned
entry_id(PyObject *entry, Py_ssize_t index)
{
    return (Interned)PyLong_AsLong(PyTuple_GET_ITEM(entry, index));
}

/* The module's place among the known ones, filled in; NULL when it is not registered, or with an exception set. */
static inline KnownModule *
known_module(Hook *hook, PyObject *module)
{
    Core *core = hook->core;
    uintptr_t address = (uintptr_t)module >> 4; /* objects are 16 bytes apart at least */
    KnownModule *known = &core->known[(address ^ (address >> 12)) % KNOWN_MODULES];
    if (known->module == module && known->generation == core->generation)
        return known;
    PyObject *entry = entry_of(hook->entries, module);
    if (entry == NULL)
        return NULL;
    *known = (KnownModule){module, core->generation, entry_id(entry, 0), entry_id(entry, 1), entry_id(entry, 2),
                           PyTuple_GET_ITEM(entry, 3)};
    return known;
}

static Interned
fqn_of(Hook *hook, PyObject *module)
{
    KnownModule *known = known_module(hook, module);
    return known == NULL ? hook->core->empty : known->fqn;
}

/* Ends a call: what close does must not hide the exception that the profiled code raised. */
#define CLOSING(result, close)                                                                                         \
    do {                                                                                                               \
        PyObject *error_type, *error, *traceback;                                                                      \
        bool failed = (result) == NULL;                                                                                \
        if (failed)                                                                                                    \
            PyErr_Fetch(&error_type, &error, &traceback);                                                              \
        bool closed = (close) == 0;                                                                                    \
        if (failed)                                                                                                    \
            PyErr_Restore(error_type, error, traceback);                                                               \
        else if (!closed)                                                                                              \
            Py_CLEAR(result);                                                                                          \
    } while (0)

static PyObject *
forward_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Hook *hook = (Hook *)op;
    Core *core = hook->core;
    KnownModule *known = PyVectorcall_NARGS(nargsf) ? known_module(hook, args[0]) : NULL;
    if (known == NULL)
        return PyErr_Occurred() ? NULL : call_original(hook, args, nargsf, kwnames);
    KnownModule module = *known; /* what runs meanwhile may take its place */
    Thread *thread = current_thread(core);
    if (thread == NULL)
        return NULL;
    /* The display shows the outermost module, alone or right under its run. */
    if (thread->depth == 0 || thread->frames[thread->depth - 1].parent_id == NONE) {
        Py_INCREF(module.component);
        Py_SETREF(core->component, module.component);
    }
    Py_ssize_t depth = open_span(core, thread, module.fqn, true);
    if (depth < 0)
        return NULL;
    PyObject *result = call_original(hook, args, nargsf, kwnames);
    int64_t end_ns = thread->frames[depth].end_ns;
    if (end_ns == 0)
        end_ns = now_ns();
    CLOSING(result, close_span(core, thread, depth, core->forward, module.name, module.note, end_ns));
    return result;
}

static PyObject *
timed_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Hook *hook = (Hook *)op;
    Thread *thread = current_thread(hook->core);
    Py_ssize_t depth = thread == NULL ? -1 : open_span(hook->core, thread, hook->core->empty, false);
    if (depth < 0)
        return NULL;
    PyObject *result = call_original(hook, args, nargsf, kwnames);
    CLOSING(result, close_span(hook->core, thread, depth, hook->kind, hook->name, hook->note, now_ns()));
    return result;
}

/* AlignDevicesHook.pre_forward and post_forward: called (hook, module, ...); they move only where `hook.offload`. */
static PyObject *
move_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Hook *hook = (Hook *)op;
    if (PyVectorcall_NARGS(nargsf) < 2)
        return call_original(hook, args, nargsf, kwnames);
    PyObject *offload = PyObject_GetAttr(args[0], names.offload);
    if (offload == NULL)
        return NULL;
    int moves = PyObject_IsTrue(offload);
    Py_DECREF(offload);
    if (moves < 0)
        return NULL;
    if (!moves)
        return call_original(hook, args, nargsf, kwnames);
    Thread *thread = current_thread(hook->core);
    Py_ssize_t depth = thread == NULL ? -1 : open_move(hook->core, thread, fqn_of(hook, args[1]), hook->move);
    if (depth < 0)
        return NULL;
    PyObject *result = call_original(hook, args, nargsf, kwnames);
    CLOSING(result, close_move(hook->core, thread, depth, hook->kind, hook->name));
    return result;
}

/* set_module_tensor_to_device(module, tensor_name, ...). */
static PyObject *
label_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Hook *hook = (Hook *)op;
    if (PyVectorcall_NARGS(nargsf) < 2)
        return call_original(hook, args, nargsf, kwnames);
    Thread *thread = current_thread(hook->core);
    if (thread == NULL)
        return NULL;
    Memo *memo = memo_of(hook->interned, args[1]);
    if (memo->key != args[1]) {
        int64_t parameter = as_int(PyObject_CallOneArg(hook->intern, args[1]));
        if (parameter == -1 && PyErr_Occurred())
            return NULL;
        memo_set(memo, args[1], (int32_t)parameter);
    }
    char labelled = thread->labelled;
    Interned fqn_before = thread->label_fqn, parameter_before = thread->label_parameter;
    thread->labelled = true;
    thread->label_fqn = fqn_of(hook, args[0]);
    thread->label_parameter = memo->value;
    PyObject *result = call_original(hook, args, nargsf, kwnames);
    thread->labelled = labelled;
    thread->label_fqn = fqn_before;
    thread->label_parameter = parameter_before;
    return result;
}

static Hook *
new_hook(PyObject *core, PyObject *original, vectorcallfunc call)
{
    Hook *hook = (Hook *)Hook_Type->tp_alloc(Hook_Type, 0);
    if (hook != NULL) {
        hook->vectorcall = call;
        hook->original = Py_NewRef(original);
        hook->core = (Core *)Py_NewRef(core);
    }
    return hook;
}

PyObject *
forward_hook(PyObject *core, PyObject *args)
{
    PyObject *original, *entries;
    if (!PyArg_ParseTuple(args, "OO!", &original, &PyDict_Type, &entries))
        return NULL;
    Hook *hook = new_hook(core, original, forward_call);
    if (hook != NULL)
        hook->entries = Py_NewRef(entries);
    return (PyObject *)hook;
}

PyObject *
timed_hook(PyObject *core, PyObject *args)
{
    PyObject *original;
    int kind, name, note;
    if (!PyArg_ParseTuple(args, "Oiii", &original, &kind, &name, &note))
        return NULL;
    Hook *hook = new_hook(core, original, timed_call);
    if (hook != NULL) {
        hook->kind = kind;
        hook->name = name;
        hook->note = note;
    }
    return (PyObject *)hook;
}

PyObject *
move_hook(PyObject *core, PyObject *args)
{
    PyObject *original, *entries;
    int kind, name, offload;
    if (!PyArg_ParseTuple(args, "OO!iip", &original, &PyDict_Type, &entries, &kind, &name, &offload))
        return NULL;
    Hook *hook = new_hook(core, original, move_call);
    if (hook != NULL) {
        hook->entries = Py_NewRef(entries);
        hook->kind = kind;
        hook->name = name;
        hook->move = offload ? OFFLOAD : ONLOAD;
    }
    return (PyObject *)hook;
}

PyObject *
label_hook(PyObject *core, PyObject *args)
{
    PyObject *original, *entries, *intern;
    if (!PyArg_ParseTuple(args, "OO!O", &original, &PyDict_Type, &entries, &intern))
        return NULL;
    Hook *hook = new_hook(core, original, label_call);
    if (hook != NULL) {
        hook->entries = Py_NewRef(entries);
        hook->intern = Py_NewRef(intern);
    }
    return (PyObject *)hook;
}

PyObject *
crossing_hook(PyObject *core, PyObject *args)
{
    PyObject *original, *copies, *record;
    const char *test;
    int operation;
    if (!PyArg_ParseTuple(args, "OsiOO!", &original, &test, &operation, &record, Copies_Type, &copies))
        return NULL;
    Hook *hook = new_hook(core, original, tensor_call);
    if (hook == NULL)
        return NULL;
    hook->operation = operation;
    hook->record = Py_NewRef(record);
    hook->copies = Py_NewRef(copies);
    if (choose_crossing(hook, test) < 0)
        Py_CLEAR(hook);
    return (PyObject *)hook;
}

/* Hook */

static PyObject *
hook_bind(PyObject *hook, PyObject *instance, PyObject *Py_UNUSED(type))
{
    return instance == NULL ? Py_NewRef(hook) : PyMethod_New(hook, instance);
}

static int
hook_traverse(PyObject *op, visitproc visit, void *arg)
{
    Hook *self = (Hook *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->dict);
    Py_VISIT(self->original);
    Py_VISIT(self->core);
    Py_VISIT(self->entries);
    Py_VISIT(self->intern);
    Py_VISIT(self->record);
    Py_VISIT(self->copies);
    return 0;
}

/* Only what can be set later makes a cycle; a hook that can still be called keeps what its call needs. */
static int
hook_clear(PyObject *op)
{
    Py_CLEAR(((Hook *)op)->dict);
    return 0;
}

static void
hook_dealloc(PyObject *op)
{
    Hook *self = (Hook *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    hook_clear(op);
    Py_XDECREF(self->original);
    Py_XDECREF(self->core);
    Py_XDECREF(self->entries);
    Py_XDECREF(self->intern);
    for (size_t i = 0; i < MEMOS; i++)
        Py_XDECREF(self->interned[i].key);
    Py_XDECREF(self->record);
    Py_XDECREF(self->copies);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef hook_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(Hook, dict), READONLY, NULL},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Hook, vectorcall), READONLY, NULL},
    {NULL},
};

static PyGetSetDef hook_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

static PyType_Slot hook_slots[] = {
    {Py_tp_dealloc, hook_dealloc},  {Py_tp_traverse, hook_traverse}, {Py_tp_clear, hook_clear},
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_descr_get, hook_bind},    {Py_tp_members, hook_members},
    {Py_tp_getset, hook_getset},
    {0, NULL},
};

PyType_Spec Hook_Spec = {
    "tracekit_hotpath.Hook",
    sizeof(Hook),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
        Py_TPFLAGS_DISALLOW_INSTANTIATION,
    hook_slots,
};
