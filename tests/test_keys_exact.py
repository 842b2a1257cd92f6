"""Exact keys: equal calls have equal keys, different calls never, in every process and every Python."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import functools
import inspect
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpcache
from mpcache._keys.encoding import NotEncodable, part
from mpcache._keys.exact import LONGEST
from mpcache.keys import exact_key_generator, exact_multi_key_generator
from tests import key_examples
from tests.key_examples import Colour, Keyed, Named, Pair, Plain, Point, Text

# -- values ------------------------------------------------------------------------------------------------------------

# A value is described by its type and contents, so that it can be built twice, and two can be compared exactly.

LEAVES = st.one_of(
    st.tuples(st.just("repr"), st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers()),
    st.tuples(st.just("repr"), st.text(st.characters(), max_size=8) | st.binary(max_size=80) | st.decimals()),
    st.tuples(st.just("repr"), st.dates() | st.datetimes() | st.times() | st.timedeltas() | st.uuids()),
    st.tuples(
        st.just("repr"), st.fractions() | st.sampled_from([*Colour, range(3), range(0), ..., slice(1), int, len])
    ),
)
ATOMS = st.text(max_size=3) | st.integers()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.tuples(st.sampled_from(["tuple", "list", "Items", "Pair", "Point", "deque"]), st.lists(inner, max_size=3))
        | st.tuples(st.sampled_from(["set", "frozenset"]), st.frozensets(ATOMS, max_size=3))
        | st.tuples(st.just("dict"), st.lists(st.tuples(ATOMS, inner), max_size=3, unique_by=lambda pair: pair[0]))
        | st.tuples(st.sampled_from(["Keyed", "Plain"]), inner)
        | st.tuples(st.sampled_from(["Text"]), st.text(max_size=3))
    ),
    max_leaves=8,
)


def build(tree: Any) -> Any:
    """Build a new value from a description."""
    kind, inner = tree
    if kind == "repr":
        return pickle.loads(pickle.dumps(inner))
    if kind in ("set", "frozenset"):
        return {"set": set, "frozenset": frozenset}[kind](sorted(inner, key=repr, reverse=os.getpid() % 2 == 0))
    if kind == "dict":
        return {key: build(value) for key, value in inner}
    if kind in ("Keyed", "Plain"):
        return getattr(key_examples, kind)(build(inner))
    if kind == "Text":
        return Text(inner)
    items = [build(one) for one in inner]
    if kind in ("Pair", "Point"):
        return getattr(key_examples, kind)(items[0] if items else None, items[1:])
    return {"tuple": tuple, "list": list, "Items": key_examples.Items, "deque": collections.deque}[kind](items)


def exactly(tree: Any) -> Any:
    """Return a form that two descriptions have in common if and only if their values are the same."""
    kind, inner = tree
    if kind == "repr":
        return "nan" if isinstance(inner, float) and inner != inner else (type(inner), repr(inner))
    if kind == "dict":
        return kind, [(type(key), key, exactly(value)) for key, value in inner]
    if kind in ("set", "frozenset", "Text"):
        return kind, inner
    if kind in ("Keyed", "Plain"):
        return kind, exactly(inner)
    items = [exactly(one) for one in inner]
    return (kind, items or [exactly(("repr", None))]) if kind in ("Pair", "Point") else (kind, items)


@given(TREES)
@settings(max_examples=200, deadline=None)
def test_equal_values_have_equal_parts(tree: Any) -> None:
    assert part(build(tree)) == part(build(tree))


@given(TREES, TREES)
@settings(max_examples=250, deadline=None)
def test_different_values_have_different_parts(one: Any, other: Any) -> None:
    assert (part(build(one)) == part(build(other))) == (exactly(one) == exactly(other))


@given(st.lists(TREES, max_size=4), st.lists(TREES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_part_runs_into_the_next(one: Any, other: Any) -> None:
    texts = ["".join(part(build(tree)) for tree in trees) for trees in (one, other)]
    assert (texts[0] == texts[1]) == (list(map(exactly, one)) == list(map(exactly, other)))


# -- calls -------------------------------------------------------------------------------------------------------------

NAMES = list("abcdef")


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    """Draw parameters of all kinds, some with defaults."""
    kinds = sorted(draw(st.lists(st.sampled_from(list(inspect._ParameterKind)), max_size=5)))
    parameters, defaulted = [], False
    for name, kind in zip(NAMES, kinds, strict=False):
        if kind in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD):
            if kind not in [parameter.kind for parameter in parameters]:
                parameters.append(inspect.Parameter(name, kind))
            continue
        defaulted = (kind is not kind.KEYWORD_ONLY and defaulted) or draw(st.booleans())
        default = draw(st.integers(0, 2)) if defaulted else inspect.Parameter.empty
        parameters.append(inspect.Parameter(name, kind, default=default))
    return inspect.Signature(parameters)


VALUES = st.integers(0, 2) | st.sampled_from(["", "0", "i1:0", True, None, ("a",)])


def any_calls() -> st.SearchStrategy[Any]:
    """Draw arguments that may fit."""
    return st.tuples(
        st.lists(VALUES, max_size=4), st.dictionaries(st.sampled_from([*NAMES, "x", "y"]), VALUES, max_size=4)
    )


@st.composite
def fitting_calls(draw: Any, signature: inspect.Signature) -> tuple[list[Any], dict[str, Any]]:
    """Draw arguments that fit."""
    args: list[Any] = []
    kw: dict[str, Any] = {}
    by_position = True
    for parameter in signature.parameters.values():
        kind = parameter.kind
        if kind is kind.VAR_POSITIONAL:
            args += draw(st.lists(VALUES, max_size=2)) if by_position else []
        elif kind is kind.VAR_KEYWORD:
            kw |= draw(st.dictionaries(st.sampled_from(["x", "y"]), VALUES, max_size=2))
        elif parameter.default is not parameter.empty and (draw(st.booleans()) or not by_position):
            by_position = by_position and kind is kind.KEYWORD_ONLY  # what follows can be given by its name only
        elif kind is kind.KEYWORD_ONLY or (
            kind is not kind.POSITIONAL_ONLY and (not by_position or draw(st.booleans()))
        ):
            kw[parameter.name], by_position = draw(VALUES), False
        else:
            args.append(draw(VALUES))
    return args, kw


def bound(signature: inspect.Signature, call: Any) -> Any:
    """Return the exact values of a function's parameters in a call; None: the arguments do not fit."""
    try:
        arguments = signature.bind(*call[0], **call[1])
    except TypeError:
        return None
    arguments.apply_defaults()
    return {
        name: sorted((key, repr(one)) for key, one in value.items()) if isinstance(value, dict) else repr(value)
        for name, value in arguments.arguments.items()
    }


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_calls_have_one_key_if_they_are_one_call(data: st.DataObject) -> None:
    signature = data.draw(signatures())

    def function(*args: Any, **kw: Any) -> None: ...

    function.__signature__ = signature  # type: ignore[attr-defined]
    key = exact_key_generator(None, function)
    one, other = data.draw(fitting_calls(signature)), data.draw(fitting_calls(signature) | any_calls())
    assert bound(signature, one) is not None
    assert key(*one[0], **one[1]) == key(*one[0], **one[1])
    if bound(signature, other) is not None:
        same = bound(signature, one) == bound(signature, other)
        assert (key(*one[0], **one[1]) == key(*other[0], **other[1])) == same


