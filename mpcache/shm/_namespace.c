/* What is done with keys: get, set, fill, delete, one or many of them; keys, epochs.  The GIL is kept for what takes
 * nanoseconds and released for what may wait or copies much. */
#include "binding.h"

#define READS 16              /* look-ups of one get that may be overtaken by writers before it is a miss */
#define KEYS_AT_ONCE 8192     /* keys that are listed before the GIL is taken, */
#define KEY_BYTES_AT_ONCE (512u << 10) /* or bytes of them */

/* -- reading -------------------------------------------------------------------------------------------------------- */

mpc_status mpc_copy_value(mpc_ctx *ctx, const mpc_hit *hit, char *to)
{
    mpc_status status;
    if (hit->record.vlen < MPC_LONG_COPY)
        return mpc_copy(ctx, hit, to);
    Py_BEGIN_ALLOW_THREADS
    status = mpc_copy(ctx, hit, to);
    Py_END_ALLOW_THREADS
    return status;
}

/* A new bytes object with the value; None: no such key; NULL: an exception is set. */
static PyObject *mpc_read_value(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit)
{
    for (int i = 0; i < READS; i++) {
        mpc_status status = mpc_find(ctx, key, hit);
        if (status == MPC_ABSENT)
            Py_RETURN_NONE;
        if (status != MPC_OK)
            return mpc_raise_status(status);
        PyObject *value = mpc_alloc_bytes(hit->record.vlen, ASKED_ALONE);
        if (!value)
            return NULL;
        if (mpc_copy_value(ctx, hit, PyBytes_AS_STRING(value)) == MPC_OK)
            return value;
        Py_DECREF(value);
    }
    mpc_count(ctx, MPC_COUNT_MISSES);
    Py_RETURN_NONE;
}

/* The value, which is taken over, and what is known of it; built by hand, as to read a format takes longer than the
 * look-up.  The tuple is made last: the collector shows it to other code, which must not find it half filled. */
static PyObject *mpc_record_tuple(PyObject *value, const struct mpc_record *record)
{
    PyObject *items[] = {value,
                         PyFloat_FromDouble(mpc_seconds_of_ns(record->created)),
                         PyLong_FromUnsignedLongLong(record->epoch),
                         PyLong_FromLong(record->flags),
                         PyFloat_FromDouble(mpc_seconds_of_ns(record->expires)),
                         PyLong_FromUnsignedLongLong(record->version)};
    PyObject *tuple = PyTuple_New(6);
    for (Py_ssize_t i = 0; i < 6; i++)
        if (tuple)
            PyTuple_SET_ITEM(tuple, i, items[i]);
        else
            Py_XDECREF(items[i]);
    if (PyErr_Occurred())
        Py_CLEAR(tuple);
    return tuple;
}

static PyObject *mpc_get_record(Namespace *self, const mpc_key *key)
{
    mpc_hit hit;
    PyObject *value = mpc_read_value(&self->engine->ctx, key, &hit);
    if (!value || value == Py_None)
        return value;
    return mpc_record_tuple(value, &hit.record);
}

static PyObject *mpc_py_namespace_get(Namespace *self, PyObject *name)
{
    mpc_key key;
    return mpc_parse_key(&self->engine->ctx, name, self->number, KIND_RECORD, &key) < 0 ? NULL : mpc_get_record(self, &key);
}

/* 1: the key has a value that is not hidden; 0: it has none; -1: an exception is set. */
int mpc_find_shown(Namespace *self, PyObject *name, mpc_hit *hit)
{
    mpc_key key;
    mpc_ctx *ctx = &self->engine->ctx;
    if (mpc_parse_key(ctx, name, self->number, KIND_RECORD, &key) < 0)
        return -1;
    mpc_status status = mpc_find(ctx, &key, hit);
    if (status != MPC_OK && status != MPC_ABSENT) {
        mpc_raise_status(status);
        return -1;
    }
    return status == MPC_OK && hit->record.epoch >= mpc_load_acquire(&mpc_namespace_at(ctx, self->number)->hard_at);
}

static int mpc_py_namespace_contains(Namespace *self, PyObject *name)
{
    mpc_hit hit;
    return mpc_find_shown(self, name, &hit);
}

/* Whether what the namespace holds may be told: its segment has not been removed.  A process that only lists keys, or asks
 * who holds one, has no other occasion to notice.  False: an exception is set. */
