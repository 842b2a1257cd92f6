"""The keys of calls: receivers, key= and ignore=, calls without a key, warnings."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import ValidationError
from mpcache.keys import kwarg_function_key_generator, qualname_function_key_generator


@pytest.fixture
def text() -> Any:
    return mpcache.make_region().configure("mpcache.memory")


@pytest.fixture
def exact() -> Any:
    return mpcache.make_region(function_key_generator="exact", function_multi_key_generator="exact").configure(
        "mpcache.memory"
    )


@pytest.fixture(params=["text", "exact"])
def region(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def keys(region: Any) -> list[str]:
    return [key.partition("|")[2] for key in region.actual_backend._cache]


class Addressed:
    """A class whose text is the object's address."""

    def __init__(self, content: Any) -> None:
        self.content = content


class Account:
    """A class with a key of its own, and a text that other objects share."""

    def __init__(self, id: int) -> None:
        self.id = id

    def __str__(self) -> str:
        return "J. Doe"

    def __cache_key__(self) -> int:
        return self.id


# -- receivers ---------------------------------------------------------------------------------------------------------


def test_of_text_keys_no_receiver_is_part_whatever_it_is_called(text: Any) -> None:
    class Shop:
        @text.cache_on_arguments()
        def price(this, item: str, n: int = 1) -> str:
            return f"{item} {n}"

        @text.cache_on_arguments("rest")
        def rest(*args: Any) -> Any:
            return args[1:]

    shop, other = Shop(), Shop()
    assert shop.price("tea") == other.price(item="tea", n=1) == Shop.price(shop, "tea") == "tea 1"
    assert shop.price.get("tea") == Shop.price.get(None, "tea") == Shop.price.get(other, "tea") == "tea 1"
    assert keys(text) == ["tea 1"]
    Shop.price.invalidate(None, "tea")
    assert keys(text) == []
    assert shop.rest(1, 2) == (1, 2)
    assert keys(text) == ["rest|1 2"]


def test_a_function_in_a_class_without_a_receiver_has_a_first_argument(region: Any) -> None:
    class Namespace:
        @region.cache_on_arguments()
        def load(item: Any) -> Any:
            return item

    assert [Namespace.load(1), Namespace.load(2), Namespace.load(None)] == [1, 2, None]  # type: ignore[arg-type]
    Namespace.load.invalidate(None)
    assert len(keys(region)) == 2


def test_a_function_that_a_class_borrows_is_no_method_elsewhere(region: Any) -> None:
    @region.cache_on_arguments()
    def area(shape: Any) -> Any:
        return shape.id

    class Shape(Account):
        pass

    Shape.area = area  # type: ignore[attr-defined]
    borrowed = type("Borrowed", (Account,), {"area": area})
    assert [area(Shape(1)), area(Shape(2)), area(borrowed(3))] == ([1, 2, 3] if region_is_exact(region) else [1, 1, 1])


def region_is_exact(region: Any) -> bool:
    return "exact" in region.function_key_generator.__name__


def test_of_exact_keys_the_object_is_part_by_its_key(exact: Any) -> None:
    class User(Account):
        @exact.cache_on_arguments()
        def greet(self, word: str) -> str:
            return f"{word} {self.id}"

    assert [User(1).greet("hi"), User(2).greet("hi"), User.greet(User(2), "hi")] == ["hi 1", "hi 2", "hi 2"]
    assert len(keys(exact)) == 2
    User.greet.invalidate(User(1), "hi")
    User(2).greet.invalidate("hi")
    assert keys(exact) == []


def test_of_exact_keys_an_object_without_a_key_is_refused_at_the_first_call(exact: Any) -> None:
    class Shop:
        @exact.cache_on_arguments()
        def price(self, item: str) -> str:
            return item

        @exact.cache_on_arguments(ignore=("self",))
        def stock(self, item: str) -> str:
            return item

    for use in (Shop().price, Shop().price.get, Shop().price.key, lambda item: Shop.price(Shop(), item)):
        with pytest.raises(TypeError, match=r"Shop\.price\(\) is a method.*__cache_key__.*ignore=\('self',\)"):
            use("tea")
    assert Shop().stock("tea") == Shop().stock("tea") == Shop.stock.get(None, "tea") == "tea"
    assert len(keys(exact)) == 1


