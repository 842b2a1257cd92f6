/* The FunctionCounts type: what a process counts of one decorated function, and its way to the function's row in the
 * segment, where the counts of all processes are added up.
 *
 *     hit                      pending + 1; at 1,024 of them: to the row
 *     anything else, the end   to the row at once, with the pending hits
 *
 * A forked child has a copy of its parent's object.  The parent adds what is pending there, so the child forgets it. */
#include "binding.h"

#include <pthread.h>

PyTypeObject *FunctionCounts_Type;

/* -- counting ------------------------------------------------------------------------------------------------------ */

static u64 mpc_forks; /* between this process and the one that loaded the module */

static void mpc_note_fork(void)
{
    mpc_forks++;
}

/* Forget what the process counted from which this one was forked. */
static void mpc_forget_parent(FunctionCounts *self)
{
    if (self->forks == mpc_forks)
        return;
    self->forks = mpc_forks;
    memset(self->here, 0, sizeof self->here);
#ifndef MPC_FAULT_CHILD_FLUSHES_PARENT
    self->pending = 0;
#endif
}

/* Return the hits that were pending, which from now on are not. */
static u64 mpc_take_pending(FunctionCounts *self)
{
    u64 hits = self->pending;
    self->pending = 0;
    self->here[MPC_FUNCTION_HITS] += hits; /* and as many calls: mpc_py_function_here() adds them */
    return hits;
}

/* Find the function's row in a segment that it was not counted in last.  What is pending for another one is lost: that
 * was removed, or the region has a new configuration. */
void mpc_settle_function(FunctionCounts *self, const Namespace *namespace)
{
    Py_ssize_t len;
    mpc_ctx *ctx = &namespace->engine->ctx;
    mpc_forget_parent(self);
    if (self->birth != ctx->birth || self->number != namespace->number) {
        const char *name = PyUnicode_AsUTF8AndSize(self->name, &len); /* was made by the constructor */
        mpc_take_pending(self);
        self->row = mpc_function_open(ctx, namespace->number, name, (size_t)len);
        self->birth = ctx->birth;
        self->number = namespace->number;
    }
    self->owner = mpc_load(&ctx->self->owner);
}

/* Add the pending hits to the row.  They are taken first: a process that is killed in here loses them, and none is
 * counted twice. */
void mpc_flush_function(FunctionCounts *self, Namespace *namespace)
{
    mpc_ctx *ctx = &namespace->engine->ctx;
    u64 hits = mpc_take_pending(self);
    if (hits == 0)
        return;
    mpc_function_count(ctx, self->row, MPC_FUNCTION_CALLS, hits);
    mpc_function_count(ctx, self->row, MPC_FUNCTION_HITS, hits);
}

/* -- what Python calls --------------------------------------------------------------------------------------------- */

static Namespace *mpc_namespace_or_null(PyObject *object)
{
    if (object == Py_None || Py_IS_TYPE(object, Namespace_Type))
        return object == Py_None ? NULL : (Namespace *)object;
    PyErr_Format(PyExc_TypeError, "expected a Namespace or None, not %.100s", Py_TYPE(object)->tp_name);
    return NULL;
}

/* args: the namespace, or None to count in this process only; an index; how many.  A hit is a call, too. */
static PyObject *mpc_py_function_add(FunctionCounts *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "expected namespace, index, number, not %zd arguments", n);
    Namespace *namespace = mpc_namespace_or_null(args[0]);
    long index = PyErr_Occurred() ? 0 : PyLong_AsLong(args[1]);
    unsigned long long count = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[2]);
    if (!PyErr_Occurred() && (index < 0 || index >= MPC_FUNCTION_COUNTS))
        PyErr_Format(PyExc_ValueError, "index %ld is not in 0 to %d", index, MPC_FUNCTION_COUNTS - 1);
    if (PyErr_Occurred())
        return NULL;
    if (namespace)
        mpc_settle_if_moved(self, namespace);
    else
        mpc_forget_parent(self);
    self->here[index] += count;
    if (namespace) {
        mpc_flush_function(self, namespace);
        mpc_function_count(&namespace->engine->ctx, self->row, (enum mpc_function_count)index, count);
        if (index == MPC_FUNCTION_HITS)
            mpc_function_count(&namespace->engine->ctx, self->row, MPC_FUNCTION_CALLS, count);
    }
    Py_RETURN_NONE;
}

static PyObject *mpc_py_function_flush(FunctionCounts *self, PyObject *object)
{
    Namespace *namespace = mpc_namespace_or_null(object);
    if (PyErr_Occurred())
        return NULL;
    if (namespace) {
        mpc_settle_if_moved(self, namespace);
        mpc_flush_function(self, namespace);
    }
    Py_RETURN_NONE;
}