WORDS = st.one_of(st.text(max_size=12), st.integers(), st.booleans(), st.none(), st.text(min_size=40, max_size=250))


@pytest.mark.engine
@given(st.lists(WORDS, max_size=4), st.sampled_from([0, 1, 2]))
@settings(max_examples=150, deadline=None)
def test_the_engine_makes_the_same_keys(words: list[Any], which: int) -> None:
    """Check that the engine finds, under its key, the value that Python stored under its own."""

    @cache.cache_on_arguments("engine", function_key_generator="exact")
    def function(a: Any = 1, b: Any = "", *rest: Any) -> Any:
        return made.pop()

    calls = [(), words, [words]]
    args = calls[which] if which < 2 else words
    made: list[Any] = []
    cache.actual_backend.clear()
    function.set("stored", *args)
    assert function(*args) == "stored"
    small = all(isinstance(word, str) or abs(word or 0) < 1 << 63 for word in words)
    if small and len("".join(map(str, words)).encode("utf-8", "surrogatepass")) < 60 and which < 2:
        bound = function._arguments.bind(tuple(args), {})[0]  # type: ignore[attr-defined]
        found = cache.access.call(function._start, function._fast, bound, None, function._counts)  # type: ignore[attr-defined, misc]
        assert found == "stored"


cache = mpcache.shared(None, size="4MB", expiration_time=60)


