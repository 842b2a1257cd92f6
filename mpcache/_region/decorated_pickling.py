"""Pickle decorated functions: by name, and for cloudpickle, if they are of ``__main__``, with their contents.

Depends on nothing of mpcache.  pickle finds a function by its name, which another script's ``__main__`` does not
have.  cloudpickle, which joblib, dask and ray use, therefore sends the functions of ``__main__`` themselves, and it
has to send decorated functions likewise: the region, which is found by its configuration, and the original function.
"""

from __future__ import annotations

import sys

_OF_PICKLE = ("pickle", "_pickle")


def is_by_cloudpickle() -> bool:
    """Return whether cloudpickle, or a vendored copy of it, called the ``__reduce__`` that calls this."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _OF_PICKLE:
        frame = frame.f_back
    return "cloudpickle" in str(frame.f_globals.get("__name__")).split(".")