def test_of_exact_keys_a_class_is_part(exact: Any) -> None:
    assert [Base.table(), Left.table(), Right.table(), Left().table()] == ["Base", "Left", "Right", "Left"]
    Left.table.invalidate(Left)
    assert Left.inside() == "Left"
    assert Left.inside.get() == Left().inside.get() == "Left"
    assert Right.inside.get() is NO_VALUE
    Left.inside.invalidate()
    assert Left.inside.get() is NO_VALUE


of_classes = mpcache.make_region(function_key_generator="exact").configure("mpcache.memory")


class Base:
    """A class with class methods that subclasses inherit."""

    @classmethod
    @of_classes.cache_on_arguments()
    def table(cls) -> str:
        return cls.__name__

    @of_classes.cache_on_arguments()
    @classmethod
    def inside(cls) -> str:
        return cls.__name__


class Left(Base): ...


class Right(Base): ...


def test_a_class_method_has_its_attributes_bound(text: Any) -> None:
    class Table:
        @classmethod
        @text.cache_on_arguments()
        def rows(cls, n: int) -> int:
            return n

    assert Table.rows(3) == 3
    assert Table.rows.get(3) == Table().rows.get(n=3) == Table.rows.get(None, 3) == Table.rows.get(Table, 3) == 3
    Table.rows.set(4, 3)
    assert Table.rows(3) == 4
    Table.rows.invalidate(3)
    assert keys(text) == []


def test_two_layers_of_caches(text: Any, exact: Any) -> None:
    class Shop:
        @text.cache_on_arguments()
        @exact.cache_on_arguments(ignore=("this",))
        def price(this, item: str) -> str:
            return item

        @text.cache_on_arguments("by name", function_key_generator=kwarg_function_key_generator)
        @exact.cache_on_arguments("by name", ignore=("this",))
        def named(this, item: str, n: int = 1) -> Any:
            return item, n

        @text.cache_on_arguments()
        @text.cache_on_arguments("below")
        def both(this, item: str) -> str:
            return item

    assert Shop().price("tea") == "tea"
    assert Shop().named("tea", n=2) == ("tea", 2)
    assert Shop().both("tea") == "tea"
    assert keys(text) == ["tea", "by name|tea 2", "below|tea", "tea"]
    assert len(keys(exact)) == 2


@pytest.mark.parametrize("placeholder", [None, "self", "another object", "a copy of its argument", "the region"])
def test_something_may_stand_for_the_object(text: Any, placeholder: str) -> None:
    class Api:
        @text.cache_on_arguments()
        def user(self, id: str, *, _domain: Any = None) -> str:
            return id

        @text.cache_on_arguments("default")
        def page(self, n: int = 1) -> int:
            return n

    api = Api()
    stands = {"self": api, "another object": Api(), "a copy of its argument": ["u"], "the region": text}.get(
        placeholder
    )
    page = api.page
    page.set(7, stands, 2)
    assert page(2) == page.get(stands, 2) == 7
    page.invalidate(stands, 2)
    assert page.refresh(stands, 2) == page(2) == 2


def test_an_argument_stays_one_where_the_call_fits(text: Any) -> None:
    class Api:
        @text.cache_on_arguments()
        def pair(self, a: Any, b: Any = 2) -> Any:
            return a, b

    api = Api()
    api.pair(1, 3)
    assert api.pair.get(1, 3) == (1, 3)
    assert api.pair.get(1) is NO_VALUE
    api.pair.set("set", None, 1)
    assert api.pair(1) == "set"


# -- kinds of functions ------------------------------------------------------------------------------------------------


class Traced:
    """A decorator that is a class."""

    def __init__(self, fn: Any) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn

    def __call__(self, *args: Any, **kw: Any) -> Any:
        return self.fn(*args, **kw)


def test_a_class_based_decorator_takes_no_argument_away(region: Any) -> None:
    @region.cache_on_arguments()
    @Traced
    def double(x: int, y: int = 0) -> int:
        return 2 * x + y

    @region.cache_multi_on_arguments("many")
    @Traced
    def doubles(*xs: int) -> list[int]:
        return [2 * x for x in xs]

    assert [double(1), double(2), double(x=2), double(2, 1)] == [2, 4, 4, 5]
    assert doubles(1, 2) == doubles(1, 2) == [2, 4]
    assert len(keys(region)) == 5


def test_a_class_is_a_function_that_makes_objects(region: Any) -> None:
    made = region.cache_on_arguments()(Account)
    assert (made(1).id, made(2).id, made(id=2).id) == (1, 2, 2)
    assert len(keys(region)) == 2


