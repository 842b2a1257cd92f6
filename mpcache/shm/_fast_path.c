/* The fast path of a region that has no proxy and no serializer of its own, and uses the store's own invalidation:
 * nothing stands between the region and the store.  One call finds the value, judges it, copies it and makes the
 * object; or it stores a value.
 *
 *     fast_get   the value | NO_VALUE: there is none | NotImplemented: use the reference path (_region)
 *     fast_set   True: stored | NotImplemented: nothing was done, use the reference path
 *
 * Whatever is rare or delicate is left to the reference path: stale values, which a caller may want to be served;
 * times to live under a clock of the program's own; errors, which it words; fills; a segment that was replaced. */
#include "binding.h"

PyTypeObject *FastPath_Type;

/* -- where the store is -------------------------------------------------------------------------------------------- */

/* Return a new reference to the handle's present namespace: unpickling runs code, which may attach another segment.
 * NULL without an exception: the handle has none. */
static Namespace *mpc_current_namespace(const FastPath *self)
{
    PyObject *namespace = self->handle->namespace;
    return namespace && Py_IS_TYPE(namespace, Namespace_Type) ? (Namespace *)Py_NewRef(namespace) : NULL;
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

/* 1: may be served; 0: it is stale, hidden, or over by a clock of the program's own; -1: an exception is set. */
static int mpc_is_fresh(Namespace *namespace, const struct mpc_record *record, age_limit *limit)
{
    struct mpc_namespace *epochs = mpc_namespace_at(&namespace->engine->ctx, namespace->number);
    if (record->epoch < mpc_load_acquire(&epochs->hard_at) || record->epoch < mpc_load_acquire(&epochs->soft_at))
        return 0;
    if (mpc_is_soft(record->expires) && mpc_is_over(record->expires))
        return 0;
    int over = mpc_is_over_by_python(record->expires);
    return over ? (over < 0 ? -1 : 0) : mpc_is_young(limit, record->created);
}

/* Which requests a call counts.  What it declines, the reference path counts. */
typedef enum { COUNT_HITS, COUNT_ALL } counting;

static void mpc_note_here(FastPath *self, Namespace *namespace, enum mpc_tally_kind kind, u64 n)
{
    ((u64 *)self->here.buf)[kind] += n;
    mpc_note_request(namespace, kind, n);
}

/* Return the fresh value of the key as an object.  `place`: of one among many, whose memory was prefetched;
 * ASKED_ALONE: of no such. */
static PyObject *mpc_fast_get_in(FastPath *self, Namespace *namespace, const mpc_key *key, age_limit *limit,
                                 Py_ssize_t place)
{
    mpc_hit hit;
    mpc_status status = (place < 0 ? mpc_find : mpc_find_prefetched)(&namespace->engine->ctx, key, &hit);
    if (status == MPC_ABSENT)
        return Py_NewRef(self->no_value);
    int fresh = status == MPC_OK ? mpc_is_fresh(namespace, &hit.record, limit) : 0;
    if (fresh <= 0)
        return fresh < 0 ? NULL : Py_NewRef(Py_NotImplemented);
    PyObject *bytes = mpc_alloc_bytes(hit.record.vlen, place);
    if (!bytes)
        return NULL;
    PyObject *value = NULL;
    if (mpc_copy_value(&namespace->engine->ctx, &hit, PyBytes_AS_STRING(bytes)) == MPC_OK)
        value = mpc_value_object(self, bytes, hit.record.flags);
    Py_DECREF(bytes);
    return value || PyErr_Occurred() ? value : Py_NewRef(Py_NotImplemented);
}

/* A key from Python: an object, or text for which there is no object yet. */
typedef struct {
    PyObject *object; /* NULL: these bytes of text */
    const char *bytes;
    u32 len;
} name_of_key;

static int mpc_parse_key_name(Namespace *namespace, const name_of_key *name, mpc_key *key)
{
    mpc_ctx *ctx = &namespace->engine->ctx;
    if (name->object)
        return mpc_parse_key(ctx, name->object, namespace->number, KIND_RECORD, key);
    mpc_key_init(ctx, key, namespace->number, KIND_RECORD << 4 | TYPE_STR, name->bytes, name->len);
    return 0;
}

/* `counts`: of the decorated function whose call this is, or NULL. */
static void mpc_note_answer(FastPath *self, Namespace *namespace, const PyObject *value, counting what,
                            FunctionCounts *counts)
{
    if (!value || value == Py_NotImplemented || (value == self->no_value && what != COUNT_ALL))
        return;
    mpc_note_here(self, namespace, value == self->no_value ? MPC_TALLY_MISSES : MPC_TALLY_HITS, 1);
    if (counts)
        mpc_note_function_hit(counts, namespace);
}

static PyObject *mpc_fast_get_mangled(FastPath *self, const name_of_key *name, age_limit *limit, counting what,
                                      FunctionCounts *counts)
{
    mpc_key key;
    Namespace *namespace = mpc_current_namespace(self);
    if (!namespace)
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *value = mpc_parse_key_name(namespace, name, &key) < 0
                          ? mpc_leave_odd_key()
                          : mpc_fast_get_in(self, namespace, &key, limit, ASKED_ALONE);
    mpc_note_answer(self, namespace, value, what, counts);
    Py_DECREF(namespace);
    return value;
}

/* args: key or keys, the lifetime or None for the region's, ignore_expiration.  False: use the reference path. */
static bool mpc_parse_age_limit(const FastPath *self, PyObject *const *args, age_limit *limit)
{
    if (args[2] != Py_False)
        return false;
    if (args[1] != Py_None)
        return mpc_parse_lifetime(args[1], &limit->seconds);
    limit->seconds = self->lifetime;
    return self->plain;
}

MPC_INLINED PyObject *mpc_fast_get(FastPath *self, PyObject *const *args, Py_ssize_t n, counting what)
{
    age_limit limit = {0};
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "expected key, lifetime, ignore_expiration, not %zd arguments", n);
    if (!mpc_parse_age_limit(self, args, &limit))
        Py_RETURN_NOTIMPLEMENTED;
    name_of_key name = {.object = mpc_mangle(self, args[0])};
    PyObject *value = name.object ? mpc_fast_get_mangled(self, &name, &limit, what, NULL) : NULL;
    Py_XDECREF(name.object);
    return value;
}

