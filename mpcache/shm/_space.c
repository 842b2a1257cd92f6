/* What is done with keys: get, set, add, fill, delete, keys, epochs.  The GIL is kept for what takes nanoseconds and
 * released for what may wait or copies much. */
#include "binding.h"

#include <math.h>

#define LONG_COPY (64u << 10) /* bytes from which a copy is worth a release of the GIL */
#define READS 16              /* look-ups of one get that may be overtaken by writers before it is a miss */

/* -- times ---------------------------------------------------------------------------------------------------------- */

/* Exact both ways: a long double holds every nanosecond, so the float that went in comes out. */
i64 ns_of_seconds(double seconds)
{
    return seconds <= 0 || !isfinite(seconds) || seconds > 9e9 ? 0 : (i64)llroundl((long double)seconds * 1e9L);
}

double seconds_of_ns(i64 ns)
{
    return (double)((long double)ns / 1e9L);
}

/* -- reading -------------------------------------------------------------------------------------------------------- */

mpc_status copy_value(mpc_ctx *ctx, const mpc_hit *hit, char *to)
{
    mpc_status status;
    if (hit->record.vlen < LONG_COPY)
        return mpc_copy(ctx, hit, to);
    Py_BEGIN_ALLOW_THREADS
    status = mpc_copy(ctx, hit, to);
    Py_END_ALLOW_THREADS
    return status;
}

/* A new bytes object with the value; None: no such key; NULL: an exception is set. */
static PyObject *read_value(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit)
{
    for (int i = 0; i < READS; i++) {
        mpc_status status = mpc_find(ctx, key, hit);
        if (status == MPC_ABSENT)
            Py_RETURN_NONE;
        if (status != MPC_OK)
            return raise_status(status);
        PyObject *value = PyBytes_FromStringAndSize(NULL, hit->record.vlen);
        if (!value)
            return NULL;
        if (copy_value(ctx, hit, PyBytes_AS_STRING(value)) == MPC_OK)
            return value;
        Py_DECREF(value);
    }
    mpc_count(ctx, MPC_COUNT_MISSES);
    Py_RETURN_NONE;
}

static PyObject *space_get(Space *self, PyObject *name)
{
    mpc_key key;
    mpc_hit hit;
    mpc_ctx *ctx = &self->engine->ctx;
    if (parse_key(ctx, name, self->number, KIND_RECORD, &key) < 0)
        return NULL;
    PyObject *value = read_value(ctx, &key, &hit);
    if (!value || value == Py_None)
        return value;
    return Py_BuildValue("(NdKB)", value, seconds_of_ns(hit.record.created), (unsigned long long)hit.record.epoch,
                         hit.record.flags);
}

static int space_contains(Space *self, PyObject *name)
{
    mpc_key key;
    mpc_hit hit;
    if (parse_key(&self->engine->ctx, name, self->number, KIND_RECORD, &key) < 0)
        return -1;
    mpc_status status = mpc_find(&self->engine->ctx, &key, &hit);
    if (status != MPC_OK && status != MPC_ABSENT) {
        raise_status(status);
        return -1;
    }
    return status == MPC_OK &&
           hit.record.epoch >= mpc_load_acquire(&mpc_space_at(&self->engine->ctx, self->number)->hard_at);
}

static PyObject *key_object(const mpc_hit *hit, const u8 *bytes)
{
    if ((hit->record.sort & 15) == TYPE_STR)
        return PyUnicode_DecodeUTF8((const char *)bytes, hit->record.klen, "replace");
    return PyBytes_FromStringAndSize((const char *)bytes, hit->record.klen);
}

static PyObject *space_keys(Space *self, PyObject *unused)
{
    (void)unused;
    PyObject *list = PyList_New(0);
    u8 *bytes = list ? PyMem_Malloc(MPC_MAX_KEY) : NULL;
    if (!bytes) {
        Py_XDECREF(list);
        return PyErr_NoMemory();
    }
    mpc_cursor cursor = {0};
    mpc_hit hit;
    u64 hard_at = mpc_load_acquire(&mpc_space_at(&self->engine->ctx, self->number)->hard_at);
    while (list && mpc_next_key(&self->engine->ctx, &cursor, self->number, &hit, bytes) == MPC_OK) {
        if (hit.record.epoch < hard_at || hit.record.sort >> 4 != KIND_RECORD)
            continue;
        PyObject *key = key_object(&hit, bytes);
        if (!key || PyList_Append(list, key) < 0)
            Py_CLEAR(list);
        Py_XDECREF(key);
    }
    PyMem_Free(bytes);
    return list;
}

/* -- writing -------------------------------------------------------------------------------------------------------- */

typedef mpc_status (*write_fn)(mpc_ctx *, const mpc_key *, const mpc_value *, const mpc_hold *, u64);

static mpc_status write_set(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *none, u64 wait_ns)
{
    (void)none;
    return mpc_set(ctx, key, value, wait_ns);
}