def test_a_decorator_that_takes_other_arguments_than_what_it_wraps(exact: Any) -> None:
    def with_user(fn: Any) -> Any:
        @functools.wraps(fn)
        def outer(user: str, *args: Any) -> Any:
            return user, fn(*args)

        return outer

    @exact.cache_on_arguments()
    @with_user
    def page(n: int) -> int:
        return n

    assert [page("a", 1), page("b", 1), page("a", 1)] == [("a", 1), ("b", 1), ("a", 1)]
    assert len(keys(exact)) == 2


def test_a_decorator_that_provides_keyword_only_arguments(exact: Any) -> None:
    def with_defaults(fn: Any) -> Any:
        @functools.wraps(fn)
        def outer(*args: Any, **kw: Any) -> Any:
            return fn(*args, **{"low": 0, "high": 9, **kw})

        return outer

    @exact.cache_on_arguments()
    @with_defaults
    def between(*, low: int, high: int) -> tuple[int, int]:
        return low, high

    @exact.cache_multi_on_arguments()
    @with_defaults
    def all_between(*ns: int, low: int, high: int) -> list[tuple[int, int, int]]:
        return [(n, low, high) for n in ns]

    assert [between(low=5), between(high=5), between(low=5, high=9), between()] == [(5, 9), (0, 5), (5, 9), (0, 9)]
    assert [all_between(1, low=5), all_between(1, high=5)] == [[(1, 5, 9)], [(1, 0, 5)]]


def test_missing_parentheses_are_told() -> None:
    region = mpcache.make_region()
    for decorate in (region.cache_on_arguments, region.cache_multi_on_arguments):
        for fn in (len, staticmethod(len), Account):
            with pytest.raises(TypeError, match=rf"write @region\.{decorate.__name__}\(\), with parentheses"):
                decorate(fn)  # type: ignore[operator]
        with pytest.raises(TypeError, match="cannot be called"):
            decorate()(5)  # type: ignore[operator, type-var]


# -- key= and ignore= --------------------------------------------------------------------------------------------------


def test_key_says_what_the_key_is_made_of(region: Any) -> None:
    calls: list[Any] = []

    @region.cache_on_arguments(key=lambda user, page, *, lang: (user["id"], page, lang))
    def profile(user: Any, page: int = 1, *, lang: str = "en") -> Any:
        calls.append(page)
        return page

    session = object()
    assert profile({"id": 1, "session": session}) == profile({"id": 1}, page=1, lang="en") == 1
    assert profile({"id": "1"}) == profile({"id": 1}, 1, lang="fr") == 1
    assert calls == [1, 1, 1]
    profile.set(5, {"id": 1})
    assert profile.get({"id": 1}) == profile({"id": 1}) == 5
    profile.invalidate({"id": 1})
    assert len({profile.key({"id": one}) for one in (1, "1", 2)}) == 3
    assert len(keys(region)) == 2


def test_key_gets_the_object_of_a_method_first_and_no_receiver_is_in_the_key_besides(region: Any) -> None:
    class Shop:
        def __init__(self, town: str) -> None:
            self.town = town

        @region.cache_on_arguments(key=lambda shop, item: f"{shop.town}/{item}")
        def price(self, item: str) -> str:
            return f"{item} in {self.town}"

        @region.cache_multi_on_arguments(key=lambda shop, item: (shop.town, item))
        def prices(self, *items: str) -> list[str]:
            return [f"{item} in {self.town}" for item in items]

    assert [Shop("Ulm").price("tea"), Shop("Bonn").price("tea"), Shop("Ulm").price("tea")] == [
        *("tea in Ulm", "tea in Bonn", "tea in Ulm")
    ]
    assert Shop("Ulm").price.key("tea").endswith("Shop.price|s7:Ulm/tea")
    assert Shop("Ulm").prices("a", "b") == ["a in Ulm", "b in Ulm"]
    assert Shop("Bonn").prices("b") == ["b in Bonn"]
    assert Shop("Ulm").prices.get("b", "a") == ["b in Ulm", "a in Ulm"]
    assert len(keys(region)) == 5


def test_what_key_returns_must_be_something_of_which_keys_are_made(region: Any) -> None:
    f = region.cache_on_arguments(key=lambda x: object())(lambda x: x)
    with pytest.raises(TypeError, match="key= returned something of type object"):
        f(1)
    with pytest.raises(TypeError, match="key= or ignore=, not both"):
        region.cache_on_arguments(key=str, ignore=("x",))(lambda x: x)


