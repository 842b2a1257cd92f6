/* A key of Python, str or bytes, as the core knows it. */
#include "binding.h"

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
    PyErr_Format(PyExc_TypeError,
                 "a key of the shared-memory store is str or bytes, not %.100s: %.200R; a key_mangler may convert it",
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
            PyErr_Format(class, "a key of %zd bytes: the longest has %u; sha1_mangle_key makes any key short", len,
                         MPC_MAX_KEY);
        Py_XDECREF(class);
        return -1;
    }
    mpc_key_init(ctx, key, namespace, (u8)(kind << 4 | type), bytes, (u32)len);
    return 0;
}
