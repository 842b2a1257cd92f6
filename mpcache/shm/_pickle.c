/* Pickling for the fast path: a pickle is bytes, or a tuple of pieces in which what is large is not copied (_buffers.c). */
#include "binding.h"

#define KEEP_PICKLING (8 << 10) /* bytes of a pickle, after which the pickler's memory of what it has seen is small */

/* Whether a value is an array whose memory goes into the pickle as it is, after which no code runs that could change
 * it: it has a static type that exports one large buffer, in which there are no objects.  That is numpy.ndarray. */
static bool mpc_is_large_array(PyObject *value)
{
    Py_buffer view;
    if (!PyObject_CheckBuffer(value) || Py_TYPE(value)->tp_flags & Py_TPFLAGS_HEAPTYPE || PyByteArray_CheckExact(value))
        return false;
    if (PyObject_GetBuffer(value, &view, PyBUF_ANY_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyErr_Clear(); /* the pickler has other ways */
        return false;
    }
    bool large = view.len >= MPC_LONG_COPY && !(view.format && strchr(view.format, 'O'));
    PyBuffer_Release(&view);
    return large;
}

/* What codec.pickling() makes, (dump, forget, pieces), that nobody uses now.  Pickling runs code, which may pickle. */
static PyObject *mpc_take_pickler(FastPath *self, PyObject *value)
{
    PyObject *own = NULL;
    if (mpc_is_large_array(value))
        own = PyObject_CallOneArg(self->pickling, Py_True);
    else if (self->idle) {
        own = self->idle;
        self->idle = NULL;
    } else
        own = PyObject_CallNoArgs(self->pickling);
    if (own && (!PyTuple_CheckExact(own) || PyTuple_GET_SIZE(own) != 3 || !PyList_Check(PyTuple_GET_ITEM(own, 2)))) {
        PyErr_SetString(PyExc_TypeError, "pickling() did not return (dump, forget, pieces)");
        Py_CLEAR(own);
    }
    return own;
}

/* To be used again, or not: one that has failed may be in the middle of something. */
static void mpc_keep_pickler(FastPath *self, PyObject *own)
{
    PyObject *pieces = PyTuple_GET_ITEM(own, 2);
    PyObject *forgotten = PyObject_CallNoArgs(PyTuple_GET_ITEM(own, 1));
    if (forgotten && PyList_SetSlice(pieces, 0, PyList_GET_SIZE(pieces), NULL) == 0 && !self->idle)
        self->idle = Py_NewRef(own);
    Py_XDECREF(forgotten);
}

/* The pickle of a value: bytes, or a tuple of pieces if some of it is large.  NULL: an exception is set. */
PyObject *mpc_pickle(FastPath *self, PyObject *value)
{
    PyObject *own = mpc_take_pickler(self, value), *bytes = NULL;
    if (!own)
        return NULL;
    PyObject *pieces = PyTuple_GET_ITEM(own, 2);
    PyObject *done = PyObject_CallOneArg(PyTuple_GET_ITEM(own, 0), value);
    if (done && PyList_GET_SIZE(pieces) == 1)
        bytes = Py_NewRef(PyList_GET_ITEM(pieces, 0));
    else if (done)
        bytes = PyList_AsTuple(pieces);
    Py_XDECREF(done);
    if (bytes && PyBytes_CheckExact(bytes) && PyBytes_GET_SIZE(bytes) <= KEEP_PICKLING)
        mpc_keep_pickler(self, own);
    Py_DECREF(own);
    if (bytes && PyErr_Occurred())
        Py_CLEAR(bytes);
    return bytes;
}