static PyObject *mpc_py_fast_path_get(FastPath *self, PyObject *const *args, Py_ssize_t n)
{
    return mpc_fast_get(self, args, n, COUNT_ALL);
}

static PyObject *mpc_py_fast_path_look(FastPath *self, PyObject *const *args, Py_ssize_t n)
{
    return mpc_fast_get(self, args, n, COUNT_HITS);
}

/* Get all values, or none: a value that only the reference path can judge sends all of them there.  Unpickling runs
 * code, which must not find the list before it is complete. */
static PyObject *mpc_fast_get_all(FastPath *self, Namespace *namespace, const many_keys *many, age_limit *limit)
{
    if (mpc_may_read(&namespace->engine->ctx) != MPC_OK)
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *values = mpc_hidden_list(many->n);
    u64 misses = 0;
    if (!values)
        return NULL;
    for (Py_ssize_t i = 0; i < many->n; i++) {
        mpc_prefetch_ahead(&namespace->engine->ctx, many, i);
        PyObject *value = mpc_fast_get_in(self, namespace, &many->key[i], limit, i);
        if (!value || value == Py_NotImplemented) {
            Py_DECREF(values);
            return value;
        }
        PyList_SET_ITEM(values, i, value);
        misses += value == self->no_value;
    }
    mpc_note_here(self, namespace, MPC_TALLY_HITS, (u64)many->n - misses);
    mpc_note_here(self, namespace, MPC_TALLY_MISSES, misses);
    return mpc_release_list(values);
}

static PyObject *mpc_fast_get_multi_in(FastPath *self, Namespace *namespace, PyObject *names, age_limit *limit)
{
    many_keys many;
    if (mpc_parse_keys(namespace, names, &many) < 0)
        return mpc_leave_odd_key();
    PyObject *values = mpc_fast_get_all(self, namespace, &many, limit);
    mpc_free_keys(&many);
    return values;
}

/* Return a new reference to all keys as the store knows them. */
static PyObject *mpc_mangle_all(FastPath *self, PyObject *names)
{
    if (self->mangler == Py_None)
        return Py_NewRef(names);
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(names); i++) {
        PyObject *name = Py_NewRef(PyList_GET_ITEM(names, i)), *stored = mpc_mangle(self, name);
        if (!stored || PyList_Append(list, stored) < 0)
            Py_CLEAR(list);
        Py_XDECREF(stored);
        Py_DECREF(name);
    }
    return list;
}