static bool mpc_may_list(Namespace *self)
{
    mpc_ctx *ctx = &self->engine->ctx;
    mpc_status status = mpc_may_read(ctx);
    if (status == MPC_OK && mpc_revalidate(ctx) == MPC_RETIRED)
        status = MPC_RETIRED;
    if (status != MPC_OK)
        mpc_raise_status(status);
    return status == MPC_OK;
}

/* Keys that a scan found, copied out while it goes on without the GIL: to find few among many slots takes long, and to
 * take the GIL for each of many may take longer still. */
typedef struct {
    u32 n;
    u64 used; /* of `bytes` */
    struct {
        u64 at;
        u16 len;
        u8 type;
    } key[KEYS_AT_ONCE];
    u8 bytes[KEY_BYTES_AT_ONCE + MPC_MAX_KEY]; /* the longest key fits behind all others */
} found_keys;

/* MPC_OK: the scan goes on; MPC_ABSENT: it is at its end. */
static mpc_status mpc_find_keys(mpc_ctx *ctx, u16 namespace, u64 hard_at, mpc_cursor *cursor, found_keys *found)
{
    mpc_hit hit;
    found->n = 0;
    found->used = 0;
    while (found->n < KEYS_AT_ONCE && found->used < KEY_BYTES_AT_ONCE) {
        mpc_status status = mpc_next_key(ctx, cursor, namespace, &hit, found->bytes + found->used);
        if (status != MPC_OK)
            return status;
        if (hit.record.epoch < hard_at || hit.record.kind >> 4 != KIND_RECORD)
            continue;
        found->key[found->n].at = found->used;
        found->key[found->n].len = hit.record.klen;
        found->key[found->n++].type = hit.record.kind & 15;
        found->used += hit.record.klen;
    }
    return MPC_OK;
}

static PyObject *mpc_key_object(const found_keys *found, u32 i)
{
    const char *bytes = (const char *)found->bytes + found->key[i].at;
    if (found->key[i].type == TYPE_STR)
        return PyUnicode_DecodeUTF8(bytes, found->key[i].len, "replace");
    return PyBytes_FromStringAndSize(bytes, found->key[i].len);
}

static int mpc_put_keys(PyObject *dict, const found_keys *found)
{
    int failed = 0;
    for (u32 i = 0; !failed && i < found->n; i++) {
        PyObject *key = mpc_key_object(found, i);
        failed = !key || PyDict_SetItem(dict, key, Py_None) < 0;
        Py_XDECREF(key);
    }
    return failed ? -1 : 0;
}

