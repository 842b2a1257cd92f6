/* The short cut of a region that has nothing between itself and the store: no proxy, no serializer of its own, and
 * the store's own invalidation.  One call finds the value, judges it, copies it and makes the object; or it stores one.
 *
 *     peek   the value | NO_VALUE: there is none | NotImplemented: ask by the long way (region.py, storage.py)
 *     poke   True: stored | NotImplemented: nothing was done, go the long way
 *
 * The long way is the reference.  Whatever is rare or delicate is left to it: stale values, which somebody may want
 * to serve; values with a time to live; errors, which it words; fills; a segment that was replaced. */
#include "binding.h"

#include <structmember.h>

/* -- where the store is --------------------------------------------------------------------------------------------- */

/* A new reference to the space that the seat is in now: unpickling runs code, which may move it to another one. NULL
 * without an exception: it is in none. */
static Space *space_now(const Shortcut *self)
{
    PyObject *space = self->seat->space;
    return space && Py_IS_TYPE(space, Space_Type) ? (Space *)Py_NewRef(space) : NULL;
}

/* -- reading -------------------------------------------------------------------------------------------------------- */

/* 1: may be served; 0: it is stale, or hidden; -1: an exception is set. */
static int is_fresh(Space *space, const struct mpc_record *record, age_limit *limit)
{
    struct mpc_space *epochs = mpc_space_at(&space->engine->ctx, space->number);
    if (record->epoch < mpc_load_acquire(&epochs->hard_at) || record->epoch < mpc_load_acquire(&epochs->soft_at))
        return 0;
    return is_young(limit, record->created);
}

static PyObject *integer_of(PyObject *bytes)
{
    long long number;
    if (PyBytes_GET_SIZE(bytes) != sizeof number)
        return NULL;
    memcpy(&number, PyBytes_AS_STRING(bytes), sizeof number);
    return PyLong_FromLongLong(number);
}

/* The object that these bytes stand for.  NULL without an exception: the long way shall see what is wrong. */
static PyObject *object_of(Shortcut *self, PyObject *bytes, u8 flags)
{
    PyObject *value = NULL;
    if (flags == KEPT_BYTES)
        return Py_NewRef(bytes);
    if (flags == KEPT_TEXT)
        value = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes), NULL);
    else if (flags == KEPT_INT)
        value = integer_of(bytes);
    else if (flags == KEPT_PAYLOAD)
        value = PyObject_CallOneArg(self->loads, bytes);
    if (!value && PyErr_Occurred())
        clear_foreign_error();
    return value;
}

/* `place`: of one among many, whose memory was asked for; ASKED_ALONE: of no such. */
static PyObject *peek_in(Shortcut *self, Space *space, const mpc_key *key, age_limit *limit, Py_ssize_t place)
{
    mpc_hit hit;
    mpc_status status = (place < 0 ? mpc_find : mpc_find_asked)(&space->engine->ctx, key, &hit);
    if (status == MPC_ABSENT)
        return Py_NewRef(self->no_value);
    int fresh = status == MPC_OK ? is_fresh(space, &hit.record, limit) : 0;
    if (fresh <= 0)
        return fresh < 0 ? NULL : Py_NewRef(Py_NotImplemented);
    PyObject *bytes = used_bytes(hit.record.vlen, place);
    if (!bytes)
        return NULL;
    PyObject *value = NULL;
    if (copy_value(&space->engine->ctx, &hit, PyBytes_AS_STRING(bytes)) == MPC_OK)
        value = object_of(self, bytes, hit.record.flags);
    Py_DECREF(bytes);
    return value || PyErr_Occurred() ? value : Py_NewRef(Py_NotImplemented);
}

/* How a key gets from Python to the engine: as an object, or as text that is not one yet. */
typedef struct {
    PyObject *object; /* NULL: these bytes of text */
    const char *bytes;
    u32 len;
} name_of_key;

static int key_in(Space *space, const name_of_key *name, mpc_key *key)
{
    mpc_ctx *ctx = &space->engine->ctx;
    if (name->object)
        return parse_key(ctx, name->object, space->number, KIND_RECORD, key);
    mpc_key_init(ctx, key, space->number, KIND_RECORD << 4 | TYPE_STR, name->bytes, name->len);
    return 0;
}

