/* What the compiled hooks share: rows, open spans, the state of a thread. They hold the GIL throughout. */

#ifndef TRACEKIT_HOTPATH_H
#define TRACEKIT_HOTPATH_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <structmember.h>
#include <time.h>

/* tracekit.model.NONE: no value in an integer column. */
#define NONE (-1)

/* Strings in rows are ids that the sink gave out ("interned"). */
typedef int32_t Interned;

/* Where a table's packed rows go: the sink's bytearray, and what to call once it holds more than `limit` bytes. */
typedef struct {
    PyObject *pending;
    PyObject *full;
    Py_ssize_t limit;
} Rows;

typedef enum { NOT_A_MOVE, ONLOAD, OFFLOAD } Move;

/* An open span. A module's own onload and offload lie beside its forward, whose times they move inward. */
typedef struct {
    int64_t span_id, parent_id, start_ns, end_ns;
    Interned fqn;
    bool is_forward;
    bool pristine; /* no child has begun: what happens now comes before the module's own work */
    Move beside;   /* this span is the onload or offload of the forward right below it */
} Frame;

typedef struct {
    PyObject_HEAD
    Frame *frames;
    Py_ssize_t depth, capacity;
    long long thread_id;
    int run_index;
    char copying;
    char labelled; /* a weight is being moved, with this label */
    Interned label_fqn, label_parameter;
    PyObject *group; /* diffusers' ModuleGroup that is being moved */
} Thread;

/* What is known of a module, in one place: in a real step the caches are cold, and a look-up in a dict of tuples of
 * numbers touches ten lines where this touches one. `component` is borrowed from the registry's entry, which stays
 * while `generation` is the Core's. */
typedef struct {
    PyObject *module;
    uint64_t generation;
    Interned name, fqn, note;
    PyObject *component;
} KnownModule;
#define KNOWN_MODULES 4096

typedef struct {
    PyObject_HEAD
    uint64_t serial, generation;
    KnownModule *known;
    PyObject *local;   /* a threading.local whose attribute `thread` makes a thread's Thread */
    PyObject *threads; /* every Thread seen, which keeps the pointers in each thread's cache valid */
    Rows spans;
    Interned forward, empty;
    int64_t next_span, next_copy;
    long long h2d_bytes;
    PyObject *component;     /* what the live display calls the current phase */
    PyObject *sample_memory; /* called at the end of each onload and offload, or None */
} Core;

/* A callable that stands in for a method or function, and passes for one: it binds, and takes attributes. */
typedef struct Hook {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *dict;
    PyObject *original;
    Core *core;
    PyObject *entries; /* ModuleRegistry.entries */
    PyObject *intern;
    PyObject *record; /* records a crossing in Python */
    PyObject *copies; /* Copies */
    int (*crosses)(struct Hook *, PyObject *const *, Py_ssize_t, PyObject *);
    Interned kind, name, note, operation;
    Move move;
} Hook;

/* What CopyRecorder knows, by its attributes' names; all but the first row are dicts. */
typedef struct {
    PyObject_HEAD
    PyObject *place, *find_label, *device, *stream, *probe, *tensor_class;
    PyObject *sides, *holders, *places, *found, *devices;
    Rows rows;
    Interned to_device, to_host, empty;
    Py_ssize_t min_probed_bytes;
    char in_python; /* every crossing is recorded in Python: something times copies there */
} Copies;

/* Attributes and methods, interned. */
typedef struct {
    PyObject *is_cpu, *is_meta, *nbytes, *dtype, *element_size, *data_ptr, *device, *non_blocking, *dim;
    PyObject *before, *after, *offload;
} Names;

extern Names names;

extern PyTypeObject *Thread_Type, *Hook_Type, *Copies_Type;

/* spans.c */
extern const char span_format[];
int rows_from(Rows *, PyObject *buffer, const char *format);
int rows_add(Rows *, const void *row, Py_ssize_t size);
Thread *current_thread(Core *);
Py_ssize_t open_span(Core *, Thread *, Interned fqn, bool is_forward);
int close_span(Core *, Thread *, Py_ssize_t depth, Interned kind, Interned name, Interned note, int64_t end_ns);
Py_ssize_t open_move(Core *, Thread *, Interned fqn, Move);
int close_move(Core *, Thread *, Py_ssize_t depth, Interned kind, Interned name);

/* state.c */
extern PyType_Spec Thread_Spec, Core_Spec;

/* hooks.c */
PyObject *forward_hook(PyObject *core, PyObject *args);
PyObject *timed_hook(PyObject *core, PyObject *args);
PyObject *move_hook(PyObject *core, PyObject *args);
PyObject *label_hook(PyObject *core, PyObject *args);
PyObject *crossing_hook(PyObject *core, PyObject *args);
extern PyType_Spec Hook_Spec;

/* crossing.c */
int prepare_names(void);
int is_true(PyObject *object, PyObject *name);
int64_t as_int(PyObject *stolen);
int64_t ask(PyObject *object, PyObject *method);
PyObject *look_up(PyObject *dict, PyObject *key);
int choose_crossing(Hook *, const char *test);
bool may_be_recorded_here(Hook *);

/* copies.c */
PyObject *tensor_call(PyObject *hook, PyObject *const *args, size_t nargsf, PyObject *kwnames);
extern PyType_Spec Copies_Spec;

static inline Copies *
copies_of(Hook *hook)
{
    return (Copies *)hook->copies;
}

static inline int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