/* A dict, since a key that is deleted and set again meanwhile may be seen in both its places. */
static PyObject *mpc_collect_keys(Namespace *self, found_keys *found)
{
    mpc_ctx *ctx = &self->engine->ctx;
    mpc_cursor cursor = {0};
    PyObject *dict = PyDict_New();
    u64 hard_at = mpc_load_acquire(&mpc_namespace_at(ctx, self->number)->hard_at);
    for (mpc_status status = MPC_OK; dict && status == MPC_OK;) {
        Py_BEGIN_ALLOW_THREADS
        status = mpc_find_keys(ctx, self->number, hard_at, &cursor, found);
        Py_END_ALLOW_THREADS
        if (mpc_put_keys(dict, found) == 0 && status != MPC_OK && status != MPC_ABSENT)
            mpc_raise_status(status);
        if (PyErr_Occurred())
            Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *mpc_py_namespace_keys(Namespace *self, PyObject *unused)
{
    (void)unused;
    if (!mpc_may_list(self))
        return NULL;
    found_keys *found = PyMem_Malloc(sizeof *found);
    PyObject *dict = found ? mpc_collect_keys(self, found) : PyErr_NoMemory();
    PyObject *list = dict ? PyDict_Keys(dict) : NULL;
    Py_XDECREF(dict);
    PyMem_Free(found);
    return list;
}

/* -- writing -------------------------------------------------------------------------------------------------------- */

typedef mpc_status (*write_fn)(mpc_ctx *, const mpc_key *, const mpc_value *, const mpc_hold *, u64);

static mpc_status mpc_write_set(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *none, u64 wait_ns)
{
    (void)none;
    return mpc_set(ctx, key, value, wait_ns);
}

/* At once if the shard is free; else with the GIL released, for as long as a set may wait.  What others can change is
 * copied with the GIL held: into the segment, or to be waited with.  MPC_SYSTEM: an exception may be set. */
static mpc_status mpc_store_value(mpc_ctx *ctx, write_fn write, const mpc_key *key, mpc_value *value, held_value *held,
                              const mpc_hold *guard)
{
    bool at_once = value->len < MPC_LONG_COPY || held->can_change;
    mpc_status status = at_once ? write(ctx, key, value, guard, 0) : MPC_BUSY;
    if (status != MPC_BUSY)
        return status;
    if (mpc_own_copy(held, value) < 0)
        return MPC_SYSTEM;
    Py_BEGIN_ALLOW_THREADS
    status = write(ctx, key, value, guard, MPC_SHARD_WAIT_NS);
    Py_END_ALLOW_THREADS
    return status;
}

mpc_status mpc_set_value(mpc_ctx *ctx, const mpc_key *key, mpc_value *value, held_value *held)
{
    return mpc_store_value(ctx, mpc_write_set, key, value, held, NULL);
}

/* NULL stands for what the caller left out.  The epoch is the caller's business. */
static int mpc_parse_parts(PyObject *bytes, PyObject *created, PyObject *expires, PyObject *flags, held_value *held,
                       mpc_value *value)
{
    *value = (mpc_value){.created = mpc_ns_of_seconds(created ? PyFloat_AsDouble(created) : 0),
                         .expires = mpc_ns_of_seconds(expires ? PyFloat_AsDouble(expires) : 0),
                         .flags = (u8)((flags ? PyLong_AsLong(flags) : 0) & 0x7f)};
    if (PyErr_Occurred() || mpc_hold_buffers(bytes, held, value) < 0)
        return -1;
    if (value->created == 0)
        value->created = mpc_wall_ns();
    return 0;
}

/* args: value[, created, epoch, expires, flags]; an epoch of -1 is the present one */
int mpc_parse_value(const Namespace *self, PyObject *const *args, Py_ssize_t n, held_value *held, mpc_value *value)
{
    u64 present = mpc_epoch_now(self);
    long long epoch = n > 2 ? PyLong_AsLongLong(args[2]) : -1;
    if (PyErr_Occurred() || mpc_parse_parts(args[0], n > 1 ? args[1] : NULL, n > 3 ? args[3] : NULL, n > 4 ? args[4] : NULL,
                                        held, value) < 0)
        return -1;
    value->epoch = epoch < 0 || (u64)epoch > present ? present : (u64)epoch; /* no value comes from a later epoch */
    return 0;
}

PyObject *mpc_outcome_object(mpc_ctx *ctx, mpc_status status, const mpc_key *key, const mpc_value *value)
{
    switch (status) {
    case MPC_OK:
        Py_RETURN_TRUE;
    case MPC_DROPPED:
    case MPC_EXISTS:
    case MPC_REFUSED:
    case MPC_ABSENT:
        Py_RETURN_FALSE;
    case MPC_TOO_LARGE:
        return mpc_raise_too_large(ctx, key, value->len);
    default:
        return mpc_raise_status(status);
    }
}

/* args: key, value, created, epoch, expires, flags.  MPC_SYSTEM: an exception is set. */
static mpc_status mpc_parse_and_set(Namespace *self, PyObject *const *args, Py_ssize_t n, mpc_key *key, mpc_value *value)
{
    held_value held;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n < 2 || n > 6)
        PyErr_Format(PyExc_TypeError, "expected key, value[, created, epoch, expires, flags], not %zd arguments", n);
    else if (mpc_parse_key(ctx, args[0], self->number, KIND_RECORD, key) == 0 &&
             mpc_parse_value(self, args + 1, n - 1, &held, value) == 0) {
        mpc_status status = mpc_set_value(ctx, key, value, &held);
        mpc_release_buffers(&held);
        return status;
    }
    return MPC_SYSTEM;
}

static PyObject *mpc_py_namespace_set(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    mpc_value value;
    mpc_status status = mpc_parse_and_set(self, args, n, &key, &value);
    return PyErr_Occurred() ? NULL : mpc_outcome_object(&self->engine->ctx, status, &key, &value);
}

/* A guard of another segment (this one's predecessor, perhaps) proves nothing here. */
static mpc_status mpc_fill_under(Namespace *self, const Guard *guard, const mpc_key *key, mpc_value *value, held_value *held)
{
    if (guard->refused || guard->namespace->engine != self->engine)
        return MPC_REFUSED;
    return mpc_store_value(&self->engine->ctx, mpc_fill, key, value, held, &guard->hold);
}

/* args: guard, key, value, created, expires, flags */
static PyObject *mpc_py_namespace_fill(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    mpc_value value;
    held_value held;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n != 6 || !PyObject_TypeCheck(args[0], Guard_Type))
        return PyErr_Format(PyExc_TypeError, "expected guard, key, value, created, expires, flags");
    Guard *guard = (Guard *)args[0];
    if (mpc_parse_key(ctx, args[1], self->number, KIND_RECORD, &key) < 0 ||
        mpc_parse_parts(args[2], args[3], args[4], args[5], &held, &value) < 0)
        return NULL;
    value.epoch = guard->epoch;
    mpc_status status = mpc_fill_under(self, guard, &key, &value, &held);
    mpc_release_buffers(&held);
    PyObject *outcome = mpc_outcome_object(ctx, status, &key, &value);
    Py_XSETREF(guard->outcome, Py_NewRef(outcome ? outcome : Py_False));
    return outcome;
}

