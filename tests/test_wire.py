"""The fast reading of values, in Python and in C, agrees with the codec, also on damaged bytes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpcache._wire import _wire, codec
from mpcache.api import NO_VALUE

pytestmark = pytest.mark.engine

NOW = 1_795_289_673.25
LOOKS = pytest.mark.parametrize("unwire", [codec.unwire, _wire.unwire], ids=["python", "c"])
Unwire = Callable[..., tuple[list[Any], list[int]]]

times = st.floats(min_value=0, max_value=1e12, allow_nan=False)
payloads = st.one_of(st.binary(max_size=40), st.just(b"|"), st.just(b', "v": 2}|'))
near = st.one_of(
    st.floats(NOW - 70, NOW + 5), st.sampled_from([NOW - 60, NOW - 60.00000001, NOW - 59.99999999, 5.0, 1e16])
)
ages = st.sampled_from([60.0, 0.0, 1e-9, float("inf")])


@st.composite
def damaged(draw: Any) -> bytes:
    """Draw the bytes of a value, with none or a few bytes of the header changed."""
    wire = bytearray(codec.join(draw(payloads), draw(st.one_of(near, times)), draw(st.one_of(st.none(), near))))
    for _ in range(draw(st.integers(0, 2))):
        where = draw(st.integers(0, min(len(wire), 45)))
        put = draw(st.sampled_from([b"", *(bytes([one]) for one in b'0. ,-_e|}{"x\0'), b"nan", b', "v": 2}|']))
        wire[where : where + draw(st.integers(0, 3))] = put
    return bytes(wire)


def by_split(wire: bytes, longest: float) -> Any:
    """Return the codec's result: a payload, NO_VALUE if it is old, or the type of the error."""
    try:
        payload, created, *_ = codec.split(wire)
    except (ValueError, KeyError, TypeError) as error:
        return type(error)
    return NO_VALUE if NOW - created > longest else payload


@LOOKS
@example([b'{"ct": , "v": 2}|x', b'{"ct": ., "v": 2}|x', b'{"ct": 1., "v": 2}|x'], float("inf"))
@example([b'{"ct": 1.5, "v": 2', b'{"ct": 1.5', b'{"ct": ', b""], float("inf"))
@given(st.lists(st.one_of(damaged(), st.binary(max_size=60), st.just(NO_VALUE)), max_size=4), ages)
def test_what_the_quick_look_judges_it_judges_as_the_codec_does(
    unwire: Unwire, wires: list[Any], longest: float
) -> None:
    values, left = unwire(wires, NOW, longest, bytes, NO_VALUE)
    assert len(values) == len(wires)
    for index, (wire, value) in enumerate(zip(wires, values, strict=True)):
        if index in left:
            assert value is NO_VALUE is not wire
        else:
            assert value == (by_split(wire, longest) if wire else NO_VALUE)
            assert wire is NO_VALUE or codec.split(wire)[2:] == (None, 2, None)  # no value's own time was skipped


@LOOKS
@given(st.lists(st.tuples(payloads, near), max_size=4), ages)
def test_the_quick_look_leaves_nothing_of_what_we_write(
    unwire: Unwire, given: list[tuple[bytes, float]], longest: float
) -> None:
    wires = [codec.join(payload, created) for payload, created in given if created < 1e16]
    assert unwire(wires, NOW, longest, bytes, NO_VALUE) == ([by_split(wire, longest) for wire in wires], [])


@LOOKS
def test_what_cannot_be_read_is_left_and_a_signal_is_not(unwire: Unwire) -> None:
    wires = [codec.join(payload, NOW) for payload in (pickle.dumps(1), b"no pickle", pickle.dumps(None))]
    assert unwire(wires, NOW, 60.0, pickle.loads, NO_VALUE) == ([1, NO_VALUE, None], [1])

    def interrupted(payload: bytes) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unwire(wires, NOW, 60.0, interrupted, NO_VALUE)


@LOOKS
def test_a_deserializer_may_do_anything_also_with_the_list(unwire: Unwire) -> None:
    wires = [codec.join(b"x", NOW) for _ in range(9)]

    def emptying(payload: bytes) -> bytes:
        wires.clear()
        return payload

    assert unwire(wires, NOW, 60.0, emptying, NO_VALUE) == ([b"x"], [])


def test_the_one_in_c_refuses_other_arguments() -> None:
    for wrong in [(), ((), NOW, 1.0, bytes, None), ([], "now", 1.0, bytes, None), ([], NOW, None, bytes, None)]:
        with pytest.raises(TypeError):
            _wire.unwire(*wrong)


def test_where_nothing_was_compiled_values_are_read_all_the_same() -> None:
    program = """if True:
        import sys
        sys.modules["mpcache._wire._wire"] = None
        import mpcache
        region = mpcache.make_region().configure("mpcache.memory_pickle", 60)
        region.set_multi({"a": 1, "b": None})
        print(region.get("a"), region.get_multi(["b", "c", "a"]))
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "1 [None, <dogpile.cache.api.NoValue object>, 1]\n"
