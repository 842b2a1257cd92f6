/* The ground of the binding: how a status of the core becomes an exception.  It calls no other file of the binding. */
#include "binding.h"

#include <errno.h>

static const char *mpc_exception_name(mpc_status status)
{
    switch (status) {
#define MPC_AS_CASE(name, exception, text) \
    case MPC_##name:                       \
        return exception;
        MPC_STATUSES(MPC_AS_CASE)
#undef MPC_AS_CASE
    }
    return NULL;
}

/* Where mpcache.exception has the class it is taken, so that Python code can add facts to it. */
PyObject *mpc_exception_class(mpc_status status)
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
