/* Bytes for a value on its way out, made of those that nobody has any more.
 *
 * Above 512 bytes an object is malloc's, which takes as long to give and to take back as the look-up and the copy do.
 * Programs mostly drop one value before they ask for the next but one, and many before they ask for as many again; so
 * the last ones are kept here, and one to which no other reference is left becomes the next. */
#include "binding.h"

#define LEAST 512           /* up to here Python has an allocator of its own */
#define SINGLES 2           /* for who assigns the new one before he drops the one before */
#define MOST (64 << 10)     /* bytes of each, which a process may keep for nothing */
#define MANY 64             /* of those that were asked for together, */
#define MOST_OF_MANY (4 << 10) /* of so many bytes each */
#define UNUSED(room) ((room) / 8) /* of its room a value may leave that much empty for as long as it lives */

typedef struct {
    PyObject *bytes;
    Py_ssize_t room;
} kept_bytes;

/* Python's lock guards them, and a thread that goes on without it has a reference. */
static kept_bytes singles[SINGLES], many[MANY];
static unsigned turn;

static PyObject *mpc_reuse_bytes(PyObject *bytes, Py_ssize_t size)
{
    Py_SET_SIZE(bytes, size);
    PyBytes_AS_STRING(bytes)[size] = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    ((PyBytesObject *)bytes)->ob_shash = -1; /* not known yet */
#pragma GCC diagnostic pop
    return Py_NewRef(bytes);
}

static PyObject *mpc_new_bytes(Py_ssize_t size)
{
    return PyBytes_FromStringAndSize(NULL, size);
}

static PyObject *mpc_reuse_or_new(kept_bytes *one, Py_ssize_t size)
{
    if (one->bytes && Py_REFCNT(one->bytes) == 1 && size <= one->room && size >= one->room - UNUSED(one->room))
        return mpc_reuse_bytes(one->bytes, size);
    PyObject *bytes = mpc_new_bytes(size);
    if (bytes) {
        Py_XSETREF(one->bytes, Py_NewRef(bytes));
        one->room = size;
    }
    return bytes;
}

/* A new reference to bytes of that size, which nobody else has and which are to be written once.  `place`: the value's
 * among those that were asked for together, or ASKED_ALONE. */
PyObject *mpc_alloc_bytes(Py_ssize_t size, Py_ssize_t place)
{
#ifdef Py_GIL_DISABLED
    return mpc_new_bytes(size);
#endif
    if (size <= LEAST || size > (place < 0 ? MOST : MOST_OF_MANY) || place >= MANY)
        return mpc_new_bytes(size);
    return mpc_reuse_or_new(place < 0 ? &singles[turn++ % SINGLES] : &many[place], size);
}
