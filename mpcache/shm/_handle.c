/* The HandleBase type: where a store is now.  handle.NamespaceHandle sets another namespace when the segment is replaced. */
#include "binding.h"

#include <structmember.h>

PyTypeObject *HandleBase_Type;

static int mpc_py_handle_traverse(HandleBase *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->namespace);
    return 0;
}

static int mpc_py_handle_clear(HandleBase *self)
{
    Py_CLEAR(self->namespace);
    return 0;
}

static void mpc_py_handle_dealloc(HandleBase *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)mpc_py_handle_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef handle_members[] = {
    {"namespace", T_OBJECT_EX, offsetof(HandleBase, namespace), 0,
     "The namespace in the segment that is attached now."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_dealloc, mpc_py_handle_dealloc},
    {Py_tp_traverse, mpc_py_handle_traverse},
    {Py_tp_clear, mpc_py_handle_clear},
    {Py_tp_members, handle_members},
    {Py_tp_doc, "Where a store is, for who must look quickly."},
    {0, NULL},
};

PyType_Spec HandleBase_Spec = {"mpcache.shm._engine.HandleBase", sizeof(HandleBase), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, handle_slots};