static PyObject *mpc_py_namespace_delete(Namespace *self, PyObject *name)
{
    mpc_key key;
    if (mpc_parse_key(&self->engine->ctx, name, self->number, KIND_RECORD, &key) < 0)
        return NULL;
    mpc_status status = mpc_delete(&self->engine->ctx, &key, 0);
    if (status == MPC_BUSY) {
        Py_BEGIN_ALLOW_THREADS
        status = mpc_delete(&self->engine->ctx, &key, MPC_SHARD_WAIT_NS);
        Py_END_ALLOW_THREADS
    }
    if (status != MPC_OK && status != MPC_ABSENT)
        return mpc_raise_status(status);
    return PyBool_FromLong(status == MPC_OK);
}

/* -- many keys ---------------------------------------------------------------------------------------------------------- */

void mpc_free_keys(many_keys *many)
{
    Py_CLEAR(many->names);
    PyMem_Free(many->key);
}

/* Make a tuple of what an iterable yields.  Unlike PySequence_Tuple() it shows no half-filled tuple to the code that
 * yields: a list grows item by item, and a tuple of a list is filled before the collector knows it. */
static PyObject *mpc_tuple_of(PyObject *iterable)
{
    if (PyList_CheckExact(iterable))
        return PyList_AsTuple(iterable);
    if (PyTuple_CheckExact(iterable))
        return Py_NewRef(iterable);
    PyObject *list = PySequence_List(iterable), *tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

/* Return a list of n NULLs that the collector does not know, so that no other code can find it; mpc_release_list() when it
 * is full.  The GIL may be released, and code may run, while it is being filled. */
PyObject *mpc_hidden_list(Py_ssize_t n)
{
    PyObject *list = PyList_New(n);
    if (list)
        PyObject_GC_UnTrack(list);
    return list;
}

/* Hand out a list that is full; NULL stays NULL. */
PyObject *mpc_release_list(PyObject *list)
{
    if (list)
        PyObject_GC_Track(list);
    return list;
}

/* All or none: one that is no key keeps the others from being touched. */
int mpc_parse_keys(Namespace *self, PyObject *names, many_keys *many)
{
    *many = (many_keys){.names = mpc_tuple_of(names)};
    if (!many->names)
        return -1;
    many->n = PyTuple_GET_SIZE(many->names);
    many->key = PyMem_Calloc((size_t)many->n + 1, sizeof *many->key);
    if (!many->key)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; many->key && i < many->n; i++)
        if (mpc_parse_key(&self->engine->ctx, PyTuple_GET_ITEM(many->names, i), self->number, KIND_RECORD, &many->key[i]) < 0)
            break;
    if (!PyErr_Occurred())
        return 0;
    mpc_free_keys(many);
    return -1;
}

static PyObject *mpc_py_namespace_get_multi(Namespace *self, PyObject *names)
{
    many_keys many;
    if (mpc_parse_keys(self, names, &many) < 0)
        return NULL;
    PyObject *list = mpc_hidden_list(many.n);
    for (Py_ssize_t i = 0; list && i < many.n; i++) {
        mpc_prefetch_ahead(&self->engine->ctx, &many, i);
        PyObject *found = mpc_get_record(self, &many.key[i]);
        if (found)
            PyList_SET_ITEM(list, i, found);
        else
            Py_CLEAR(list);
    }
    mpc_free_keys(&many);
    return mpc_release_list(list);
}

