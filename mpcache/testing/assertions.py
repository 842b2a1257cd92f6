"""The assertions that suites written for dogpile.cache are made of.

Leans on nothing of mpcache.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import Any


def eq_(a: Any, b: Any, msg: str | None = None) -> None:
    """The two are equal."""
    assert a == b, msg or f"{a!r} is not equal to {b!r}"


def ne_(a: Any, b: Any, msg: str | None = None) -> None:
    """The two are not equal."""
    assert a != b, msg or f"{a!r} is equal to {b!r}"


def is_(a: Any, b: Any, msg: str | None = None) -> None:
    """The two are one."""
    assert a is b, msg or f"{a!r} is another object than {b!r}"


def assert_raises_message(
    except_cls: type[BaseException], msg: str, callable_: Callable[..., Any], *args: Any, **kwargs: Any
) -> None:
    """The call raises, and the regular expression ``msg`` is found in what the exception says."""
    try:
        callable_(*args, **kwargs)
    except except_cls as error:
        said = str(error)
    else:
        raise AssertionError(f"{callable_!r} did not raise {except_cls.__name__}")
    assert re.search(msg, said), f"{msg!r} is not found in {said!r}"


def winsleep() -> None:
    """Wait until ``time.time()`` has gone on, where it goes in large steps."""
    if sys.platform.startswith("win"):
        time.sleep(0.001)
