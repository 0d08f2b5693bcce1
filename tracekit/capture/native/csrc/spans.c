/* Rows and open spans: what every forward and every weight passes. tracekit.capture.purehooks is the same in Python. */

#include "hotpath.h"

/* A row of SPANS, as tracekit.runfolder.spool packs it: little-endian, no padding. */
#pragma pack(push, 1)
typedef struct {
    int64_t span_id, parent_id;
    int32_t kind, name, fqn, note, run_index;
    int64_t thread_id, start_ns, end_ns;
} SpanRow;
#pragma pack(pop)
const char span_format[] = "<qqiiiiiqqq";

int
rows_from(Rows *rows, PyObject *buffer, const char *format)
{
    PyObject *theirs = PyObject_GetAttrString(buffer, "format");
    if (theirs == NULL)
        return -1;
    bool same = PyUnicode_Check(theirs) && PyUnicode_CompareWithASCIIString(theirs, format) == 0;
    Py_DECREF(theirs);
    if (!same) {
        PyErr_Format(PyExc_TypeError, "a table's columns are not %s: its compiled row must change with it", format);
        return -1;
    }
    PyObject *limit = PyObject_GetAttrString(buffer, "limit_bytes");
    if (limit == NULL)
        return -1;
    rows->limit = PyLong_AsSsize_t(limit);
    Py_DECREF(limit);
    if (rows->limit == -1 && PyErr_Occurred())
        return -1;
    rows->full = PyObject_GetAttrString(buffer, "full");
    rows->pending = PyObject_GetAttrString(buffer, "pending");
    if (rows->full == NULL || rows->pending == NULL)
        return -1;
    if (!PyByteArray_CheckExact(rows->pending)) {
        PyErr_SetString(PyExc_TypeError, "rows wait in a bytearray");
        return -1;
    }
    return 0;
}

/* A bytearray grows by an eighth at a time and gives everything back when it is emptied, as at every step's end. */
#define SPARE_BYTES (1 << 15)

/* Lengthens the buffer by a row, with room for more. */
int
rows_grow(Rows *rows, Py_ssize_t size)
{
    Py_ssize_t old = PyByteArray_GET_SIZE(rows->pending);
    if (PyByteArray_Resize(rows->pending, old + size + SPARE_BYTES) < 0)
        return -1;
    Py_SET_SIZE(rows->pending, old + size);
    PyByteArray_AS_STRING(rows->pending)[old + size] = 0;
    return 0;
}

int
rows_full(Rows *rows)
{
    PyObject *done = PyObject_CallNoArgs(rows->full);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

_Thread_local CachedThread cached_thread;

Thread *
find_thread(Core *core)
{
    PyObject *thread = PyObject_GetAttrString(core->local, "thread");
    if (thread == NULL)
        return NULL;
    if (!Py_IS_TYPE(thread, Thread_Type)) {
        PyErr_SetString(PyExc_TypeError, "the recorder's thread state is not this module's");
        Py_DECREF(thread);
        return NULL;
    }
    int known = PySequence_Contains(core->threads, thread);
    if (known < 0 || (!known && PyList_Append(core->threads, thread) < 0)) {
        Py_DECREF(thread);
        return NULL;
    }
    Py_DECREF(thread); /* the list holds it */
    cached_thread.serial = core->serial;
    cached_thread.thread = (Thread *)thread;
    return cached_thread.thread;
}

static Frame *
push(Core *core, Thread *thread, Interned fqn)
{
    if (thread->depth == thread->capacity) {
        Py_ssize_t capacity = thread->capacity ? 2 * thread->capacity : 64;
        Frame *frames = PyMem_Realloc(thread->frames, capacity * sizeof(Frame));
        if (frames == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        thread->frames = frames;
        thread->capacity = capacity;
    }
    Frame *frame = &thread->frames[thread->depth++];
    *frame = (Frame){.span_id = core->next_span++, .parent_id = NONE, .fqn = fqn, .pristine = true};
    return frame;
}

/* Opens a span and starts its clock; returns its place on the stack, by which it is closed, or -1. */
Py_ssize_t
open_span(Core *core, Thread *thread, Interned fqn, bool is_forward)
{
    Frame *frame = push(core, thread, fqn);
    if (frame == NULL)
        return -1;
    frame->is_forward = is_forward;
    Py_ssize_t depth = thread->depth - 1;
    if (depth > 0) {
        Frame *below = frame - 1;
        below->pristine = false;
        below->end_ns = 0;
        frame->parent_id = below->span_id;
    }
    frame->start_ns = now_ns();
    return depth;
}

/* Closes the span with whatever an exception left open above it, and writes its row. */
int
close_span(Core *core, Thread *thread, Py_ssize_t depth, Interned kind, Interned name, Interned note, int64_t end_ns)
{
    Frame *frame = &thread->frames[depth];
    thread->depth = depth;
    SpanRow row = {
        frame->span_id, frame->parent_id, kind, name, frame->fqn, note, thread->run_index,
        thread->thread_id, frame->start_ns, end_ns,
    };
    return rows_add(&core->spans, &row, sizeof(row));
}

Py_ssize_t
open_move(Core *core, Thread *thread, Interned fqn, Move move)
{
    Frame *top = thread->depth ? &thread->frames[thread->depth - 1] : NULL;
    if (top == NULL || !top->is_forward || !(move == OFFLOAD || top->pristine))
        return open_span(core, thread, fqn, false);
    int64_t parent_id = top->parent_id;
    Frame *frame = push(core, thread, fqn); /* may move the frames */
    if (frame == NULL)
        return -1;
    frame->parent_id = parent_id;
    frame->beside = move;
    frame->start_ns = now_ns();
    return thread->depth - 1;
}

int
close_move(Core *core, Thread *thread, Py_ssize_t depth, Interned kind, Interned name)
{
    int64_t end_ns = now_ns();
    Frame *frame = &thread->frames[depth];
    if (frame->beside == ONLOAD)
        frame[-1].start_ns = end_ns;
    else if (frame->beside == OFFLOAD)
        frame[-1].end_ns = frame->start_ns;
    if (close_span(core, thread, depth, kind, name, core->empty, end_ns) < 0)
        return -1;
    if (core->sample_memory == Py_None)
        return 0;
    PyObject *done = PyObject_CallNoArgs(core->sample_memory);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Appends (generation, start, end, parent, run, thread) to the list of collections. The collector may have begun in the
 * midst of anything, the recorder's own work included, so that no row is written here. */
int
note_collection(Core *core, PyObject *generation, int64_t start_ns, int64_t end_ns)
{
    Thread *thread = current_thread(core);
    if (thread == NULL)
        PyErr_Clear(); /* its state is being made */
    int64_t parent_id = thread != NULL && thread->depth ? thread->frames[thread->depth - 1].span_id : NONE;
    int run_index = thread == NULL ? NONE : thread->run_index;
    long long thread_id = thread == NULL ? (long long)PyThread_get_thread_native_id() : thread->thread_id;
    PyObject *note = Py_BuildValue("(OLLLiL)", generation, (long long)start_ns, (long long)end_ns,
                                   (long long)parent_id, run_index, thread_id);
    int failed = note == NULL ? -1 : PyList_Append(core->collections, note);
    Py_XDECREF(note);
    return failed;
}