@given(st.text(min_size=60, max_size=400), st.text(min_size=60, max_size=400))
@settings(max_examples=200, deadline=None)
def test_a_long_key_is_short_and_has_its_beginning_in_it(one: str, other: str) -> None:
    key = exact_key_generator(None, key_examples.at_module_level_of_any)
    first, second = key(one), key(other)
    assert (first == second) == (one == other)
    for made in (first, second):
        assert len(made.encode("utf-8", "surrogatepass")) <= LONGEST
        assert made.startswith("tests.key_examples:at_module_level_of_any|")


def test_no_short_key_reads_like_a_long_one() -> None:
    """Check long keys: else a client that knows the key of a long call could choose other arguments with that key."""
    key = exact_key_generator(None, key_examples.at_module_level_of_any)
    long = key("x" * 1000, "y")
    assert re.fullmatch(r"[\w.:]+\|~\*1.*~[0-9a-f]{48}", long)
    tail = long.partition("|")[2]
    assert all(key(tail[at:]) != long for at in range(len(tail)))


# -- other processes ---------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent


def test_the_format_is_what_it_was() -> None:
    assert key_examples.disagreeing() == []


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_with_another_hash_seed(seed: str) -> None:
    program = "from tests.key_examples import disagreeing; raise SystemExit('\\n'.join(disagreeing()) or None)"
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], env=env, cwd=ROOT, timeout=100, check=False).returncode == 0


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_in_processes_of_every_kind(method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(key_examples.disagreeing) == []


def test_a_scripts_own_classes_have_one_key_in_spawned_children(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import dataclasses, enum, multiprocessing, sys\n"
        "from mpcache.keys import exact_key_generator\n"
        "@dataclasses.dataclass\n"
        "class Point: x: int\n"
        "class Thing:\n"
        "    def __init__(self): self.point = Point(1)\n"
        "class Colour(enum.Enum): RED = 1\n"
        "def load(*args): pass\n"
        "def keys(): return list(map(exact_key_generator(None, load), (Point(1), Colour.RED, Thing(), Point, load)))\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        theirs = pool.apply(keys)\n"
        "    sys.exit(0 if theirs == keys() else f'{theirs} {keys()}')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


# -- different values, kind by kind -----------------------------------------------------------------------------------


def different(*values: Any) -> bool:
    return len({part(value) for value in values}) == len(values)


def test_numpy() -> None:
    np = pytest.importorskip("numpy")
    large = np.arange(10_000.0)
    changed = large.copy()
    changed[5000] += 1e-12
    assert part(large) == part(large.copy()) == part(np.repeat(large, 2)[::2])
    assert different(large, changed, large.astype(">f8"), large.reshape(100, 100), large.reshape(100, 100).T)
    assert part(np.asfortranarray(large.reshape(100, 100))) == part(large.reshape(100, 100))
    assert different(np.int8(1), np.int16(1), 1, np.array(1), np.array([1]), np.bool_(True))
    assert different(
        np.datetime64(1, "D"), np.datetime64(1, "s"), np.array(["a"]), np.array([b"a"]), np.array(["a", ""])
    )
    objects = [np.array(["a", (1,)], dtype=object), np.array(["a", (2,)], dtype=object)]
    assert different(*objects)
    assert part(objects[0]) == part(objects[0].copy())
    padded = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "i8")], align=True))
    dirty = np.frombuffer(b"\xff" * padded.nbytes, dtype=padded.dtype).copy()
    dirty["a"], dirty["b"] = 0, 0
    assert part(padded) == part(dirty)
    assert different(padded, padded.astype([("c", "i1"), ("b", "i8")]))
    overlapping = np.zeros(2, {"names": ["whole", "half"], "formats": ["<i4", "<i2"], "offsets": [0, 2]})
    other = overlapping.copy()
    other["half"] = 1
    assert different(overlapping, other)
    assert part(overlapping) == part(overlapping.copy())
    assert different(np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0]), np.array([1, 2]))
    assert different(np.longdouble(1), np.longdouble(1) + np.finfo(np.longdouble).eps)
    if hasattr(np.dtypes, "StringDType"):
        texts = [np.array(["a" * 50, end], dtype=np.dtypes.StringDType()) for end in "bc"]
        assert different(*texts)
        assert part(texts[0]) == part(texts[0].copy())


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"n": range(1000), "t": [str(n) for n in range(1000)], "x": [n / 7 for n in range(1000)]})
    frames = [frame]
    for change in (
        lambda f: f.__setitem__("n", f["n"].where(f.index != 500, -1)),
        lambda f: f.__setitem__("t", f["t"].where(f.index != 500, "changed")),
        lambda f: f.__setitem__("x", f["x"] + 1e-15),
        lambda f: f.rename(columns={"n": "m"}, inplace=True),
        lambda f: f.rename_axis("rows", inplace=True),
        lambda f: f.__setitem__("t", f["t"].astype("category")),
        lambda f: f.set_index("t", inplace=True),
        lambda f: f.attrs.__setitem__("source", "a file"),
    ):
        changed = frame.copy()
        change(changed)
        assert part(changed) == part(changed.copy())
        frames.append(changed)
    assert different(*frames, frame["n"], frame["n"].rename("m"), frame.index, frame[["n"]], frame.iloc[::-1])
    days = pd.date_range("2024-01-01", periods=3)
    categories = [
        pd.Series(pd.Categorical(["a", "b"], categories=list(names), ordered=ordered))
        for names in ("ab", "abc", "ba")
        for ordered in (False, True)
    ]
    whole = [pd.Series([1, None], dtype="Int64"), pd.Series([1, 2], dtype="Int64"), pd.Series([1.0, None])]
    assert different(days, days.tz_localize("UTC"), days.tz_localize("Asia/Tokyo"), *categories, *whole)
    assert different(pd.MultiIndex.from_tuples([(1, "a")]), pd.MultiIndex.from_tuples([(1, "b")]))
    assert different(pd.Timestamp(1), pd.Timestamp(2), pd.NaT, pd.NA, pd.interval_range(0, 3), pd.interval_range(0, 4))


