/* Read many values of the most frequent form in one call: `unwire`, which codec.py has in Python, too.
 *
 *     {"ct": 1795289673.26, "v": 2}|<payload>
 *     BEFORE  ^seconds      PLAIN     ^what the deserializer gets
 *
 * It reads values of exactly this form, and leaves all others to codec.split().
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <string.h>

#include "../_foreign.h"

static const char BEFORE[] = "{\"ct\": ", PLAIN[] = ", \"v\": 2}|";
enum { CREATED = sizeof BEFORE - 1, PAYLOAD = sizeof PLAIN - 1 };
enum { DIGITS = 15, LONGEST_NUMBER = 32 }; /* a double holds every number of DIGITS digits */

static inline bool mpc_wire_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Return the length of the number at the beginning of a text, `digits.digits`, and its whole seconds; 0: none is there.
 * A Python bytes object always ends with a 0 after its bytes, so no read passes the end by more than that byte. */
static int mpc_wire_number_at(const char *text, double *whole)
{
    int end = 0;
    *whole = 0;
    for (; end < DIGITS && mpc_wire_is_digit(text[end]); end++)
        *whole = *whole * 10 + (text[end] - '0');
    int point = end;
    if (point == 0 || text[point] != '.')
        return 0;
    for (end++; end < LONGEST_NUMBER && mpc_wire_is_digit(text[end]);)
        end++;
    return end > point + 1 ? end : 0;
}

/* Return whether a value is older than longest; -1: an error.  Mostly the whole seconds decide it. */
static int mpc_wire_is_old(const char *text, int length, double whole, double now, double longest)
{
    if (now - whole <= longest)
        return 0;
    if (now - (whole + 1) > longest)
        return 1;
    char number[LONGEST_NUMBER + 1];
    memcpy(number, text, (size_t)length);
    number[length] = 0;
    double created = PyOS_string_to_double(number, NULL, NULL);
    return created == -1.0 && PyErr_Occurred() ? -1 : now - created > longest;
}

/* Return the value of one wire, a new reference; NULL without an error: split() must read it. */
static PyObject *mpc_wire_value(PyObject *wire, double now, double longest, PyObject *loads, PyObject *nothing)
{
    if (wire == nothing)
        return Py_NewRef(nothing);
    if (!PyBytes_CheckExact(wire))
        return NULL;
    const char *text = PyBytes_AS_STRING(wire);
    Py_ssize_t size = PyBytes_GET_SIZE(wire);
    if (size < CREATED + PAYLOAD || memcmp(text, BEFORE, CREATED) != 0)
        return NULL;
    double whole;
    int length = mpc_wire_number_at(text + CREATED, &whole);
    Py_ssize_t start = CREATED + length + PAYLOAD;
    if (length == 0 || size < start || memcmp(text + CREATED + length, PLAIN, PAYLOAD) != 0)
        return NULL;
    int old = mpc_wire_is_old(text + CREATED, length, whole, now, longest);
    if (old)
        return old < 0 ? NULL : Py_NewRef(nothing);
    PyObject *payload = PyBytes_FromStringAndSize(text + start, size - start);
    PyObject *value = payload ? PyObject_CallOneArg(loads, payload) : NULL;
    Py_XDECREF(payload);
    if (value == NULL)
        clear_foreign_error(); /* the caller reads it again with split(), and reports the error */
    return value;
}

static int mpc_wire_note(PyObject *left, Py_ssize_t index)
{
    PyObject *number = PyLong_FromSsize_t(index);
    int status = number ? PyList_Append(left, number) : -1;
    Py_XDECREF(number);
    return status;
}

static int mpc_wire_unwire_all(PyObject *wires, double now, double longest, PyObject *const *args, PyObject *values,
                               PyObject *left)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(wires); i++) { /* loads() may do anything, with the list, too */
        PyObject *wire = Py_NewRef(PyList_GET_ITEM(wires, i));
        PyObject *value = mpc_wire_value(wire, now, longest, args[3], args[4]);
        Py_DECREF(wire);
        if (value == NULL && (PyErr_Occurred() || mpc_wire_note(left, i) < 0))
            return -1;
        int status = PyList_Append(values, value ? value : args[4]);
        Py_XDECREF(value);
        if (status < 0)
            return -1;
    }
    return 0;
}

static PyObject *mpc_py_unwire(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    if (n != 5 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "unwire(list of wires, now, longest, loads, nothing)");
        return NULL;
    }
    double now = PyFloat_AsDouble(args[1]), longest = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred())
        return NULL;
    PyObject *values = PyList_New(0), *left = PyList_New(0), *both = NULL;
    if (values && left && mpc_wire_unwire_all(args[0], now, longest, args, values, left) == 0)
        both = PyTuple_Pack(2, values, left);
    Py_XDECREF(values);
    Py_XDECREF(left);
    return both;
}

/* Keep a piece of a pickle as it is now: code that the pickler runs later may change a buffer that is not bytes. */
static PyObject *mpc_py_write_piece(PyObject *pieces, PyObject *piece)
{
    PyObject *own = PyBytes_CheckExact(piece) ? Py_NewRef(piece) : PyBytes_FromObject(piece);
    int status = own ? PyList_Append(pieces, own) : -1;
    Py_XDECREF(own);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef writing = {"write", mpc_py_write_piece, METH_O, "Append a piece; a copy of it, unless it is bytes."};

static PyObject *mpc_py_writer_to(PyObject *module, PyObject *pieces)
{
    (void)module;
    if (!PyList_Check(pieces)) {
        PyErr_SetString(PyExc_TypeError, "writer_to(list of pieces)");
        return NULL;
    }
    return PyCFunction_New(&writing, pieces);
}

static PyMethodDef functions[] = {
    {"writer_to", mpc_py_writer_to, METH_O, "Return a function that appends to a list: see mpcache._wire.pickling."},
    {"unwire", (PyCFunction)(void (*)(void))mpc_py_unwire, METH_FASTCALL,
     "(wires, now, longest, loads, nothing): see mpcache._wire.codec.unwire, which does the same."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, /* it has no state */
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "mpcache._wire._wire",
    .m_doc = "The fast reader of stored values.",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__wire(void)
{
    return PyModuleDef_Init(&definition);
}
