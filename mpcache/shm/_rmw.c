/* Read-modify-write for Python (core/rmw.c): add, compare_and_set, incr, touch, version.  The GIL is kept for what
 * takes nanoseconds, and released to wait for a shard that is locked. */
#include "binding.h"

/* A change of the core; `how` has its arguments. */
typedef mpc_status (*change_fn)(mpc_ctx *ctx, const mpc_key *key, void *how, u64 wait_ns);

/* Try the change with the GIL held, then wait without it.  `held`, of `value`: what is copied before waiting
 * (mpc_store_value() says why); NULL: there is no value. */
static mpc_status mpc_rmw_value(mpc_ctx *ctx, change_fn change, const mpc_key *key, void *how, held_value *held,
                                mpc_value *value)
{
    bool at_once = !held || held->can_change || value->len < MPC_LONG_COPY;
    mpc_status status = at_once ? change(ctx, key, how, 0) : MPC_BUSY;
    if (status != MPC_BUSY)
        return status;
    if (held && mpc_own_copy(held, value) < 0)
        return MPC_SYSTEM;
    Py_BEGIN_ALLOW_THREADS
    status = change(ctx, key, how, MPC_SHARD_WAIT_NS);
    Py_END_ALLOW_THREADS
    return status;
}

/* -- values in place of others ------------------------------------------------------------------------------------- */

typedef struct {
    u64 version;
    mpc_value value;
    held_value held;
} swap;

static mpc_status mpc_try_add(mpc_ctx *ctx, const mpc_key *key, void *how, u64 wait_ns)
{
    return mpc_add_new(ctx, key, &((swap *)how)->value, wait_ns);
}

static mpc_status mpc_try_compare_and_set(mpc_ctx *ctx, const mpc_key *key, void *how, u64 wait_ns)
{
    swap *swap = how;
    return mpc_compare_and_set(ctx, key, swap->version, &swap->value, wait_ns);
}

/* args: value, created, epoch, expires, flags */
static PyObject *mpc_swap_value(Namespace *self, PyObject *name, PyObject *const *args, Py_ssize_t n, change_fn change,
                                swap *swap)
{
    mpc_key key;
    mpc_ctx *ctx = &self->engine->ctx;
    if (mpc_parse_key(ctx, name, self->number, KIND_RECORD, &key) < 0 ||
        mpc_parse_value(self, args, n, &swap->held, &swap->value) < 0)
        return NULL;
    mpc_status status = mpc_rmw_value(ctx, change, &key, swap, &swap->held, &swap->value);
    mpc_release_buffers(&swap->held);
    return mpc_outcome_object(ctx, status, &key, &swap->value);
}

/* args: key, value, created, epoch, expires, flags */
PyObject *mpc_py_namespace_add(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    swap swap;
    if (n < 2 || n > 6)
        return PyErr_Format(PyExc_TypeError, "expected key, value[, created, epoch, expires, flags], not %zd arguments",
                            n);
    return mpc_swap_value(self, args[0], args + 1, n - 1, mpc_try_add, &swap);
}

/* args: key, version, value, created, epoch, expires, flags */
PyObject *mpc_py_namespace_compare_and_set(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    swap swap;
    if (n < 3 || n > 7)
        return PyErr_Format(PyExc_TypeError,
                            "expected key, version, value[, created, epoch, expires, flags], not %zd arguments", n);
    swap.version = PyLong_AsUnsignedLongLong(args[1]);
    return PyErr_Occurred() ? NULL : mpc_swap_value(self, args[0], args + 2, n - 2, mpc_try_compare_and_set, &swap);
}

/* Return the version of the key's value, or None. */
PyObject *mpc_py_namespace_version(Namespace *self, PyObject *name)
{
    mpc_hit hit;
    switch (mpc_find_shown(self, name, &hit)) {
    case 1:
        return PyLong_FromUnsignedLongLong(hit.record.version);
    case 0:
        Py_RETURN_NONE;
    default:
        return NULL;
    }
}

/* -- numbers and times --------------------------------------------------------------------------------------------- */

typedef struct {
    i64 delta, initial, sum;
    bool may_begin;
    mpc_value fresh;
} count;

static mpc_status mpc_try_incr(mpc_ctx *ctx, const mpc_key *key, void *how, u64 wait_ns)
{
    count *count = how;
    return mpc_incr(ctx, key, count->delta, count->may_begin ? &count->initial : NULL, &count->fresh, &count->sum,
                    wait_ns);
}

static PyObject *mpc_sum_object(mpc_status status, PyObject *name, const count *count)
{
    switch (status) {
    case MPC_OK:
        return PyLong_FromLongLong(count->sum);
    case MPC_ABSENT:
        Py_RETURN_NONE;
    case MPC_OTHER_KIND:
        return PyErr_Format(PyExc_TypeError, "the value of key %R is no integer of 64 bits that was stored as one",
                            name);
    case MPC_OVERFLOW:
        return PyErr_Format(PyExc_OverflowError, "the value of key %R plus %lld is no signed integer of 64 bits", name,
                            (long long)count->delta);
    default:
        return mpc_raise_status(status);
    }
}

/* args: key, delta, initial or None, expires */
PyObject *mpc_py_namespace_incr(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n < 2 || n > 4)
        return PyErr_Format(PyExc_TypeError, "expected key, delta[, initial, expires], not %zd arguments", n);
    count count = {.delta = PyLong_AsLongLong(args[1]), .may_begin = n > 2 && args[2] != Py_None};
    if (count.may_begin && !PyErr_Occurred())
        count.initial = PyLong_AsLongLong(args[2]);
    count.fresh = (mpc_value){.created = mpc_wall_ns(), .flags = KEPT_INT, .epoch = mpc_epoch_now(self)};
    if (n > 3 && !PyErr_Occurred())
        count.fresh.expires = mpc_end_of_seconds(PyFloat_AsDouble(args[3]));
    if (PyErr_Occurred() || mpc_parse_key(ctx, args[0], self->number, KIND_RECORD, &key) < 0)
        return NULL;
    return mpc_sum_object(mpc_rmw_value(ctx, mpc_try_incr, &key, &count, NULL, NULL), args[0], &count);
}

static mpc_status mpc_try_touch(mpc_ctx *ctx, const mpc_key *key, void *how, u64 wait_ns)
{
    return mpc_touch(ctx, key, *(i64 *)how, KEPT_WIRE, wait_ns);
}

/* args: key, expires */
PyObject *mpc_py_namespace_touch(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected key and expires, not %zd arguments", n);
    i64 expires = mpc_end_of_seconds(PyFloat_AsDouble(args[1]));
    if (PyErr_Occurred() || mpc_parse_key(ctx, args[0], self->number, KIND_RECORD, &key) < 0)
        return NULL;
    mpc_status status = mpc_rmw_value(ctx, mpc_try_touch, &key, &expires, NULL, NULL);
    if (status == MPC_OTHER_KIND)
        Py_RETURN_NOTIMPLEMENTED;
    return mpc_outcome_object(ctx, status, &key, NULL);
}
