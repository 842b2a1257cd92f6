"""The commands: their options, their output, and their exit statuses.

Depends on click and _console; demo, doctor, stress and shm do the work.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Sequence

import click

import mpcache
from mpcache import _console
from mpcache._console import columns, open_console, out, out_bytes, significant
from mpcache._wire import codec
from mpcache.api import BYTES, INT, TEXT, WIRE
from mpcache.cli.temp_segment import ANY_MODE, user_name
from mpcache.exception import DogpileCacheException, SegmentError
from mpcache.shm import segment
from mpcache.shm._engine import Namespace
from mpcache.shm.names import stored_name
from mpcache.shm.segment import Segment, SegmentFile

DONE, FAILED = 0, 1

_NAMESPACE = click.option("--namespace", default="", metavar="NAME", help="Default: the namespace without a name.")


class Refused(click.ClickException):
    """The command cannot do what was asked; the text says what to do instead."""

    exit_code = FAILED

    def show(self, file: object = None) -> None:
        complain(self.message)


def complain(text: str) -> None:
    """Print an error, in one line."""
    _console.error("mpcache", text)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit status."""
    try:
        status = group.main(arguments, prog_name="mpcache", standalone_mode=False)
        _console.flush()
        return int(status or DONE)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except BrokenPipeError:
        _console.discard_output()
        return FAILED
    except (DogpileCacheException, OSError) as error:
        complain(str(error))
        return FAILED


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mpcache.__version__, message="mpcache %(version)s")
def group() -> None:
    """Show how one cache serves all your workers, and look into its segments."""


# -- the demo and the doctor ----------------------------------------------------------------------------------


@group.command()
@click.option(
    "--backend",
    type=click.Choice(["shm", "dbm", "redis", "memcached"]),
    default="shm",
    show_default=True,
    help="The store; its server is started for the demo, and ended after it.",
)
@click.option("--workers", type=click.IntRange(2, 64), default=4, show_default=True, help="Number of processes.")
@click.option("--seconds", type=click.FloatRange(0.2, 60), default=3.0, show_default=True, help="Duration of the load.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the order in which keys are requested.")
@click.option("--plain", is_flag=True, help="No colours, no lines that change.")
def demo(backend: str, workers: int, seconds: float, seed: int, plain: bool) -> int:
    """Watch workers share a region, and check the promises.

    Some workers are killed while they create.  The status is 1 if any promise did not hold.
    """
    from mpcache.cli import demo as environment

    return environment.run(backend, workers, seconds, seed, open_console(plain))


@group.command()
def doctor() -> int:
    """Find what keeps mpcache from working here.

    Each finding says what to do about it.  The status is 1 if a finding stops mpcache.
    """
    from mpcache.cli import doctor as practice

    return practice.run(open_console())


@group.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def stress(words: tuple[str, ...]) -> int:
    """Find out whether a lock can be trusted here.

    'mpcache stress --help' says more.  The status is 0 if it held, 1 if it was violated, 2 if it could not be run.
    """
    from mpcache.stress.commands import main

    return main(words)


# -- segments ---------------------------------------------------------------------------------------------------


@group.command("ls")
def list_() -> int:
    """List your segments.

    Other users with segments here are named.  The status is 1 if there is a segment that cannot be used.
    """
    rows, refused = [], []
    for file in segment.files_of():
        try:
            rows += _row(file)
        except SegmentError as error:
            refused.append(str(error))
    plain = all(use in ("", "stores") for *_, use in rows)
    head = ("NAME", "SIZE", "ITEMS", "USED", "PROCESSES", "AGE", "USE")
    for line in columns([row[:-1] if plain else row for row in (head, *rows)]) if rows else ():
        out(line)
    for why in refused:
        complain(why)
    _name_others(nothing=not rows and not refused)
    return FAILED if refused else DONE


def _name_others(nothing: bool) -> None:
    """Name the other users with segments, for a user that looks for the segments of a service."""
    others = segment.other_users()
    if others:
        mine = f"{user_name(os.geteuid())} has no segments here; " if nothing else ""
        complain(f"{mine}others have: {', '.join(map(user_name, others))}")


def _row(file: SegmentFile) -> list[tuple[str, ...]]:
    """Return the row of a file; none if it has vanished."""
    if file.other:
        return _row_of_another_layout(file)
    found = segment.find(file.name, ANY_MODE, for_mutexes=file.bare)
    if found is None:
        return []
    counts = _counts(found)
    used = f"{counts['live_bytes'] / counts['capacity_bytes']:.0%}"
    age = _age(time.time() - found.engine.born)
    return [(file.name, _mib(counts["size"]), str(counts["items"]), used, str(counts["processes"]), age, file.use)]


