/* The types Lease and Guard: the lease of a key, and the guard of a fill.  Both give themselves back when they are
 * dropped, and belong to the process that took them: a forked child's copy has no effect. */
#include "binding.h"

PyTypeObject *Lease_Type, *Guard_Type;

#define FEW_HELD 8 /* so many need no memory of their own */
#define FULL_PAUSE_NS (2 * MPC_NS_PER_MS)

/* The values of the outcome table in mpcache.mutexes.shm. */
enum { ACQUIRED, RELEASED, UNSTORED, TIMEOUT, DEADLOCK };

/* -- acquiring ----------------------------------------------------------------------------------------------------- */

static u32 mpc_collect_held(PyObject *leases, const mpc_ctx *ctx, mpc_hold *held)
{
    u32 count = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(leases); i++) {
        Lease *lease = (Lease *)PyTuple_GET_ITEM(leases, i);
        if (PyObject_TypeCheck((PyObject *)lease, Lease_Type) && lease->held && &lease->namespace->engine->ctx == ctx)
            held[count++] = lease->hold;
    }
    return count;
}

/* The bucket's lock is free nearly always; only when it is not the GIL is released. */
static mpc_status mpc_lease_try_now(Lease *self, mpc_ctx *ctx, mpc_wait *wait)
{
    mpc_status status = mpc_lease_try(ctx, &self->key, &self->hold, wait, 0);
    if (status != MPC_BUSY)
        return status;
    Py_BEGIN_ALLOW_THREADS
    status = mpc_lease_try(ctx, &self->key, &self->hold, wait, MPC_SHARD_WAIT_NS);
    Py_END_ALLOW_THREADS
    return status;
}

/* Wait for one slice.  A table without room is waited for like a held key. */
static mpc_status mpc_lease_wait_once(mpc_ctx *ctx, mpc_status why, mpc_wait *wait, const mpc_hold *held, u32 count,
                                      u64 ns)
{
    mpc_status status = MPC_AGAIN;
    a32 unused = 0;
    Py_BEGIN_ALLOW_THREADS
    if (why == MPC_HELD)
        status = mpc_lease_wait(ctx, wait, held, count, ns);
    else
        mpc_futex_wait(&unused, 0, ns < FULL_PAUSE_NS ? ns : FULL_PAUSE_NS);
    Py_END_ALLOW_THREADS
    return status;
}

/* Returns an outcome, or -1 with an exception set. */
static int mpc_lease_wait_and_take(Lease *self, u64 timeout_ns, int early, const mpc_hold *held, u32 count)
{
    mpc_ctx *ctx = &self->namespace->engine->ctx;
    u64 start = 0, passed = 0; /* a caller that gets the key at once reads no clock */
    mpc_wait wait = {0};
    for (;;) {
        mpc_status status = mpc_lease_try_now(self, ctx, &wait);
        if (status == MPC_OK) {
            self->took_over = wait.took_over;
            self->held = 1;
            return ACQUIRED;
        }
        if (status != MPC_HELD && status != MPC_AGAIN && status != MPC_BUSY)
            return mpc_raise_status(status), -1;
        if (passed >= timeout_ns)
            return TIMEOUT;
        if (start == 0)
            start = mpc_mono_ns();
        status = mpc_lease_wait_once(ctx, status, &wait, held, count, timeout_ns - passed);
        if (PyErr_CheckSignals() < 0)
            return -1;
        if (status == MPC_DEADLOCK)
            return DEADLOCK;
        if (early && status != MPC_AGAIN)
            return status == MPC_UNSTORED ? UNSTORED : RELEASED;
        passed = mpc_mono_ns() - start;
    }
}

static int mpc_acquire(Lease *self, u64 timeout_ns, int early, PyObject *leases)
{
    mpc_ctx *ctx = &self->namespace->engine->ctx;
    mpc_hold few[FEW_HELD], *held = few;
    if (PyTuple_GET_SIZE(leases) > FEW_HELD && !(held = PyMem_New(mpc_hold, PyTuple_GET_SIZE(leases)))) {
        PyErr_NoMemory();
        return -1;
    }
    u32 count = mpc_collect_held(leases, ctx, held);
    int outcome = mpc_lease_wait_and_take(self, timeout_ns, early, held, count);
    mpc_lease_waited(ctx, held, count);
    if (held != few)
        PyMem_Free(held);
    return outcome;
}

