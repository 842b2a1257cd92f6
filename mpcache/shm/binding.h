/* Between the files of the binding: the objects that Python sees, and the functions that one file offers to those
 * above it.  _module.c draws the layers. */
#ifndef MPC_BINDING_H
#define MPC_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../_foreign.h"
#include "core/engine.h"

enum { KIND_RECORD = 0, KIND_MUTEX = 1 };
enum { TYPE_STR = 0, TYPE_BYTES = 1 };

/* How a value is stored: as its serializer's output; as bytes that the caller made, which include what is known of
 * the value; and three kinds that need no serializer.  An integer has 8 bytes in this machine's order: incr() adds
 * to it. */
enum { KEPT_PAYLOAD, KEPT_WIRE, KEPT_BYTES, KEPT_TEXT, KEPT_INT };

/* The place of a value that is not one of many. */
enum { ASKED_ALONE = -1 };

/* One attached segment.  Unmapped when the last object that refers to it goes. */
typedef struct {
    PyObject_HEAD
    mpc_ctx ctx;
    int open;
    PyObject *weakrefs;
} Engine;

/* One namespace of a segment. */
typedef struct {
    PyObject_HEAD
    Engine *engine;
    u16 number;
    u64 words_owner; /* the process's id when it claimed these words, in which it counts requests */
    a64 *word[MPC_WORD_KINDS];
} Namespace;

/* What a process counts of a decorated function.  Hits, of which there may be ten million a second, wait here until
 * there are some, or until something rarer is counted. */
typedef struct {
    PyObject_HEAD
    PyObject *name; /* a str */
    u64 birth, owner; /* of the segment, and the process's id in it, where `row` is the function's; 0: nowhere yet */
    u32 row;
    u16 number; /* of its namespace */
    u64 pending; /* hits that are not in the segment yet */
    u64 here[MPC_FUNCTION_COUNTS]; /* in this process, without those */
    u64 forks; /* those before the process that counted `pending` and `here` */
} FunctionCounts;

/* One hold of one key, or an attempt to get it. */
typedef struct {
    PyObject_HEAD
    Namespace *namespace;
    PyObject *name; /* keeps the bytes of the key alive */
    mpc_key key;
    mpc_hold hold;
    _Atomic int held;
    int took_over;
} Lease;

/* The creation of one key's value, from its begin until it is stored. */
typedef struct {
    PyObject_HEAD
    Namespace *namespace;
    mpc_hold hold;
    u64 epoch;
    u64 begun_ns; /* monotonic clock */
    int refused; /* another process holds the key: the created value will not be stored */
    int dropped; /* the value was created, and could not be stored: its shard stayed busy, or an error occurred */
    _Atomic int closed;
    PyObject *outcome;
} Guard;

/* The present namespace of a store: the base of handle.NamespaceHandle, which sets another one when the segment is
 * replaced. */
typedef struct {
    PyObject_HEAD
    PyObject *namespace; /* a Namespace, or what stands for none */
} HandleBase;

/* The fast path of a region that has nothing between itself and the store. */
typedef struct {
    PyObject_HEAD
    HandleBase *handle;
    PyObject *no_value, *current_fill, *loads;
    PyObject *pickling, *idle; /* codec.pickling, and an unused result of it, or NULL */
    PyObject *mangler; /* key -> key; None: none */
    Py_buffer here; /* the region's own array of MPC_WORD_KINDS: the requests of this process, answered here */
    double lifetime;   /* seconds that a value is fresh where the call says nothing */
    bool plain;        /* whether the lifetime is a plain number */
} FastPath;

/* The key of a decorated function's call. */
typedef struct {
    char bytes[512];
    size_t len;
} call_key;

/* Keys that borrow their bytes from what is in `names`. */
typedef struct {
    PyObject *names;
    Py_ssize_t n;
    mpc_key *key;
} many_keys;

/* The age limit of one call. */
typedef struct {
    double seconds;  /* HUGE_VAL: no limit */
    i64 young_since; /* a value created since then need not be compared with the exact clock; 0: not known yet */
} age_limit;

/* What keeps the bytes of a value in place while it is stored. */
typedef struct {
    Py_ssize_t n;
    Py_buffer *many; /* NULL: `one` */
    mpc_piece *pieces;
    char *copy;      /* the value's own, or NULL */
    bool can_change; /* other threads may write to these bytes when they have the GIL */
    Py_buffer one;
} held_value;