def test_ignore_leaves_parameters_out(region: Any) -> None:
    calls: list[Any] = []

    @region.cache_on_arguments(ignore=("session", "debug", "log"))
    def row(session: Any, id: int, *, debug: bool = False, **log: Any) -> int:
        calls.append(id)
        return id

    @region.cache_multi_on_arguments(ignore=("session",))
    def rows(session: Any, *ids: int) -> list[int]:
        assert isinstance(session, Addressed)
        calls.append(ids)
        return list(ids)

    assert row(Addressed(1), 1) == row(Addressed(2), id=1) == row(object(), 1, debug=True) == 1
    assert rows(Addressed(1), 1, 2) == [1, 2]
    assert rows(Addressed(2), 2, 3) == [2, 3]
    assert calls == [1, (1, 2), (3,)]
    assert rows.get(None, 3, 4) == [3, NO_VALUE]
    rows.set({4: 40})
    assert rows(Addressed(3), 4) == [40]
    rows.invalidate(None, 4)
    assert len(keys(region)) == 4


@pytest.mark.parametrize("ignore", [("sesion",), "session", ("session", "other")])
def test_ignore_is_checked_when_the_function_is_decorated(region: Any, ignore: Any) -> None:
    for decorate in (region.cache_on_arguments, region.cache_multi_on_arguments):
        with pytest.raises(TypeError, match="ignore"):
            decorate(ignore=ignore)(lambda session: 1)


def test_a_generator_of_the_users_that_cannot_ignore_says_so(region: Any) -> None:
    def generator(namespace: Any, fn: Any) -> Any:
        return lambda *args: "key"

    with pytest.raises(TypeError, match="takes no ignore="):
        region.cache_on_arguments(function_key_generator=generator, ignore=("x",))(lambda x: 1)


def test_generators_have_names_in_a_configuration() -> None:
    region = mpcache.make_region()

    @region.cache_on_arguments()
    def before(x: Any) -> Any:
        return type(x)

    region.configure_from_config({"c.backend": "mpcache.memory", "c.function_key_generator": " exact "}, "c.")
    after = region.cache_multi_on_arguments()(lambda *ids: [type(one) for one in ids])
    assert [before(1), before("1"), *after(1, "1")] == [int, str, int, str]
    with pytest.raises(ValidationError, match=r"no key generator 'exakt'.*'exact'"):
        mpcache.make_region().configure_from_config(
            {"backend": "mpcache.memory", "function_key_generator": "exakt"}, ""
        )
    with pytest.raises(ValidationError):
        mpcache.make_region(function_key_generator="exakt")
    assert (
        mpcache.make_region(function_key_generator="qualname").function_key_generator is qualname_function_key_generator
    )


def test_keyword_only_arguments_are_in_each_of_many_keys(exact: Any, text: Any) -> None:
    @exact.cache_multi_on_arguments()
    def titles(*ids: int, lang: str = "en") -> list[str]:
        return [f"{lang}{one}" for one in ids]

    assert titles(1, 2) == ["en1", "en2"]
    assert titles(2, 1, lang="fr") == ["fr2", "fr1"]
    assert titles(1, lang="en") == ["en1"]
    assert len(keys(exact)) == 4
    with pytest.raises(ValueError, match="does not accept keyword arguments"):
        text.cache_multi_on_arguments()(titles.original)(1)


# -- text that cannot stand for an argument ----------------------------------------------------------------------------


def uncached() -> Iterator[Any]:
    yield from (
        Addressed(1),
        [Addressed(1)],
        {"a": (Addressed(1),)},
        lambda: 0,
        Addressed(1).__init__,
        object(),
        iter([]),
    )


@pytest.mark.parametrize("store", ["memory", "shm"])
@pytest.mark.filterwarnings("error")
def test_a_call_that_has_no_key_is_warned_of_once_and_goes_uncached(store: str) -> None:
    arguments = {"name": None} if store == "shm" else {}
    region = mpcache.make_region().configure(f"mpcache.{store}", arguments=arguments)
    calls: list[Any] = []

    @region.cache_on_arguments(store)
    def run(query: Any, other: Any = 1) -> Any:
        calls.append(query)
        return len(calls)

    with pytest.warns(
        UserWarning, match=r"run\(\): the text of the argument 'query'.*has an address.*not cached.*exact"
    ):
        assert run(Addressed(1)) == 1
    assert [run(value) for value in uncached()] == list(range(2, 9))
    with pytest.warns(UserWarning, match="'other'"):
        run(1, Addressed(1))
    assert run.get(Addressed(1)) is NO_VALUE
    run.set("set", Addressed(1))
    run.invalidate(Addressed(1))
    assert run.refresh(Addressed(1)) == 10
    with pytest.raises(TypeError, match="cannot stand for the argument"):
        run.key(Addressed(1))
    assert run("<object at 0x7f0000000000>") == run("<object at 0x7f0000000000>") == 11