/* args: timeout in seconds or None, whether to return when the holder let go, the leases that the caller holds */
static PyObject *mpc_py_lease_acquire(Lease *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3 || !PyTuple_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "expected timeout, early, and a tuple of leases");
    double timeout = args[0] == Py_None ? -1 : PyFloat_AsDouble(args[0]);
    int early = PyObject_IsTrue(args[1]);
    if (PyErr_Occurred())
        return NULL;
    if (args[0] != Py_None && !(timeout >= 0))
        return PyErr_Format(PyExc_ValueError, "a timeout is None or seconds from 0, not %R", args[0]);
    if (self->held)
        return PyErr_Format(PyExc_RuntimeError, "this lease is held; each acquisition needs one of its own");
    u64 ns = args[0] == Py_None || timeout > 9e9 ? UINT64_MAX : (u64)(timeout * 1e9);
    int outcome = mpc_acquire(self, ns, early, args[2]);
    return outcome < 0 ? NULL : PyLong_FromLong(outcome);
}

/* -- giving back --------------------------------------------------------------------------------------------------- */

/* The bucket's lock is free nearly always; only when it is not the GIL is released. */
static mpc_status mpc_release_hold(mpc_ctx *ctx, const mpc_hold *hold, bool stored)
{
    enum mpc_ending how = stored ? MPC_ENDED_STORED : MPC_ENDED_UNSTORED;
    mpc_status status = mpc_lease_release(ctx, hold, how, 0);
    if (status != MPC_BUSY)
        return status;
    Py_BEGIN_ALLOW_THREADS
    status = mpc_lease_release(ctx, hold, how, MPC_SHARD_WAIT_NS);
    Py_END_ALLOW_THREADS
    return status;
}

/* Give the hold back, and return whether it was still held. */
static int mpc_give_back_lease(Lease *self, int stored)
{
    return atomic_exchange(&self->held, 0) &&
           mpc_release_hold(&self->namespace->engine->ctx, &self->hold, stored) == MPC_OK;
}

static PyObject *mpc_py_lease_release(Lease *self, PyObject *stored)
{
    int is_stored = PyObject_IsTrue(stored);
    return is_stored < 0 ? NULL : PyBool_FromLong(mpc_give_back_lease(self, is_stored));
}

PyObject *mpc_new_lease(Namespace *namespace, PyObject *name, int kind)
{
    mpc_key key;
    if (mpc_parse_key(&namespace->engine->ctx, name, namespace->number, kind, &key) < 0)
        return NULL;
    Lease *self = PyObject_New(Lease, Lease_Type);
    if (self) {
        self->namespace = (Namespace *)Py_NewRef(namespace);
        self->name = Py_NewRef(name);
        self->key = key;
        self->hold = (mpc_hold){0};
        self->held = self->took_over = 0;
    }
    return (PyObject *)self;
}

static void mpc_py_lease_dealloc(Lease *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mpc_give_back_lease(self, 0);
    Py_DECREF(self->namespace);
    Py_DECREF(self->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *mpc_py_lease_get_held(Lease *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->held && mpc_lease_mine(&self->namespace->engine->ctx, &self->hold));
}

static PyObject *mpc_py_lease_get_fence(Lease *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->hold.fence);
}

static PyObject *mpc_py_lease_get_took_over(Lease *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->took_over);
}