static PyObject *mpc_py_fast_path_get_multi(FastPath *self, PyObject *const *args, Py_ssize_t n)
{
    age_limit limit = {0};
    if (n != 3 || !PyList_CheckExact(args[0]))
        return PyErr_Format(PyExc_TypeError, "expected a list of keys, lifetime, ignore_expiration");
    if (!mpc_parse_age_limit(self, args, &limit))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *names = mpc_mangle_all(self, args[0]);
    if (!names)
        return NULL;
    Namespace *namespace = mpc_current_namespace(self);
    PyObject *values = namespace ? mpc_fast_get_multi_in(self, namespace, names, &limit) : Py_NewRef(Py_NotImplemented);
    Py_XDECREF(namespace);
    Py_DECREF(names);
    return values;
}

/* -- reading what a call has returned ------------------------------------------------------------------------------ */

/* args: what the key starts with, the form of what follows, the arguments, their lifetime, and the function's counts */
static PyObject *mpc_py_fast_path_call(FastPath *self, PyObject *const *args, Py_ssize_t n)
{
    call_key key;
    age_limit limit = {.seconds = self->lifetime};
    key.len = 0;
    if (n != 5 || !PyUnicode_CheckExact(args[0]) || !mpc_is_key_form(args[1]) || !PyTuple_CheckExact(args[2]) ||
        !Py_IS_TYPE(args[4], FunctionCounts_Type))
        return PyErr_Format(PyExc_TypeError, "expected start, form, arguments, lifetime, counts");
    bool plain = args[3] == Py_None ? self->plain : mpc_parse_lifetime(args[3], &limit.seconds);
    if (!plain || self->mangler != Py_None || !mpc_make_call_key(&key, args[0], args[1], args[2]))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    name_of_key name = {.bytes = key.bytes, .len = (u32)key.len};
    return mpc_fast_get_mangled(self, &name, &limit, COUNT_HITS, (FunctionCounts *)args[4]);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* Return whether a write now could be a fill, which only the reference path can do. */
static int mpc_is_filling(FastPath *self)
{
    PyObject *fill;
    if (PyContextVar_Get(self->current_fill, NULL, &fill) < 0)
        return -1;
    int filling = fill != NULL && fill != Py_None;
    Py_XDECREF(fill);
    return filling;
}

/* Store one value.  The epoch is read before the value is pickled, because pickling runs code, which may take long. */
static PyObject *mpc_fast_set_in(FastPath *self, Namespace *namespace, PyObject *name, PyObject *object, PyObject *ttl)
{
    mpc_value value = {.epoch = mpc_epoch_now(namespace)};
    if (mpc_now_ns(&value.created) < 0)
        return NULL;
    if (!mpc_parse_ttl(ttl, value.created, &value.expires))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *bytes = mpc_serialize(self, object, &value.flags);
    if (!bytes)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    mpc_status status = mpc_put_bytes(namespace, name, bytes, value);
    Py_DECREF(bytes);
    if (PyErr_Occurred())
        return mpc_leave_odd_key();
    return Py_NewRef(status == MPC_OK ? Py_True : Py_NotImplemented);
}

static PyObject *mpc_py_fast_path_set(FastPath *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "expected key, value, ttl, not %zd arguments", n);
    int filling = mpc_is_filling(self);
    if (filling < 0)
        return NULL;
    if (filling || args[1] == self->no_value)
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *name = mpc_mangle(self, args[0]);
    if (!name)
        return NULL;
    Namespace *namespace = mpc_current_namespace(self);
    PyObject *outcome =
        namespace ? mpc_fast_set_in(self, namespace, name, args[1], args[2]) : Py_NewRef(Py_NotImplemented);
    Py_XDECREF(namespace);
    Py_DECREF(name);
    return outcome;
}

static PyObject *mpc_py_fast_path_set_multi(FastPath *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected a dict and ttl, not %zd arguments", n);
    int filling = mpc_is_filling(self);
    if (filling < 0)
        return NULL;
    if (filling || !PyDict_CheckExact(args[0]))
        Py_RETURN_NOTIMPLEMENTED;
    Namespace *namespace = mpc_current_namespace(self);
    PyObject *outcome =
        namespace ? mpc_fast_set_multi_in(self, namespace, args[0], args[1]) : Py_NewRef(Py_NotImplemented);
    Py_XDECREF(namespace);
    return outcome;
}

/* -- the objects --------------------------------------------------------------------------------------------------- */

/* Get the array in which the requests of this process are counted; -1: an exception is set. */
static int mpc_get_counters(FastPath *self, PyObject *array)
{
    if (PyObject_GetBuffer(array, &self->here, PyBUF_CONTIG) < 0)
        return -1;
    if (self->here.itemsize == sizeof(u64) && self->here.len == MPC_WORD_KINDS * (Py_ssize_t)sizeof(u64))
        return 0;
    PyErr_Format(PyExc_ValueError, "expected an array of %u numbers of 64 bits", MPC_WORD_KINDS);
    return -1;
}