@pytest.mark.filterwarnings("ignore:.*has an address:UserWarning")
def test_many_things_without_a_key_go_uncached(text: Any) -> None:
    load = text.cache_multi_on_arguments()(lambda *things: [thing.content for thing in things])
    assert load(Addressed(1), Addressed(2)) == [1, 2] == load.refresh(Addressed(1), Addressed(2))
    assert load.get(Addressed(1)) == [NO_VALUE]
    load.set({Addressed(1): 5})
    load.invalidate(Addressed(1))
    assert keys(text) == []


@pytest.mark.filterwarnings("ignore:.*has an address:UserWarning")
def test_an_async_call_without_a_key_goes_uncached(text: Any) -> None:
    @text.cache_on_arguments()
    async def load(thing: Any) -> Any:
        return thing.content

    async def main() -> Any:
        return [await load(Addressed(1)), await load(Addressed(2)), await load.refresh(Addressed(3))]

    assert asyncio.run(main()) == [1, 2, 3]


def test_nobody_judges_the_text_that_to_str_makes(text: Any) -> None:
    f = text.cache_on_arguments(to_str=lambda value: str(value.content))(lambda thing: thing.content)
    g = text.cache_on_arguments(to_str=repr)(lambda thing: 1)
    assert f(Addressed(1)) == f(Addressed(1)) == 1
    g(Addressed(1))
    assert len(keys(text)) == 2


@pytest.mark.filterwarnings("ignore:.*leaves some of its values out:UserWarning")
def test_arrays_and_frames_whose_text_is_not_all(text: Any) -> None:
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")

    @text.cache_on_arguments()
    def total(values: Any) -> float:
        return float(np.asarray(values).sum())

    large, other = np.zeros(5000), np.zeros(5000)
    other[2500] = 9
    assert (total(large), total(other), total([large]), total([other])) == (0, 9, 0, 9)
    near = np.array([1.0, 1.0 + 1e-12])
    assert total(near) != total(np.array([1.0, 1.0]))
    frame = pd.DataFrame({"x": range(1000)})
    changed = frame.copy()
    changed.loc[500, "x"] = 0
    assert total(frame) != total(changed)
    assert total(frame["x"]) != total(changed["x"])
    assert keys(text) == ["[1. 1.]"]
    assert total(np.array([1, 2])) == total(pd.DataFrame({"x": [1, 2]})) == 3.0
    assert len(keys(text)) == 3


@pytest.mark.engine
def test_forked_workers_share_addresses_and_no_value(text: Any) -> None:
    for region in (mpcache.shared(None, size="4MB"), mpcache.make_region().configure("mpcache.shm")):

        @region.cache_on_arguments("forked")
        def run(query: Any) -> Any:
            return query.content

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for content in range(4):
                if not (pid := os.fork()):
                    os._exit(run(Addressed(content)) != content)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# Calls that differ, of which keys by text make one: each pair is evaluated in one process, with shared().
PAIRS = [
    "(1,), ('1',)",
    "('a b', 'c'), ('a', 'b c')",
    "(True,), ('True',)",
    "(None,), ('None',)",
    "(1.0,), (Decimal('1.0'),)",
    "([1, 2],), ('[1, 2]',)",
    "(Account(1),), (Account(2),)",
]

ANSWERS = """
import sys
from decimal import Decimal
import mpcache
from mpcache.stress.faults import python_faults
from tests.test_decorated_keys import PAIRS, Account
if sys.argv[1:]:
    getattr(python_faults, sys.argv[1])()
cache = mpcache.shared(None, size="4MB")
@cache.cache_on_arguments()
def answer(*args):
    return [getattr(arg, "id", (type(arg).__name__, repr(arg))) for arg in args]
wrong = 0
for pair in PAIRS:
    one, other = eval(pair)
    answer(*one)
    wrong += answer(*other) != answer.original(*other)
sys.exit(wrong)
"""


