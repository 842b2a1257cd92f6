/* The FirstOf type: a callable that calls a fast path, and the reference path where that returns NotImplemented. */
#include "binding.h"

#include <structmember.h>

PyTypeObject *FirstOf_Type;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *fast, *reference;
} FirstOf;

static PyObject *mpc_py_first_of_call(PyObject *object, PyObject *const *args, size_t flags, PyObject *names)
{
    FirstOf *self = (FirstOf *)object;
    size_t n = (size_t)PyVectorcall_NARGS(flags);
    PyObject *answer = PyObject_Vectorcall(self->fast, args, n, names);
    if (answer != Py_NotImplemented)
        return answer;
    Py_DECREF(answer);
    return PyObject_Vectorcall(self->reference, args, n, names);
}

/* Return a new FirstOf.  It takes over the reference to `fast`, which may be NULL: an exception is set then. */
PyObject *mpc_first_of(PyObject *fast, PyObject *reference)
{
    FirstOf *self = fast ? (FirstOf *)FirstOf_Type->tp_alloc(FirstOf_Type, 0) : NULL;
    if (!self) {
        Py_XDECREF(fast);
        return NULL;
    }
    self->vectorcall = mpc_py_first_of_call;
    self->fast = fast;
    self->reference = Py_NewRef(reference);
    return (PyObject *)self;
}

static int mpc_py_first_of_traverse(FirstOf *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->fast);
    Py_VISIT(self->reference);
    return 0;
}

static int mpc_py_first_of_clear(FirstOf *self)
{
    Py_CLEAR(self->fast);
    Py_CLEAR(self->reference);
    return 0;
}

static void mpc_py_first_of_dealloc(FirstOf *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)mpc_py_first_of_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef first_of_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(FirstOf, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot first_of_slots[] = {
    {Py_tp_dealloc, mpc_py_first_of_dealloc},
    {Py_tp_traverse, mpc_py_first_of_traverse},
    {Py_tp_clear, mpc_py_first_of_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, first_of_members},
    {Py_tp_doc, "Calls a fast path, and the reference path where that returns NotImplemented."},
    {0, NULL},
};

PyType_Spec FirstOf_Spec = {"mpcache.shm._engine.FirstOf", sizeof(FirstOf), 0,
                            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                                Py_TPFLAGS_DISALLOW_INSTANTIATION,
                            first_of_slots};
