/* The top layer of the binding: the module with its functions, types and constants.
 *
 * The layers of the binding, from the lowest up; a file calls functions of its own layer and of layers below,
 * never of one above (tests/test_house.py):
 *
 *     _errors                             a status becomes an exception
 *     _time | _bytes_freelist             clocks and lifetimes; bytes objects that are used again
 *     _key | _buffers                     a key, and the bytes of a value, on their way in
 *     _tally | _function_counts           what regions and decorated functions count
 *     _reading | _writing                 one key: get; set, fill, delete
 *     _rmw | _listing | _many             add, compare_and_set, incr, touch; keys(); many keys in one call
 *     _lease                              the types Lease and Guard
 *     _namespace < _engine                the types Namespace and Engine
 *     _handle | _call_key | _pickle       for the fast path: where the store is; the key of a call; pickles
 *     _fast_values < _fast_rows           keys and values of the fast path; how it stores a dict
 *     _first_of                           the type FirstOf: a fast path, else the reference path
 *     _fast_path                          the type FastPath: gets and sets of a region, in one call each
 *     _module                             this file */
#include "binding.h"

#include <sys/mman.h>
#include <sys/vfs.h>

/* Write the header of a new segment into the file behind fd, which is zero-filled, has that size, and is not in use
 * yet. */
static PyObject *mpc_py_module_format(PyObject *module, PyObject *args)
{
    (void)module;
    int fd;
    unsigned long long size, limit = MPC_POSITION_LIMIT;
    unsigned shards, slots = MPC_SLOTS;
    if (!PyArg_ParseTuple(args, "iKI|IK:format", &fd, &size, &shards, &slots, &limit))
        return NULL;
    struct mpc_geometry geometry;
    mpc_status status = mpc_plan(&geometry, size, shards, slots, limit);
    if (status == MPC_BAD_HEADER)
        return PyErr_Format(PyExc_ValueError,
                            "size=%llu, shards=%u, slots=%u: shards must be a power of two up to %u, of at most 1 TiB "
                            "each; a segment has at most 16 TiB and %u slots",
                            size, shards, slots, MPC_MAX_SHARDS, MPC_SLOTS);
    if (status != MPC_OK)
        return mpc_raise_status(status);
    void *base = mpc_map(fd, size);
    if (!base)
        return PyErr_SetFromErrno(PyExc_OSError);
    status = mpc_format(base, &geometry);
    munmap(base, size);
    if (status != MPC_OK)
        return mpc_raise_status(status);
    Py_RETURN_NONE;
}

static PyObject *mpc_py_module_make_large(PyObject *module, PyObject *args)
{
    (void)module;
    int fd;
    bool large;
    unsigned long long from, to;
    if (!PyArg_ParseTuple(args, "iKK:make_large", &fd, &from, &to))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    large = mpc_make_large(fd, from, to);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(large);
}

static PyObject *mpc_py_module_kind_of_file_system(PyObject *module, PyObject *path)
{
    (void)module;
    struct statfs found;
    const char *name = PyUnicode_AsUTF8(path);
    if (!name)
        return NULL;
    if (statfs(name, &found) != 0)
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
    return PyLong_FromUnsignedLong((u32)found.f_type);
}

static PyObject *mpc_py_module_anyone_alive(PyObject *module, PyObject *args)
{
    (void)module;
    int fd, error = 0;
    if (!PyArg_ParseTuple(args, "i:anyone_alive", &fd))
        return NULL;
    return PyBool_FromLong(mpc_anyone_alive(fd, 1u << 16, &error));
}

static PyObject *mpc_py_module_clock_is_genuine(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(mpc_clock_is_genuine());
}

static PyObject *mpc_py_module_kernel_time(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyFloat_FromDouble(mpc_seconds_of_ns(mpc_wall_ns()));
}

static PyObject *mpc_py_module_smallest(PyObject *module, PyObject *shards)
{
    (void)module;
    unsigned long number = PyLong_AsUnsignedLong(shards);
    return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLongLong(mpc_smallest((u32)number));
}

static PyMethodDef functions[] = {
    {"kind_of_file_system", mpc_py_module_kind_of_file_system, METH_O,
     "Return the f_type (statfs(2)) of the file system of a path."},
    {"clock_is_genuine", mpc_py_module_clock_is_genuine, METH_NOARGS,
     "Return whether time.time() is the kernel's clock: no test has put another one in its place."},
    {"kernel_time", mpc_py_module_kernel_time, METH_NOARGS,
     "Return the seconds since the Unix epoch by the kernel's clock, whatever time.time() says."},
    {"smallest", mpc_py_module_smallest, METH_O, "Return the bytes of the smallest segment with so many shards."},
    {"format", mpc_py_module_format, METH_VARARGS,
     "format(fd, size, shards, slots=1024, position_limit=2**48): write a new segment's header."},
    {"make_large", mpc_py_module_make_large, METH_VARARGS,
     "make_large(fd, from, to): request huge pages in a new file; return whether there are no others."},
    {"anyone_alive", mpc_py_module_anyone_alive, METH_VARARGS,
     "Return whether a process is attached to the segment behind fd."},
    {NULL, NULL, 0, NULL},
};