static mpc_status write_add(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *none, u64 wait_ns)
{
    (void)none;
    return mpc_add_new(ctx, key, value, wait_ns);
}

/* At once if the shard is free; else with the GIL released, for as long as a set may wait. */
static mpc_status write_value(mpc_ctx *ctx, write_fn write, const mpc_key *key, const mpc_value *value,
                              const mpc_hold *guard)
{
    mpc_status status = value->len < LONG_COPY ? write(ctx, key, value, guard, 0) : MPC_BUSY;
    if (status != MPC_BUSY)
        return status;
    Py_BEGIN_ALLOW_THREADS
    status = write(ctx, key, value, guard, MPC_SHARD_WAIT_NS);
    Py_END_ALLOW_THREADS
    return status;
}

mpc_status set_value(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value)
{
    return write_value(ctx, write_set, key, value, NULL);
}

/* NULL stands for what the caller left out.  The epoch is the caller's business. */
static int parse_value(PyObject *bytes, PyObject *created, PyObject *expires, PyObject *flags, Py_buffer *buffer,
                       mpc_value *value)
{
    *value = (mpc_value){.created = ns_of_seconds(created ? PyFloat_AsDouble(created) : 0),
                         .expires = ns_of_seconds(expires ? PyFloat_AsDouble(expires) : 0),
                         .flags = (u8)((flags ? PyLong_AsLong(flags) : 0) & 0x7f)};
    if (PyErr_Occurred() || PyObject_GetBuffer(bytes, buffer, PyBUF_SIMPLE) < 0)
        return -1;
    value->bytes = buffer->buf;
    value->len = (u64)buffer->len;
    if (value->created == 0)
        value->created = mpc_wall_ns();
    return 0;
}

static PyObject *outcome_of(mpc_ctx *ctx, mpc_status status, const mpc_key *key, const mpc_value *value)
{
    switch (status) {
    case MPC_OK:
        Py_RETURN_TRUE;
    case MPC_DROPPED:
    case MPC_EXISTS:
    case MPC_REFUSED:
        Py_RETURN_FALSE;
    case MPC_TOO_LARGE:
        return raise_too_large(ctx, key, value->len);
    default:
        return raise_status(status);
    }
}

/* args: key, value, created, epoch, expires, flags; an epoch of -1 is the present one */
static PyObject *put_value(Space *self, PyObject *const *args, Py_ssize_t n, write_fn write)
{
    mpc_key key;
    mpc_value value;
    Py_buffer buffer;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n < 2 || n > 6)
        return PyErr_Format(PyExc_TypeError, "expected key, value[, created, epoch, expires, flags], not %zd arguments", n);
    long long epoch = n > 3 ? PyLong_AsLongLong(args[3]) : -1;
    if (PyErr_Occurred() || parse_key(ctx, args[0], self->number, KIND_RECORD, &key) < 0 ||
        parse_value(args[1], n > 2 ? args[2] : NULL, n > 4 ? args[4] : NULL, n > 5 ? args[5] : NULL, &buffer, &value) < 0)
        return NULL;
    u64 present = mpc_load_acquire(&mpc_space_at(ctx, self->number)->epoch);
    value.epoch = epoch < 0 || (u64)epoch > present ? present : (u64)epoch; /* no value comes from a later epoch */
    mpc_status status = write_value(ctx, write, &key, &value, NULL);
    PyBuffer_Release(&buffer);
    return outcome_of(ctx, status, &key, &value);
}

static PyObject *space_set(Space *self, PyObject *const *args, Py_ssize_t n)
{
    return put_value(self, args, n, write_set);
}

static PyObject *space_add(Space *self, PyObject *const *args, Py_ssize_t n)
{
    return put_value(self, args, n, write_add);
}

/* A guard of another segment (this one's predecessor, perhaps) proves nothing here. */
static mpc_status fill_under(Space *self, const Guard *guard, const mpc_key *key, const mpc_value *value)
{
    if (guard->refused || guard->space->engine != self->engine)
        return MPC_REFUSED;
    return write_value(&self->engine->ctx, mpc_fill, key, value, &guard->hold);
}

/* args: guard, key, value, created, expires, flags */
static PyObject *space_fill(Space *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    mpc_value value;
    Py_buffer buffer;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n != 6 || !PyObject_TypeCheck(args[0], Guard_Type))
        return PyErr_Format(PyExc_TypeError, "expected guard, key, value, created, expires, flags");
    Guard *guard = (Guard *)args[0];
    if (parse_key(ctx, args[1], self->number, KIND_RECORD, &key) < 0 ||
        parse_value(args[2], args[3], args[4], args[5], &buffer, &value) < 0)
        return NULL;
    value.epoch = guard->epoch;
    mpc_status status = fill_under(self, guard, &key, &value);
    PyBuffer_Release(&buffer);
    PyObject *outcome = outcome_of(ctx, status, &key, &value);
    Py_XSETREF(guard->outcome, Py_NewRef(outcome ? outcome : Py_False));
    return outcome;
}