/* A key that the engine cannot keep goes the long way, which has a name for it (names.py), or for the error. */
PyObject *is_odd_key(void)
{
    /* KeyTooLong, UnicodeEncodeError; not str or bytes */
    if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError))
        return NULL;
    PyErr_Clear();
    return Py_NewRef(Py_NotImplemented);
}

static PyObject *peek_mangled(Shortcut *self, const name_of_key *name, age_limit *limit)
{
    mpc_key key;
    Space *space = space_now(self);
    if (!space)
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *value = key_in(space, name, &key) < 0 ? is_odd_key() : peek_in(self, space, &key, limit, ASKED_ALONE);
    Py_DECREF(space);
    return value;
}

/* A new reference to the key as the store knows it. */
PyObject *mangled(Shortcut *self, PyObject *name)
{
    return self->mangler == Py_None ? Py_NewRef(name) : PyObject_CallOneArg(self->mangler, name);
}

/* args: key or keys, the lifetime or None for the region's, and whether both do not matter.  False: the long way. */
static bool wanted(const Shortcut *self, PyObject *const *args, age_limit *limit)
{
    if (args[2] != Py_False)
        return false;
    if (args[1] != Py_None)
        return lifetime_of(args[1], &limit->seconds);
    limit->seconds = self->lifetime;
    return self->plain;
}

static PyObject *shortcut_peek(Shortcut *self, PyObject *const *args, Py_ssize_t n)
{
    age_limit limit = {0};
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "expected key, lifetime, ignore_expiration, not %zd arguments", n);
    if (!wanted(self, args, &limit))
        Py_RETURN_NOTIMPLEMENTED;
    name_of_key name = {.object = mangled(self, args[0])};
    PyObject *value = name.object ? peek_mangled(self, &name, &limit) : NULL;
    Py_XDECREF(name.object);
    return value;
}

/* All or none: one that the long way must see sends them all there.  Unpickling runs code, which shall not find the list
 * before it is whole. */
static PyObject *peek_all(Shortcut *self, Space *space, const many_keys *many, age_limit *limit)
{
    if (mpc_may_read(&space->engine->ctx) != MPC_OK)
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *values = hidden_list(many->n);
    if (!values)
        return NULL;
    for (Py_ssize_t i = 0; i < many->n; i++) {
        ask_ahead(&space->engine->ctx, many, i);
        PyObject *value = peek_in(self, space, &many->key[i], limit, i);
        if (!value || value == Py_NotImplemented) {
            Py_DECREF(values);
            return value;
        }
        PyList_SET_ITEM(values, i, value);
    }
    return release_list(values);
}

static PyObject *peek_multi_in(Shortcut *self, Space *space, PyObject *names, age_limit *limit)
{
    many_keys many;
    if (parse_keys(space, names, &many) < 0)
        return is_odd_key();
    PyObject *values = peek_all(self, space, &many, limit);
    free_keys(&many);
    return values;
}

/* A new reference to all keys as the store knows them. */
static PyObject *all_mangled(Shortcut *self, PyObject *names)
{
    if (self->mangler == Py_None)
        return Py_NewRef(names);
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(names); i++) {
        PyObject *name = Py_NewRef(PyList_GET_ITEM(names, i)), *stored = mangled(self, name);
        if (!stored || PyList_Append(list, stored) < 0)
            Py_CLEAR(list);
        Py_XDECREF(stored);
        Py_DECREF(name);
    }
    return list;
}

static PyObject *shortcut_peek_multi(Shortcut *self, PyObject *const *args, Py_ssize_t n)
{
    age_limit limit = {0};
    if (n != 3 || !PyList_CheckExact(args[0]))
        return PyErr_Format(PyExc_TypeError, "expected a list of keys, lifetime, ignore_expiration");
    if (!wanted(self, args, &limit))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *names = all_mangled(self, args[0]);
    if (!names)
        return NULL;
    Space *space = space_now(self);
    PyObject *values = space ? peek_multi_in(self, space, names, &limit) : Py_NewRef(Py_NotImplemented);
    Py_XDECREF(space);
    Py_DECREF(names);
    return values;
}

