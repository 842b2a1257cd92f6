/* Many keys in one call: get_multi, set_multi, delete_multi. */
#include "binding.h"

/* -- keys ---------------------------------------------------------------------------------------------------------- */

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

/* Parse all keys, or none: an invalid key keeps the others from being touched. */
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
        if (mpc_parse_key(&self->engine->ctx, PyTuple_GET_ITEM(many->names, i), self->number, KIND_RECORD,
                          &many->key[i]) < 0)
            break;
    if (!PyErr_Occurred())
        return 0;
    mpc_free_keys(many);
    return -1;
}

/* -- lists that are being filled ----------------------------------------------------------------------------------- */

/* Return a list of n NULLs that the collector does not know, so that no other code can find it; mpc_release_list()
 * when it is full.  The GIL may be released, and code may run, while it is being filled. */
PyObject *mpc_hidden_list(Py_ssize_t n)
{
    PyObject *list = PyList_New(n);
    if (list)
        PyObject_GC_UnTrack(list);
    return list;
}

/* Let the collector know a list that is full; NULL stays NULL. */
PyObject *mpc_release_list(PyObject *list)
{
    if (list)
        PyObject_GC_Track(list);
    return list;
}

/* -- what Python calls --------------------------------------------------------------------------------------------- */

PyObject *mpc_py_namespace_get_multi(Namespace *self, PyObject *names)
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

PyObject *mpc_py_namespace_set_multi(Namespace *self, PyObject *rows)
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

/* Delete all keys; deleted[i]: whether the i-th had a value. */
static mpc_status mpc_delete_all(mpc_ctx *ctx, const many_keys *many, bool *deleted)
{
    for (Py_ssize_t i = 0; i < many->n; i++) {
        mpc_status status = mpc_delete(ctx, &many->key[i], MPC_SHARD_WAIT_NS);
        if (status != MPC_OK && status != MPC_ABSENT)
            return status;
        deleted[i] = status == MPC_OK;
    }
    return MPC_OK;
}

static PyObject *mpc_list_of_bools(const bool *flags, Py_ssize_t n)
{
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list && i < n; i++)
        PyList_SET_ITEM(list, i, PyBool_FromLong(flags[i]));
    return list;
}

/* Return a list of whether each key had a value. */
PyObject *mpc_py_namespace_delete_multi(Namespace *self, PyObject *names)
{
    many_keys many;
    mpc_status status;
    if (mpc_parse_keys(self, names, &many) < 0)
        return NULL;
    Py_ssize_t n = many.n;
    bool *deleted = PyMem_Calloc((size_t)n + 1, sizeof *deleted);
    if (deleted) {
        Py_BEGIN_ALLOW_THREADS
        status = mpc_delete_all(&self->engine->ctx, &many, deleted);
        Py_END_ALLOW_THREADS
    }
    mpc_free_keys(&many);
    PyObject *list = !deleted           ? PyErr_NoMemory()
                     : status == MPC_OK ? mpc_list_of_bools(deleted, n)
                                        : mpc_raise_status(status);
    PyMem_Free(deleted);
    return list;
}
