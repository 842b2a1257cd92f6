"""Assertions with the names that suites for dogpile.cache use.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import Any


def eq_(a: Any, b: Any, msg: str | None = None) -> None:
    """Assert that the two are equal."""
    assert a == b, msg or f"{a!r} is not equal to {b!r}"


def ne_(a: Any, b: Any, msg: str | None = None) -> None:
    """Assert that the two are not equal."""
    assert a != b, msg or f"{a!r} is equal to {b!r}"


def is_(a: Any, b: Any, msg: str | None = None) -> None:
    """Assert that the two are the same object."""
    assert a is b, msg or f"{a!r} is another object than {b!r}"


def assert_raises_message(
    except_cls: type[BaseException], msg: str, callable_: Callable[..., Any], *args: Any, **kwargs: Any
) -> None:
    """Assert that the call raises, and that the regular expression ``msg`` matches in the exception's text."""
    try:
        callable_(*args, **kwargs)
    except except_cls as error:
        said = str(error)
    else:
        raise AssertionError(f"{callable_!r} did not raise {except_cls.__name__}")
    assert re.search(msg, said), f"{msg!r} is not found in {said!r}"


def winsleep() -> None:
    """Wait until ``time.time()`` has changed, on platforms where it has a coarse resolution."""
    if sys.platform.startswith("win"):
        time.sleep(0.001)