/* True: stored; False: its shard stayed busy; None: it is too large.  A value that fits is stored whatever became of
 * those before it. */
static PyObject *mpc_set_row(Namespace *self, PyObject *args)
{
    mpc_key key;
    mpc_value value;
    if (!PyTuple_Check(args))
        return PyErr_Format(PyExc_TypeError, "expected tuples of what set() takes");
    mpc_status status = mpc_parse_and_set(self, ((PyTupleObject *)args)->ob_item, PyTuple_GET_SIZE(args), &key, &value);
    if (PyErr_Occurred())
        return NULL;
    return status == MPC_TOO_LARGE ? Py_NewRef(Py_None) : mpc_outcome_object(&self->engine->ctx, status, &key, &value);
}

static PyObject *mpc_py_namespace_set_multi(Namespace *self, PyObject *rows)
{
    PyObject *all = mpc_tuple_of(rows), *list = all ? mpc_hidden_list(PyTuple_GET_SIZE(all)) : NULL;
    for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(all); i++) {
        PyObject *outcome = mpc_set_row(self, PyTuple_GET_ITEM(all, i));
        if (outcome)
            PyList_SET_ITEM(list, i, outcome);
        else
            Py_CLEAR(list);
    }
    Py_XDECREF(all);
    return mpc_release_list(list);
}

/* How many of them were there. */
static PyObject *mpc_py_namespace_delete_multi(Namespace *self, PyObject *names)
{
    many_keys many;
    mpc_status status = MPC_OK;
    Py_ssize_t deleted = 0;
    if (mpc_parse_keys(self, names, &many) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < many.n && (status == MPC_OK || status == MPC_ABSENT); i++) {
        status = mpc_delete(&self->engine->ctx, &many.key[i], MPC_SHARD_WAIT_NS);
        deleted += status == MPC_OK;
    }
    Py_END_ALLOW_THREADS
    mpc_free_keys(&many);
    return status == MPC_OK || status == MPC_ABSENT ? PyLong_FromSsize_t(deleted) : mpc_raise_status(status);
}

/* -- the namespace ---------------------------------------------------------------------------------------------------- */

/* False: an exception is set. */
static bool mpc_may_change(Namespace *self)
{
    mpc_status status = mpc_enter(&self->engine->ctx);
    if (status == MPC_OK)
        status = mpc_revalidate(&self->engine->ctx);
    if (status != MPC_OK)
        mpc_raise_status(status);
    return status == MPC_OK;
}

static PyObject *mpc_py_namespace_invalidate(Namespace *self, PyObject *hard)
{
    int is_hard = PyObject_IsTrue(hard);
    if (is_hard < 0 || !mpc_may_change(self))
        return NULL;
    return PyLong_FromUnsignedLongLong(mpc_invalidate(&self->engine->ctx, self->number, is_hard));
}

static PyObject *mpc_py_namespace_clear(Namespace *self, PyObject *unused)
{
    (void)unused;
    if (!mpc_may_change(self))
        return NULL;
    mpc_clear(&self->engine->ctx, self->number);
    Py_RETURN_NONE;
}

static PyObject *mpc_py_namespace_epochs(Namespace *self, PyObject *unused)
{
    (void)unused;
    if (mpc_retired(&self->engine->ctx))
        return mpc_raise_status(MPC_RETIRED);
    struct mpc_namespace *namespace = mpc_namespace_at(&self->engine->ctx, self->number);
    u64 hard = mpc_load_acquire(&namespace->hard_at), soft = mpc_load_acquire(&namespace->soft_at);
    return Py_BuildValue("(KKK)", (unsigned long long)mpc_load_acquire(&namespace->epoch), (unsigned long long)hard,
                         (unsigned long long)soft);
}

static PyObject *mpc_py_namespace_lease(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected key and whether it is a record's, not %zd arguments", n);
    int record = PyObject_IsTrue(args[1]);
    return record < 0 ? NULL : mpc_new_lease(self, args[0], record ? KIND_RECORD : KIND_MUTEX);
}