def test_pydantic_and_attrs() -> None:
    pydantic, attrs = pytest.importorskip("pydantic"), pytest.importorskip("attrs")
    global Model, Open, Struct

    class Model(pydantic.BaseModel):
        __qualname__ = "Model"
        a: int
        _hidden: int = pydantic.PrivateAttr(default=1)

    class Open(pydantic.BaseModel, extra="allow"):
        __qualname__ = "Open"

    @attrs.define
    class Struct:
        __qualname__ = "Struct"
        a: int

    hiding = Model(a=1)
    hiding._hidden = 2
    assert part(Model(a=1)) == part(Model(a="1"))
    assert different(Model(a=1), Model(a=2), hiding, Open(a=1), Open(b=1), Struct(1), Struct(2))
    assert part(Struct(1)) == part(Struct(1))


def test_a_record_that_has_more_than_its_fields_goes_by_its_pickle() -> None:
    more = Point(1)
    more.note = "more"
    assert different(Point(1), more, Point(1, 1))
    assert part(more).startswith("O")
    assert different(Named(1), Pair(1, 2), (1,), (1, 2))


def test_a_record_whose_state_is_not_in_its_fields_goes_by_all_of_its_state() -> None:
    for kind in (key_examples.Refusal, key_examples.Label, key_examples.Ids):
        assert different(kind("ab"), kind("ac")), kind
        assert part(kind("ab")) == part(kind("ab")), kind
    rows = [key_examples.Row([1]), key_examples.Row([1])]
    assert part(rows[0]) == part(rows[1])
    rows[1].note = "more"
    assert different(*rows)


def test_members_of_one_name_that_an_enum_makes_for_unknown_values() -> None:
    for kind in (key_examples.Status, key_examples.Nameless):
        assert different(kind(5), kind(6), kind.OK)
        assert part(kind(5)) == part(kind(5))


def test_a_method_of_what_has_no_name_cannot_be_part_of_a_key() -> None:
    with pytest.raises(NotEncodable, match="cannot be found under its name"):
        part(types.MethodType(functools.partial(len), ()))