/* An interpreter that imports the module again gets the same types: objects of the first import go on. */
static int mpc_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    if (!*type)
        *type = (PyTypeObject *)PyType_FromSpec(spec);
    return *type ? PyModule_AddType(module, *type) : -1;
}

/* Let the first interpreter of the process have the engine, and no other.  Its types, and the bytes that it keeps for
 * the next value, belong to one interpreter.  The mark lies in what the interpreter keeps for modules, which goes when
 * the interpreter does: another one at the same address, or with the same number, has none. */
static int mpc_claim_interpreter(void)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    PyObject *marks = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *name = marks ? PyUnicode_FromString("mpcache.shm._engine") : NULL;
    PyObject *mine = name ? PyDict_GetItemWithError(marks, name) : NULL;
    int status = mine ? 0 : -1;
    if (name && !mine && !PyErr_Occurred()) {
        if (!atomic_flag_test_and_set(&taken))
            status = PyDict_SetItem(marks, name, Py_True);
        else
            PyErr_SetString(
                PyExc_ImportError,
                "mpcache's shared-memory engine is in use by another interpreter of this process, and works in "
                "one interpreter of a process only; run the programs in processes of their own, or in the same "
                "interpreter (mod_wsgi: WSGIApplicationGroup %{GLOBAL})");
    }
    Py_XDECREF(name);
    return status;
}

static const char *const function_count_names[] = {
#define MPC_NAME(name, text) #text,
    MPC_FUNCTION_LIST(MPC_NAME)
#undef MPC_NAME
};

static const char *const histogram_names[] = {"creating", "waiting", "value_bytes"};

/* Add a tuple of names, in the order in which the engine counts them. */
static int mpc_add_names(PyObject *module, const char *as, const char *const *names, Py_ssize_t n)
{
    PyObject *tuple = PyTuple_New(n);
    for (Py_ssize_t i = 0; tuple && i < n; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (name)
            PyTuple_SET_ITEM(tuple, i, name);
        else
            Py_CLEAR(tuple);
    }
    int failed = !tuple || PyModule_AddObjectRef(module, as, tuple) < 0;
    Py_XDECREF(tuple);
    return failed ? -1 : 0;
}

static int mpc_fill_module(PyObject *module)
{
    return mpc_claim_interpreter() < 0 || mpc_add_type(module, &Engine_Spec, &Engine_Type) < 0 ||
                   mpc_add_type(module, &Namespace_Spec, &Namespace_Type) < 0 ||
                   mpc_add_type(module, &Lease_Spec, &Lease_Type) < 0 ||
                   mpc_add_type(module, &Guard_Spec, &Guard_Type) < 0 ||
                   mpc_add_type(module, &HandleBase_Spec, &HandleBase_Type) < 0 ||
                   mpc_add_type(module, &FastPath_Spec, &FastPath_Type) < 0 ||
                   mpc_add_type(module, &FirstOf_Spec, &FirstOf_Type) < 0 ||
                   mpc_add_type(module, &FunctionCounts_Spec, &FunctionCounts_Type) < 0 || mpc_init_time() < 0 ||
                   mpc_init_function_counts() < 0 ||
                   mpc_add_names(module, "TALLIES", mpc_tally_names, MPC_TALLY_KINDS) < 0 ||
                   mpc_add_names(module, "FUNCTION_COUNTS", function_count_names, MPC_FUNCTION_COUNTS) < 0 ||
                   mpc_add_names(module, "HISTOGRAMS", histogram_names, MPC_HISTOGRAMS) < 0 ||
                   PyModule_AddIntConstant(module, "LAYOUT", MPC_LAYOUT) < 0 ||
                   PyModule_AddIntConstant(module, "MAGIC", MPC_MAGIC) < 0 ||
                   PyModule_AddIntConstant(module, "RETIRED_AT", offsetof(struct mpc_header, retired)) < 0 ||
                   PyModule_AddIntConstant(module, "MAX_KEY", MPC_MAX_KEY) < 0 ||
                   PyModule_AddIntConstant(module, "MAX_SHARDS", MPC_MAX_SHARDS) < 0
               ? -1
               : 0;
}

/* An interpreter with a GIL of its own may be the first; mpc_fill_module() refuses every other, and says why. */
static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, mpc_fill_module},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "mpcache.shm._engine",
    .m_doc = "The shared-memory engine.  Use it through mpcache.shm.segment.",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__engine(void)
{
    return PyModuleDef_Init(&definition);
}
