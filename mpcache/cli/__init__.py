"""The ``mpcache`` command: demo, doctor, and a look into segments.

Depends on _console, and on commands, which needs click: without click it prints how to install it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcache import _console

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0 success, 1 failure or a broken promise, 2 wrong usage."""
    try:
        from mpcache.cli.commands import run
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        remedy = "pip install 'mpcache[cli]', or from a checkout: pip install '.[cli]'"
        _console.error("mpcache", f"the command needs click; {remedy}")
        return 2
    return run(arguments)