/* -- reading what a call has returned ------------------------------------------------------------------------------- */

/* args: what the key starts with, the form of what follows, the arguments, and their lifetime. */
static PyObject *shortcut_recall(Shortcut *self, PyObject *const *args, Py_ssize_t n)
{
    call_key key;
    age_limit limit = {.seconds = self->lifetime};
    key.len = 0;
    if (n != 4 || !PyUnicode_CheckExact(args[0]) || !is_form_of_key(args[1]) || !PyTuple_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "expected start, form, arguments, lifetime");
    bool plain = args[3] == Py_None ? self->plain : lifetime_of(args[3], &limit.seconds);
    if (!plain || self->mangler != Py_None || !make_call_key(&key, args[0], args[1], args[2]))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    name_of_key name = {.bytes = key.bytes, .len = (u32)key.len};
    return peek_mangled(self, &name, &limit);
}

/* -- writing -------------------------------------------------------------------------------------------------------- */

/* The bytes that stand for a value, or a tuple of pieces, and how they do.  NULL without an exception: the long way shall see why not. */
PyObject *bytes_of(Shortcut *self, PyObject *value, u8 *flags)
{
    PyObject *bytes = NULL;
    if (PyBytes_CheckExact(value)) {
        *flags = KEPT_BYTES;
        return Py_NewRef(value);
    }
    if (PyUnicode_CheckExact(value)) {
        *flags = KEPT_TEXT;
        bytes = PyUnicode_AsUTF8String(value);
        if (!bytes)
            PyErr_Clear(); /* half a surrogate pair: pickle can do it */
    }
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        *flags = KEPT_INT;
        if (!overflow)
            return PyBytes_FromStringAndSize((const char *)&number, sizeof number);
    }
    if (!bytes) {
        *flags = KEPT_PAYLOAD;
        bytes = pickled(self, value);
    }
    if (!bytes && PyErr_Occurred())
        clear_foreign_error();
    return bytes;
}

/* Whether a write now could be a fill, which the long way knows how to do. */
static int is_filling(Shortcut *self)
{
    PyObject *fill;
    if (PyContextVar_Get(self->current_fill, NULL, &fill) < 0)
        return -1;
    int filling = fill != NULL && fill != Py_None;
    Py_XDECREF(fill);
    return filling;
}

mpc_status put(Space *space, PyObject *name, PyObject *bytes, u64 epoch, i64 created, u8 flags)
{
    mpc_key key;
    held_value held;
    mpc_ctx *ctx = &space->engine->ctx;
    mpc_value value = {.created = created, .epoch = epoch, .flags = flags};
    if (parse_key(ctx, name, space->number, KIND_RECORD, &key) < 0 || hold(bytes, &held, &value) < 0)
        return MPC_SYSTEM;
    mpc_status status = set_value(ctx, &key, &value, &held);
    let_go_of(&held);
    return status;
}

/* The epoch is noted before the value is looked at: to pickle it runs code, which may take its time. */
static PyObject *poke_in(Shortcut *self, Space *space, PyObject *name, PyObject *value)
{
    u8 flags;
    i64 created;
    u64 epoch = epoch_now(space);
    if (now_ns(&created) < 0)
        return NULL;
    PyObject *bytes = bytes_of(self, value, &flags);
    if (!bytes)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    mpc_status status = put(space, name, bytes, epoch, created, flags);
    Py_DECREF(bytes);
    if (PyErr_Occurred())
        return is_odd_key();
    return Py_NewRef(status == MPC_OK ? Py_True : Py_NotImplemented);
}

static PyObject *shortcut_poke(Shortcut *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "expected key, value, ttl, not %zd arguments", n);
    int filling = is_filling(self);
    if (filling < 0)
        return NULL;
    if (filling || args[1] == self->no_value || args[2] != Py_None)
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *name = mangled(self, args[0]);
    if (!name)
        return NULL;
    Space *space = space_now(self);
    PyObject *outcome = space ? poke_in(self, space, name, args[1]) : Py_NewRef(Py_NotImplemented);
    Py_XDECREF(space);
    Py_DECREF(name);
    return outcome;
}

