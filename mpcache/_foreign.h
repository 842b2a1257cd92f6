/* An exception of code that is not ours: what may be forgotten, and what must reach the program. */
#ifndef MPC_FOREIGN_H
#define MPC_FOREIGN_H

#include <Python.h>

/* Take the exception that is set, with its traceback; a new reference. */
static inline PyObject *take_error(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace)
        PyException_SetTraceback(error, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
#endif
}

/* Clear an Exception.  What is none, and what a signal handler has raised, is passed on: it stays set. */
static inline void clear_foreign_error(void)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return;
    PyObject *error = take_error();
    PyObject *module = PyImport_ImportModule("mpcache._support.signal_handlers");
    PyObject *answer = module ? PyObject_CallMethod(module, "raised_by_signal_handler", "O", error) : NULL;
    if (answer && PyObject_IsTrue(answer) == 1)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(module);
    Py_XDECREF(answer);
    Py_DECREF(error);
}

#endif
