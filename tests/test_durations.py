"""Durations: accepted texts, and refused ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcache._support.durations import parse_duration, plain
from mpcache._support.sizes import mebibytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 2 Hours ", 7200),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("250ms", 0.25),
        ("1w2d3h4m5s6ms", 604800 + 2 * 86400 + 3 * 3600 + 4 * 60 + 5 + 0.006),
        ("0s", 0),
        ("1 day 1 second", 86401),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "10", "m", "5 parsecs", "one hour", "5m!", "-5m", "1h30", "30m1h", "1m1m", "1e3s", "nan s", "5m,3s"],
)
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write a number with a unit"):
        parse_duration(text)


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int) -> None:
    text = f"{days}d{hours}h{minutes}m{seconds}s"
    assert parse_duration(text) == days * 86400 + hours * 3600 + minutes * 60 + seconds


def test_messages_have_digits_only() -> None:
    assert [plain(number) for number in (60, 100.0, 0.01, 0.00005, 2e6)] == ["60", "100", "0.01", "0.00005", "2000000"]
    sizes = (64 << 20, 3 << 19, 64, 2 << 40)
    assert [mebibytes(size) for size in sizes] == ["64 MiB", "1.5 MiB", "0.000061 MiB", "2097152 MiB"]
