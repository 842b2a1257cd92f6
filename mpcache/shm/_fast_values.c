/* Keys and values of the fast path: a key as the store knows it, and a value as an object and as bytes. */
#include "binding.h"

/* -- keys ---------------------------------------------------------------------------------------------------------- */

/* Return a new reference to the key as the store knows it. */
PyObject *mpc_mangle(FastPath *self, PyObject *name)
{
    return self->mangler == Py_None ? Py_NewRef(name) : PyObject_CallOneArg(self->mangler, name);
}

/* Return NotImplemented for a key that the engine cannot store: the reference path has a name for it (names.py), or
 * words the error. */
PyObject *mpc_leave_odd_key(void)
{
    /* KeyTooLong, UnicodeEncodeError; neither str nor bytes */
    if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError))
        return NULL;
    PyErr_Clear();
    return Py_NewRef(Py_NotImplemented);
}

/* -- values -------------------------------------------------------------------------------------------------------- */

static PyObject *mpc_int_object(PyObject *bytes)
{
    long long number;
    if (PyBytes_GET_SIZE(bytes) != sizeof number)
        return NULL;
    memcpy(&number, PyBytes_AS_STRING(bytes), sizeof number);
    return PyLong_FromLongLong(number);
}

/* Return the object that these bytes stand for.  NULL without an exception: the reference path finds out what is
 * wrong. */
PyObject *mpc_value_object(FastPath *self, PyObject *bytes, u8 flags)
{
    PyObject *value = NULL;
    if (flags == KEPT_BYTES)
        return Py_NewRef(bytes);
    if (flags == KEPT_TEXT)
        value = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes), NULL);
    else if (flags == KEPT_INT)
        value = mpc_int_object(bytes);
    else if (flags == KEPT_PAYLOAD)
        value = PyObject_CallOneArg(self->loads, bytes);
    if (!value && PyErr_Occurred())
        clear_foreign_error();
    return value;
}

/* Return the bytes that stand for a value, or a tuple of pieces; *flags receives how.  NULL without an exception:
 * the reference path finds out why not. */
PyObject *mpc_serialize(FastPath *self, PyObject *value, u8 *flags)
{
    PyObject *bytes = NULL;
    if (PyBytes_CheckExact(value)) {
        *flags = KEPT_BYTES;
        return Py_NewRef(value);
    }
    if (PyUnicode_CheckExact(value)) {
        *flags = KEPT_TEXT;
        bytes = PyUnicode_AsUTF8String(value);
        if (!bytes)
            PyErr_Clear(); /* half a surrogate pair: pickle can do it */
    }
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        *flags = KEPT_INT;
        if (!overflow)
            return PyBytes_FromStringAndSize((const char *)&number, sizeof number);
    }
    if (!bytes) {
        *flags = KEPT_PAYLOAD;
        bytes = mpc_pickle(self, value);
    }
    if (!bytes && PyErr_Occurred())
        clear_foreign_error();
    return bytes;
}

/* Store these bytes; `value` has everything else that is stored with them. */
mpc_status mpc_put_bytes(Namespace *namespace, PyObject *name, PyObject *bytes, mpc_value value)
{
    mpc_key key;
    held_value held;
    mpc_ctx *ctx = &namespace->engine->ctx;
    if (mpc_parse_key(ctx, name, namespace->number, KIND_RECORD, &key) < 0 ||
        mpc_hold_buffers(bytes, &held, &value) < 0)
        return MPC_SYSTEM;
    mpc_status status = mpc_set_value(ctx, &key, &value, &held);
    mpc_release_buffers(&held);
    return status;
}
