"""The rules of the source: imports go down, modules have a purpose and a size, words are plain, mpcache loads fast."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import keeper, words

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mpcache"
HOUSES = ("tests", "stress", "bench")

# Each module or folder, and those just below it: it may depend on those and on everything below them.
DOWN: keeper.Table = {
    "exception": (),
    "_support.*": ("exception",),  # sizes, durations, hints, s3fifo, signal_handlers: none knows another
    "_support": (),
    "_console": (),  # all output of the commands
    "_wire": ("_support.*",),  # the only parser of the header
    "api": ("exception", "_support.*", "_wire"),
    # these decide only: they know no storage
    "_keys": (),
    "keys": ("api", "_keys"),
    "invalidation": ("api",),
    "_region.holding": ("api",),  # what the protocol does with a mutex
    "lock": ("_region.holding",),
    # what both stores and mutexes depend on
    "shm": ("api",),
    # what a server is, for stores and mutexes alike
    "_servers": (),
    "_servers.names": (),
    "_servers.outage": ("exception", "_support.*"),
    "_servers.generation": ("_servers.outage", "_wire"),
    "_servers.redis": ("_servers.names", "_servers.generation", "api"),
    "_servers.memcached": ("_servers.names", "_servers.generation", "api"),
    # mutual exclusion: one primitive a file; the folder itself is the table of names
    "mutexes": ("api",),
    "mutexes.greenlets": (),
    "mutexes.base": ("api", "mutexes.greenlets"),
    "mutexes.local": ("mutexes.base",),
    "mutexes.two_level": ("mutexes.local",),
    "mutexes.leased": ("mutexes.two_level", "_servers.outage"),
    "mutexes.leased_mutex": ("mutexes.leased",),
    "mutexes.lockfiles": ("api", "shm"),
    "mutexes.*": ("mutexes.leased_mutex", "mutexes.lockfiles", "shm", "_servers.redis", "_servers.memcached"),
    # stores: one a file.  A store may make a mutex, not the reverse; a store with epochs says how they invalidate
    "backends": ("api",),
    "backends.shm_outage": ("_servers.outage",),
    "backends._generation_strategy": ("_servers.generation", "invalidation"),
    "backends._fill_guard": (),
    "backends.dbm": ("backends",),
    "backends._fill_files": ("mutexes.lockfiles",),
    "backends._redis_commands": ("api", "_servers.redis", "backends._fill_guard"),
    "backends._shm_values": ("shm", "_wire", "invalidation"),
    "backends._shm_counts": ("shm",),
    "backends._shm_objects": ("backends._shm_values", "backends.shm_outage"),
    "backends.own_client": ("mutexes.base",),
    "backends.memory_fills": ("backends", "backends._fill_guard"),
    "backends.valkey": ("backends.*",),
    "backends.*": (
        *("backends", "backends.dbm", "backends._fill_files", "backends._fill_guard", "backends._generation_strategy"),
        *("mutexes.*", "backends._redis_commands", "backends._shm_objects", "backends.shm_outage"),
        *("backends.memory_fills", "backends.own_client", "backends._shm_counts"),
        "mutexes",
    ),
    "proxy": ("api",),
    # the private parts of a region: a region is passed in where they need it, and they never name its class
    "_region": (),
    "_region.config": ("api",),
    "_region.counters": ("api",),
    "_region.requests": (),
    "_region.stat_names": (),
    "_region.values": ("api",),
    "_region.value_io": ("_wire", "invalidation", "_region.counters", "_region.values"),
    "_region.binding": ("_region.value_io", "_region.requests"),
    "_region.ttl": ("invalidation",),
    "_region.fills": ("_region.binding", "_region.ttl"),
    "_region.reference_path": ("_region.fills",),
    "_region.fast_path": ("_region.reference_path",),
    # the only module that knows both stores and mutexes, by their tables of names
    "_region.configuration": ("_region.binding", "backends", "mutexes", "proxy"),
    "_region.configurable": ("_region.configuration", "_region.fast_path"),
    "_region.creation": ("lock", "keys", "_region.fills"),
    "_region.lookup": ("_region.binding",),
    "_region.creation_multi": ("_region.creation",),
    "_region.refresh": ("_region.creation_multi",),
    "_region.creation_async": ("_region.refresh",),
    "_region.decorated_pickling": (),
    "_region.function_counts": ("shm",),
    "_region.stats": ("_region.function_counts", "_region.binding"),
    "_region.decorated": ("_region.stats", "keys", "_region.fast_path", "_region.decorated_pickling"),
    "_region.decorators": ("_region.decorated", "_region.creation_async"),
    "_region.decorators_multi": ("_region.decorated", "_region.refresh"),
    "region": (
        *("_region.config", "_region.configurable", "_region.decorators", "_region.decorators_multi"),
        *("_region.lookup", "_region.stats"),
    ),
    "factory": ("region",),
    "util": ("keys", "_region.config", "backends"),
    "": ("factory", "util"),
    "core": ("",),
    "testing": ("", "mutexes.base"),
    "plugins.*": ("",),
    "integrations.*": ("",),
    # stress: histories and their checks; environments; actors and scenarios; reports
    "stress.settings": (),
    "stress.scoreboard": (),
    "stress.interrupts": (),
    "stress.latency": (),
    "stress.checked_values": (),
    "stress.history": ("stress.scoreboard",),
    "stress.actor_log": ("stress.history",),
    "stress.idle_time": ("stress.history",),
    "stress.checker": ("stress.history",),
    "stress.creation_checks": ("stress.checker",),
    "stress.register_checks": ("stress.checker",),
    "stress.staleness_checks": ("stress.checker",),
    "stress.timing_checks": ("stress.checker", "_support.*"),
    "stress.third_party_locks": ("api",),
    "stress.errors": (),
    "stress.run_folder": ("stress.errors", "stress.third_party_locks", "shm", "mutexes.*"),
    "stress.environment": ("stress.settings", "stress.run_folder", "", "testing"),
    "stress.builds": ("stress.environment",),
    "stress.faults.python_faults": ("", "mutexes.*", "backends.*"),
    "stress.faults": ("stress.builds", "stress.faults.python_faults"),
    "stress.scenarios": (),  # their table of names
    "stress.round_plan": ("stress.environment", "stress.history", "stress.scenarios"),
    "stress.actor": ("stress.round_plan", "stress.actor_log", "stress.checked_values"),
    "stress.scenario": ("stress.actor", "stress.checker"),
    "stress.operations": ("stress.actor",),
    "stress.worker": ("stress.scenario", "stress.faults"),
    "stress.scenarios.*": (
        *("stress.scenario", "stress.worker", "stress.operations", "stress.creation_checks"),
        *("stress.register_checks", "stress.staleness_checks", "stress.timing_checks"),
    ),
    "stress.scenarios.soak": ("stress.scenarios.*",),
    "stress.signal_injector": ("stress.round_plan", "stress.idle_time"),
    "stress.round_runner": ("stress.worker", "stress.signal_injector"),
    "stress.report.charts": ("_console",),
    "stress.report.timeline": ("stress.checker",),
    "stress.report.page": ("stress.report.charts", "stress.settings"),
    "stress.report": ("stress.report.page", "stress.environment"),
    "stress.progress": ("stress.scoreboard", "stress.settings", "stress.latency"),
    "stress.round_results": ("stress.round_plan", "stress.actor_log", "stress.timing_checks", "stress.latency"),
    "stress.run": (
        *("stress.round_results", "stress.progress", "stress.interrupts", "stress.report.timeline"),
        *("stress.scenario", "stress.faults"),
    ),
    "stress.faults.fault_check": ("stress.run",),
    "stress.console": ("stress.faults.fault_check", "_console"),
    "stress": ("stress.faults.fault_check",),
    "stress.commands": ("stress.console", "stress.report", "backends", "exception"),
    "cli": ("_console", "", "testing", "shm", "mutexes.*", "stress.commands"),
}

# The layers of the C, by the same rule: each file's stem and the files just below it.  A file may include their headers
# and call their functions.
CORE_DOWN: keeper.Table = {
    "port": (),
    "status": (),
    "layout": ("port",),
    "hugepages": ("port",),
    "procfs": ("port",),
    "context": ("layout",),
    "hash": ("context",),
    "format": ("hash", "status"),
    "liveness": ("context", "procfs"),
    "wordlock": ("liveness",),
    "lease_table": ("wordlock", "hash"),
    "registry": ("lease_table", "status"),
    "retire": ("registry",),
    "attach": ("retire", "format", "hugepages"),
    "namespace": ("attach",),
    "lease": ("attach",),
    "functions": ("attach",),
    "tally": ("context",),
    "record": ("hash", "status"),
    "index": ("record",),
    "ring": ("record",),
    "ghost": ("context",),
    "evict": ("index", "ring", "ghost"),
    "store": ("evict", "lease"),
    "rmw": ("store",),
    "check": ("attach", "index", "ring"),
    "stats": ("evict", "lease_table", "tally"),
    "engine": ("namespace", "rmw", "check", "stats", "functions"),
}
BINDING_DOWN: keeper.Table = {
    "_errors": (),
    "_time": (),
    "_bytes_freelist": (),
    "_buffers": (),
    "_key": ("_errors",),
    "_tally": ("_errors",),
    "_function_counts": ("_errors", "_tally"),
    "_reading": ("_key", "_time", "_bytes_freelist"),
    "_writing": ("_key", "_time", "_buffers"),
    "_rmw": ("_reading", "_writing"),
    "_listing": ("_errors", "_time"),
    "_many": ("_reading", "_writing"),
    "_lease": ("_key",),
    "_namespace": ("_rmw", "_listing", "_many", "_lease", "_tally"),
    "_engine": ("_namespace", "_function_counts"),
    "_handle": (),
    "_call_key": (),
    "_pickle": (),
    "_fast_values": ("_pickle", "_writing"),
    "_fast_rows": ("_fast_values",),
    "_first_of": (),
    "_fast_path": ("_fast_rows", "_handle", "_call_key", "_many", "_first_of", "_tally", "_function_counts"),
    "_module": ("_engine", "_fast_path"),
}
BINDING_SHARES = frozenset({"binding", "../_foreign", "core/engine"})

# Imported inside the function that uses them, so that programs which do not use them neither need nor load them.
DRIVERS = {"asyncio", "click", "filelock", "gevent", "posix_ipc", "redis", "rich", "valkey"}
DRIVERS |= {"bmemcached", "memcache", "pylibmc", "pymemcache"}
DRIVERS |= {"django", "flask", "gunicorn", "mako"}
DRIVERS |= {"dogpile", "hdrh", "jinja2", "markupsafe", "matplotlib"}
DRIVERS |= {"numpy", "pandas"}
NEED_A_DRIVER = ("mpcache.cli", "mpcache.stress.commands", "mpcache.plugins", "mpcache.integrations")
NEED_A_DRIVER += ("mpcache._keys.arrays", "mpcache._region.creation_async")

# A file that needs more has an entry in MAY_BE_LONGER with the reason.
LONGEST_MODULE, LONGEST_FUNCTION = 450, 40
LONGEST_C_FILE, LONGEST_C_FUNCTION = 500, 60
MAY_BE_LONGER: dict[str, tuple[int, str]] = {}


def c_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.[ch]"))


def python_files() -> list[Path]:
    return list(keeper.modules(PACKAGE).values())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_go_down() -> None:
    assert keeper.upward(PACKAGE, DOWN) == []


def test_no_import_cycle() -> None:
    assert keeper.cycle(PACKAGE) == []


def test_private_names_are_read_where_they_are_defined() -> None:
    """Check all modules but the seeded faults, which exist to replace private parts."""
    reading = [line for line in keeper.foreign_privates(PACKAGE) if not line.startswith("mpcache.stress.faults.")]
    assert reading == []


def test_the_private_parts_of_a_region_never_name_its_class() -> None:
    parts = sorted((PACKAGE / "_region").glob("*.py"))
    assert [named(path) for path in parts if re.search(r"^(?!.*:meth:).*\bCacheRegion\b", path.read_text(), re.M)] == []


@pytest.mark.parametrize("table", [DOWN, CORE_DOWN, BINDING_DOWN], ids=["python", "core", "binding"])
def test_no_row_is_below_itself(table: keeper.Table) -> None:
    unfinished = dict(table)
    while standing := {row: under for row, under in unfinished.items() if not set(under) & set(unfinished)}:
        unfinished = {row: under for row, under in unfinished.items() if row not in standing}
    assert unfinished == {}


def prints(path: Path) -> Iterator[str]:
    """Yield the lines of a module that write to standard output or standard error by themselves."""
    for node in ast.walk(ast.parse(path.read_text())):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        stream = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if called in ("print", "click.echo", "traceback.print_exc") or stream in ("sys.stdout", "sys.stderr"):
            yield f"{named(path)}:{node.lineno}"  # type: ignore[attr-defined]


def test_commands_print_through_the_console() -> None:
    """Check all modules but the scenarios: the output of their forked children goes to a file of the round."""
    forked = PACKAGE / "stress" / "scenarios"
    commands = [path for folder in ("cli", "stress") for path in (PACKAGE / folder).rglob("*.py")]
    assert [line for path in commands if forked not in path.parents for line in prints(path)] == []
    assert list(prints(PACKAGE / "_console.py")) != []


def test_drivers_are_imported_where_they_are_used() -> None:
    early = [
        f"{name}:{found.line} imports {found.target} at module level"
        for name, found in keeper.imports(PACKAGE)
        if found.target.partition(".")[0] in DRIVERS
        if not (found.late or found.typing or name.startswith(NEED_A_DRIVER))
    ]
    assert early == []


def test_tests_stress_and_bench_never_import_each_other_nor_the_package_one_of_them() -> None:
    wrong = [
        f"{name}:{found.line} imports {found.target}"
        for house in ("mpcache", *HOUSES)
        for name, found in keeper.imports(ROOT / house)
        if found.target.partition(".")[0] in set(HOUSES) - {house}
    ]
    assert wrong == []


def test_the_core_includes_and_calls_downwards() -> None:
    assert keeper.c_upward((PACKAGE / "shm" / "core").glob("*.[ch]"), CORE_DOWN) == []


def test_the_binding_calls_downwards() -> None:
    assert keeper.c_upward((PACKAGE / "shm").glob("*.[ch]"), BINDING_DOWN, BINDING_SHARES) == []


@pytest.mark.parametrize(
    ("drawing", "table"), [("core/engine.h", CORE_DOWN), ("_module.c", BINDING_DOWN)], ids=["core", "binding"]
)
def test_the_drawings_of_the_floors_name_every_file(drawing: str, table: keeper.Table) -> None:
    """Check the drawing in the source, and the one in docs/internals.rst."""
    opening = (PACKAGE / "shm" / drawing).read_text().partition("*/")[0]
    floors = " ".join(line[7:44] for line in opening.splitlines() if line.startswith(" *     "))
    assert set(table) - set(re.findall(r"\w+", floors)) == {"engine"} & set(table)
    page = (ROOT / "docs" / "internals.rst").read_text().rpartition("The layers of the C")[2]
    assert set(table) - set(re.findall(r"\w+", page)) == set()


def test_the_core_knows_no_python() -> None:
    knowing = [path for path in (PACKAGE / "shm" / "core").rglob("*.[ch]") if "Python.h" in path.read_text()]
    assert knowing == []


HEADER_NAMES = {"ct", "v", "x", "e"}
HEADER_BYTES = re.compile(r"""["'](?:ct|[vxe])["']:""")


def headers(source: str) -> Iterator[str]:
    """Yield where a module names an item of a value's header, or the end of a header, outside of docstrings."""
    tree = ast.parse(source)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        named: list[ast.expr | None] = []
        if isinstance(node, ast.Subscript):
            named = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            named = node.args[:1]
        elif isinstance(node, ast.Dict):
            named = node.keys
        elif isinstance(node, ast.Compare):
            named = [node.left]
        found = any(isinstance(key, ast.Constant) and key.value in HEADER_NAMES for key in named)
        if isinstance(node, ast.Constant) and id(node) not in docs:
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            found = node.value == b"|" or (isinstance(text, str) and HEADER_BYTES.search(text) is not None)
        if found:
            yield ast.unparse(node)[:60]


def test_only_wire_knows_the_header() -> None:
    """Check all modules but the fixtures for authors, which look at the stored bytes without mpcache's parser."""
    apart = (PACKAGE / "_wire", PACKAGE / "testing")
    others = [path for path in python_files() if not any(folder in path.parents for folder in apart)]
    assert [(named(path), found) for path in others for found in headers(path.read_text())] == []


@pytest.mark.parametrize(
    "literal", ['known["ct"]', 'known.get("x")', '{"v": 2}', '"e" in known', 'wire.find(b"|")', """b', "e": %d}'"""]
)
def test_the_keeper_sees_a_header(literal: str) -> None:
    assert len(list(headers(f'"""The docs: {{"ct": 1}}|."""\nfound = {literal}'))) == 1


def test_every_module_says_what_it_is_for() -> None:
    first_lines = {path: (ast.get_docstring(ast.parse(path.read_text())) or "") for path in python_files()}
    assert [named(path) for path, text in first_lines.items() if len(text.partition("\n")[0]) < 20] == []


def test_every_c_file_says_what_it_is_for() -> None:
    assert [named(path) for path in c_files() if not path.read_text().startswith("/*")] == []


# The words.
Exceptions = dict[tuple[str, str], str]

NAMELESS_BUT: Exceptions = {}
"""Exceptions, (file, word): the reason."""

EXPONENT_BUT: Exceptions = {
    ("mpcache/_console.py", "{:.3g}"): "significant() rounds with it, and writes the result without an exponent",
}
"""Exceptions, (file, text): the reason."""

REPLACED_FILES = {
    "mpcache": ("shortcut", "foundation", "storage", "mishaps", "bounded", "sharing", "multi", "aio", "memcaching"),
    "mpcache/_region": ("shortcut", "foundation", "storage", "mishaps", "multi", "aio"),
    "mpcache/_support": ("bounded",),
    "mpcache/backends": ("fills", "generations"),
    "mpcache/mutexes": ("turns", "fronted", "files", "clients"),
    "mpcache/shm": ("room", "_pieces", "_bytes", "_clock"),
    "mpcache/shm/core": ("census", "change", "space", "pages", "life"),
    "mpcache/stress": (
        *("diary", "judge", "board", "acts", "play", "trial", "arena", "assay", "spoiled", "foreign", "punctuality"),
        *("freshness", "view"),
    ),
    "mpcache/testing": ("puppets", "scenes", "rig", "mutex_rig"),
    "mpcache/cli": ("guest", "screen", "demo_facts", "demo_crew", "demo_stages"),
    "bench": ("stage", "crew", "fill", "misses", "mix", "promises", "measure"),
}
"""Each folder, and what none of its modules and folders is called any more."""

REPLACED_NAMES = {
    "": (
        *("_Heeded", "Trouble", "_ForgivingBid", "_LenientBid", "Bid", "Asker", "Place", "Seat", "Story", "Unplayable"),
        *("_?(peek|poke|recall)(_.*)?", "_?let_go", "_?forgive", "bear", "bury", "noting"),
    ),
    "mpcache/lock.py": ("keep", "alone"),  # of Work; a mutex keeps a lease, and a store of the bench its values
    "mpcache/_region": ("keep", "alone"),
}
"""Where, and regular expressions for names that no class and no function there has any more."""

REPLACED_SYMBOLS = ("mpc_look", "mpc_ask_for.*", "mpc_retarget", "mpc_(.*_)?(peek|poke|recall)(_.*)?", "sort")
"""Regular expressions for names that no C file has any more."""


def source() -> list[Path]:
    return sorted(path for kind in ("*.py", "*.pyi", "*.c", "*.h") for path in PACKAGE.rglob(kind))


def pages() -> list[Path]:
    return [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]


def places(paths: list[Path], find: Callable[[Path], Iterator[str]], but: Exceptions) -> list[str]:
    """Return all places that a check finds, but the exceptions."""
    found = ((named(path), place) for path in paths for place in find(path))
    return [f"{file}:{place}" for file, place in found if (file, place.split(": ", 1)[1]) not in but]


def test_actors_have_names() -> None:
    found = places(source() + pages(), words.nameless, NAMELESS_BUT)
    assert not found, "\n".join(found)


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    found = places(python_files(), words.nouns, {})
    assert not found, "\n".join(found)


def test_no_message_has_a_number_with_an_exponent() -> None:
    found = places([path for path in source() if path.suffix != ".pyi"], words.exponents, EXPONENT_BUT)
    assert not found, "\n".join(found)


def test_exceptions_are_needed() -> None:
    """A place that has been mended has to leave its list of exceptions."""
    finders = ((words.nameless, NAMELESS_BUT), (words.exponents, EXPONENT_BUT))
    assert [
        (file, text)
        for find, but in finders
        for file, text in but
        if text not in {place.split(": ", 1)[1] for place in find(ROOT / file)}
    ] == []


def test_replaced_names_are_gone() -> None:
    files = list(words.replaced_modules(ROOT, REPLACED_FILES))
    python = [path for path in (*source(), *(ROOT / "bench").rglob("*.py")) if path.suffix in (".py", ".pyi")]
    of_python = [
        f"{named(path)}:{place}"
        for where, left in REPLACED_NAMES.items()
        for path in python
        if named(path).startswith(where)
        for place in words.replaced_names(path, left)
    ]
    of_c = [f"{named(path)}:{place}" for path in c_files() for place in words.replaced_names(path, REPLACED_SYMBOLS)]
    assert not files + of_python + of_c, "\n".join(files + of_python + of_c)


def test_the_worst_habits_are_seen(tmp_path: Path) -> None:
    python, c, page = tmp_path / "a.py", tmp_path / "a.c", tmp_path / "a.rst"
    python.write_text('def f():\n    """What nobody says."""\n    return "fine", f"{1} of his"  # whoever asks\n')
    c.write_text("/* made anew */\n")
    page.write_text("A page.\n\nHe who reads it.\n")
    assert list(words.nameless(python)) == ["2: nobody", "3: his", "3: whoever"]
    assert list(words.nameless(c)) == ["1: anew"]
    assert list(words.nameless(page)) == ["3: He"]


@pytest.mark.parametrize(
    ("docstring", "seen"),
    [
        ("What it is.", ["1: f: What ..."]),
        ("Raises an error.", ["1: f: Raises ..."]),
        ("``x`` is it.", ["1: f: ``x`` ..."]),
        ("Return it.", []),
        ("Pass it on.", []),
        ("", []),
    ],
)
def test_a_docstring_without_a_verb_is_seen(docstring: str, seen: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f'def f():\n    """{docstring}"""\n')
    assert list(words.nouns(tmp_path / "a.py")) == seen


@pytest.mark.parametrize(
    ("name", "text", "seen"),
    [
        ("a.py", 'error = "took 1.8e+02 ns"', "1.8e+02"),
        ("a.py", 'error = f"took {wait:.3g} s"', "{:.3g}"),
        ("a.py", 'error = f"took {wait:{width}g} s"', "{:{width}g}"),
        ("a.py", 'error = "took %.2e s" % wait', "%.2e"),
        ("a.py", 'error = "took {0:g} s".format(wait)', "{0:g}"),
        ("a.c", 'fail("took %g s", wait);', "%g"),
        ("a.py", '"""Took 1.8e+02 ns."""', ""),
        ("a.py", 'fine = f"{wait:.1f} s of {1e9} and e5 in 0x1e5, {kind!r:>9}, 100 %"', ""),
        ("a.c", "double second = 1e9; /* %g */", ""),
    ],
)
def test_a_number_with_an_exponent_is_seen(name: str, text: str, seen: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f"{text}\n")
    assert list(words.exponents(tmp_path / name)) == ([f"1: {seen}"] if seen else [])


def test_a_replaced_name_is_seen(tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text("class Seat:\n    def peek_at(self):\n        seats = Seat.keep()\n")
    (tmp_path / "a.c").write_text('int mpc_look(int sort);\nint mpc_look_up(void); /* mpc_look */ puts("sort");\n')
    assert list(words.replaced_modules(tmp_path.parent, {tmp_path.name: ("room",)})) == [f"{tmp_path.name}/room.py"]
    assert list(words.replaced_names(tmp_path / "room.py", ["Seat", "peek_.*"])) == ["1: Seat", "2: peek_at"]
    assert list(words.replaced_names(tmp_path / "a.c", ["mpc_look", "sort"])) == ["1: mpc_look", "1: sort"]


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_rooms_keep_their_size() -> None:
    def lengths(paths: list[Path]) -> keeper.Sizes:
        return ((named(path), path.read_text().count("\n")) for path in paths)

    assert keeper.too_long(lengths(python_files()), LONGEST_MODULE, MAY_BE_LONGER) == []
    assert keeper.too_long(lengths(c_files()), LONGEST_C_FILE, MAY_BE_LONGER) == []


def test_functions_keep_their_size() -> None:
    of_python = (size for path in python_files() for size in keeper.functions(path))
    of_c = (size for path in c_files() for size in keeper.c_functions(path))
    assert keeper.too_long(of_python, LONGEST_FUNCTION, MAY_BE_LONGER) == []
    assert keeper.too_long(of_c, LONGEST_C_FUNCTION, MAY_BE_LONGER) == []


def test_most_functions_are_short() -> None:
    of_python = [lines for path in python_files() for _, lines in keeper.functions(path)]
    of_c = [lines for path in c_files() for _, lines in keeper.c_functions(path)]
    assert statistics.median(of_python) <= 6
    assert statistics.median(of_c) <= 10


def test_no_line_of_c_is_longer_than_120() -> None:
    of_tests = (ROOT / "tests" / "shm").rglob("*.c")
    lines = ((path, *line) for path in (*c_files(), *of_tests) for line in enumerate(path.read_text().splitlines(), 1))
    assert [f"{named(path)}:{number}" for path, number, line in lines if len(line) > 120] == []


def test_every_c_function_has_our_prefix() -> None:
    """Check the prefix: all files of the engine are compiled as one unit, so names must be unique."""
    names = [what for path in sorted((PACKAGE / "shm").rglob("*.[ch]")) for what, _ in keeper.c_functions(path)]
    assert [what for what in names if not what.partition(":")[2].startswith(("mpc_", "PyInit_"))] == []


def texts() -> Iterator[Path]:
    """Yield every file of the checkout that is not generated."""
    made = re.compile(r"build|dist|\.git|\.venv.*|.*_cache_*|\.hypothesis|.*\.egg-info|.*\.(so|o|pyc)")
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and not any(made.fullmatch(part) for part in path.relative_to(ROOT).parts):
            yield path


def test_no_place_of_one_machine_is_named() -> None:
    place = re.compile(r"(?<![\w.])/(?:work|home|Users|root)/\w")
    naming = [named(path) for path in texts() if place.search(path.read_text(errors="replace"))]
    assert naming == []


IMPORTING = """
import sys, time
before, start = set(sys.modules), time.process_time()
import {}
print(time.process_time() - start, *sorted(set(sys.modules) - before))
"""


def imported(name: str) -> tuple[float, set[str]]:
    """Return the processor time of importing a module, in seconds, and the modules that it loads."""
    fresh = subprocess.run([sys.executable, "-c", IMPORTING.format(name)], capture_output=True, check=True, text=True)
    took, *loaded = fresh.stdout.split()
    return float(took), set(loaded)


def test_importing_is_cheap() -> None:
    """Compare the fastest of some imports: load only adds time.  The time of asyncio tells how slow the machine is."""
    ours, theirs = [imported("mpcache")[0]], [imported("asyncio")[0]]
    while min(ours) >= max(0.050, 2 * min(theirs)) and len(ours) < 40:
        ours.append(imported("mpcache")[0])
        theirs.append(imported("asyncio")[0])
    assert min(ours) < max(0.050, 2 * min(theirs)), (ours, theirs)


def test_importing_loads_no_driver() -> None:
    _, loaded = imported("mpcache")
    assert "mpcache" in loaded
    assert loaded & (DRIVERS | {"multiprocessing", "mpcache.shm._engine"}) == set()


# The keeper is tested, too, on a package in which each rule is broken once.

ROWS: keeper.Table = {"low": (), "stores": (), "stores.*": ("low",), "top": ("stores.*",), "": ("top",)}


@pytest.fixture
def crooked(tmp_path: Path) -> Path:
    package = tmp_path / "crooked"
    files = {
        "__init__.py": "from crooked.top import thing",
        "top.py": "from crooked import low\nfrom crooked.stores.one import One",
        "low.py": "def later():\n    from . import top",
        "stores/__init__.py": "",
        "stores/one.py": "from .. import low",
        "stores/two.py": "from .one import One",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package


def test_the_keeper_sees_an_upward_import_and_a_sibling(crooked: Path) -> None:
    assert keeper.upward(crooked, ROWS) == [
        "crooked.low:2 depends on crooked.top, which is not below it",
        "crooked.stores.two:1 depends on crooked.stores.one, which is not below it",
    ]


def test_the_keeper_sees_what_a_type_checker_alone_imports(crooked: Path) -> None:
    (crooked / "low.py").write_text("if TYPE_CHECKING:\n    from crooked.top import Top")
    assert keeper.upward(crooked, ROWS)[0] == "crooked.low:2 depends on crooked.top, which is not below it"
    assert keeper.cycle(crooked) == ["crooked.top", "crooked.low", "crooked.top"]


def test_the_keeper_sees_private_names_of_others(crooked: Path) -> None:
    (crooked / "low.py").write_text(
        "import os\ndef f(x):\n    self._a\n    os._exit(x._mine)\n    x._b\nclass C:\n    _mine = 1"
    )
    assert keeper.foreign_privates(crooked) == ["crooked.low:5 reads x._b, which it does not define"]


def test_the_keeper_sees_a_cycle(crooked: Path) -> None:
    assert keeper.cycle(crooked) == ["crooked.top", "crooked.low", "crooked.top"]
    (crooked / "low.py").write_text("import crooked.stores")
    assert keeper.cycle(crooked) == []


def test_the_keeper_sees_a_room_without_a_row(crooked: Path) -> None:
    (crooked / "attic.py").write_text("import crooked.low")
    with pytest.raises(LookupError, match="attic stands in no room"):
        keeper.upward(crooked, ROWS)


STOREYS: keeper.Table = {"ground": (), "first": ("ground",), "roof": ("first",)}


@pytest.fixture
def crooked_c(tmp_path: Path) -> list[Path]:
    files = {
        "ground.h": "int ground(void);\n",
        "ground.c": '#include "ground.h"\nint ground(void)\n{\n    return roof(); /* first() */\n}\n',
        "first.h": '#include "roof.h"\n',
        "first.c": '#include "first.h"\nint first(void)\n{\n    puts("roof(");\n    return ground();\n}\n',
        "roof.h": "int roof(void);\n",
        "roof.c": '#include "common.h"\n#include "first.h"\nint roof(void)\n{\n    return first();\n}\n',
        "common.h": '#include "roof.h"\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return sorted(tmp_path.iterdir())


def test_the_keeper_sees_c_that_includes_or_calls_upwards(crooked_c: list[Path]) -> None:
    assert keeper.c_upward(crooked_c, STOREYS, frozenset({"common"})) == [
        'first.h:1 uses #include "roof.h" of roof, which is not below it',
        "ground.c:4 uses roof of roof, which is not below it",
    ]


def test_the_keeper_sees_c_without_a_floor(crooked_c: list[Path]) -> None:
    with pytest.raises(LookupError, match="common has no floor"):
        keeper.c_upward(crooked_c, STOREYS)


def test_the_keeper_measures_functions(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('def f():\n    """Two\n    lines."""\n    return 1\n')
    (tmp_path / "a.c").write_text(
        "int declared(int a,\n             int b);\n\nstruct s {\n    int (*f)(int);\n};\n\n"
        "static const char *\ndefined(int a)\n{\n    if (a) {\n        b++;\n    }\n    return b;\n}\n\n"
        "int table[] = {\n    f(1),\n};\n\nint second(int a) {\n    return a;\n}\n"
    )
    assert list(keeper.functions(tmp_path / "a.py")) == [("a.py:f", 2)]
    assert list(keeper.c_functions(tmp_path / "a.c")) == [("a.c:defined", 7), ("a.c:second", 3)]


def test_the_keeper_grants_what_is_explained() -> None:
    sizes = [("a.c:f", 8), ("a.c:g", 9), ("a.c:h", 7)]
    assert keeper.too_long(sizes, 7, {"a.c:f": (8, "because")}) == [
        "a.c:g has 9 lines, the most is 7: look for the second idea in it"
    ]
