/* Values on their way in: one buffer, or a tuple of them that are stored as one, so that nobody has to join them first.
 *
 *     bytes                         borrowed from the caller, who has them until the call returns
 *     another buffer                held, which forbids to resize it; and what can change is stored with the GIL held, so
 *                                   that no other thread notices the one or does the other.  mpc_own_copy() where that waits
 *     tuple of bytes and buffers    each held */
#include "binding.h"

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
        if (mpc_hold_one(PyTuple_GET_ITEM(tuple, held->n), held, &held->many[held->n], &piece->bytes, &piece->len) ==
            0) {
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