static PyObject *space_delete(Space *self, PyObject *name)
{
    mpc_key key;
    if (parse_key(&self->engine->ctx, name, self->number, KIND_RECORD, &key) < 0)
        return NULL;
    mpc_status status = mpc_delete(&self->engine->ctx, &key);
    if (status != MPC_OK && status != MPC_ABSENT)
        return raise_status(status);
    return PyBool_FromLong(status == MPC_OK);
}

/* -- the namespace ---------------------------------------------------------------------------------------------------- */

static PyObject *space_invalidate(Space *self, PyObject *hard)
{
    int is_hard = PyObject_IsTrue(hard);
    if (is_hard < 0)
        return NULL;
    mpc_status status = mpc_enter(&self->engine->ctx);
    if (status != MPC_OK)
        return raise_status(status);
    status = mpc_look(&self->engine->ctx);
    if (status != MPC_OK)
        return raise_status(status);
    return PyLong_FromUnsignedLongLong(mpc_invalidate(&self->engine->ctx, self->number, is_hard));
}

static PyObject *space_clear(Space *self, PyObject *unused)
{
    (void)unused;
    mpc_status status = mpc_enter(&self->engine->ctx);
    if (status != MPC_OK)
        return raise_status(status);
    mpc_clear(&self->engine->ctx, self->number);
    Py_RETURN_NONE;
}

static PyObject *space_epochs(Space *self, PyObject *unused)
{
    (void)unused;
    if (mpc_retired(&self->engine->ctx))
        return raise_status(MPC_RETIRED);
    struct mpc_space *space = mpc_space_at(&self->engine->ctx, self->number);
    u64 hard = mpc_load_acquire(&space->hard_at), soft = mpc_load_acquire(&space->soft_at);
    return Py_BuildValue("(KKK)", (unsigned long long)mpc_load_acquire(&space->epoch), (unsigned long long)hard,
                         (unsigned long long)soft);
}

static PyObject *space_lease(Space *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected key and whether it is a record's, not %zd arguments", n);
    int record = PyObject_IsTrue(args[1]);
    return record < 0 ? NULL : new_lease(self, args[0], record ? KIND_RECORD : KIND_MUTEX);
}

static PyObject *space_guard(Space *self, PyObject *name)
{
    return new_guard(self, name);
}

/* The pid of whoever holds the key's lease, or None. */
static PyObject *space_holder(Space *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    u64 owner;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected key and whether it is a record's, not %zd arguments", n);
    int record = PyObject_IsTrue(args[1]);
    if (record < 0 || parse_key(ctx, args[0], self->number, record ? KIND_RECORD : KIND_MUTEX, &key) < 0)
        return NULL;
    if (!mpc_lease_held(ctx, &key, &owner))
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(mpc_pid_of(ctx, owner));
}

PyObject *new_space(Engine *engine, u16 number)
{
    Space *self = PyObject_New(Space, Space_Type);
    if (self) {
        self->engine = (Engine *)Py_NewRef(engine);
        self->number = number;
    }
    return (PyObject *)self;
}

static void space_dealloc(Space *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->engine);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *space_get_engine(Space *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->engine);
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef space_methods[] = {
    {"get", (PyCFunction)space_get, METH_O, "(value, created, epoch, flags) of the key, or None."},
    {"set", FAST(space_set), METH_FASTCALL, "Store; False if the shard stayed busy and the key has no value now."},
    {"add", FAST(space_add), METH_FASTCALL, "Store unless the key has a value; whether it did."},
    {"fill", FAST(space_fill), METH_FASTCALL, "Store what was created under the guard; False if it may not be."},
    {"delete", (PyCFunction)space_delete, METH_O, "Remove; whether the key was there."},
    {"keys", (PyCFunction)space_keys, METH_NOARGS, "The keys, in no order; what comes or goes meanwhile may be seen or not."},
    {"invalidate", (PyCFunction)space_invalidate, METH_O, "Hide (True) or make stale (False) what was begun before; the new epoch."},
    {"clear", (PyCFunction)space_clear, METH_NOARGS, "Remove everything."},
    {"epochs", (PyCFunction)space_epochs, METH_NOARGS, "(epoch, hard_at, soft_at)."},
    {"lease", FAST(space_lease), METH_FASTCALL, "A new lease of the key, not held yet."},
    {"guard", (PyCFunction)space_guard, METH_O, "Begin a fill of the key."},
    {"holder", FAST(space_holder), METH_FASTCALL, "The pid of who holds the key's lease, or None."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef space_getset[] = {
    {"engine", (getter)space_get_engine, NULL, "The segment.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot space_slots[] = {
    {Py_tp_dealloc, space_dealloc},
    {Py_tp_methods, space_methods},
    {Py_tp_getset, space_getset},
    {Py_sq_contains, space_contains},
    {Py_tp_doc, "One namespace of a segment: Engine.space(name)."},
    {0, NULL},
};

PyType_Spec Space_Spec = {"mpcache.shm._engine.Space", sizeof(Space), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, space_slots};
