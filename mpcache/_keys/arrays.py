"""Encode arrays of numpy and frames of pandas as parts of exact keys: by their bytes, if these determine the value.

Depends on tags, and on numpy and pandas: a program that has such an argument has loaded them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from mpcache._keys.tags import digest, joined, tagged

_BY_BYTES = "bcfimuMSU"
"""Kinds of numpy's types whose bytes determine the value; b is bool; V is checked further below."""

_PADDED = "gG"
"""long double and its complex type: only ten bytes of sixteen are significant."""


class ArrayEncoder:
    """Encodes the types of numpy and pandas.

    :param element: ``(value, level) -> part``, for an object in an array.
    """

    def __init__(self, element: Callable[[Any, int], str]) -> None:
        self._element = element

    def part(self, value: Any, level: int) -> str | None:
        """Return the part of an array, a scalar of numpy, an index, a series or a frame; None: use its pickle."""
        if type(value) is np.ndarray:
            return self._array(value, level)
        if isinstance(value, np.generic):
            text = self._array(np.asarray(value), level)
            return None if text is None else tagged("A", text)
        pandas = sys.modules.get("pandas")
        if pandas is None:
            return None
        if type(value) is pandas.DataFrame:
            columns = [self._values(value.iloc[:, place].array, level) for place in range(value.shape[1])]
            return self._joined(["frame", value.columns, value.index, value.attrs], columns, level)
        if type(value) is pandas.Series:
            values = [self._values(value.array, level)]
            return self._joined(["series", value.name, value.index, value.attrs], values, level)
        return self._index(value, pandas, level) if isinstance(value, pandas.Index) else None

    # -- numpy -------------------------------------------------------------------------------------------------------

    def _array(self, array: Any, level: int) -> str | None:
        kind = array.dtype
        head = [tagged("s", kind.str), self._element(array.shape, level)]
        if kind.names is not None:  # by fields: the padding between them has arbitrary bytes
            fields = [self._array(array[name], level + 1) for name in kind.names]
            described = _described(kind)
            whole = described is not None and None not in fields
            return joined("v", [tagged("s", str(described)), *head, *map(str, fields)]) if whole else None
        if kind.char in _PADDED:
            return joined("a", [*head, self._element([str(one) for one in array.ravel()], level)])
        if kind.kind == "O":
            return joined("a", [*head, self._element(array.ravel().tolist(), level)])
        if kind.kind in _BY_BYTES or (kind.kind == "V" and not kind.hasobject and kind.subdtype is None):
            return joined("a", [*head, tagged("Y", digest(_bytes(array)))])
        return None

    # -- pandas ------------------------------------------------------------------------------------------------------

    def _joined(self, heads: list[Any], values: list[str | None], level: int) -> str | None:
        if None in values:
            return None
        return joined("x", [*(self._element(head, level) for head in heads), *map(str, values)])

    def _index(self, index: Any, pandas: Any, level: int) -> str | None:
        if type(index) is pandas.RangeIndex:
            return self._joined(["range", range(index.start, index.stop, index.step), index.name], [], level)
        if type(index) is pandas.MultiIndex:
            values = [self._values(index.get_level_values(place).array, level) for place in range(index.nlevels)]
            return self._joined(["multi", list(index.names)], values, level)
        heads = ["index", type(index).__name__, index.name, getattr(index, "freqstr", None)]
        return self._joined(heads, [self._values(index.array, level)], level)

    def _values(self, array: Any, level: int) -> str | None:
        """Return the part of a column's values: as an array of numpy if possible, else value by value."""
        kind = tagged("s", repr(array.dtype))
        categories = getattr(array.dtype, "categories", None)
        if categories is not None:  # a categorical: the codes are indexes of the categories
            codes = str(self._array(np.asarray(array.codes), level))
            return joined("x", [kind, self._element(categories, level), f"b1:{array.dtype.ordered:d}", codes])
        if hasattr(array, "asi8"):  # dates, differences of dates, and periods
            return joined("x", [kind, str(self._array(array.asi8, level))])
        if type(array).__name__ in ("NumpyExtensionArray", "PandasArray"):
            return self._array(array.to_numpy(), level)
        return joined("x", [kind, self._element(array.to_numpy(dtype=object).tolist(), level)])


def _described(kind: Any) -> str | None:
    """Return the names, types and places of a type's fields; None: fields that overlap have no description."""
    try:
        return repr(kind.descr)
    except ValueError:
        return None


def _bytes(array: Any) -> Any:
    """Return the bytes of an array in C order, without a copy if they have that order."""
    if array.nbytes == 0:
        return b""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
