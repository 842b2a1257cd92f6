/* The Namespace type: its epochs, its leases, and the table of its methods, which lie in _reading.c, _writing.c,
 * _rmw.c, _listing.c and _many.c. */
#include "binding.h"

PyTypeObject *Namespace_Type;

/* False: an exception is set. */
static bool mpc_may_change(Namespace *self)
{
    mpc_status status = mpc_enter(&self->engine->ctx);
    if (status == MPC_OK)
        status = mpc_revalidate(&self->engine->ctx);
    if (status != MPC_OK)
        mpc_raise_status(status);
    return status == MPC_OK;
}

static PyObject *mpc_py_namespace_invalidate(Namespace *self, PyObject *hard)
{
    int is_hard = PyObject_IsTrue(hard);
    if (is_hard < 0 || !mpc_may_change(self))
        return NULL;
    return PyLong_FromUnsignedLongLong(mpc_invalidate(&self->engine->ctx, self->number, is_hard));
}

static PyObject *mpc_py_namespace_clear(Namespace *self, PyObject *unused)
{
    (void)unused;
    if (!mpc_may_change(self))
        return NULL;
    mpc_clear(&self->engine->ctx, self->number);
    Py_RETURN_NONE;
}

static PyObject *mpc_py_namespace_epochs(Namespace *self, PyObject *unused)
{
    (void)unused;
    if (mpc_retired(&self->engine->ctx))
        return mpc_raise_status(MPC_RETIRED);
    struct mpc_namespace *namespace = mpc_namespace_at(&self->engine->ctx, self->number);
    u64 hard = mpc_load_acquire(&namespace->hard_at), soft = mpc_load_acquire(&namespace->soft_at);
    return Py_BuildValue("(KKK)", (unsigned long long)mpc_epoch(&self->engine->ctx), (unsigned long long)hard,
                         (unsigned long long)soft);
}

static PyObject *mpc_py_namespace_lease(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected key and whether it is a record's, not %zd arguments", n);
    int record = PyObject_IsTrue(args[1]);
    return record < 0 ? NULL : mpc_new_lease(self, args[0], record ? KIND_RECORD : KIND_MUTEX);
}

static PyObject *mpc_py_namespace_guard(Namespace *self, PyObject *name)
{
    return mpc_new_guard(self, name);
}

/* Return the process id of the holder of the key's lease, or None. */
static PyObject *mpc_py_namespace_holder(Namespace *self, PyObject *const *args, Py_ssize_t n)
{
    mpc_key key;
    u64 owner;
    mpc_ctx *ctx = &self->engine->ctx;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected key and whether it is a record's, not %zd arguments", n);
    int record = PyObject_IsTrue(args[1]);
    if (record < 0 || mpc_parse_key(ctx, args[0], self->number, record ? KIND_RECORD : KIND_MUTEX, &key) < 0 ||
        !mpc_may_list(self))
        return NULL;
    if (!mpc_lease_held(ctx, &key, &owner))
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(mpc_pid_of(ctx, owner));
}

PyObject *mpc_new_namespace(Engine *engine, u16 number)
{
    Namespace *self = PyObject_New(Namespace, Namespace_Type);
    if (self) {
        self->engine = (Engine *)Py_NewRef(engine);
        self->number = number;
        self->words_owner = 0;
        memset(self->word, 0, sizeof self->word);
    }
    return (PyObject *)self;
}

static void mpc_py_namespace_dealloc(Namespace *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->engine);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *mpc_py_namespace_get_engine(Namespace *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->engine);
}

