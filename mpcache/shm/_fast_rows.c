/* How the fast path stores a dict: all rows are made in memory that no other code can reach, then stored one by one.
 *
 *     dict --copy--> own --mangle, pickle--> rows --set--> the segment
 *
 * A clock, a mangler and a pickler may run any code, also code that changes the caller's dict. */
#include "binding.h"

/* What set_multi() stores, row by row.  The memory is its own, and no other code can reach it: the mangler, a
 * pickler and a clock run code while it is filled, and other threads run while it is stored. */
typedef struct {
    Py_ssize_t n; /* rows that are filled */
    struct row {
        PyObject *name, *bytes;
        u8 flags;
    } *row;
} rows_to_store;

static void mpc_free_rows(rows_to_store *rows)
{
    while (rows->n > 0) {
        struct row *row = &rows->row[--rows->n];
        Py_DECREF(row->name);
        Py_DECREF(row->bytes);
    }
    PyMem_Free(rows->row);
}

/* Make the row of an item.  False: only the reference path can store it, or an exception is set. */
static bool mpc_add_row(FastPath *self, rows_to_store *rows, PyObject *name, PyObject *value)
{
    struct row *row = &rows->row[rows->n];
    row->name = value == self->no_value ? NULL : mpc_mangle(self, name);
    row->bytes = row->name ? mpc_serialize(self, value, &row->flags) : NULL;
    if (!row->bytes) {
        Py_CLEAR(row->name);
        return false;
    }
    rows->n++;
    return true;
}

/* Make all rows before the first write: a value that cannot be stored keeps the others from being stored.  `own` is a
 * copy of the caller's dict that the collector does not know: the code that runs meanwhile cannot change it. */
static bool mpc_make_rows(FastPath *self, PyObject *own, Py_ssize_t room, rows_to_store *rows)
{
    PyObject *name, *value;
    rows->row = PyMem_Malloc(((size_t)room + 1) * sizeof *rows->row);
    if (!rows->row)
        PyErr_NoMemory();
    for (Py_ssize_t at = 0; rows->row && PyDict_Next(own, &at, &name, &value);)
        if (!mpc_add_row(self, rows, name, value))
            return false;
    return rows->row != NULL;
}

/* `like`: what all values have in common. */
static PyObject *mpc_set_rows(Namespace *namespace, const rows_to_store *rows, mpc_value like)
{
    for (Py_ssize_t i = 0; i < rows->n; i++) {
        const struct row *row = &rows->row[i];
        like.flags = row->flags;
        mpc_status status = mpc_put_bytes(namespace, row->name, row->bytes, like);
        if (PyErr_Occurred())
            return mpc_leave_odd_key();
        if (status != MPC_OK)
            Py_RETURN_NOTIMPLEMENTED; /* what was stored will be stored once more */
    }
    Py_RETURN_TRUE;
}

static PyObject *mpc_hidden_copy(PyObject *mapping)
{
    PyObject *copy = PyDict_Copy(mapping);
    if (copy)
        PyObject_GC_UnTrack(copy);
    return copy;
}

PyObject *mpc_fast_set_multi_in(FastPath *self, Namespace *namespace, PyObject *mapping, PyObject *ttl)
{
    rows_to_store rows = {0};
    mpc_value like = {.epoch = mpc_epoch_now(namespace)};
    PyObject *outcome = NULL;
#ifdef MPC_FAULT_SIZED_BEFORE_CLOCK
    Py_ssize_t room = PyDict_GET_SIZE(mapping);
    PyObject *own = mpc_now_ns(&like.created) < 0 ? NULL : mpc_hidden_copy(mapping);
#else
    PyObject *own = mpc_hidden_copy(mapping); /* before a clock of the program's own runs, which may change the dict */
    Py_ssize_t room = own ? PyDict_GET_SIZE(own) : 0;
    if (own && mpc_now_ns(&like.created) < 0)
        Py_CLEAR(own);
#endif
    if (own && mpc_parse_ttl(ttl, like.created, &like.expires) && mpc_make_rows(self, own, room, &rows))
        outcome = mpc_set_rows(namespace, &rows, like);
    else if (!PyErr_Occurred())
        outcome = Py_NewRef(Py_NotImplemented);
    Py_XDECREF(own);
    mpc_free_rows(&rows);
    return outcome;
}