def test_an_object_goes_by_all_that_pickle_sees_of_it() -> None:
    same = "x" * 10
    assert part(Plain([same, same])) == part(Plain(["x" * 10, "".join(["x"] * 10)]))
    assert different(Plain(1), Plain("1"), Plain(Keyed(1)), Plain(Keyed(2)), Keyed(1))
    assert part(Plain(Keyed(1))) == part(Plain(Keyed(1)))  # each has an object() in it, which is in no key


def test_times_in_zones() -> None:
    from zoneinfo import ZoneInfo

    summer = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    hour = datetime.timezone(datetime.timedelta(hours=1))
    values = [summer, summer.replace(fold=1), summer.replace(tzinfo=None), summer.replace(tzinfo=hour)]
    assert different(
        *values, summer.replace(tzinfo=ZoneInfo("Europe/Paris")), summer.timetz(), summer.time(), summer.date()
    )


def test_functions_and_classes_by_their_names() -> None:
    class Local: ...

    def local() -> None: ...

    assert different(
        int, str, Point, Keyed, len, key_examples.at_module_level, Point(1), Keyed(1).method, Keyed(2).method
    )
    for value in (Local, local, lambda: 0, Local().__init__, types.FunctionType((lambda: 0).__code__, {}, "len")):
        with pytest.raises(NotEncodable):
            part(value)
    replaced = key_examples.at_module_level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_examples, "at_module_level", lambda: 0)
        with pytest.raises(NotEncodable, match="cannot be found under its name"):
            part(replaced)


def test_local_classes_of_one_name_are_not_taken_for_one() -> None:
    def made(n: int) -> Any:
        @dataclasses.dataclass
        class Local:
            x: int

            def area(self) -> int:
                return self.x * n

        return Local(3)

    with pytest.raises(NotEncodable, match="cannot be pickled"):
        part(made(1))


def test_what_cannot_be_part_of_a_key() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    round_ = Plain(None)
    round_.state = round_
    for value in (circle, deep, [deep], round_):
        with pytest.raises(NotEncodable):
            part(value)
    with open(os.devnull) as file:
        for value in (object(), [object()], Plain(object()), file, (x for x in ()), sys, memoryview(b"")):
            with pytest.raises(NotEncodable):
                part(value)
    assert part(deep[0])


def test_an_error_names_function_parameter_type_and_remedies() -> None:
    def load(path: Any, *rest: Any, **options: Any) -> None: ...

    key = exact_key_generator(None, load)
    for name, call in {"path": ((iter,), {}), "rest": ((1, sys), {}), "codec": ((1,), {"codec": sys})}.items():
        args = tuple((lambda: 0) if one is iter else one for one in call[0])
        with pytest.raises(
            TypeError,
            match=rf"load\(\): the argument '{name}', of type (function|module).*ignore=.*key=.*__cache_key__",
        ):
            key(*args, **call[1])


def test_a_default_may_be_anything() -> None:
    missing = object()

    def load(a: Any = missing, b: Any = lambda: 0) -> None: ...

    key = exact_key_generator(None, load)
    assert key() == key(missing) != key(None) != key("o0:")
    with pytest.raises(TypeError):
        key(object())


def test_names_and_namespaces_do_not_run_into_arguments() -> None:
    def load(*args: Any) -> None: ...

    texts = ["", "s1:a", "|", "s1:a|", "n0:"]
    keys = {exact_key_generator(space, load)(*args) for space in [None, *texts] for args in [(), *zip(texts)]}
    assert len(keys) == 6 * 6
    load.__qualname__ = "a|b:c%"
    assert exact_key_generator(None, load)() == f"{__name__}:a%7cb%3ac%25|*0:"


def test_many_keys() -> None:
    def load(*ids: Any, lang: str = "en") -> None: ...

    key = exact_multi_key_generator(None, load)
    assert len({*key(1, "1", True), *key(1, "1", True, lang="fr")}) == 6
    assert key(1, 2) == [*key(1), *key(2)] == key(1, 2, lang="en")


def test_to_str_makes_the_text_that_stands_for_an_argument() -> None:
    def load(a: Any, b: Any) -> None: ...

    key = exact_key_generator(None, load, lambda value: str(value).lower())
    assert key("A", "b c") == key("a", "B C") != key("a b", "c")


def test_numbers_have_no_limit() -> None:
    assert different(10**6000, 10**6000 + 1, decimal.Decimal(10) ** 6000)
