/* The binding: parse, release the GIL where it can wait, call, translate.  This file has the module, the exceptions
 * and the segment; _space.c has what is done with keys, _change.c what depends on their values, _shortcut.c the quick
 * way to some of it, _lease.c what is held. */
#include "binding.h"

#include <errno.h>
#include <structmember.h>
#include <sys/mman.h>
#include <sys/vfs.h>

PyTypeObject *Engine_Type, *Namespace_Type, *Lease_Type, *Guard_Type, *HandleBase_Type, *FastPath_Type;

/* -- errors ------------------------------------------------------------------------------------------------------ */

static const char *mpc_exception_name(mpc_status status)
{
    switch (status) {
#define MPC_AS_CASE(name, exception, text)                                                                           \
    case MPC_##name:                                                                                                 \
        return exception;
        MPC_STATUSES(MPC_AS_CASE)
#undef MPC_AS_CASE
    }
    return NULL;
}

/* Where mpcache.exception has the class it is taken, so that Python code can add facts to it. */
static PyObject *mpc_exception_class(mpc_status status)
{
    const char *name = mpc_exception_name(status);
    PyObject *module = PyImport_ImportModule("mpcache.exception");
    if (!module)
        return NULL;
    PyObject *found = PyObject_GetAttrString(module, name ? name : "SegmentError");
    Py_DECREF(module);
    return found;
}

PyObject *mpc_raise_status(mpc_status status)
{
    int number = errno;
    if (status == MPC_SYSTEM && PyErr_Occurred())
        return NULL; /* the binding's own: there was no memory */
    PyObject *type = mpc_exception_class(status);
    if (type) {
        if (status == MPC_SYSTEM)
            PyErr_Format(type, "%s: %s", mpc_status_text(status), strerror(number));
        else
            PyErr_SetString(type, mpc_status_text(status));
        Py_DECREF(type);
    }
    return NULL;
}

PyObject *mpc_raise_too_large(const mpc_ctx *ctx, const mpc_key *key, size_t size)
{
    PyObject *type = mpc_exception_class(MPC_TOO_LARGE);
    if (type) {
        PyErr_Format(type,
                     "a value of %zu bytes: the largest that this segment takes under a key of %u bytes has %llu "
                     "bytes, a quarter of the main ring of each of its %u shards; configure a larger size%s",
                     size, key->len, (unsigned long long)mpc_largest_value(ctx, key->len), ctx->geometry.shards,
                     ctx->geometry.shards > 1 ? ", or shards=1" : "");
        Py_DECREF(type);
    }
    return NULL;
}

/* -- keys -------------------------------------------------------------------------------------------------------- */

static const char *mpc_key_bytes(PyObject *from, Py_ssize_t *len, int *type)
{
    if (PyUnicode_Check(from)) {
        *type = TYPE_STR;
        if (!PyUnicode_IS_COMPACT_ASCII(from))
            return PyUnicode_AsUTF8AndSize(from, len);
        *len = PyUnicode_GET_LENGTH(from);
        return PyUnicode_DATA(from);
    }
    *type = TYPE_BYTES;
    char *bytes;
    if (PyBytes_Check(from))
        return PyBytes_AsStringAndSize(from, &bytes, len) == 0 ? bytes : NULL;
    PyErr_Format(PyExc_TypeError, "a key of the shared-memory store is str or bytes, not %.100s: %.200R; a key_mangler may convert it",
                 Py_TYPE(from)->tp_name, from);
    return NULL;
}

/* The key borrows the bytes of `from`. */
int mpc_parse_key(const mpc_ctx *ctx, PyObject *from, u16 namespace, int kind, mpc_key *key)
{
    Py_ssize_t len;
    int type;
    const char *bytes = mpc_key_bytes(from, &len, &type);
    if (!bytes)
        return -1;
    if (len > (Py_ssize_t)MPC_MAX_KEY) {
        PyObject *class = mpc_exception_class(MPC_KEY_TOO_LONG);
        if (class)
            PyErr_Format(class, "a key of %zd bytes: the longest has %u; sha1_mangle_key makes any key short", len, MPC_MAX_KEY);
        Py_XDECREF(class);
        return -1;
    }
    mpc_key_init(ctx, key, namespace, (u8)(kind << 4 | type), bytes, (u32)len);
    return 0;
}