static PyMethodDef lease_methods[] = {
    {"acquire", MPC_FASTCALL(mpc_py_lease_acquire), METH_FASTCALL,
     "Take the key; return 0 acquired, 1 released, 2 unstored, 3 timeout, 4 deadlock."},
    {"release", (PyCFunction)mpc_py_lease_release, METH_O,
     "Release the key; the argument says whether a value was stored. False: it was not held."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lease_getset[] = {
    {"held", (getter)mpc_py_lease_get_held, NULL, "Whether this process holds the key under this lease.", NULL},
    {"fence", (getter)mpc_py_lease_get_fence, NULL, "The number of this hold; it grows from hold to hold.", NULL},
    {"took_over", (getter)mpc_py_lease_get_took_over, NULL, "Whether it was taken from a dead holder.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lease_slots[] = {
    {Py_tp_dealloc, mpc_py_lease_dealloc},
    {Py_tp_methods, lease_methods},
    {Py_tp_getset, lease_getset},
    {Py_tp_doc, "One acquisition of one key: Namespace.lease(key, record)."},
    {0, NULL},
};

PyType_Spec Lease_Spec = {"mpcache.shm._engine.Lease", sizeof(Lease), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, lease_slots};

/* -- guards -------------------------------------------------------------------------------------------------------- */

static mpc_status mpc_begin_guard(mpc_ctx *ctx, const mpc_key *key, mpc_hold *hold)
{
    mpc_status status = mpc_lease_guard(ctx, key, hold, 0);
    if (status != MPC_BUSY)
        return status;
    Py_BEGIN_ALLOW_THREADS
    status = mpc_lease_guard(ctx, key, hold, MPC_SHARD_WAIT_NS);
    Py_END_ALLOW_THREADS
    return status;
}

/* The epoch is read after the lease is taken: what an invalidation before that changed, the creator reads itself. */
PyObject *mpc_new_guard(Namespace *namespace, PyObject *name)
{
    mpc_key key;
    mpc_hold hold = {0};
    mpc_ctx *ctx = &namespace->engine->ctx;
    if (mpc_parse_key(ctx, name, namespace->number, KIND_RECORD, &key) < 0)
        return NULL;
    mpc_status status = mpc_begin_guard(ctx, &key, &hold);
    if (status == MPC_RETIRED || status == MPC_NO_SLOT || status == MPC_NO_DESCRIPTOR)
        return mpc_raise_status(status);
    Guard *self = PyObject_New(Guard, Guard_Type);
    if (self) {
        self->namespace = (Namespace *)Py_NewRef(namespace);
        self->hold = hold;
        self->epoch = mpc_epoch(ctx);
        self->begun_ns = mpc_mono_ns();
        self->refused = status != MPC_OK;
        self->dropped = 0;
        self->closed = 0;
        self->outcome = Py_NewRef(Py_None);
    }
    return (PyObject *)self;
}

static void mpc_close_guard(Guard *self)
{
    if (!atomic_exchange(&self->closed, 1) && !self->refused)
        mpc_release_hold(&self->namespace->engine->ctx, &self->hold, self->outcome == Py_True);
}

static PyObject *mpc_py_guard_close(Guard *self, PyObject *unused)
{
    (void)unused;
    mpc_close_guard(self);
    Py_RETURN_NONE;
}

static void mpc_py_guard_dealloc(Guard *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mpc_close_guard(self);
    Py_DECREF(self->namespace);
    Py_DECREF(self->outcome);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *mpc_py_guard_get_outcome(Guard *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->outcome);
}

/* Return whether a write of the key is the fill: it is as long as this creation has the key.  Once this process
 * itself gave the lease back the creation is over, and a write is a write.  But a process that lost the lease
 * otherwise (in a forked child, or declared dead) must not have its value stored as a plain set. */
static PyObject *mpc_py_guard_get_live(Guard *self, void *unused)
{
    (void)unused;
    mpc_ctx *ctx = &self->namespace->engine->ctx;
    if (self->closed || self->outcome != Py_None)
        Py_RETURN_FALSE;
    bool given_back =
        !self->refused && self->hold.owner == mpc_load(&ctx->self->owner) && !mpc_lease_mine(ctx, &self->hold);
    return PyBool_FromLong(!given_back);
}

static PyObject *mpc_py_guard_get_dropped(Guard *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->dropped);
}

static PyObject *mpc_py_guard_get_epoch(Guard *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->epoch);
}

static PyMethodDef guard_methods[] = {
    {"close", (PyCFunction)mpc_py_guard_close, METH_NOARGS, "End the creation, filled or not.  May be called again."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef guard_getset[] = {
    {"outcome", (getter)mpc_py_guard_get_outcome, NULL,
     "None: not filled yet; True: stored; False: refused or dropped.", NULL},
    {"dropped", (getter)mpc_py_guard_get_dropped, NULL, "Whether the shard stayed busy, or an error occurred.", NULL},
    {"live", (getter)mpc_py_guard_get_live, NULL, "Whether a write of the key would be the fill.", NULL},
    {"epoch", (getter)mpc_py_guard_get_epoch, NULL, "The namespace's epoch when the creation began.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot guard_slots[] = {
    {Py_tp_dealloc, mpc_py_guard_dealloc},
    {Py_tp_methods, guard_methods},
    {Py_tp_getset, guard_getset},
    {Py_tp_doc, "The creation of one value, from its begin until it is stored: Namespace.guard(key)."},
    {0, NULL},
};

PyType_Spec Guard_Spec = {"mpcache.shm._engine.Guard", sizeof(Guard), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, guard_slots};
