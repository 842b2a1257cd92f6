/* Time: Python's seconds and the engine's nanoseconds, and whether a value is young enough.
 *
 * Reading the exact clock takes a quarter of a hit.  Reading the coarse one takes a fifth of that and differs by up
 * to a tick, so it decides wherever a tick does not matter, which is nearly always. */
#include "binding.h"

#include <math.h>

#define LONGEST_S 9e9                /* 285 years: nanoseconds of more are too many for an i64 */

static PyObject *time_dict, *time_name, *genuine_time;
static PyCFunction genuine_code; /* of genuine_time: a library that freezes time may replace the code of the function */

int mpc_init_time(void)
{
    if (time_dict)
        return 0;
    PyObject *module = PyImport_ImportModule("time");
    time_name = PyUnicode_InternFromString("time");
    if (!module || !time_name)
        return -1;
    time_dict = Py_NewRef(PyModule_GetDict(module));
    PyObject *found = PyDict_GetItemWithError(time_dict, time_name);
    genuine_time = found && PyCFunction_Check(found) ? Py_NewRef(found) : NULL;
    genuine_code = genuine_time ? PyCFunction_GET_FUNCTION(genuine_time) : NULL;
    Py_DECREF(module);
    return PyErr_Occurred() ? -1 : 0;
}

/* -- seconds and nanoseconds --------------------------------------------------------------------------------------- */

/* Exact both ways: a long double holds every nanosecond, so the float that went in comes out. */
i64 mpc_ns_of_seconds(double seconds)
{
    return seconds <= 0 || !isfinite(seconds) || seconds > LONGEST_S ? 0 : (i64)llroundl((long double)seconds * 1e9L);
}

/* Return the end of a time to live as the engine has it: even, since an odd end is soft. */
i64 mpc_end_of_seconds(double seconds)
{
    return mpc_ns_of_seconds(seconds) & ~(i64)1;
}

/* The nearest double.  Those of this century lie 2^-22 s apart or more, and no count of nanoseconds comes nearer than
 * 6e-14 s to the middle between two without being one of them: the sum's second rounding, of 2e-16 s, changes none. */
double mpc_seconds_of_ns(i64 ns)
{
    if (ns >> 60)
        return (double)(ns / (i64)MPC_NS_PER_S) + (double)(ns % (i64)MPC_NS_PER_S) * 1e-9;
    return ns == 0 ? 0 : (double)((long double)ns / 1e9L);
}

/* -- now ----------------------------------------------------------------------------------------------------------- */

/* Return what time.time is now; a borrowed reference, or NULL. */
static PyObject *mpc_time_function(void)
{
    return PyDict_GetItemWithError(time_dict, time_name);
}

static bool mpc_is_genuine(PyObject *clock)
{
    return clock && clock == genuine_time && PyCFunction_GET_FUNCTION(clock) == genuine_code;
}

/* Return whether time.time() is the kernel's clock: no test has put another one in its place. */
bool mpc_clock_is_genuine(void)
{
    return mpc_is_genuine(mpc_time_function());
}

/* Return the time of time.time(): the kernel's, unless a test has put a clock of its own in its place. */
int mpc_now_ns(i64 *now)
{
    PyObject *clock = mpc_time_function();
    if (mpc_is_genuine(clock)) {
        *now = mpc_wall_ns();
        return 0;
    }
    Py_XINCREF(clock); /* a clock may put another one in its place while it runs */
    PyObject *seconds = clock ? PyObject_CallNoArgs(clock) : NULL;
    *now = seconds ? mpc_ns_of_seconds(PyFloat_AsDouble(seconds)) : 0;
    Py_XDECREF(seconds);
    Py_XDECREF(clock);
    return PyErr_Occurred() ? -1 : 0;
}

/* -- times to live ------------------------------------------------------------------------------------------------ */

/* Parse a time to live in seconds, that begins at `created`; *expires 0: none.  False: the reference path does it.
 * Under a clock of the program's own that is always so: there the end is stored in the value's bytes, too, since the
 * engine's end is the kernel's. */
bool mpc_parse_ttl(PyObject *given, i64 created, i64 *expires)
{
    double seconds;
    *expires = 0;
    if (given == Py_None)
        return true;
    if (!mpc_clock_is_genuine() || !mpc_parse_lifetime(given, &seconds) || !(seconds > 0))
        return false;
    if (seconds == HUGE_VAL)
        return true;
    *expires = seconds > LONGEST_S / 2 ? 0 : (created + mpc_ns_of_seconds(seconds)) & ~(i64)1;
    return *expires != 0;
}

/* Compare the end that the engine knows with a clock of the program's own.  The engine has compared it with the
 * kernel's.  1: the time to live has ended; 0: it has not, or time.time() is genuine; -1: an exception is set. */
int mpc_is_over_by_python(i64 expires)
{
    i64 now;
    if (expires == 0 || mpc_clock_is_genuine())
        return 0;
    return mpc_now_ns(&now) < 0 ? -1 : expires <= now;
}

/* -- ages ---------------------------------------------------------------------------------------------------------- */

/* Parse a lifetime in seconds; HUGE_VAL: for ever.  False: it is no plain number. */
bool mpc_parse_lifetime(PyObject *given, double *lifetime)
{
    *lifetime = HUGE_VAL;
    if (given == Py_None)
        return true;
    if (PyLong_CheckExact(given))
        *lifetime = PyLong_AsDouble(given);
    else if (PyFloat_CheckExact(given))
        *lifetime = PyFloat_AS_DOUBLE(given);
    else
        return false;
    if (*lifetime == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    if (*lifetime == -1.0)
        *lifetime = HUGE_VAL;
    return !isnan(*lifetime);
}

/* Return since when every created value is young by any clock; for earlier ones the exact clock decides. */
static i64 mpc_surely_young_since(double seconds)
{
    if (seconds * 1e9 <= MPC_COARSE_LAG_NS || !mpc_clock_is_genuine())
        return INT64_MAX;
    return mpc_wall_coarse_ns() + MPC_COARSE_LAG_NS - (i64)((seconds < LONGEST_S ? seconds : LONGEST_S) * 1e9);
}

/* 1: it is; 0: it is older than the limit; -1: an exception is set. */
int mpc_is_young(age_limit *limit, i64 created)
{
    i64 now;
    if (limit->seconds == HUGE_VAL)
        return 1;
    if (limit->young_since == 0)
        limit->young_since = mpc_surely_young_since(limit->seconds);
    if (created >= limit->young_since)
        return 1;
    if (mpc_now_ns(&now) < 0)
        return -1;
    return mpc_seconds_of_ns(now) - mpc_seconds_of_ns(created) <= limit->seconds;
}
