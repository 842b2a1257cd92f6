"""The scenarios by name: one question a file.

Depends on nothing; a scenario is imported when it is loaded.
"""

from __future__ import annotations

import importlib
from typing import Any

_table: dict[str, tuple[str, str]] = {
    "exclusion": ("exclusion", "Exclusion"),
    "one_creator": ("one_creator", "OneCreator"),
    "many_keys": ("many_keys", "ManyKeys"),
    "whole_values": ("whole_values", "WholeValues"),
    "survives_kill": ("survives_kill", "SurvivesKill"),
    "frozen_holder": ("frozen_holder", "FrozenHolder"),
    "fork_and_exec": ("fork_and_exec", "ForkAndExec"),
    "eviction": ("eviction", "Eviction"),
    "invalidate": ("invalidate", "Invalidate"),
    "nested": ("nested", "Nested"),
    "handoff": ("handoff", "Handoff"),
    "fairness": ("fairness", "Fairness"),
    "soak": ("soak", "Soak"),
}


def names() -> list[str]:
    """Return all names, in the order in which ``run all`` plays them."""
    return list(_table)


def load(name: str) -> Any:
    """Return the class of a scenario.  Raises KeyError: there is no scenario of that name."""
    module, kind = _table[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), kind)
