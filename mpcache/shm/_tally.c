/* Counting requests and creations from Python, and reading what all processes counted. */
#include "binding.h"

const char *const mpc_tally_names[] = {
#define MPC_NAME(name, text) #text,
    MPC_TALLY_LIST(MPC_NAME)
#undef MPC_NAME
};

/* -- counting ------------------------------------------------------------------------------------------------------ */

/* Find the words of this process, and count; in a stripe if it has none. */
void mpc_note_in_stripe(Namespace *self, enum mpc_tally_kind kind, u64 n)
{
    mpc_ctx *ctx = &self->engine->ctx;
    u64 owner = mpc_load(&ctx->self->owner);
    if (owner != self->words_owner)
        memset(self->word, 0, sizeof self->word); /* those of another process, which this one was forked from */
    self->words_owner = owner;
    if (!self->word[kind])
        self->word[kind] = mpc_request_word(ctx, self->number, kind);
    if (self->word[kind]) {
        mpc_count_in_word(self->word[kind], n);
        return;
    }
    mpc_tally(ctx, self->number, kind, n);
    for (u64 i = 0; i < n && kind != MPC_TALLY_NEAR_HITS; i++)
        mpc_count(ctx, kind == MPC_TALLY_HITS ? MPC_COUNT_HITS : MPC_COUNT_MISSES);
}

/* args: the index of what to count, and how many; -1: an exception is set */
static int mpc_parse_index(PyObject *const *args, Py_ssize_t n, long end, long *index, unsigned long long *value)
{
    if (n != 2) {
        PyErr_Format(PyExc_TypeError, "expected an index and a number, not %zd arguments", n);
        return -1;
    }
    *index = PyLong_AsLong(args[0]);
    *value = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[1]);
    if (!PyErr_Occurred() && (*index < 0 || *index >= end))
        PyErr_Format(PyExc_ValueError, "index %ld is not in 0 to %ld", *index, end - 1);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *mpc_py_namespace_tally(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    long kind;
    unsigned long long count;
    if (mpc_parse_index(args, n, MPC_TALLY_KINDS, &kind, &count) < 0)
        return NULL;
    mpc_tally(&self->engine->ctx, self->number, (enum mpc_tally_kind)kind, count);
    Py_RETURN_NONE;
}

PyObject *mpc_py_namespace_observe(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    long kind;
    unsigned long long value;
    if (mpc_parse_index(args, n, MPC_HISTOGRAMS, &kind, &value) < 0)
        return NULL;
    mpc_observe(&self->engine->ctx, self->number, (enum mpc_histogram_kind)kind, value);
    Py_RETURN_NONE;
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

PyObject *mpc_py_namespace_tallies(Namespace *self, PyObject *unused)
{
    u64 sums[MPC_TALLY_KINDS];
    (void)unused;
    if (mpc_retired(&self->engine->ctx))
        return mpc_raise_status(MPC_RETIRED);
    mpc_tallies_read(&self->engine->ctx, self->number, sums);
    PyObject *dict = PyDict_New();
    for (int kind = 0; dict && kind < MPC_TALLY_KINDS; kind++) {
        PyObject *sum = PyLong_FromUnsignedLongLong(sums[kind]);
        if (!sum || PyDict_SetItemString(dict, mpc_tally_names[kind], sum) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(sum);
    }
    return dict;
}

PyObject *mpc_counts_tuple(const u64 *counts, Py_ssize_t n)
{
    PyObject *tuple = PyTuple_New(n);
    for (Py_ssize_t i = 0; tuple && i < n; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(counts[i]);
        if (count)
            PyTuple_SET_ITEM(tuple, i, count);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *mpc_histogram_tuple(const struct mpc_histogram *histogram)
{
    u64 counts[MPC_HISTOGRAM_BUCKETS];
    for (u32 i = 0; i < MPC_HISTOGRAM_BUCKETS; i++)
        counts[i] = mpc_load(&histogram->bucket[i]);
    return mpc_counts_tuple(counts, MPC_HISTOGRAM_BUCKETS);
}

PyObject *mpc_py_namespace_histograms(Namespace *self, PyObject *unused)
{
    const mpc_ctx *ctx = &self->engine->ctx;
    (void)unused;
    if (mpc_retired(ctx))
        return mpc_raise_status(MPC_RETIRED);
    return Py_BuildValue("(NNN)", mpc_histogram_tuple(mpc_histogram_at(ctx, self->number, MPC_CREATING)),
                         mpc_histogram_tuple(mpc_histogram_at(ctx, self->number, MPC_WAITING)),
                         mpc_histogram_tuple(mpc_histogram_at(ctx, self->number, MPC_VALUE_BYTES)));
}