@pytest.mark.engine
@pytest.mark.parametrize(("fault", "wrong"), [("", 0), ("keys_by_text", len(PAIRS))])
def test_a_key_by_text_in_shared_is_found(fault: str, wrong: int) -> None:
    """Seed a known bug, with which each of these calls gets the other's value."""
    command = [sys.executable, "-c", ANSWERS, *([fault] if fault else [])]
    root = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, cwd=root, timeout=100, check=False)
    assert done.returncode == wrong


# -- functions of one prefix -------------------------------------------------------------------------------------------


def test_two_functions_of_one_prefix_are_warned_of_once(text: Any) -> None:
    class A:
        @text.cache_on_arguments()
        def load(self) -> None: ...

    class B:
        def load(self) -> None: ...

    class C:
        def load(self) -> None: ...

    decorate = text.cache_on_arguments()
    with pytest.warns(UserWarning, match=r"A\.load and .*B\.load have the same keys") as told:
        _ = [decorate(kind.load) for kind in (B, C)]

    assert len(told) == 1
    assert told[0].filename == __file__
    text.cache_on_arguments()(lambda: 1)
    with pytest.warns(UserWarning, match="<lambda>"):
        text.cache_on_arguments()(lambda: 2)


@pytest.mark.filterwarnings("error")
def test_a_function_that_is_defined_again_is_not_warned_of(text: Any, exact: Any, tmp_path: Any) -> None:
    for n in range(3):

        @text.cache_on_arguments()
        def load() -> int:
            return n  # noqa: B023

        text.cache_on_arguments()(lambda: 1)
        text.cache_on_arguments("namespace")(lambda: 2)
    (tmp_path / "reloaded.py").write_text("def load(): return 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module("reloaded")
        for _ in range(2):
            text.cache_on_arguments()(importlib.reload(module).load)
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["reloaded"]
    exact.cache_on_arguments()(types.FunctionType((lambda: 0).__code__, {}, "one"))


# -- scripts -----------------------------------------------------------------------------------------------------------

SCRIPT = """
import pickle, sys
import mpcache

cache = mpcache.make_region().configure("mpcache.memory")

@cache.cache_on_arguments(key=lambda x: x, expiration_time=7)
def price(x): return helper(x)

def helper(x): return price.get(x) or x * 2

@cache.cache_multi_on_arguments(asdict=True)
def prices(*xs): return {x: x * 2 for x in xs}

class Shop:
    @cache.cache_on_arguments(ignore=("self",))
    def stock(self, item): return item

if __name__ == "__main__":
    import cloudpickle
    sys.stdout.buffer.write(cloudpickle.dumps((price, prices, Shop().stock)))
    assert pickle.loads(pickle.dumps(price)) is price and pickle.loads(pickle.dumps(Shop.stock)) is Shop.stock
"""


def test_cloudpickle_takes_the_functions_of_a_script_along(tmp_path: Any) -> None:
    pytest.importorskip("cloudpickle")
    (tmp_path / "script.py").write_text(SCRIPT)
    sent = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, check=True, timeout=100).stdout
    program = (
        "import pickle, sys; price, prices, stock = pickle.loads(sys.stdin.buffer.read());"
        "assert (price(2), prices(1, 2), stock('tea')) == (4, {1: 2, 2: 4}, 'tea');"
        "assert price.get(2) == 4 and prices.get(1) == [2] and stock.get('tea') == 'tea';"
        "assert price.key(2) == '__main__:price|i1:2', price.key(2)"
    )
    subprocess.run([sys.executable, "-c", program], input=sent, check=True, timeout=100)


def test_joblib_takes_them_too(tmp_path: Any) -> None:
    pytest.importorskip("joblib")
    (tmp_path / "job.py").write_text(
        "import os, mpcache\n"
        "from joblib import Parallel, delayed\n"
        "cache = mpcache.shared(f'test-joblib-{os.environ[\"NUMBER\"]}', size='4MB')\n"
        "@cache.cache_on_arguments()\n"
        "def price(x): return x * 2\n"
        "def shop(x): return price(x)\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        for fn in (price, shop):\n"
        "            assert Parallel(n_jobs=2)(delayed(fn)(i) for i in range(4)) == [0, 2, 4, 6]\n"
        "        assert [price.get(i) for i in range(4)] == [0, 2, 4, 6], 'the workers share the segment'\n"
        "    finally:\n"
        "        cache.actual_backend.unlink()\n"
    )
    env = {**os.environ, "NUMBER": str(os.getpid())}
    done = subprocess.run([sys.executable, tmp_path / "job.py"], env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