static PyMethodDef namespace_methods[] = {
    {"get", (PyCFunction)mpc_py_namespace_get, METH_O,
     "Return (value, created, epoch, flags, expires, version) of the key, or None."},
    {"describe", (PyCFunction)mpc_py_namespace_describe, METH_O,
     "Return (size, created, epoch, flags, expires, version) of the key's value, or None; the value is not copied."},
    {"items", (PyCFunction)mpc_py_namespace_items, METH_NOARGS,
     "Return a list of (key, size, created, flags, expires, reads, ring), in no order."},
    {"set", MPC_FASTCALL(mpc_py_namespace_set), METH_FASTCALL,
     "Store; return False if the shard stayed busy and the key has no value now."},
    {"add", MPC_FASTCALL(mpc_py_namespace_add), METH_FASTCALL,
     "Store unless the key has a value; return whether it stored."},
    {"compare_and_set", MPC_FASTCALL(mpc_py_namespace_compare_and_set), METH_FASTCALL,
     "Store if the value has this version; return whether it stored."},
    {"incr", MPC_FASTCALL(mpc_py_namespace_incr), METH_FASTCALL,
     "Add to the key's integer; return the sum, or None: the key has no value."},
    {"touch", MPC_FASTCALL(mpc_py_namespace_touch), METH_FASTCALL,
     "Change the value's expiry; return whether there is one, or NotImplemented: its bytes contain the expiry."},
    {"version", (PyCFunction)mpc_py_namespace_version, METH_O, "Return the version of the key's value, or None."},
    {"get_multi", (PyCFunction)mpc_py_namespace_get_multi, METH_O, "Return a list of what get() returns."},
    {"set_multi", (PyCFunction)mpc_py_namespace_set_multi, METH_O,
     "Do as set() for tuples of its arguments; None: too large."},
    {"delete_multi", (PyCFunction)mpc_py_namespace_delete_multi, METH_O,
     "Delete all; return a list of whether each had a value."},
    {"fill", MPC_FASTCALL(mpc_py_namespace_fill), METH_FASTCALL,
     "Store what was created under the guard; return False if it may not be."},
    {"delete", (PyCFunction)mpc_py_namespace_delete, METH_O, "Delete; return whether the key had a value."},
    {"keys", (PyCFunction)mpc_py_namespace_keys, METH_NOARGS,
     "Return the keys, in no order; keys that come or go meanwhile may be among them or not."},
    {"tally", MPC_FASTCALL(mpc_py_namespace_tally), METH_FASTCALL,
     "tally(index, number): count requests or creations, by their place in TALLIES."},
    {"observe", MPC_FASTCALL(mpc_py_namespace_observe), METH_FASTCALL,
     "observe(index, number): count a creation's or a wait's microseconds, or a value's bytes, in its histogram."},
    {"tallies", (PyCFunction)mpc_py_namespace_tallies, METH_NOARGS,
     "Return the sums of what all processes counted, by name."},
    {"histograms", (PyCFunction)mpc_py_namespace_histograms, METH_NOARGS,
     "Return the histograms of creations, of waits and of values' bytes."},
    {"invalidate", (PyCFunction)mpc_py_namespace_invalidate, METH_O,
     "Hide (True) or make stale (False) what was begun before; return the new epoch."},
    {"clear", (PyCFunction)mpc_py_namespace_clear, METH_NOARGS, "Delete everything."},
    {"epochs", (PyCFunction)mpc_py_namespace_epochs, METH_NOARGS, "Return (epoch, hard_at, soft_at)."},
    {"lease", MPC_FASTCALL(mpc_py_namespace_lease), METH_FASTCALL, "Return a new lease of the key, not held yet."},
    {"guard", (PyCFunction)mpc_py_namespace_guard, METH_O, "Begin a fill of the key."},
    {"holder", MPC_FASTCALL(mpc_py_namespace_holder), METH_FASTCALL,
     "Return the process id of the holder of the key's lease, or None."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef namespace_getset[] = {
    {"engine", (getter)mpc_py_namespace_get_engine, NULL, "The segment.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot namespace_slots[] = {
    {Py_tp_dealloc, mpc_py_namespace_dealloc},
    {Py_tp_methods, namespace_methods},
    {Py_tp_getset, namespace_getset},
    {Py_sq_contains, mpc_py_namespace_contains},
    {Py_tp_doc, "One namespace of a segment: Engine.namespace(name)."},
    {0, NULL},
};

PyType_Spec Namespace_Spec = {"mpcache.shm._engine.Namespace", sizeof(Namespace), 0,
                              Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, namespace_slots};
