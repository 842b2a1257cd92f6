/* Reading one key: get, and whether the key is there.  The GIL is released only for a long copy. */
#include "binding.h"

#define READS 16 /* look-ups of one get that may be overtaken by writers before it is a miss */

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

/* Return a new bytes object with the value; None: no such key; NULL: an exception is set. */
static PyObject *mpc_read_value(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit)
{
    for (int i = 0; i < READS; i++) {
        mpc_status status = mpc_find(ctx, key, hit);
        if (status == MPC_ABSENT)
            break;
        if (status != MPC_OK)
            return mpc_raise_status(status);
        PyObject *value = mpc_alloc_bytes(hit->record.vlen, ASKED_ALONE);
        if (!value)
            return NULL;
        if (mpc_copy_value(ctx, hit, PyBytes_AS_STRING(value)) == MPC_OK) {
            mpc_count(ctx, MPC_COUNT_HITS);
            return value;
        }
        Py_DECREF(value);
    }
    mpc_count(ctx, MPC_COUNT_MISSES);
    Py_RETURN_NONE;
}

/* Return the value, whose reference is taken over, with what is known of it.  Built by hand, because parsing a
 * format takes longer than the look-up.  The tuple is made last: the collector shows it to other code, which must
 * not find it half filled. */
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

PyObject *mpc_get_record(Namespace *self, const mpc_key *key)
{
    mpc_hit hit;
    PyObject *value = mpc_read_value(&self->engine->ctx, key, &hit);
    if (!value || value == Py_None)
        return value;
    return mpc_record_tuple(value, &hit.record);
}

PyObject *mpc_py_namespace_get(Namespace *self, PyObject *name)
{
    mpc_key key;
    return mpc_parse_key(&self->engine->ctx, name, self->number, KIND_RECORD, &key) < 0 ? NULL
                                                                                        : mpc_get_record(self, &key);
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
    if (status == MPC_ABSENT)
        mpc_count(ctx, MPC_COUNT_MISSES);
    return status == MPC_OK && hit->record.epoch >= mpc_load_acquire(&mpc_namespace_at(ctx, self->number)->hard_at);
}

/* Return what is known of the key's value, with its size in the value's place; None: it has none. */
PyObject *mpc_py_namespace_describe(Namespace *self, PyObject *name)
{
    mpc_hit hit;
    int found = mpc_find_shown(self, name, &hit);
    if (found <= 0)
        return found < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *size = PyLong_FromUnsignedLong(hit.record.vlen);
    return size ? mpc_record_tuple(size, &hit.record) : NULL;
}

int mpc_py_namespace_contains(Namespace *self, PyObject *name)
{
    mpc_hit hit;
    return mpc_find_shown(self, name, &hit);
}
