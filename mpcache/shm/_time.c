/* What time it is, in Python's seconds and in the engine's nanoseconds, and whether a value is young enough.
 *
 * A look at the exact clock takes a quarter of a hit.  The coarse one is had for a fifth of that and tells the same
 * up to a tick, so it decides wherever a tick does not matter, which is nearly always. */
#include "binding.h"

#include <math.h>

#define SLACK_NS ((i64)MPC_NS_PER_S) /* far more than the coarse clock can lag, which is 10 ms */
#define LONGEST_S 9e9                /* 285 years: nanoseconds of more are too many for an i64 */

static PyObject *time_dict, *time_name, *genuine_time;

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
    Py_DECREF(module);
    return PyErr_Occurred() ? -1 : 0;
}

/* -- seconds and nanoseconds ---------------------------------------------------------------------------------------- */

/* Exact both ways: a long double holds every nanosecond, so the float that went in comes out. */
i64 mpc_ns_of_seconds(double seconds)
{
    return seconds <= 0 || !isfinite(seconds) || seconds > LONGEST_S ? 0 : (i64)llroundl((long double)seconds * 1e9L);
}

/* The nearest double.  Those of this century lie 2^-22 s apart or more, and no count of nanoseconds comes nearer than
 * 6e-14 s to the middle between two without being one of them: the sum's second rounding, of 2e-16 s, changes none. */
double mpc_seconds_of_ns(i64 ns)
{
    if (ns >> 60)
        return (double)(ns / (i64)MPC_NS_PER_S) + (double)(ns % (i64)MPC_NS_PER_S) * 1e-9;
    return ns == 0 ? 0 : (double)((long double)ns / 1e9L);
}

/* -- now ------------------------------------------------------------------------------------------------------------ */

/* What time.time() is; a borrowed reference, or NULL. */
static PyObject *mpc_time_function(void)
{
    return PyDict_GetItemWithError(time_dict, time_name);
}

/* What time.time() says: by the kernel's word, unless a test has put a clock of its own in its place. */
int mpc_now_ns(i64 *now)
{
    PyObject *clock = mpc_time_function();
    if (clock && clock == genuine_time) {
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

/* -- ages ----------------------------------------------------------------------------------------------------------- */

/* Seconds that a value is fresh, as a region has them; HUGE_VAL: for ever.  False: no plain number. */
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

/* Whatever was created since then is young by any clock; the rest is for the exact one to decide. */
static i64 mpc_surely_young_since(double seconds)
{
    if (seconds * 1e9 <= SLACK_NS || mpc_time_function() != genuine_time || !genuine_time)
        return INT64_MAX;
    return mpc_wall_coarse_ns() + SLACK_NS - (i64)((seconds < LONGEST_S ? seconds : LONGEST_S) * 1e9);
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