static PyObject *mpc_py_fast_path_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *handle, *no_value, *current_fill, *loads, *pickling, *mangler, *lifetime, *here;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!OOOOOOO:FastPath", HandleBase_Type, &handle, &no_value, &current_fill, &loads,
                          &pickling, &mangler, &lifetime, &here))
        return NULL;
    FastPath *self = (FastPath *)type->tp_alloc(type, 0);
    if (!self || mpc_get_counters(self, here) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    self->handle = (HandleBase *)Py_NewRef(handle);
    self->no_value = Py_NewRef(no_value);
    self->current_fill = Py_NewRef(current_fill);
    self->loads = Py_NewRef(loads);
    self->pickling = Py_NewRef(pickling);
    self->mangler = Py_NewRef(mangler);
    self->plain = mpc_parse_lifetime(lifetime, &self->lifetime);
    return (PyObject *)self;
}

static int mpc_py_fast_path_traverse(FastPath *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->handle);
    Py_VISIT(self->no_value);
    Py_VISIT(self->current_fill);
    Py_VISIT(self->loads);
    Py_VISIT(self->pickling);
    Py_VISIT(self->idle);
    Py_VISIT(self->mangler);
    return 0;
}

static int mpc_py_fast_path_clear(FastPath *self)
{
    Py_CLEAR(self->handle);
    Py_CLEAR(self->no_value);
    Py_CLEAR(self->current_fill);
    Py_CLEAR(self->loads);
    Py_CLEAR(self->pickling);
    Py_CLEAR(self->idle);
    Py_CLEAR(self->mangler);
    return 0;
}

static void mpc_py_fast_path_dealloc(FastPath *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)mpc_py_fast_path_clear(self);
    PyBuffer_Release(&self->here); /* only here: a call may run while the garbage collector clears the rest */
    type->tp_free(self);
    Py_DECREF(type);
}

/* args: the name of one of these methods, and what to call where it returns NotImplemented */
static PyObject *mpc_py_fast_path_or_else(FastPath *self, PyObject *args)
{
    const char *name;
    PyObject *reference;
    if (!PyArg_ParseTuple(args, "sO:or_else", &name, &reference))
        return NULL;
    return mpc_first_of(PyObject_GetAttrString((PyObject *)self, name), reference);
}

static PyMethodDef fast_path_methods[] = {
    {"fast_get", MPC_FASTCALL(mpc_py_fast_path_get), METH_FASTCALL,
     "Return the value, NO_VALUE, or NotImplemented: use the reference path."},
    {"fast_look", MPC_FASTCALL(mpc_py_fast_path_look), METH_FASTCALL,
     "Do as fast_get, for a caller that goes on where there is no value: no miss is counted."},
    {"fast_get_multi", MPC_FASTCALL(mpc_py_fast_path_get_multi), METH_FASTCALL,
     "Return a list of values and NO_VALUEs, or NotImplemented."},
    {"or_else", (PyCFunction)mpc_py_fast_path_or_else, METH_VARARGS,
     "or_else(name, reference): return a function that calls a method, and reference where that returns "
     "NotImplemented."},
    {"fast_call", MPC_FASTCALL(mpc_py_fast_path_call), METH_FASTCALL, "Do as fast_get, for the key of a call."},
    {"fast_set", MPC_FASTCALL(mpc_py_fast_path_set), METH_FASTCALL,
     "Store; return True, or NotImplemented: use the reference path."},
    {"fast_set_multi", MPC_FASTCALL(mpc_py_fast_path_set_multi), METH_FASTCALL,
     "Store all; return True, or NotImplemented."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot fast_path_slots[] = {
    {Py_tp_new, mpc_py_fast_path_new},
    {Py_tp_dealloc, mpc_py_fast_path_dealloc},
    {Py_tp_traverse, mpc_py_fast_path_traverse},
    {Py_tp_clear, mpc_py_fast_path_clear},
    {Py_tp_methods, fast_path_methods},
    {Py_tp_doc, "The gets and sets of a region, in one call each.\n\nFastPath(handle, no_value, current_fill, loads, "
                "pickling, mangler, lifetime, here)"},
    {0, NULL},
};

PyType_Spec FastPath_Spec = {"mpcache.shm._engine.FastPath", sizeof(FastPath), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, fast_path_slots};
