"""Text keys are those of dogpile.cache, letter for letter."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcache import keys
from mpcache.util import repr_obj

theirs = pytest.importorskip("dogpile.cache.util")


def plain(a: Any, b: Any = 2, *c: Any) -> None: ...
def swapped(b: Any, a: Any, c: Any = 5) -> None: ...
def free(*args: Any) -> None: ...
def named(a: Any, **kw: Any) -> None: ...
def only(a: Any, *, flag: Any = 1) -> None: ...


class Thing:
    def method(self, a: Any, b: Any = None) -> None: ...

    @classmethod
    def of_class(cls, a: Any) -> None: ...


@functools.wraps(Thing.method)
def wrapper(*args: Any, **kw: Any) -> None: ...


FUNCTIONS = [plain, swapped, free, named, only, Thing.method, Thing.of_class, wrapper]
GENERATORS = ["function_key_generator", "function_multi_key_generator", "kwarg_function_key_generator"]

values = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.floats(allow_nan=False), st.booleans())


def outcome(module: Any, generator: str, namespace: Any, fn: Any, to_str: Any, args: Any, kw: Any) -> Any:
    try:
        return getattr(module, generator)(namespace, fn, to_str)(*args, **kw)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__qualname__)
@given(
    namespace=st.one_of(st.none(), st.just(""), st.text(max_size=4)),
    to_str=st.sampled_from([str, repr]),
    args=st.lists(values, max_size=4),
    kw=st.dictionaries(st.sampled_from(["a", "b", "c", "flag", "x"]), values, max_size=3),
)
def test_keys_are_those_of_dogpile(generator: str, fn: Any, namespace: Any, to_str: Any, args: Any, kw: Any) -> None:
    mine = outcome(keys, generator, namespace, fn, to_str, args, kw)
    other = outcome(theirs, generator, namespace, fn, to_str, args, kw)
    if fn is wrapper and other is IndexError:  # the names are those of what it wraps
        assert mine is IndexError or mine.startswith(f"{fn.__module__}:{fn.__name__}|")
    else:
        assert mine == other


def test_1_7_only_none_omits_the_namespace() -> None:
    assert keys.function_key_generator(None, plain)(1) == f"{__name__}:plain|1"
    assert keys.function_key_generator("", plain)(1) == f"{__name__}:plain||1"


def test_1_7_keywords_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"does not accept keyword arguments.*kwarg_function_key_generator"):
        keys.function_key_generator(None, plain)(1, b=2)


def test_1_7_values_stand_in_the_order_of_their_names() -> None:
    assert keys.kwarg_function_key_generator(None, swapped)(1, 2) == f"{__name__}:swapped|2 1 5"


def test_E5_these_collide_as_they_always_did() -> None:
    generate = keys.function_key_generator(None, free)
    assert generate(1) == generate("1")
    assert generate("a b") == generate("a", "b")


def test_a_builtin_has_keys() -> None:
    assert keys.function_key_generator(None, max)(1, 2) == "builtins:max|1 2"


@given(st.one_of(st.text(), st.binary()))
def test_sha1_mangler_is_dogpiles(key: str | bytes) -> None:
    assert keys.sha1_mangle_key(key) == theirs.sha1_mangle_key(key)


def test_length_conditional_mangler() -> None:
    mangle = keys.length_conditional_mangler(4, str.upper)
    assert [mangle("abc"), mangle("abcd")] == ["abc", "ABCD"]


@given(st.text(max_size=700), st.integers(10, 400))
def test_repr_obj_is_dogpiles(text: str, length: int) -> None:
    assert repr(repr_obj(text, length)) == repr(theirs.repr_obj(text, length))
    assert repr_obj(text) == repr_obj(text) != repr_obj(text + "x")


def test_a_script_has_the_same_keys_in_its_spawned_children() -> None:
    """Check a spawned child, in which multiprocessing runs ``__main__`` under another name."""

    def load(day: int) -> int:
        return day

    load.__module__ = "__mp_main__"
    assert keys.function_key_generator(None, load)(1) == "__main__:load|1"
    assert keys.function_multi_key_generator(None, load)(1, 2) == ["__main__:load|1", "__main__:load|2"]
