/* Between the three files of the binding: the objects that Python sees, and how a status becomes an exception. */
#ifndef MPC_BINDING_H
#define MPC_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/engine.h"

enum { KIND_RECORD = 0, KIND_MUTEX = 1 };
enum { TYPE_STR = 0, TYPE_BYTES = 1 };

/* One attached segment.  Unmapped when the last object that refers to it goes. */
typedef struct {
    PyObject_HEAD
    mpc_ctx ctx;
    int open;
    PyObject *weakrefs;
} Engine;

/* One namespace of a segment. */
typedef struct {
    PyObject_HEAD
    Engine *engine;
    u16 number;
} Space;

/* One hold of one key, or the wish for it. */
typedef struct {
    PyObject_HEAD
    Space *space;
    PyObject *name; /* keeps the bytes of the key alive */
    mpc_key key;
    mpc_hold hold;
    _Atomic int held;
    int took_over;
} Lease;

/* The creation of one key's value, from its begin to its storing. */
typedef struct {
    PyObject_HEAD
    Space *space;
    mpc_hold hold;
    u64 epoch;
    int refused; /* another process holds the key: what is made here will not be stored */
    _Atomic int closed;
    PyObject *outcome;
} Guard;

extern PyTypeObject *Engine_Type, *Space_Type, *Lease_Type, *Guard_Type;
extern PyType_Spec Engine_Spec, Space_Spec, Lease_Spec, Guard_Spec;

PyObject *raise_status(mpc_status status);
PyObject *raise_too_large(const mpc_ctx *ctx, const mpc_key *key, size_t size);
int parse_key(const mpc_ctx *ctx, PyObject *from, u16 space, int kind, mpc_key *key);
PyObject *new_space(Engine *engine, u16 number);
PyObject *new_lease(Space *space, PyObject *name, int kind);
PyObject *new_guard(Space *space, PyObject *name);

#endif