def _row_of_another_layout(file: SegmentFile) -> list[tuple[str, ...]]:
    """Return what can be known of a segment that this version cannot read."""
    try:
        size = os.stat(file.path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return []
    processes = "some" if segment.in_use(file) else "0"
    use = f"{file.use}, layout {file.layout}" if file.use else f"layout {file.layout}"
    return [(file.name, _mib(size), "-", "-", processes, "-", use)]


def _age(seconds: float) -> str:
    """Write an age in the largest unit of which it has two at least."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _counts(found: Segment) -> dict[str, int]:
    """Return the statistics of a segment without this process."""
    counts = found.engine.stats()
    counts["processes"] -= found.engine.owner != 0
    return counts


def _mib(size: int) -> str:
    return f"{significant(size / (1 << 20))} MiB"


def _own_files(name: str) -> list[SegmentFile]:
    """Return the files of a name that this version can read, a store's first.  Raises Refused: there is none."""
    try:
        segment.path_of(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    files = segment.files_of(name)
    if not files:
        raise Refused(f"there is no segment {name!r} in {segment.directory()}; 'mpcache ls' lists the segments")
    if all(file.other for file in files):
        layouts = ", ".join(str(file.layout) for file in files)
        raise Refused(
            f"{files[0].path}: made by another version of mpcache (its layout is {layouts}, this version's"
            f" {segment.LAYOUT}); use the 'mpcache' of that version, or remove it with 'mpcache rm {name}'"
        )
    return [file for file in files if not file.other]


def _attached(file: SegmentFile) -> Segment:
    found = segment.find(file.name, ANY_MODE, for_mutexes=file.bare)
    if found is None:
        raise Refused(f"{file.path} was removed a moment ago; 'mpcache ls' lists the segments")
    return found


def _find(name: str) -> Segment:
    return _attached(_own_files(name)[0])


def _space(found: Segment, namespace: str) -> Namespace:
    """Open a namespace that exists.  Raises Refused: opening it would create it."""
    if namespace not in found.engine.namespaces():
        there = ", ".join(map(repr, sorted(found.engine.namespaces())))
        raise Refused(f"{found.name} has no namespace {namespace!r}; it has {there}")
    return found.engine.namespace(namespace)


@group.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--mutexes", is_flag=True, help="Of the segment of mutexes, where stores have one of the same name, too.")
def stats(name: str, as_json: bool, mutexes: bool) -> None:
    """Print the statistics of a segment.

    The counts include all processes that ever used it.
    """
    counts = _counts(_attached(_own_files(name)[-1 if mutexes else 0]))
    if as_json:
        import json

        out(json.dumps(counts))
        return
    asked = counts["hits"] + counts["misses"]
    rows = [(what.replace("_", " "), f"{count:,}") for what, count in counts.items()]
    rows.insert(2, ("hit ratio", f"{counts['hits'] / asked:.1%}" if asked else "-"))
    out("\n".join(columns(rows)))


@group.command()
@click.argument("name")
def check(name: str) -> None:
    """Check every structure of a segment.

    If it is damaged, the first broken invariant is named and the status is 1.  Where stores and mutexes have a segment
    of that name each, both are checked.
    """
    for file in _own_files(name):
        found = _attached(file)
        try:
            found.engine.check()
        except SegmentError as error:
            raise Refused(f"{name}: {error}") from error
        out(f"{name}: sound, {found.engine.stats()['items']} items in {found.engine.shards} shards")


@group.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--force", is_flag=True, help="Do not ask, even if living processes hold keys.")
@click.option("--size", metavar="SIZE", help="Create it again with this size, such as 256MB.")
@click.option("--layout", type=click.IntRange(min=1), help="Remove only the segments that have this layout.")
@click.option("--locks", is_flag=True, help="Also remove lock files and semaphores that no process holds.")
def rm(names: Sequence[str], force: bool, size: str | None, layout: int | None, locks: bool) -> int:
    """Remove segments, including damaged ones: those of stores and of mutexes, of all layouts.

    Processes that use a removed segment continue in a new one of the same name, and most of the old one's memory is
    free at once.  Keys that processes hold in it, as creators or by a mutex, are not held in the new one: so this
    command asks first, or needs --force.
    """
    if not names and not locks:
        raise click.UsageError("Missing argument 'NAME...'.")
    if (size is not None or layout is not None) and not names:
        raise click.UsageError(f"--{'layout' if size is None else 'size'} needs the NAME of a segment.")
    if size is not None and layout is not None:
        raise click.UsageError("--size creates a segment of this version's layout: leave --layout out.")
    status = _remove_locks() if locks else DONE
    for name in names:
        status = max(status, _remove(name, force, size, layout))
    return status


def _remove(name: str, force: bool, size: str | None, layout: int | None) -> int:
    try:
        segment.path_of(name)
        files = _replaced(name) if size is not None else segment.files_of(name)
        files = [file for file in files if layout in (None, file.layout)]
        if not force:
            _ask(name, files)
        if size is not None:
            made = segment.replace(name, size, for_mutexes=any(file.use == "mutexes" for file in files))
            out(f"replaced {name}: {_mib(made.size)}")
            return DONE
        which = "" if layout is None else f" of layout {layout}"
        if segment.unlink(name, layout):
            out(f"removed {name}{which}")
            return DONE
        complain(f"there is no segment {name!r}{which} in {segment.directory()}; 'mpcache ls' lists the segments")
    except (SegmentError, Refused) as error:
        complain(str(error))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        complain(f"{name!r} is not removed: {error.strerror}; it is not a segment of mpcache")
    return FAILED


def _replaced(name: str) -> list[SegmentFile]:
    """Return the file that another size replaces: the segment of stores, or of mutexes if only these have the name."""
    return [file for file in segment.files_of(name) if not file.other][:1]


def _ask(name: str, files: Sequence[SegmentFile]) -> None:
    """Ask whether to end the exclusion of living holders.  Raises Refused: standard input is not a terminal."""
    why = []
    if held := sum(_held(file) for file in files if not file.other):
        why.append(f"{'1 key is' if held == 1 else f'{held} keys are'} held by living processes")
    if used := [str(file.layout) for file in files if file.other and segment.in_use(file)]:
        why.append(f"living processes of another version, of layout {', '.join(used)}, may hold keys")
    if not why:
        return
    text = f"{name}: {' and '.join(why)}; in the new segment other processes can take them, too"
    if not sys.stdin.isatty():
        raise Refused(f"{text}; wait until they are released, or add --force")
    click.confirm(f"{text}. Remove it?", abort=True, err=True)


def _held(file: SegmentFile) -> int:
    """Return how many keys living processes hold in a segment of this version's layout."""
    try:
        found = segment.find(file.name, ANY_MODE, for_mutexes=file.bare)
    except SegmentError:
        return 0  # it cannot be used, so no key is held in it
    return found.engine.leases_of_others() if found is not None else 0


def _remove_locks() -> int:
    from mpcache.mutexes.file import FileMutex
    from mpcache.mutexes.semaphore import SemaphoreMutex

    out(f"removed {FileMutex.unlink()} lock files of killed processes")
    if SemaphoreMutex.unlink():
        out("removed the file and the semaphores of the semaphore mutex")
        return DONE
    complain("the semaphore mutex is in use: its file and its semaphores are not removed")
    return FAILED


@group.command()
@click.argument("name")
@_NAMESPACE
def keys(name: str, namespace: str) -> None:
    """Print the keys of a segment, one a line.

    Keys that are not printable text are printed as Python writes them.
    """
    for key in sorted(_space(_find(name), namespace).keys(), key=str):
        out(key if isinstance(key, str) and key.isprintable() else repr(key))


def _value(stored: bytes, kept: int) -> object:
    if kept == BYTES:
        return stored
    if kept == INT:
        return int.from_bytes(stored, sys.byteorder, signed=True)
    if kept == WIRE:  # stored with a ttl, or through a proxy: a header precedes the pickle
        stored = codec.split(stored)[0]
    return stored.decode() if kept == TEXT else pickle.loads(stored)


@group.command()
@click.argument("name")
@click.argument("key")
@_NAMESPACE
@click.option("--raw", is_flag=True, help="Print the stored bytes without unpickling them.")
def get(name: str, key: str, namespace: str, raw: bool) -> None:
    """Print one value, as Python writes it."""
    there = _find(name)
    space = _space(there, namespace)
    found, (_, hard_at, _) = space.get(stored_name(key)), space.epochs()
    if found is None or found[2] < hard_at:
        raise Refused(f"{name} has no key {key!r}{f' in namespace {namespace!r}' if namespace else ''}")
    if raw:
        out_bytes(found[0])
        return
    if os.fstat(there.engine.fd).st_mode & 0o022:
        raise Refused(
            f"{name}: other users may write to it, so its values are not unpickled here; --raw prints the bytes"
        )
    try:
        out(repr(_value(found[0], found[3])))
    except Exception as error:
        raise Refused(
            f"{name}: the value of {key!r} cannot be unpickled here ({type(error).__name__}: {error}); set PYTHONPATH"
            " to find its classes, or print its bytes with --raw"
        ) from error
