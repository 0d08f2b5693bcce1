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

/* tracekit.capture.garbage.MIN_NS: a shorter collection is no span. */
#define MIN_COLLECTION_NS 1000000

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

/* What is known of a module, in half a cache line: in a real step the caches are cold, and a look-up in a dict of
 * tuples of numbers touches ten lines where this touches one. `component` is borrowed from the registry's entry, which
 * stays while `generation` is the Core's. */
typedef struct {
    PyObject *module;
    uint32_t generation;
    Interned name, fqn, note;
    PyObject *component;
} KnownModule;
#define KNOWN_MODULES 4096

/* What every forward needs comes first. */
typedef struct {
    PyObject_HEAD
    KnownModule *known;
    uint64_t serial;
    uint32_t generation;
    Interned forward, empty;
    Rows spans;
    int64_t next_span, next_copy;
    long long h2d_bytes;
    PyObject *component;     /* what the live display calls the current phase */
    PyObject *sample_memory; /* called at the end of each onload and offload, or None */
    PyObject *local;         /* a threading.local whose attribute `thread` makes a thread's Thread */
    PyObject *threads;       /* every Thread seen, which keeps the pointers in each thread's cache valid */
    PyObject *collections;   /* what the garbage collector took long for: see tracekit.capture.hooks */
    int64_t collecting_ns;   /* when the collection that is under way began, or 0; there is one at a time */
} Core;

/* Strings and targets that were looked up last, found again by identity: each is held, so that none can be another. */
typedef struct {
    PyObject *key;
    int32_t value;
} Memo;
#define MEMOS 16

static inline Memo *
memo_of(Memo *memos, PyObject *key)
{
    return &memos[((uintptr_t)key >> 4) % MEMOS];
}

static inline void
memo_set(Memo *memo, PyObject *key, int32_t value)
{
    Py_INCREF(key);
    Py_XSETREF(memo->key, key);
    memo->value = value;
}

/* A callable that stands in for a method or function, and passes for one: it binds, and takes attributes. */
typedef struct Hook {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *dict;
    PyObject *original;
    Core *core;
    PyObject *entries; /* ModuleRegistry.entries */
    PyObject *copies;  /* Copies */
    int (*crosses)(struct Hook *, PyObject *const *, Py_ssize_t, PyObject *);
    PyObject *record; /* records a crossing in Python */
    Interned kind, name, note, operation;
    Move move;
    PyObject *intern;
    Memo interned[MEMOS]; /* what `intern` gave for a weight's name */
} Hook;

/* A property or a method without arguments of Tensor, called without looking it up on the type each time. */
typedef struct {
    PyObject *name;
    getter get; /* NULL where Tensor has it in another way: then it is looked up */
    void *closure;
    PyCFunction call;
} Member;

/* What CopyRecorder knows, by its attributes' names; all but the first row are dicts. */
typedef struct {
    PyObject_HEAD
    PyTypeObject *holder; /* the class last seen to hold its tensors' bytes; `holders` holds it */
    Memo targets[MEMOS];  /* what `sides` says of a target: 1 the host, 0 a device, -1 neither */
    Member is_cpu, is_meta, nbytes, dtype, device, element_size, data_ptr, dim;
    PyObject *place, *find_label, *device_of, *stream, *probe, *tensor_class;
    PyObject *sides, *holders, *places, *found, *devices;
    Rows rows;
    Interned to_device, to_host, empty;
    Py_ssize_t min_probed_bytes;
    char in_python; /* every crossing is recorded in Python: something times copies there */
} Copies;

/* Attributes and methods, interned. */
typedef struct {
    PyObject *non_blocking, *before, *after, *offload;
} Names;

extern Names names;

extern PyTypeObject *Thread_Type, *Hook_Type, *Copies_Type;

/* spans.c */
extern const char span_format[];
int rows_from(Rows *, PyObject *buffer, const char *format);
int rows_grow(Rows *, Py_ssize_t size);
int rows_full(Rows *);
Thread *find_thread(Core *);
Py_ssize_t open_span(Core *, Thread *, Interned fqn, bool is_forward);
int close_span(Core *, Thread *, Py_ssize_t depth, Interned kind, Interned name, Interned note, int64_t end_ns);
Py_ssize_t open_move(Core *, Thread *, Interned fqn, Move);
int close_move(Core *, Thread *, Py_ssize_t depth, Interned kind, Interned name);
int note_collection(Core *, PyObject *generation, int64_t start_ns, int64_t end_ns);

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
int find_members(Copies *);
PyObject *member(Copies *, const Member *, PyObject *tensor);
int is_true(Copies *, const Member *, PyObject *tensor);
int64_t as_int(PyObject *stolen);
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

/* The thread's last Thread, and whose: its pointer is valid while that Core lives, which keeps all of its Threads. As
 * "initial-exec" it is one load away, where a loaded library's thread-local variables are else a call away. */
typedef struct {
    uint64_t serial;
    Thread *thread;
} CachedThread;
extern _Thread_local CachedThread cached_thread __attribute__((tls_model("initial-exec")));

static inline Thread *
current_thread(Core *core)
{
    return cached_thread.serial == core->serial ? cached_thread.thread : find_thread(core);
}

/* The GIL makes it whole: nothing here lets another thread run before the row is in the buffer. */
static inline int
rows_add(Rows *rows, const void *row, Py_ssize_t size)
{
    PyByteArrayObject *pending = (PyByteArrayObject *)rows->pending;
    Py_ssize_t old = Py_SIZE(pending), start = pending->ob_start - pending->ob_bytes;
    if (old + size > rows->limit || start + old + size >= pending->ob_alloc || pending->ob_exports > 0) {
        if (rows_grow(rows, size) < 0)
            return -1;
    } else {
        Py_SET_SIZE(pending, old + size);
        pending->ob_start[old + size] = 0;
    }
    memcpy(pending->ob_start + old, row, size);
    return old + size > rows->limit ? rows_full(rows) : 0;
}

static inline int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
