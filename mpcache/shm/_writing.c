/* Writing one key: set, fill, delete.  The GIL is kept for what takes nanoseconds, and released for what may wait or
 * copies much. */
#include "binding.h"

/* -- storing ------------------------------------------------------------------------------------------------------- */

typedef mpc_status (*write_fn)(mpc_ctx *, const mpc_key *, const mpc_value *, const mpc_hold *, u64);

static mpc_status mpc_write_set(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *none,
                                u64 wait_ns)
{
    (void)none;
    return mpc_set(ctx, key, value, wait_ns);
}

/* Store at once if the shard is free; else with the GIL released, for as long as a set may wait.  What other threads
 * can change is copied with the GIL held: into the segment, or before waiting.  MPC_SYSTEM: an exception may be set. */
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

/* -- arguments and outcomes ---------------------------------------------------------------------------------------- */

/* Parse the parts of a value; NULL: the caller left it out.  The caller sets the epoch. */
static int mpc_parse_parts(PyObject *bytes, PyObject *created, PyObject *expires, PyObject *flags, held_value *held,
                           mpc_value *value)
{
    *value = (mpc_value){.created = mpc_ns_of_seconds(created ? PyFloat_AsDouble(created) : 0),
                         .expires = mpc_end_of_seconds(expires ? PyFloat_AsDouble(expires) : 0),
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
    if (PyErr_Occurred() || mpc_parse_parts(args[0], n > 1 ? args[1] : NULL, n > 3 ? args[3] : NULL,
                                            n > 4 ? args[4] : NULL, held, value) < 0)
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

/* -- what Python calls --------------------------------------------------------------------------------------------- */

/* args: key, value, created, epoch, expires, flags.  MPC_SYSTEM: an exception is set. */
mpc_status mpc_parse_and_set(Namespace *self, PyObject *const *args, Py_ssize_t n, mpc_key *key, mpc_value *value)
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

PyObject *mpc_py_namespace_set(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    mpc_value value;
    mpc_status status = mpc_parse_and_set(self, args, n, &key, &value);
    return PyErr_Occurred() ? NULL : mpc_outcome_object(&self->engine->ctx, status, &key, &value);
}

/* A guard of another segment (this one's predecessor, perhaps) proves nothing here. */
static mpc_status mpc_fill_under(Namespace *self, const Guard *guard, const mpc_key *key, mpc_value *value,
                                 held_value *held)
{
    if (guard->refused || guard->namespace->engine != self->engine)
        return MPC_REFUSED;
    return mpc_store_value(&self->engine->ctx, mpc_fill, key, value, held, &guard->hold);
}

/* args: guard, key, value, created, expires, flags */
PyObject *mpc_py_namespace_fill(Namespace *self, PyObject *const *args, Py_ssize_t n)
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
    value.took = mpc_took_of_ns(mpc_mono_ns() - guard->begun_ns);
    mpc_status status = mpc_fill_under(self, guard, &key, &value, &held);
    mpc_release_buffers(&held);
    guard->dropped = status != MPC_OK && status != MPC_REFUSED && status != MPC_TOO_LARGE;
    PyObject *outcome = mpc_outcome_object(ctx, status, &key, &value);
    Py_XSETREF(guard->outcome, Py_NewRef(outcome ? outcome : Py_False));
    return outcome;
}

PyObject *mpc_py_namespace_delete(Namespace *self, PyObject *name)
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
