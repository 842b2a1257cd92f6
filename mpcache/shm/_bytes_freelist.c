/* A free list of bytes objects, for values that are read.
 *
 * Above 512 bytes an object is malloc's, and allocating and freeing it takes as long as the look-up and the copy.
 * Programs mostly drop one value before they ask for the next but one, and many values before they ask for as many
 * again.  So the last objects are kept here, and an object that no other reference is left to is used for the next
 * value. */
#include "binding.h"

#define LEAST 512           /* up to here Python has an allocator of its own */
#define SINGLES 2           /* for programs that assign a new value before they drop the previous one */
#define MOST (64 << 10)     /* bytes of each, which a process may keep for nothing */
#define MANY 64             /* of those that were asked for together, */
#define MOST_OF_MANY (4 << 10) /* of so many bytes each */
#define UNUSED(room) ((room) / 8) /* a value may leave this part of its object empty for as long as it lives */

typedef struct {
    PyObject *bytes;
    Py_ssize_t room;
} kept_bytes;

/* The GIL guards them; a thread that goes on without it has a reference. */
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

/* Return a new reference to bytes of that size, which no other code has and which are to be written once.  `place`:
 * the value's among those that were asked for together, or ASKED_ALONE. */
PyObject *mpc_alloc_bytes(Py_ssize_t size, Py_ssize_t place)
{
#ifdef Py_GIL_DISABLED
    return mpc_new_bytes(size);
#endif
    if (size <= LEAST || size > (place < 0 ? MOST : MOST_OF_MANY) || place >= MANY)
        return mpc_new_bytes(size);
    return mpc_reuse_or_new(place < 0 ? &singles[turn++ % SINGLES] : &many[place], size);
}