static PyObject *mpc_py_namespace_guard(Namespace *self, PyObject *name)
{
    return mpc_new_guard(self, name);
}

/* The pid of whoever holds the key's lease, or None. */
static PyObject *mpc_py_namespace_holder(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    u64 owner;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected key and whether it is a record's, not %zd arguments", n);
    int record = PyObject_IsTrue(args[1]);
    if (record < 0 || mpc_parse_key(ctx, args[0], self->number, record ? KIND_RECORD : KIND_MUTEX, &key) < 0 ||
        !mpc_may_list(self))
        return NULL;
    if (!mpc_lease_held(ctx, &key, &owner))
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(mpc_pid_of(ctx, owner));
}

PyObject *mpc_new_namespace(Engine *engine, u16 number)
{
    Namespace *self = PyObject_New(Namespace, Namespace_Type);
    if (self) {
        self->engine = (Engine *)Py_NewRef(engine);
        self->number = number;
    }
    return (PyObject *)self;
}

static void mpc_py_namespace_dealloc(Namespace *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->engine);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *mpc_py_namespace_get_engine(Namespace *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->engine);
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef namespace_methods[] = {
    {"get", (PyCFunction)mpc_py_namespace_get, METH_O, "(value, created, epoch, flags, expires, version) of the key, or None."},
    {"set", FAST(mpc_py_namespace_set), METH_FASTCALL, "Store; False if the shard stayed busy and the key has no value now."},
    {"add", FAST(mpc_py_namespace_add), METH_FASTCALL, "Store unless the key has a value; whether it did."},
    {"compare_and_set", FAST(mpc_py_namespace_compare_and_set), METH_FASTCALL, "Store if the value is of this version; whether it was."},
    {"incr", FAST(mpc_py_namespace_incr), METH_FASTCALL, "Add to the integer that the key has; the sum, or None: it has no value."},
    {"touch", FAST(mpc_py_namespace_touch), METH_FASTCALL,
     "Let the value end at another time; whether there is one, or NotImplemented: its bytes say when it ends."},
    {"version", (PyCFunction)mpc_py_namespace_version, METH_O, "The version of the key's value, or None."},
    {"get_multi", (PyCFunction)mpc_py_namespace_get_multi, METH_O, "A list of what get() returns."},
    {"set_multi", (PyCFunction)mpc_py_namespace_set_multi, METH_O, "As set(), for tuples of its arguments; None: too large."},
    {"delete_multi", (PyCFunction)mpc_py_namespace_delete_multi, METH_O, "As delete(); how many were there."},
    {"fill", FAST(mpc_py_namespace_fill), METH_FASTCALL, "Store what was created under the guard; False if it may not be."},
    {"delete", (PyCFunction)mpc_py_namespace_delete, METH_O, "Remove; whether the key was there."},
    {"keys", (PyCFunction)mpc_py_namespace_keys, METH_NOARGS, "The keys, in no order; what comes or goes meanwhile may be among them or not."},
    {"invalidate", (PyCFunction)mpc_py_namespace_invalidate, METH_O, "Hide (True) or make stale (False) what was begun before; the new epoch."},
    {"clear", (PyCFunction)mpc_py_namespace_clear, METH_NOARGS, "Remove everything."},
    {"epochs", (PyCFunction)mpc_py_namespace_epochs, METH_NOARGS, "(epoch, hard_at, soft_at)."},
    {"lease", FAST(mpc_py_namespace_lease), METH_FASTCALL, "A new lease of the key, not held yet."},
    {"guard", (PyCFunction)mpc_py_namespace_guard, METH_O, "Begin a fill of the key."},
    {"holder", FAST(mpc_py_namespace_holder), METH_FASTCALL, "The pid of who holds the key's lease, or None."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef namespace_getset[] = {
    {"engine", (getter)mpc_py_namespace_get_engine, NULL, "The segment.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot namespace_slots[] = {
    {Py_tp_dealloc, mpc_py_namespace_dealloc},
    {Py_tp_methods, namespace_methods},
    {Py_tp_getset, namespace_getset},
    {Py_sq_contains, mpc_py_namespace_contains},
    {Py_tp_doc, "One namespace of a segment: Engine.space(name)."},
    {0, NULL},
};

PyType_Spec Namespace_Spec = {"mpcache.shm._engine.Namespace", sizeof(Namespace), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, namespace_slots};
