/* The key of a decorated function's call, without a str for it: a start, and then, of text keys, the arguments' texts
 * with blanks between (_keys/text.py); of exact keys a part for each argument (_keys/exact.py, _keys/encoding.py).
 *
 * Those modules are the reference.  Rare arguments are left to them: those that are neither None, bool, int nor str
 * (a float in a text), ints over 64 bits, halves of surrogate pairs, long keys. */
#include "binding.h"

/* -- text keys ----------------------------------------------------------------------------------------------------- */

static bool mpc_append(call_key *to, const char *bytes, size_t len)
{
    if (len > sizeof to->bytes - to->len)
        return false;
    memcpy(to->bytes + to->len, bytes, len);
    to->len += len;
    return true;
}

static bool mpc_append_number(call_key *to, long long number)
{
    char digits[24], *from = digits + sizeof digits;
    unsigned long long rest = number < 0 ? 0ull - (unsigned long long)number : (unsigned long long)number;
    do
        *--from = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--from = '-';
    return mpc_append(to, from, (size_t)(digits + sizeof digits - from));
}

static bool mpc_append_unicode(call_key *to, PyObject *unicode)
{
    Py_ssize_t len;
    const char *bytes = PyUnicode_AsUTF8AndSize(unicode, &len);
    if (bytes)
        return mpc_append(to, bytes, (size_t)len);
    PyErr_Clear(); /* half a surrogate pair */
    return false;
}

/* Return whether an argument is an int of 64 bits; *number receives it. */
static bool mpc_is_small_int(PyObject *argument, long long *number)
{
    int overflow = 1;
    if (PyLong_CheckExact(argument))
        *number = PyLong_AsLongLongAndOverflow(argument, &overflow);
    return !overflow;
}

/* Append str(argument). False: there is no room for the text, or it may not stand for the argument, or an exception
 * is set. */
static bool mpc_append_argument(call_key *to, PyObject *argument)
{
    long long number;
    if (PyUnicode_CheckExact(argument))
        return mpc_append_unicode(to, argument);
    if (mpc_is_small_int(argument, &number))
        return mpc_append_number(to, number);
    if (!PyFloat_CheckExact(argument) && !PyBool_Check(argument) && argument != Py_None)
        return false; /* _keys/text.py judges it */
    PyObject *string = PyObject_Str(argument);
    bool done = string && mpc_append_unicode(to, string);
    Py_XDECREF(string);
    return done;
}

static bool mpc_append_arguments(call_key *to, PyObject *tuple, Py_ssize_t from)
{
    for (Py_ssize_t i = from; i < PyTuple_GET_SIZE(tuple); i++)
        if ((i > from && !mpc_append(to, " ", 1)) || !mpc_append_argument(to, PyTuple_GET_ITEM(tuple, i)))
            return false;
    return true;
}

/* -- the same for exact keys: each argument is "tag length : text", see _keys/encoding.py ------------------------- */

/* Above this a key ends in a digest, which _keys/exact.py makes. */
#define LONGEST_EXACT 200

/* The most that a tag, a length and a colon take. */
#define ROOM_FOR_TAG 24

/* A tag, and a length that has three digits at most; returns what follows them. */
static char *mpc_put_tag(char *at, char tag, size_t length)
{
    *at++ = tag;
    if (length >= 100)
        *at++ = (char)('0' + length / 100);
    if (length >= 10)
        *at++ = (char)('0' + length / 10 % 10);
    *at++ = (char)('0' + length % 10);
    *at++ = ':';
    return at;
}

static bool mpc_append_tagged(call_key *to, char tag, const char *bytes, size_t len, size_t length)
{
    if (len > LONGEST_EXACT || len + ROOM_FOR_TAG > sizeof to->bytes - to->len)
        return false;
    char *at = mpc_put_tag(to->bytes + to->len, tag, length);
    memcpy(at, bytes, len);
    to->len = (size_t)(at - to->bytes) + len;
    return true;
}

static bool mpc_append_hex(call_key *to, long long number)
{
    unsigned long long rest = number < 0 ? 0ull - (unsigned long long)number : (unsigned long long)number;
    size_t n = (size_t)(67 - __builtin_clzll(rest | 1)) / 4, sign = number < 0;
    if (n + ROOM_FOR_TAG > sizeof to->bytes - to->len)
        return false;
    char *at = mpc_put_tag(to->bytes + to->len, 'i', n + sign);
    *at = '-';
    at += sign;
    for (size_t i = n; i-- > 0; rest >>= 4)
        at[i] = "0123456789abcdef"[rest & 15];
    to->len = (size_t)(at - to->bytes) + n;
    return true;
}