extern PyTypeObject *Engine_Type, *Namespace_Type, *Lease_Type, *Guard_Type;
extern PyTypeObject *HandleBase_Type, *FastPath_Type, *FirstOf_Type, *FunctionCounts_Type;
extern PyType_Spec Engine_Spec, Namespace_Spec, Lease_Spec, Guard_Spec, HandleBase_Spec, FastPath_Spec, FirstOf_Spec;
extern PyType_Spec FunctionCounts_Spec;

/* Where a hit goes through a function with two callers, which the compiler would not inline by itself. */
#define MPC_INLINED static inline __attribute__((always_inline))

/* What Python calls with METH_FASTCALL. */
#define MPC_FASTCALL(f) ((PyCFunction)(void (*)(void))(f))

/* _errors.c */
PyObject *mpc_exception_class(mpc_status status);
PyObject *mpc_raise_status(mpc_status status);
PyObject *mpc_raise_too_large(const mpc_ctx *ctx, const mpc_key *key, size_t size);

/* _time.c */
int mpc_init_time(void);
i64 mpc_ns_of_seconds(double seconds);
i64 mpc_end_of_seconds(double seconds);
double mpc_seconds_of_ns(i64 ns);
bool mpc_clock_is_genuine(void);
int mpc_now_ns(i64 *now);
bool mpc_parse_ttl(PyObject *given, i64 created, i64 *expires);
int mpc_is_over_by_python(i64 expires);
bool mpc_parse_lifetime(PyObject *given, double *lifetime);
int mpc_is_young(age_limit *limit, i64 created);

/* _bytes_freelist.c */
PyObject *mpc_alloc_bytes(Py_ssize_t size, Py_ssize_t place);

/* _key.c */
int mpc_parse_key(const mpc_ctx *ctx, PyObject *from, u16 namespace, int kind, mpc_key *key);

/* _buffers.c */
int mpc_hold_buffers(PyObject *from, held_value *held, mpc_value *value);
void mpc_release_buffers(held_value *held);
int mpc_own_copy(held_value *held, mpc_value *value);

/* _tally.c */
extern const char *const mpc_tally_names[];
void mpc_note_in_stripe(Namespace *self, enum mpc_tally_kind kind, u64 n);
PyObject *mpc_counts_tuple(const u64 *counts, Py_ssize_t n);
PyObject *mpc_py_namespace_tally(Namespace *self, PyObject *const *args, Py_ssize_t n);
PyObject *mpc_py_namespace_observe(Namespace *self, PyObject *const *args, Py_ssize_t n);
PyObject *mpc_py_namespace_tallies(Namespace *self, PyObject *unused);
PyObject *mpc_py_namespace_histograms(Namespace *self, PyObject *unused);

/* _function_counts.c */
int mpc_init_function_counts(void);
void mpc_settle_function(FunctionCounts *self, const Namespace *namespace);
void mpc_flush_function(FunctionCounts *self, Namespace *namespace);
PyObject *mpc_py_engine_functions(Engine *self, PyObject *unused);

/* _reading.c */
mpc_status mpc_copy_value(mpc_ctx *ctx, const mpc_hit *hit, char *to);
PyObject *mpc_get_record(Namespace *self, const mpc_key *key);
int mpc_find_shown(Namespace *self, PyObject *name, mpc_hit *hit);
PyObject *mpc_py_namespace_get(Namespace *self, PyObject *name);
PyObject *mpc_py_namespace_describe(Namespace *self, PyObject *name);
int mpc_py_namespace_contains(Namespace *self, PyObject *name);

/* _writing.c */
mpc_status mpc_set_value(mpc_ctx *ctx, const mpc_key *key, mpc_value *value, held_value *held);
int mpc_parse_value(const Namespace *self, PyObject *const *args, Py_ssize_t n, held_value *held, mpc_value *value);
PyObject *mpc_outcome_object(mpc_ctx *ctx, mpc_status status, const mpc_key *key, const mpc_value *value);
mpc_status mpc_parse_and_set(Namespace *self, PyObject *const *args, Py_ssize_t n, mpc_key *key, mpc_value *value);
PyObject *mpc_py_namespace_set(Namespace *self, PyObject *const *args, Py_ssize_t n);
PyObject *mpc_py_namespace_fill(Namespace *self, PyObject *const *args, Py_ssize_t n);
PyObject *mpc_py_namespace_delete(Namespace *self, PyObject *name);

