"""What layout 3 keeps with records, rings, leases and in tables, by records.c; and the sizes of segments."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from mpcache.exception import SegmentTooSmall
from mpcache.shm import _engine, segment
from tests.shm import c_program

pytestmark = pytest.mark.engine

MAGIC = 0x00656863616370D6
RETIRED_AT = 256


@pytest.mark.parametrize("flags", [("-O1", "-g", "-fsanitize=address,undefined"), ("-O2",)], ids=["sanitized", "plain"])
def test_each_addition_by_itself(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = c_program.build(tmp_path, "records", [*flags, "-w"])
    done = subprocess.run([program], capture_output=True, text=True, timeout=100)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "WRONG" not in done.stdout


def test_four_megabytes_in_one_shard_hold_a_value_of_256_kb() -> None:
    space = segment.attach(None, "4MB", shards=1).engine.namespace("")
    assert space.set("large", bytes(256 << 10))
    found = space.get("large")
    assert found is not None
    assert len(found[0]) == 256 << 10


@pytest.mark.parametrize("shards", [1, 2, 8, 64])
def test_the_smallest_size_is_a_segment_and_one_byte_less_is_none(shards: int) -> None:
    least = segment.smallest(shards)
    assert segment.attach(None, least, shards=shards).engine.shards == shards
    if shards == 1:
        with pytest.raises(SegmentTooSmall) as told:
            segment.attach(None, least - 1, shards=shards)
        assert str(least) in str(told.value)


def test_other_versions_find_the_magic_the_layout_and_where_retired_is(name: str) -> None:
    """What every layout has in the same place, read from the file."""
    held = segment.attach(name, "4MB")
    path = Path(str(held.path))
    head = path.read_bytes()[:512]
    assert struct.unpack_from("<QI", head) == (MAGIC, _engine.LAYOUT)
    assert struct.unpack_from("<I", head, RETIRED_AT) == (0,)
    held.engine.retire()
    assert struct.unpack_from("<I", path.read_bytes(), RETIRED_AT) == (1,)


def test_one_clock_counts_the_epochs_of_all_namespaces(name: str) -> None:
    engine = segment.attach(name, "4MB").engine
    one, two = engine.namespace("one"), engine.namespace("two")
    assert [one.invalidate(True), two.invalidate(False), one.invalidate(False)] == [1, 2, 3]
    assert (one.epochs(), two.epochs()) == ((3, 1, 3), (3, 0, 2))
