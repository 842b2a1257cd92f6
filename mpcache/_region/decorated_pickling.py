"""Pickle decorated functions: by name, and for cloudpickle with all that is in those of ``__main__``.

Depends on nothing of mpcache.  pickle finds a function by its name, which in another script's ``__main__`` is not
there.  cloudpickle, which joblib, dask and ray use, therefore sends the functions of ``__main__`` themselves, and it
has to send those that are decorated likewise: the region, which is found by its configuration, and the original.
"""

from __future__ import annotations

import sys

_OF_PICKLE = ("pickle", "_pickle")


def is_by_cloudpickle() -> bool:
    """Tell whether the ``__reduce__`` that calls this is called by cloudpickle, wherever that is vendored."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _OF_PICKLE:
        frame = frame.f_back
    return "cloudpickle" in str(frame.f_globals.get("__name__")).split(".")