static bool mpc_append_exact_text(call_key *to, PyObject *unicode)
{
    Py_ssize_t len = PyUnicode_GET_LENGTH(unicode), bytes_len = len;
    const char *bytes =
        PyUnicode_IS_COMPACT_ASCII(unicode) ? PyUnicode_DATA(unicode) : PyUnicode_AsUTF8AndSize(unicode, &bytes_len);
    if (bytes)
        return mpc_append_tagged(to, 's', bytes, (size_t)bytes_len, (size_t)len);
    PyErr_Clear(); /* half a surrogate pair */
    return false;
}

static bool mpc_append_part(call_key *to, PyObject *argument)
{
    long long number;
    if (PyUnicode_CheckExact(argument))
        return mpc_append_exact_text(to, argument);
    if (mpc_is_small_int(argument, &number))
        return mpc_append_hex(to, number);
    if (PyBool_Check(argument))
        return mpc_append(to, argument == Py_True ? "b1:1" : "b1:0", 4);
    return argument == Py_None && mpc_append(to, "N0:", 3);
}

static bool mpc_append_parts(call_key *to, PyObject *tuple, Py_ssize_t from, Py_ssize_t end)
{
    for (Py_ssize_t i = from; i < end; i++)
        if (!mpc_append_part(to, PyTuple_GET_ITEM(tuple, i)))
            return false;
    return true;
}

/* The arguments behind `*`: their length, in characters, comes before them. */
static bool mpc_append_rest(call_key *to, PyObject *tuple, Py_ssize_t from)
{
    call_key rest;
    rest.len = 0;
    if (!mpc_append_parts(&rest, tuple, from, PyTuple_GET_SIZE(tuple)))
        return false;
    size_t length = 0;
    for (size_t i = 0; i < rest.len; i++)
        length += ((unsigned char)rest.bytes[i] & 0xc0) != 0x80;
    return mpc_append_tagged(to, '*', rest.bytes, rest.len, length);
}

/* fixed: how many arguments there are behind those that are skipped; or -1 less those that come before *args. */
static bool mpc_append_call(call_key *to, PyObject *tuple, Py_ssize_t skip, Py_ssize_t fixed)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple), end = skip + (fixed < 0 ? -1 - fixed : fixed);
    if (fixed < 0 ? n < end : n != end)
        return false;
    if (!mpc_append_parts(to, tuple, skip, end))
        return false;
    return (fixed >= 0 || mpc_append_rest(to, tuple, end)) && to->len <= LONGEST_EXACT;
}

/* -- both ---------------------------------------------------------------------------------------------------------- */

/* Read a number of arguments: the tuple is indexed with it.  False: an exception is set. */
static bool mpc_read_count(PyObject *number, Py_ssize_t least, Py_ssize_t *count)
{
    *count = PyLong_AsSsize_t(number);
    if (PyErr_Occurred())
        return false;
    if (*count >= least && *count <= INT32_MAX)
        return true;
    PyErr_Format(PyExc_ValueError, "skip counts arguments, from 0, and is %zd", *count);
    return false;
}

/* form: of texts how many arguments are skipped; of exact parts that and `fixed`, above. */
static bool mpc_append_key(call_key *to, PyObject *form, PyObject *tuple)
{
    Py_ssize_t skip, fixed;
    if (PyLong_CheckExact(form))
        return mpc_read_count(form, 0, &skip) && mpc_append_arguments(to, tuple, skip);
    return mpc_read_count(PyTuple_GET_ITEM(form, 0), 0, &skip) &&
           mpc_read_count(PyTuple_GET_ITEM(form, 1), -INT32_MAX, &fixed) && mpc_append_call(to, tuple, skip, fixed);
}

bool mpc_is_key_form(PyObject *form)
{
    return PyLong_CheckExact(form) ||
           (PyTuple_CheckExact(form) && PyTuple_GET_SIZE(form) == 2 && PyLong_CheckExact(PyTuple_GET_ITEM(form, 0)) &&
            PyLong_CheckExact(PyTuple_GET_ITEM(form, 1)));
}

/* Make the key.  False: the modules above must make it, or an exception is set. */
bool mpc_make_call_key(call_key *to, PyObject *start, PyObject *form, PyObject *arguments)
{
    return mpc_append_unicode(to, start) && mpc_append_key(to, form, arguments);
}