/* -- the segment ---------------------------------------------------------------------------------------------------- */

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
        PyErr_Format(type, "%s: %s; remove it and let it be made anew", mpc_status_text(status), why);
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
#define MPC_PUT(name, text)                                                                                          \
    if (mpc_put_number(dict, #text, stats->count[MPC_COUNT_##name]) < 0)                                                        \
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
                   mpc_put_number(dict, "live_bytes", sum.live_bytes) < 0 || mpc_put_number(dict, "used_bytes", sum.used_bytes) < 0 ||
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
        mpc_put_number(dict, "overflow", s.overflow) < 0 || mpc_put_number(dict, "moved", s.promoted + s.reinserted) < 0 ||
        mpc_put_number(dict, "promotions", s.promoted) < 0 || mpc_put_number(dict, "reinsertions", s.reinserted) < 0 ||
        mpc_put_number(dict, "ghost_hits", s.ghost_hits) < 0 || mpc_put_number(dict, "cleared", s.cleared) < 0 ||
        mpc_put_number(dict, "largest_value", s.largest_value) < 0 || mpc_put_number(dict, "processes", s.processes) < 0 ||
        mpc_put_number(dict, "leases", s.leases) < 0 || mpc_put_number(dict, "namespaces", s.namespaces) < 0 ||
        mpc_put_number(dict, "size", self->ctx.geometry.size) < 0 || mpc_put_number(dict, "shards", self->ctx.geometry.shards) < 0 ||
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
    {"namespace", (PyCFunction)mpc_py_engine_namespace, METH_O, "The namespace of that name; it is made if there is none."},
    {"namespaces", (PyCFunction)mpc_py_engine_namespaces, METH_NOARGS, "The names of all namespaces; '' is always there."},
    {"check", (PyCFunction)mpc_py_engine_check, METH_NOARGS, "Walk everything; SegmentDamaged names the first broken invariant."},
    {"stats", (PyCFunction)mpc_py_engine_stats, METH_NOARGS, "Sums over all processes that ever were, and what is there now."},
    {"retire", (PyCFunction)mpc_py_engine_retire, METH_NOARGS, "Send every process away at its next call."},
    {"remove", (PyCFunction)mpc_py_engine_remove, METH_NOARGS,
     "Retire the segment and give the memory of its shards back; return how many shards keep theirs."},
    {"leases_of_others", (PyCFunction)mpc_py_engine_leases_of_others, METH_NOARGS,
     "Return how many keys other living processes hold."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef engine_getset[] = {
    {"retired", (getter)mpc_py_engine_get_retired, NULL, "Whether the segment was unlinked.", NULL},
    {"size", (getter)mpc_py_engine_get_size, NULL, "Bytes of the segment.", NULL},
    {"born", (getter)mpc_py_engine_get_born, NULL, "When it was made: seconds since the Unix epoch.", NULL},
    {"shards", (getter)mpc_py_engine_get_shards, NULL, "Into how many parts it is divided.", NULL},
    {"shard_bytes", (getter)mpc_py_engine_get_shard_bytes, NULL, "How many bytes each part has.", NULL},
    {"owner", (getter)mpc_py_engine_get_owner, NULL, "This process's id in the segment; 0 before its first operation.", NULL},
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
    {Py_tp_doc, "A segment that this process is attached to.\n\nEngine(fd, path=None): maps and checks it; the descriptor stays the caller's."},
    {0, NULL},
};

PyType_Spec Engine_Spec = {"mpcache.shm._engine.Engine", sizeof(Engine), 0, Py_TPFLAGS_DEFAULT, engine_slots};

/* -- the module -------------------------------------------------------------------------------------------------- */

/* Write the header of a new segment into the file behind fd, which is zero-filled, has that size, and is nobody's yet. */
static PyObject *mpc_py_module_format(PyObject *module, PyObject *args)
{
    (void)module;
    int fd;
    unsigned long long size, limit = MPC_POSITION_LIMIT;
    unsigned shards, slots = MPC_SLOTS;
    if (!PyArg_ParseTuple(args, "iKI|IK:format", &fd, &size, &shards, &slots, &limit))
        return NULL;
    struct mpc_geometry geometry;
    mpc_status status = mpc_plan(&geometry, size, shards, slots, limit);
    if (status == MPC_BAD_HEADER)
        return PyErr_Format(PyExc_ValueError,
                            "size=%llu, shards=%u, slots=%u: shards must be a power of two up to %u, of at most 1 TiB "
                            "each; a segment has at most 16 TiB and %u slots",
                            size, shards, slots, MPC_MAX_SHARDS, MPC_SLOTS);
    if (status != MPC_OK)
        return mpc_raise_status(status);
    void *base = mpc_map(fd, size);
    if (!base)
        return PyErr_SetFromErrno(PyExc_OSError);
    status = mpc_format(base, &geometry);
    munmap(base, size);
    if (status != MPC_OK)
        return mpc_raise_status(status);
    Py_RETURN_NONE;
}

static PyObject *mpc_py_module_make_large(PyObject *module, PyObject *args)
{
    (void)module;
    int fd;
    bool large;
    unsigned long long from, to;
    if (!PyArg_ParseTuple(args, "iKK:make_large", &fd, &from, &to))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    large = mpc_make_large(fd, from, to);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(large);
}

static PyObject *mpc_py_module_kind_of_file_system(PyObject *module, PyObject *path)
{
    (void)module;
    struct statfs found;
    const char *name = PyUnicode_AsUTF8(path);
    if (!name)
        return NULL;
    if (statfs(name, &found) != 0)
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
    return PyLong_FromUnsignedLong((u32)found.f_type);
}

static PyObject *mpc_py_module_anyone_alive(PyObject *module, PyObject *args)
{
    (void)module;
    int fd, error = 0;
    if (!PyArg_ParseTuple(args, "i:anyone_alive", &fd))
        return NULL;
    return PyBool_FromLong(mpc_anyone_alive(fd, 1u << 16, &error));
}

static PyObject *mpc_py_module_smallest(PyObject *module, PyObject *shards)
{
    (void)module;
    unsigned long number = PyLong_AsUnsignedLong(shards);
    return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLongLong(mpc_smallest((u32)number));
}

static PyMethodDef functions[] = {
    {"kind_of_file_system", mpc_py_module_kind_of_file_system, METH_O, "Return the f_type (statfs(2)) of the file system of a path."},
    {"smallest", mpc_py_module_smallest, METH_O, "Bytes of the smallest segment with so many shards."},
    {"format", mpc_py_module_format, METH_VARARGS, "format(fd, size, shards, slots=1024, position_limit=2**48): write a new segment's header."},
    {"make_large", mpc_py_module_make_large, METH_VARARGS, "make_large(fd, from, to): ask for large pages in a new file; whether there are no others."},
    {"anyone_alive", mpc_py_module_anyone_alive, METH_VARARGS, "Whether a process is attached to the segment behind fd."},
    {NULL, NULL, 0, NULL},
};

/* An interpreter that imports the module again gets the same types: objects of the first import go on. */
static int mpc_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    if (!*type)
        *type = (PyTypeObject *)PyType_FromSpec(spec);
    return *type ? PyModule_AddType(module, *type) : -1;
}

/* Let the first interpreter of the process have the engine, and no other.  Its types, and the bytes that it keeps for
 * the next value, belong to one interpreter.  The mark lies in what the interpreter keeps for modules, which goes when
 * the interpreter does: another one at the same address, or with the same number, has none. */
static int mpc_claim_interpreter(void)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    PyObject *marks = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *name = marks ? PyUnicode_FromString("mpcache.shm._engine") : NULL;
    PyObject *mine = name ? PyDict_GetItemWithError(marks, name) : NULL;
    int status = mine ? 0 : -1;
    if (name && !mine && !PyErr_Occurred()) {
        if (!atomic_flag_test_and_set(&taken))
            status = PyDict_SetItem(marks, name, Py_True);
        else
            PyErr_SetString(PyExc_ImportError,
                            "mpcache's shared-memory engine is in use by another interpreter of this process, and works in "
                            "one interpreter of a process only; run the programs in processes of their own, or in the same "
                            "interpreter (mod_wsgi: WSGIApplicationGroup %{GLOBAL})");
    }
    Py_XDECREF(name);
    return status;
}

static int mpc_fill_module(PyObject *module)
{
    return mpc_claim_interpreter() < 0 || mpc_add_type(module, &Engine_Spec, &Engine_Type) < 0 ||
                   mpc_add_type(module, &Namespace_Spec, &Namespace_Type) < 0 || mpc_add_type(module, &Lease_Spec, &Lease_Type) < 0 ||
                   mpc_add_type(module, &Guard_Spec, &Guard_Type) < 0 || mpc_add_type(module, &HandleBase_Spec, &HandleBase_Type) < 0 ||
                   mpc_add_type(module, &FastPath_Spec, &FastPath_Type) < 0 || mpc_init_time() < 0 ||
                   PyModule_AddIntConstant(module, "LAYOUT", MPC_LAYOUT) < 0 ||
                   PyModule_AddIntConstant(module, "MAX_KEY", MPC_MAX_KEY) < 0 ||
                   PyModule_AddIntConstant(module, "MAX_SHARDS", MPC_MAX_SHARDS) < 0
               ? -1
               : 0;
}

/* An interpreter with a GIL of its own may be the first; mpc_fill_module() refuses every other, and says why. */
static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, mpc_fill_module},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mpcache.shm._engine",
    .m_doc = "The shared-memory engine.  Use it through mpcache.shm.segment.",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__engine(void)
{
    return PyModuleDef_Init(&definition);
}