/* _rmw.c */
PyObject *mpc_py_namespace_add(Namespace *self, PyObject *const *args, Py_ssize_t n);
PyObject *mpc_py_namespace_compare_and_set(Namespace *self, PyObject *const *args, Py_ssize_t n);
PyObject *mpc_py_namespace_version(Namespace *self, PyObject *name);
PyObject *mpc_py_namespace_incr(Namespace *self, PyObject *const *args, Py_ssize_t n);
PyObject *mpc_py_namespace_touch(Namespace *self, PyObject *const *args, Py_ssize_t n);

/* _listing.c */
bool mpc_may_list(Namespace *self);
PyObject *mpc_py_namespace_keys(Namespace *self, PyObject *unused);
PyObject *mpc_py_namespace_items(Namespace *self, PyObject *unused);

/* _many.c */
int mpc_parse_keys(Namespace *self, PyObject *names, many_keys *many);
void mpc_free_keys(many_keys *many);
PyObject *mpc_hidden_list(Py_ssize_t n);
PyObject *mpc_release_list(PyObject *list);
PyObject *mpc_py_namespace_get_multi(Namespace *self, PyObject *names);
PyObject *mpc_py_namespace_set_multi(Namespace *self, PyObject *rows);
PyObject *mpc_py_namespace_delete_multi(Namespace *self, PyObject *names);

/* _lease.c, _namespace.c */
PyObject *mpc_new_lease(Namespace *namespace, PyObject *name, int kind);
PyObject *mpc_new_guard(Namespace *namespace, PyObject *name);
PyObject *mpc_new_namespace(Engine *engine, u16 number);

/* _call_key.c, _pickle.c */
bool mpc_is_key_form(PyObject *form);
bool mpc_make_call_key(call_key *to, PyObject *start, PyObject *form, PyObject *arguments);
PyObject *mpc_pickle(FastPath *self, PyObject *value);

/* _first_of.c */
PyObject *mpc_first_of(PyObject *fast, PyObject *reference);

/* _fast_values.c, _fast_rows.c */
PyObject *mpc_leave_odd_key(void);
PyObject *mpc_mangle(FastPath *self, PyObject *name);
PyObject *mpc_value_object(FastPath *self, PyObject *bytes, u8 flags);
PyObject *mpc_serialize(FastPath *self, PyObject *value, u8 *flags);
mpc_status mpc_put_bytes(Namespace *namespace, PyObject *name, PyObject *bytes, mpc_value value);
PyObject *mpc_fast_set_multi_in(FastPath *self, Namespace *namespace, PyObject *mapping, PyObject *ttl);

/* Prefetch the memory of the keys that follow while the i-th of many is looked up. */
static inline void mpc_prefetch_ahead(const mpc_ctx *ctx, const many_keys *many, Py_ssize_t i)
{
    if (i + 8 < many->n)
        mpc_prefetch_slot(ctx, &many->key[i + 8]);
    if (i + 4 < many->n)
        mpc_prefetch_record(ctx, &many->key[i + 4]);
}

/* Count requests that were answered here, with the GIL: see mpc_count_in_word(). */
static inline void mpc_note_request(Namespace *self, enum mpc_tally_kind kind, u64 n)
{
    u64 owner = mpc_load(&self->engine->ctx.self->owner); /* 0 in a forked child, which has no words yet */
    if (owner != 0 && owner == self->words_owner && self->word[kind])
        mpc_count_in_word(self->word[kind], n);
    else
        mpc_note_in_stripe(self, kind, n);
}

#define MPC_HITS_AT_ONCE 1024u /* a process that is killed loses fewer hits of a function than these */

/* Make sure that `row` is the function's in this namespace, and that nothing is pending that a parent counted. */
static inline void mpc_settle_if_moved(FunctionCounts *self, const Namespace *namespace)
{
    u64 owner = mpc_load(&namespace->engine->ctx.self->owner);
    if (owner == 0 || owner != self->owner || namespace->engine->ctx.birth != self->birth ||
        namespace->number != self->number)
        mpc_settle_function(self, namespace);
}

/* Count a call of a function that the fast path answered, with the GIL. */
static inline void mpc_note_function_hit(FunctionCounts *self, Namespace *namespace)
{
    mpc_settle_if_moved(self, namespace);
    if (++self->pending >= MPC_HITS_AT_ONCE)
        mpc_flush_function(self, namespace);
}

static inline u64 mpc_epoch_now(const Namespace *namespace)
{
    return mpc_epoch(&namespace->engine->ctx);
}

#endif
