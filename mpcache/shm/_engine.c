/* The Engine type: an attached segment, its namespaces, its statistics and its removal. */
#include "binding.h"

#include <structmember.h>

PyTypeObject *Engine_Type;

static PyObject *mpc_py_engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "path", NULL};
    int fd;
    const char *path = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|z:Engine", names, &fd, &path))
        return NULL;
    Engine *self = (Engine *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    mpc_status status = mpc_open(&self->ctx, fd, path);
    self->open = status == MPC_OK;
    if (self->open)
        return (PyObject *)self;
    if (status == MPC_SYSTEM)
        PyErr_SetFromErrno(PyExc_OSError); /* the caller knows the path, and words it */
    else
        mpc_raise_status(status);
    Py_DECREF(self);
    return NULL;
}

static void mpc_py_engine_dealloc(Engine *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_ClearWeakRefs((PyObject *)self);
    if (self->open)
        mpc_close(&self->ctx);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *mpc_py_engine_namespace(Engine *self, PyObject *name)
{
    Py_ssize_t len;
    const char *bytes = PyUnicode_AsUTF8AndSize(name, &len);
    if (!bytes)
        return NULL;
    u16 number;
    mpc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = mpc_namespace_open(&self->ctx, bytes, (size_t)len, &number);
    Py_END_ALLOW_THREADS
    return status == MPC_OK ? mpc_new_namespace(self, number) : mpc_raise_status(status);
}

static PyObject *mpc_py_engine_namespaces(Engine *self, PyObject *unused)
{
    (void)unused;
    PyObject *list = PyList_New(0);
    for (u16 i = 0; list && i < MPC_NAMESPACES; i++) {
        char bytes[MPC_NAME_BYTES];
        u32 len = mpc_namespace_name(&self->ctx, i, bytes);
        if (len == MPC_NO_NAME)
            continue;
        PyObject *name = PyUnicode_DecodeUTF8(bytes, len, "replace");
        if (!name || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyObject *mpc_py_engine_check(Engine *self, PyObject *unused)
{
    (void)unused;
    char why[256];
    mpc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = mpc_check(&self->ctx, why, sizeof why);
    Py_END_ALLOW_THREADS
    if (status == MPC_OK)
        Py_RETURN_NONE;
    if (status != MPC_DAMAGED)
        return mpc_raise_status(status);
    PyObject *type = mpc_exception_class(status);
    if (type)
        PyErr_Format(type, "%s: %s; remove it, and the next process creates a new one", mpc_status_text(status), why);
    Py_XDECREF(type);
    return NULL;
}

static int mpc_put_number(PyObject *dict, const char *name, u64 value)
{
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    int failed = !number || PyDict_SetItemString(dict, name, number) < 0;
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

static int mpc_put_counts(PyObject *dict, const mpc_stats *stats)
{
#define MPC_PUT(name, text)                                              \
    if (mpc_put_number(dict, #text, stats->count[MPC_COUNT_##name]) < 0) \
        return -1;
    MPC_COUNT_LIST(MPC_PUT)
#undef MPC_PUT
    return 0;
}

static int mpc_put_of_ring(PyObject *dict, const char *ring, const char *what, u64 value)
{
    char name[48];
    snprintf(name, sizeof name, "%s_%s", ring, what);
    return mpc_put_number(dict, name, value);
}

/* Each ring, and both together. */
static int mpc_put_rings(PyObject *dict, const mpc_stats *stats)
{
    static const char *const names[MPC_RINGS] = {"small", "main"};
    mpc_ring_stats sum = {0};
    for (int i = 0; i < MPC_RINGS; i++) {
        const mpc_ring_stats *ring = &stats->ring[i];
        u64 live = ring->live_bytes < ring->used_bytes ? ring->live_bytes : ring->used_bytes;
        if (mpc_put_of_ring(dict, names[i], "evictions", ring->evicted) < 0 ||
            mpc_put_of_ring(dict, names[i], "items", ring->items) < 0 ||
            mpc_put_of_ring(dict, names[i], "live_bytes", live) < 0 ||
            mpc_put_of_ring(dict, names[i], "dead_bytes", ring->used_bytes - live) < 0 ||
            mpc_put_of_ring(dict, names[i], "free_bytes", ring->capacity_bytes - ring->used_bytes) < 0)
            return -1;
        sum.evicted += ring->evicted;
        sum.items += ring->items;
        sum.live_bytes += live;
        sum.used_bytes += ring->used_bytes;
        sum.capacity_bytes += ring->capacity_bytes;
    }
    return mpc_put_number(dict, "evictions", sum.evicted) < 0 || mpc_put_number(dict, "items", sum.items) < 0 ||
                   mpc_put_number(dict, "live_bytes", sum.live_bytes) < 0 ||
                   mpc_put_number(dict, "used_bytes", sum.used_bytes) < 0 ||
                   mpc_put_number(dict, "capacity_bytes", sum.capacity_bytes) < 0
               ? -1
               : 0;
}

static PyObject *mpc_py_engine_stats(Engine *self, PyObject *unused)
{
    (void)unused;
    mpc_stats s;
    Py_BEGIN_ALLOW_THREADS
    mpc_stats_read(&self->ctx, &s);
    Py_END_ALLOW_THREADS
    PyObject *dict = PyDict_New();
    if (!dict)
        return NULL;
    if (mpc_put_counts(dict, &s) < 0 || mpc_put_rings(dict, &s) < 0 || mpc_put_number(dict, "expired", s.expired) < 0 ||
        mpc_put_number(dict, "overflow", s.overflow) < 0 ||
        mpc_put_number(dict, "moved", s.promoted + s.reinserted) < 0 ||
        mpc_put_number(dict, "promotions", s.promoted) < 0 || mpc_put_number(dict, "reinsertions", s.reinserted) < 0 ||
        mpc_put_number(dict, "ghost_hits", s.ghost_hits) < 0 || mpc_put_number(dict, "cleared", s.cleared) < 0 ||
        mpc_put_number(dict, "largest_value", s.largest_value) < 0 ||
        mpc_put_number(dict, "processes", s.processes) < 0 || mpc_put_number(dict, "leases", s.leases) < 0 ||
        mpc_put_number(dict, "namespaces", s.namespaces) < 0 ||
        mpc_put_number(dict, "size", self->ctx.geometry.size) < 0 ||
        mpc_put_number(dict, "shards", self->ctx.geometry.shards) < 0 ||
        mpc_put_number(dict, "slots", self->ctx.geometry.slots) < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *mpc_py_engine_retire(Engine *self, PyObject *unused)
{
    (void)unused;
    mpc_retire(&self->ctx);
    Py_RETURN_NONE;
}

/* How many shards keep their memory. */
static PyObject *mpc_py_engine_remove(Engine *self, PyObject *unused)
{
    (void)unused;
    u32 kept;
    mpc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = mpc_remove(&self->ctx, MPC_GRACE_NS, &kept);
    Py_END_ALLOW_THREADS
    return status == MPC_OK || status == MPC_NO_SLOT ? PyLong_FromUnsignedLong(kept) : mpc_raise_status(status);
}

static PyObject *mpc_py_engine_leases_of_others(Engine *self, PyObject *unused)
{
    (void)unused;
    u32 held;
    Py_BEGIN_ALLOW_THREADS
    held = mpc_leases_of_others(&self->ctx);
    Py_END_ALLOW_THREADS
    return PyLong_FromUnsignedLong(held);
}

static PyObject *mpc_py_engine_get_retired(Engine *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(mpc_retired(&self->ctx));
}

static PyObject *mpc_py_engine_get_size(Engine *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->ctx.geometry.size);
}

static PyObject *mpc_py_engine_get_born(Engine *self, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble((double)self->ctx.header->born_ns / 1e9);
}

static PyObject *mpc_py_engine_get_shards(Engine *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(self->ctx.geometry.shards);
}

static PyObject *mpc_py_engine_get_shard_bytes(Engine *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->ctx.geometry.shard_bytes);
}

static PyObject *mpc_py_engine_get_owner(Engine *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(mpc_load(&self->ctx.self->owner));
}

static PyObject *mpc_py_engine_get_fd(Engine *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(self->ctx.fd);
}

static PyMethodDef engine_methods[] = {
    {"functions", (PyCFunction)mpc_py_engine_functions, METH_NOARGS,
     "Return a list of (namespace, name, counts) of the decorated functions, by their places in FUNCTION_COUNTS."},
    {"namespace", (PyCFunction)mpc_py_engine_namespace, METH_O,
     "Return the namespace of that name; create it if there is none."},
    {"namespaces", (PyCFunction)mpc_py_engine_namespaces, METH_NOARGS,
     "Return the names of all namespaces; '' is always there."},
    {"check", (PyCFunction)mpc_py_engine_check, METH_NOARGS,
     "Check everything; SegmentDamaged names the first broken invariant."},
    {"stats", (PyCFunction)mpc_py_engine_stats, METH_NOARGS,
     "Return sums over all processes that were ever attached, and the present state."},
    {"retire", (PyCFunction)mpc_py_engine_retire, METH_NOARGS,
     "Make every process leave the segment at its next call."},
    {"remove", (PyCFunction)mpc_py_engine_remove, METH_NOARGS,
     "Retire the segment and give the memory of its shards back; return how many shards keep theirs."},
    {"leases_of_others", (PyCFunction)mpc_py_engine_leases_of_others, METH_NOARGS,
     "Return how many keys other living processes hold."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef engine_getset[] = {
    {"retired", (getter)mpc_py_engine_get_retired, NULL, "Whether the segment was unlinked.", NULL},
    {"size", (getter)mpc_py_engine_get_size, NULL, "Bytes of the segment.", NULL},
    {"born", (getter)mpc_py_engine_get_born, NULL, "When it was created: seconds since the Unix epoch.", NULL},
    {"shards", (getter)mpc_py_engine_get_shards, NULL, "The number of shards.", NULL},
    {"shard_bytes", (getter)mpc_py_engine_get_shard_bytes, NULL, "Bytes of each shard.", NULL},
    {"owner", (getter)mpc_py_engine_get_owner, NULL, "This process's id in the segment; 0 before its first operation.",
     NULL},
    {"fd", (getter)mpc_py_engine_get_fd, NULL, "A descriptor of the segment, which the engine keeps open.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef engine_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Engine, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_members, engine_members},
    {Py_tp_new, mpc_py_engine_new},
    {Py_tp_dealloc, mpc_py_engine_dealloc},
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, engine_getset},
    {Py_tp_doc, "A segment that this process is attached to.\n\nEngine(fd, path=None): maps and checks it; the "
                "descriptor stays the caller's."},
    {0, NULL},
};

PyType_Spec Engine_Spec = {"mpcache.shm._engine.Engine", sizeof(Engine), 0, Py_TPFLAGS_DEFAULT, engine_slots};
