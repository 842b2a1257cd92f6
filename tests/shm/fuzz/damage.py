"""What is written into a live segment: words, fields by layout.h, swapped words, forged records.

Depends on layout.  Every choice comes from the dice, so that a seed repeats it.  The part of the header that its
checksum covers is never written: a segment with a wrong checksum is refused before anything else is read.
"""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable
from typing import Any

from .layout import Field, Layout

CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
UNIT = 8
NEARBY = 512
"""Words among which a word other than 0 is looked for."""


class View:
    """A mapping of a segment's file, read and written by its fields."""

    def __init__(self, fd: int, layout: Layout) -> None:
        self.layout = layout
        self.map = mmap.mmap(fd, 0)
        self.words = {width: memoryview(self.map).cast("B").cast(code) for width, code in CODES.items()}
        header = layout.fields["header"]
        base = header["geometry"].at
        self.geometry = {name: self.read(base + one.at, one.width) for name, one in layout.fields["geometry"].items()}
        self.immutable = header["retired"].at
        self.birth = bytes(self.map[: self.immutable])

    def close(self) -> None:
        for words in self.words.values():
            words.release()
        self.words.clear()
        self.map.close()

    def read(self, at: int, width: int) -> int:
        return int(self.words[width][at // width])

    def write(self, at: int, width: int, value: int) -> None:
        """Store one aligned word at once, as a stray store of another process would."""
        self.words[width][at // width] = value & ((1 << 8 * width) - 1)

    def shard(self, which: int) -> int:
        return self.geometry["shards_at"] + which * self.geometry["shard_bytes"]

    def capacity(self, ring: int) -> int:
        return self.geometry["main_units" if ring else "small_units"]

    def log(self, shard: int, ring: int) -> int:
        return self.shard(shard) + self.geometry["main_at" if ring else "small_at"]

    def end_of_ring(self, shard: int, ring: int, name: str) -> int:
        """Return where the ring's head or tail stands in the segment."""
        fields = self.layout.fields
        rings = self.shard(shard) + fields["shard"]["ring"].at
        return rings + ring * self.layout.sizes["ring"] + fields["ring"][name].at

    def used(self, at: int, step: int, count: int, dice: random.Random) -> int | None:
        """Find a word other than 0 among `count`, from a random place on; None: there is none nearby."""
        first = dice.randrange(count)
        words = self.words[8][at // 8 + first * (step // 8) : (at + min(first + NEARBY, count) * step) // 8]
        for number, word in enumerate(words[:: step // 8].tolist()):
            if word:
                return at + (first + number) * step
        return None

    def is_same_birth(self) -> bool:
        """Return whether the immutable part of the header is as it was: nothing ever writes there."""
        return bytes(self.map[: self.immutable]) == self.birth


class Damage:
    """Corruptions of one segment, one at each :meth:`strike`.

    :ivar owners: ids of living processes, for words that name an owner.
    """

    def __init__(self, view: View, dice: random.Random) -> None:
        self.view, self.dice, self.layout = view, dice, view.layout
        self.constants = view.layout.constants
        self.owners: list[int] = []
        self._told: list[str] = []

    def strike(self) -> str:
        """Corrupt something; return what was done."""
        self._told = []
        kinds, weights = zip(*KINDS, strict=True)
        kind = self.dice.choices(kinds, weights)[0]
        kind(self)
        return f"{kind.__name__.strip('_')}: " + ("; ".join(self._told) or "nothing there to damage")

    # -- values -----------------------------------------------------------------------------------------

    def _value(self, old: int, width: int) -> int:
        bits = 8 * width
        top = (1 << bits) - 1
        dice = self.dice
        power = 1 << dice.randrange(bits)
        return dice.choice(
            (
                *(0, 1, top, top - 1, top >> 1, (top >> 1) + 1, power, power - 1, -power, dice.getrandbits(bits)),
                *(old + 1, old - 1, old + UNIT, old - UNIT, old * 2, -old, ~old, old ^ power, old ^ power),
                *(self._hint(), self._hint()),
            )
        )

    def _hint(self) -> int:
        """Choose a number that means something in this segment, or a neighbour of it."""
        view, dice = self.view, self.dice
        ring = dice.randrange(2)
        shard = self._shard()
        known = (
            *(view.capacity(ring), view.capacity(ring) * UNIT, view.geometry["position_limit"], view.geometry["size"]),
            *(view.geometry["shard_bytes"], view.geometry["lease_buckets"] * 16, view.geometry["slots"]),
            *(view.read(view.end_of_ring(shard, ring, name), 8) for name in ("head", "tail")),
            *(self.constants["MPC_MAX_KEY"], self.constants["MPC_POSITION_LIMIT"], *self.owners),
        )
        return dice.choice(known) + dice.choice((0, 0, 1, -1, 2, -2, UNIT, -UNIT))

    def _put(self, name: str, at: int, width: int, value: int) -> None:
        old = self.view.read(at, width)
        self.view.write(at, width, value)
        self._told.append(f"{name} @{at:#x} {old:#x} -> {self.view.read(at, width):#x}")

    def _field(self, struct: str, base: int, name: str | None = None) -> None:
        fields = self.layout.fields[struct]
        name = name or self.dice.choice([known for known, field in fields.items() if field.width in CODES])
        field: Field = fields[name]
        at = base + field.at + self.dice.randrange(field.size // field.width) * field.width
        self._put(f"{struct}.{name}", at, field.width, self._value(self.view.read(at, field.width), field.width))

    # -- places -----------------------------------------------------------------------------------------

    def _shard(self) -> int:
        return self.dice.randrange(self.view.geometry["shards"])

    def _bucket(self) -> int:
        """Choose a lease bucket, of those that were used if there are any; return where it stands."""
        view, size = self.view, self.layout.sizes["lease_bucket"]
        start, count = view.geometry["leases_at"], view.geometry["lease_buckets"]
        key = self.layout.fields["lease_bucket"]["lease"].at + self.layout.fields["lease"]["key"].at
        used = view.used(start + key, size, count, self.dice)
        return start + self.dice.randrange(count) * size if used is None else used - key

    def _lease(self) -> int:
        return self._bucket() + self.layout.fields["lease_bucket"]["lease"].at + 64 * self.dice.choice((0, 0, 0, 1, 15))

    def _record(self) -> tuple[int, int, int, int] | None:
        """Choose a record that a slot names: where the slot stands, shard, ring, and where the record stands."""
        shard = self._shard()
        view = self.view
        index = view.shard(shard) + view.geometry["index_at"]
        slot = view.used(index, 8, view.geometry["index_buckets"] * 8, self.dice)
        if slot is None:
            return None
        word = view.read(slot, 8)
        ring = word >> self.constants["MPC_RING_SHIFT"] & 1
        place = (word & self.constants["MPC_POSITION_MASK"]) % view.capacity(ring)
        at = self.view.log(shard, ring) + place * UNIT
        limit = self.view.log(shard, ring) + self.view.capacity(ring) * UNIT - self.layout.sizes["record"]
        return slot, shard, ring, min(at, limit)

    def _at_tail(self) -> tuple[int, int, int, int]:
        """Choose what a writer looks at next: shard, ring, position, and where it stands."""
        shard, ring = self._shard(), self.dice.randrange(2)
        position = self.view.read(self.view.end_of_ring(shard, ring, "tail"), 8)
        capacity = self.view.capacity(ring)
        place = min(position % capacity, capacity - 8) & ~1
        return shard, ring, position, self.view.log(shard, ring) + place * UNIT

    # -- kinds ------------------------------------------------------------------------------------------

    def _any_word(self) -> None:
        width = self.dice.choice((8, 8, 8, 4, 1))
        start = self.dice.choice(("namespaces_at", "slots_at", "leases_at", "shards_at", "shards_at"))
        at = self.dice.randrange(self.view.geometry[start], self.view.geometry["size"] & ~7) // width * width
        self._put("word", at, width, self._value(self.view.read(at, width), width))

    def _header(self) -> None:
        self._field("header", 0, self.dice.choice(("fence", "fence", "namespaces_lock")))

    def _namespace(self) -> None:
        which = self.dice.choice((0, 0, 1, 1, 2, self.dice.randrange(self.constants["MPC_NAMESPACES"])))
        self._field("namespace", self.view.geometry["namespaces_at"] + which * self.layout.sizes["namespace"])

    def _process(self) -> None:
        which = self.dice.choice((0, 1, 2, self.dice.randrange(self.view.geometry["slots"])))
        self._field("slot", self.view.geometry["slots_at"] + which * self.layout.sizes["slot"])

    def _lease_field(self) -> None:
        if self.dice.random() < 0.7:
            self._field("lease", self._lease())
        else:
            self._field("lease_bucket", self._bucket(), self.dice.choice(("lock", "busy", "busy")))

    def _shard_field(self) -> None:
        self._field("shard", self.view.shard(self._shard()))

    def _ring_end(self) -> None:
        shard = self._shard()
        ring = self.dice.randrange(2)
        at = self.view.end_of_ring(shard, ring, self.dice.choice(("head", "tail")))
        self._put("ring", at, 8, self._value(self.view.read(at, 8), 8))

    def _ring_state(self) -> None:
        """Change head and tail together, to states that the code tells apart."""
        shard, ring = self._shard(), self.dice.randrange(2)
        capacity, limit = self.view.capacity(ring), self.view.geometry["position_limit"]
        at = {name: self.view.end_of_ring(shard, ring, name) for name in ("head", "tail")}
        head, tail = (self.view.read(at[name], 8) for name in ("head", "tail"))
        new_head, new_tail = self.dice.choice(
            (
                *((capacity, tail), (capacity, tail + capacity), (head, head), (tail, head), (tail + capacity, tail)),
                *((tail + capacity + 2, tail), (limit, limit - capacity), (limit - 2, limit - 2 - capacity)),
                *((limit + capacity, tail), (head + capacity, tail + capacity), (head, head - capacity), (head, 0)),
                *((limit - 6 * capacity, limit - 7 * capacity), (head + 1, tail), (head, tail + 1), (-1, tail)),
                *((-2, -2), (limit, limit), (limit - 4 * capacity + 1, limit - 4 * capacity - 7)),
                (-capacity, -2 * capacity),
            )
        )
        self._put("ring.head", at["head"], 8, new_head)
        self._put("ring.tail", at["tail"], 8, new_tail)

    def _slot_word(self) -> None:
        """Change a part of a slot word: tag, uses, ring, or the position, to what might be a record's."""
        found = self._record()
        if found is None:
            return
        at, shard, ring, _ = found
        word = self.view.read(at, 8)
        constants = self.constants
        position = word & constants["MPC_POSITION_MASK"]
        head, tail = (self.view.read(self.view.end_of_ring(shard, ring, name), 8) for name in ("head", "tail"))
        nearby = (position + 2, position - 2, position + 1, head, head - 2, head - 8, tail, tail - 2, 0, tail + 2)
        moved = (word & ~constants["MPC_POSITION_MASK"]) | self.dice.choice(nearby) & constants["MPC_POSITION_MASK"]
        self._put(
            "slot word",
            at,
            8,
            self.dice.choice(
                (
                    *(word ^ 1 << constants["MPC_RING_SHIFT"], word ^ constants["MPC_FREQ_ONE"], word ^ 3 << 50, moved),
                    *(moved, word ^ 1 << constants["MPC_TAG_SHIFT"] + self.dice.randrange(12), 0, self._value(word, 8)),
                )
            ),
        )

    def _record_field(self) -> None:
        found = self._record()
        if found is not None:
            self._field("record", found[3])

    def _record_at_tail(self) -> None:
        self._field("record", self._at_tail()[3])

    def _lengths(self, at: int, left: int) -> None:
        """Write lengths that agree with each other, and with what is left of the ring or nearly so."""
        fields = self.layout.fields["record"]
        klen = self.dice.choice((0, 1, self.view.read(at + fields["klen"].at, 2), 255, 4096, 65535))
        some = self.dice.randrange(2, max(4, left))
        units = self.dice.choice((left, left - 2, left + 2, some, 8, 10, 1 << 29, left // 2))
        vlen = max(0, units * UNIT - (self.layout.sizes["record"] + klen + 15 & ~15)) & 0xFFFFFFFF
        vlen -= min(vlen, self.dice.choice((0, 0, 1, 15, 16)))
        whole = ((self.layout.sizes["record"] + klen + 15 & ~15) + vlen + 15) // 16 * 2
        for name, value in (("klen", klen), ("vlen", vlen), ("units", whole & 0xFFFFFFFF)):
            self._put(f"record.{name}", at + fields[name].at, fields[name].width, value)

    def _plausible_lengths(self) -> None:
        found = self._record()
        if found is not None:
            _, shard, ring, at = found
            self._lengths(at, (self.view.log(shard, ring) - at) // UNIT + self.view.capacity(ring))

    def _pad(self) -> None:
        """Make a pad of what lies at a tail, or a record of a pad, of a length that may be right."""
        shard, ring, position, at = self._at_tail()
        fields = self.layout.fields["record"]
        left = (self.view.log(shard, ring) - at) // UNIT + self.view.capacity(ring)
        flags = self.view.read(at + fields["flags"].at, 1)
        self._put("record.position", at, 8, position)
        self._put("record.units", at + fields["units"].at, 4, self.dice.choice((left, left - 2, left + 2, 2, 0, 1)))
        self._put("record.flags", at + fields["flags"].at, 1, flags ^ self.constants["MPC_PAD"])

    def _forged_record(self) -> None:
        """Write a record's header, with its own position, into another's value, and let a slot name it."""
        found = self._record()
        if found is None:
            return
        slot, shard, ring, at = found
        size = self.layout.sizes["record"]
        start, capacity = self.view.log(shard, ring), self.view.capacity(ring)
        place = (at - start) // UNIT + self.dice.choice((2, 8, 10, 16, 64))
        if (place + 8) > capacity:
            return
        word = self.view.read(slot, 8)
        position = (word & self.constants["MPC_POSITION_MASK"]) + place - (at - start) // UNIT
        there = start + place * UNIT
        self.view.map[there : there + size] = self.view.map[at : at + size]
        self._put("forged.position", there, 8, position)
        self._lengths(there, capacity - place)
        self._put("slot word", slot, 8, (word & ~self.constants["MPC_POSITION_MASK"]) | position)

    def _swapped_words(self) -> None:
        found, other = self._record(), self._record()
        if found is None or other is None:
            return
        first, second = self.dice.choice(
            ((found[0], other[0]), (found[0], found[0] & ~63), (found[3] + 8, other[3] + 8), (found[3], other[3]))
        )
        old = self.view.read(first, 8)
        self._put("swap", first, 8, self.view.read(second, 8))
        self._put("with", second, 8, old)

    def _swapped_lines(self) -> None:
        found, other = self._record(), self._record()
        if found is None or other is None:
            return
        first, second = self.dice.choice(((found[3], other[3]), (self._lease(), self._lease())))
        one, two = self.view.map[first : first + 64], self.view.map[second : second + 64]
        self.view.map[first : first + 64], self.view.map[second : second + 64] = two, one
        self._told.append(f"lines @{first:#x} and @{second:#x}")

    def _copied_record(self) -> None:
        """Copy a record's header and value over another record, at times with the position that is right there."""
        found, other = self._record(), self._record()
        if found is None or other is None or other[3] < self.view.immutable:
            return
        position = self.view.read(found[3], 8)
        length = self.dice.choice((64, 128, 512))
        end = self.view.geometry["size"] - length
        to, source = min(found[3], end), min(other[3], end)
        self.view.map[to : to + length] = self.view.map[source : source + length]
        self._told.append(f"{length} bytes @{source:#x} over @{to:#x}")
        if self.dice.random() < 0.5:
            self._put("record.position", to, 8, position)

    def _lock_word(self) -> None:
        """Lock a word lock in the name of no process, of a process that is gone, or of a process that lives."""
        lock = self.dice.choice(
            (
                self.view.shard(self._shard()) + self.layout.fields["shard"]["lock"].at,
                self._bucket() + self.layout.fields["lease_bucket"]["lock"].at,
                self.layout.fields["header"]["namespaces_lock"].at,
            )
        )
        words = [owner >> 16 << 11 & 0x7FFFFFFF | (owner & 0xFFFF) + 1 for owner in self.owners] or [1]
        alive = self.dice.choice(words)
        words = [alive, alive | 1 << 31, alive ^ 1 << 11, 1, 0x7FF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 31]
        self._put("lock", lock, 4, self.dice.choice([*words, self.dice.getrandbits(32)]))

    def _ghost(self) -> None:
        at = self.view.shard(self._shard()) + self.view.geometry["ghost_at"]
        at += 2 * self.dice.randrange(self.view.geometry["ghost_entries"])
        self._put("ghost", at, 2, self._value(self.view.read(at, 2), 2))

    def _bytes_of_record(self) -> None:
        """Change a byte of a key or of a value."""
        found = self._record()
        if found is not None:
            at = min(found[3] + self.layout.sizes["record"] + self.dice.randrange(200), self.view.geometry["size"] - 1)
            self._put("byte", at, 1, self._value(self.view.read(at, 1), 1))

    def _wiped(self) -> None:
        """Fill a line or a page behind the header with a byte."""
        size = self.dice.choice((64, 64, 64, 512, 4096))
        at = self.dice.randrange(self.view.geometry["namespaces_at"], self.view.geometry["size"] - size) & ~63
        byte = self.dice.choice((0, 0, 0xFF, self.dice.getrandbits(8)))
        self.view.map[at : at + size] = bytes([byte]) * size
        self._told.append(f"{size} bytes of {byte:#x} @{at:#x}")


Kind = Callable[[Any], None]

KINDS: tuple[tuple[Kind, int], ...] = (
    (Damage._any_word, 6),
    (Damage._header, 2),
    (Damage._namespace, 4),
    (Damage._process, 4),
    (Damage._lease_field, 10),
    (Damage._shard_field, 5),
    (Damage._ring_end, 6),
    (Damage._ring_state, 6),
    (Damage._slot_word, 8),
    (Damage._record_field, 10),
    (Damage._record_at_tail, 6),
    (Damage._plausible_lengths, 6),
    (Damage._pad, 4),
    (Damage._forged_record, 6),
    (Damage._swapped_words, 5),
    (Damage._swapped_lines, 4),
    (Damage._copied_record, 5),
    (Damage._lock_word, 2),
    (Damage._ghost, 1),
    (Damage._bytes_of_record, 4),
    (Damage._wiped, 3),
)
"""What can be done, and how often."""
