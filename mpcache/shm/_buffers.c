/* Values on their way in: one buffer, or a tuple of them that are stored as one, so that nobody has to join them first.
 *
 *     bytes                         borrowed from the caller, who has them until the call returns
 *     another buffer                held, which forbids to resize it; and what can change is stored with the GIL held, so
 *                                   that no other thread notices the one or does the other.  mpc_own_copy() where that waits
 *     tuple of bytes and buffers    each held
 *
 * And where such tuples come from: pickling that hands out what is large instead of copying it. */
#include "binding.h"

#define KEEP_PICKLING (8 << 10) /* bytes of a pickle, after which the pickler's memory of what it has seen is small */

/* -- holding -------------------------------------------------------------------------------------------------------- */

/* A view that is read-only may be one of what others write to: its base decides. */
static bool mpc_can_change(PyObject *from)
{
#ifdef MPC_FAULT_TORN_BUFFER
    return false;
#endif
    PyObject *base = PyMemoryView_Check(from) ? PyMemoryView_GET_BASE(from) : from;
    return !base || !PyBytes_CheckExact(base);
}

static int mpc_hold_one(PyObject *from, held_value *held, Py_buffer *buffer, const void **bytes, u64 *len)
{
    if (PyObject_GetBuffer(from, buffer, PyBUF_SIMPLE) < 0)
        return -1;
    held->can_change |= mpc_can_change(from);
    *bytes = buffer->buf;
    *len = (u64)buffer->len;
    return 0;
}

void mpc_release_buffers(held_value *held)
{
    if (held->n == 0 && !held->many && !held->pieces && !held->copy)
        return; /* bytes, which are only borrowed */
    for (Py_ssize_t i = 0; i < held->n; i++)
        PyBuffer_Release(held->many ? &held->many[i] : &held->one);
    PyMem_Free(held->many);
    PyMem_Free(held->pieces);
    PyMem_Free(held->copy);
    *held = (held_value){0};
}

/* Let the value have bytes of its own, and let go of all that can change.  -1: an exception is set. */
int mpc_own_copy(held_value *held, mpc_value *value)
{
    if (!held->can_change)
        return 0;
    char *copy = PyMem_Malloc(value->len + 1), *to = copy;
    if (!copy) {
        PyErr_NoMemory();
        return -1;
    }
    if (!value->pieces)
        memcpy(copy, value->bytes, value->len);
    for (u64 i = 0; value->pieces && i < value->n_pieces; to += value->pieces[i++].len)
        memcpy(to, value->pieces[i].bytes, value->pieces[i].len);
    mpc_release_buffers(held);
    held->copy = copy;
    value->bytes = copy;
    value->pieces = NULL;
    return 0;
}

static int mpc_hold_all(PyObject *tuple, held_value *held, mpc_value *value)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    held->many = PyMem_Calloc((size_t)n + 1, sizeof *held->many);
    held->pieces = PyMem_Calloc((size_t)n + 1, sizeof *held->pieces);
    if (!held->many || !held->pieces)
        PyErr_NoMemory();
    while (!PyErr_Occurred() && held->n < n) {
        mpc_piece *piece = &held->pieces[held->n];
        if (mpc_hold_one(PyTuple_GET_ITEM(tuple, held->n), held, &held->many[held->n], &piece->bytes, &piece->len) == 0) {
            value->len += piece->len;
            held->n++;
        }
    }
    value->pieces = held->pieces;
    value->n_pieces = (u64)n;
    if (!PyErr_Occurred())
        return 0;
    mpc_release_buffers(held);
    return -1;
}

/* What is stored, of `from`, into the value; mpc_release_buffers() afterwards, but not after -1: an exception is set. */
int mpc_hold_buffers(PyObject *from, held_value *held, mpc_value *value)
{
    held->many = NULL; /* the buffers need no zeros: they are large */
    held->pieces = NULL;
    held->copy = NULL;
    held->can_change = false;
    held->n = 0;
    if (PyBytes_CheckExact(from)) {
        value->bytes = PyBytes_AS_STRING(from);
        value->len = (u64)PyBytes_GET_SIZE(from);
        return 0;
    }
    if (PyTuple_CheckExact(from))
        return mpc_hold_all(from, held, value);
    if (mpc_hold_one(from, held, &held->one, &value->bytes, &value->len) < 0)
        return -1;
    held->n = 1;
    return 0;
}

/* -- pickling ------------------------------------------------------------------------------------------------------- */

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