static PyObject *mpc_row_tuple(mpc_ctx *ctx, u32 row)
{
    u64 counts[MPC_FUNCTION_COUNTS];
    for (int i = 0; i < MPC_FUNCTION_COUNTS; i++)
        counts[i] = mpc_load(&mpc_function_at(ctx, row)->count[i]);
    return mpc_counts_tuple(counts, MPC_FUNCTION_COUNTS);
}

static PyObject *mpc_py_function_here(FunctionCounts *self, PyObject *unused)
{
    (void)unused;
    u64 counts[MPC_FUNCTION_COUNTS];
    mpc_forget_parent(self);
    memcpy(counts, self->here, sizeof counts);
    counts[MPC_FUNCTION_HITS] += self->pending;
    counts[MPC_FUNCTION_CALLS] += counts[MPC_FUNCTION_HITS];
    return mpc_counts_tuple(counts, MPC_FUNCTION_COUNTS);
}

/* Return what all processes counted, after adding what is pending in this one. */
static PyObject *mpc_py_function_read(FunctionCounts *self, PyObject *object)
{
    Namespace *namespace = mpc_namespace_or_null(object);
    if (!namespace)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "expected a Namespace, not None");
    if (mpc_retired(&namespace->engine->ctx))
        return mpc_raise_status(MPC_RETIRED);
    mpc_settle_if_moved(self, namespace);
    mpc_flush_function(self, namespace);
    return mpc_row_tuple(&namespace->engine->ctx, self->row);
}

static PyObject *mpc_function_entry(Engine *self, u32 row)
{
    char name[MPC_FUNCTION_NAME_BYTES], of[MPC_NAME_BYTES];
    u16 number = 0;
    u32 len = mpc_function_name(&self->ctx, row, &number, name);
    if (len == UINT32_MAX)
        Py_RETURN_NONE;
    u32 of_len = mpc_namespace_name(&self->ctx, number % MPC_NAMESPACES, of);
    return Py_BuildValue("(NNN)", PyUnicode_DecodeUTF8(of, of_len == MPC_NO_NAME ? 0 : of_len, "replace"),
                         PyUnicode_DecodeUTF8(name, len, "ignore"), mpc_row_tuple(&self->ctx, row));
}

/* Return a list of (namespace, name, counts) of all functions; the last one is (None, None, counts) of all others. */
PyObject *mpc_py_engine_functions(Engine *self, PyObject *unused)
{
    (void)unused;
    if (mpc_retired(&self->ctx))
        return mpc_raise_status(MPC_RETIRED);
    PyObject *list = PyList_New(0);
    for (u32 row = 0; list && row <= MPC_FUNCTIONS; row++) {
        PyObject *entry = row < MPC_FUNCTIONS
                              ? mpc_function_entry(self, row)
                              : Py_BuildValue("(OON)", Py_None, Py_None, mpc_row_tuple(&self->ctx, row));
        if (!entry || (entry != Py_None && PyList_Append(list, entry) < 0))
            Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

/* Let children know that they are some; 0: done. */
int mpc_init_function_counts(void)
{
    static bool done;
    if (!done && pthread_atfork(NULL, NULL, mpc_note_fork) != 0)
        return PyErr_NoMemory(), -1;
    done = true;
    return 0;
}

/* -- the type ------------------------------------------------------------------------------------------------------ */

static PyObject *mpc_py_function_counts_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *name;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "U:FunctionCounts", &name) || !PyUnicode_AsUTF8(name))
        return NULL;
    FunctionCounts *self = (FunctionCounts *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->name = Py_NewRef(name);
    self->forks = mpc_forks;
    return (PyObject *)self;
}

static void mpc_py_function_counts_dealloc(FunctionCounts *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef function_counts_methods[] = {
    {"add", MPC_FASTCALL(mpc_py_function_add), METH_FASTCALL,
     "add(namespace, index, number): count in this process, and in the namespace unless it is None; a hit is a call."},
    {"flush", (PyCFunction)mpc_py_function_flush, METH_O, "Add the pending hits to those of all processes."},
    {"here", (PyCFunction)mpc_py_function_here, METH_NOARGS, "Return the counts of this process."},
    {"read", (PyCFunction)mpc_py_function_read, METH_O, "Return the counts of all processes in a namespace."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot function_counts_slots[] = {
    {Py_tp_new, mpc_py_function_counts_new},
    {Py_tp_dealloc, mpc_py_function_counts_dealloc},
    {Py_tp_methods, function_counts_methods},
    {Py_tp_doc, "What a process counts of one decorated function.\n\nFunctionCounts(name)"},
    {0, NULL},
};

PyType_Spec FunctionCounts_Spec = {"mpcache.shm._engine.FunctionCounts", sizeof(FunctionCounts), 0, Py_TPFLAGS_DEFAULT,
                                   function_counts_slots};