static PyObject *shortcut_poke_multi(Shortcut *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "expected a dict and ttl, not %zd arguments", n);
    int filling = is_filling(self);
    if (filling < 0)
        return NULL;
    if (filling || !PyDict_CheckExact(args[0]) || args[1] != Py_None)
        Py_RETURN_NOTIMPLEMENTED;
    Space *space = space_now(self);
    PyObject *outcome = space ? poke_multi_in(self, space, args[0]) : Py_NewRef(Py_NotImplemented);
    Py_XDECREF(space);
    return outcome;
}

/* -- the objects ---------------------------------------------------------------------------------------------------- */

static int seat_traverse(Seat *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->space);
    return 0;
}

static int seat_clear(Seat *self)
{
    Py_CLEAR(self->space);
    return 0;
}

static void seat_dealloc(Seat *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)seat_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef seat_members[] = {
    {"space", T_OBJECT_EX, offsetof(Seat, space), 0, "The namespace in the segment that is attached now."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot seat_slots[] = {
    {Py_tp_dealloc, seat_dealloc},
    {Py_tp_traverse, seat_traverse},
    {Py_tp_clear, seat_clear},
    {Py_tp_members, seat_members},
    {Py_tp_doc, "Where a store is, for who must look quickly."},
    {0, NULL},
};

PyType_Spec Seat_Spec = {"mpcache.shm._engine.Seat", sizeof(Seat), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, seat_slots};

static PyObject *shortcut_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *seat, *no_value, *current_fill, *loads, *pickling, *mangler, *lifetime;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!OOOOOO:Shortcut", Seat_Type, &seat, &no_value, &current_fill, &loads, &pickling, &mangler,
                          &lifetime))
        return NULL;
    Shortcut *self = (Shortcut *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->seat = (Seat *)Py_NewRef(seat);
    self->no_value = Py_NewRef(no_value);
    self->current_fill = Py_NewRef(current_fill);
    self->loads = Py_NewRef(loads);
    self->pickling = Py_NewRef(pickling);
    self->mangler = Py_NewRef(mangler);
    self->plain = lifetime_of(lifetime, &self->lifetime);
    return (PyObject *)self;
}

static int shortcut_traverse(Shortcut *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->seat);
    Py_VISIT(self->no_value);
    Py_VISIT(self->current_fill);
    Py_VISIT(self->loads);
    Py_VISIT(self->pickling);
    Py_VISIT(self->idle);
    Py_VISIT(self->mangler);
    return 0;
}

static int shortcut_clear(Shortcut *self)
{
    Py_CLEAR(self->seat);
    Py_CLEAR(self->no_value);
    Py_CLEAR(self->current_fill);
    Py_CLEAR(self->loads);
    Py_CLEAR(self->pickling);
    Py_CLEAR(self->idle);
    Py_CLEAR(self->mangler);
    return 0;
}

static void shortcut_dealloc(Shortcut *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)shortcut_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef shortcut_methods[] = {
    {"peek", FAST(shortcut_peek), METH_FASTCALL, "The value, NO_VALUE, or NotImplemented: ask by the long way."},
    {"peek_multi", FAST(shortcut_peek_multi), METH_FASTCALL, "A list of values and NO_VALUEs, or NotImplemented."},
    {"recall", FAST(shortcut_recall), METH_FASTCALL, "As peek, for the key of a call."},
    {"poke", FAST(shortcut_poke), METH_FASTCALL, "Store; True, or NotImplemented: store it by the long way."},
    {"poke_multi", FAST(shortcut_poke_multi), METH_FASTCALL, "Store all; True, or NotImplemented."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot shortcut_slots[] = {
    {Py_tp_new, shortcut_new},
    {Py_tp_dealloc, shortcut_dealloc},
    {Py_tp_traverse, shortcut_traverse},
    {Py_tp_clear, shortcut_clear},
    {Py_tp_methods, shortcut_methods},
    {Py_tp_doc, "Shortcut(seat, no_value, current_fill, loads, pickling, mangler, lifetime): gets and sets of a region, in one call each."},
    {0, NULL},
};

PyType_Spec Shortcut_Spec = {"mpcache.shm._engine.Shortcut", sizeof(Shortcut), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, shortcut_slots};
