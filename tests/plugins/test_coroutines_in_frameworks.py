"""A cached coroutine is a view like any other: Flask, Django, Starlette and FastAPI await it, by a key of its own."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from typing import Any
from unittest import mock

import pytest

import mpcache

cache = mpcache.make_region(function_key_generator="exact").configure("mpcache.memory")
near = mpcache.make_region().configure("mpcache.memory")
made: list[Any] = []


@cache.cache_on_arguments()
async def item(name: str) -> str:
    """A view by its arguments."""
    made.append(name)
    return f"item {name}"


@cache.cache_on_arguments(key=lambda request: request.url.path)
async def by_path(request: Any) -> Any:
    """A view by the path of its request."""
    from starlette.responses import PlainTextResponse

    made.append(request.url.path)
    return PlainTextResponse(f"path {request.url.path}")


@near.cache_on_arguments()
@cache.cache_on_arguments("below")
async def layered(name: str) -> str:
    return name


class Api:
    """With a coroutine as a method."""

    @cache.cache_on_arguments(ignore=("self",))
    async def get(self, name: str) -> str:
        return name

    @cache.cache_on_arguments(ignore=("self",))
    def plain(self, name: str) -> str:
        return name


@cache.cache_on_arguments()
def plain(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> int:
    """No coroutine."""
    return a


@pytest.fixture(autouse=True)
def empty() -> None:
    made.clear()
    cache.actual_backend._cache.clear()


COROUTINES: list[Any] = [item, layered, Api().get, functools.partial(item), Api.get]


@pytest.mark.parametrize("function", COROUTINES)
def test_a_cached_coroutine_is_one(function: Any) -> None:
    assert inspect.iscoroutinefunction(function)
    assert inspect.iscoroutinefunction(mock.create_autospec(function)) or sys.version_info < (3, 12)
    if sys.version_info < (3, 14):
        assert asyncio.iscoroutinefunction(function)
    with_asgiref = pytest.importorskip("asgiref.sync").iscoroutinefunction
    assert with_asgiref(function)


def test_what_is_none_is_none() -> None:
    for function in (plain, Api().plain, Api.plain):
        assert not inspect.iscoroutinefunction(function)
    wrapper = functools.wraps(item)(lambda name: item(name))
    assert not inspect.iscoroutinefunction(wrapper)


def test_inspect_reads_the_parameters_of_the_original() -> None:
    for function in (item, plain):
        assert inspect.getfullargspec(function) == inspect.getfullargspec(function.original)
        assert inspect.signature(function) == inspect.signature(function.original)
    assert list(inspect.signature(Api().get).parameters) == ["name"]


def test_as_function_is_a_function() -> None:
    assert inspect.isfunction(item.as_function())
    assert inspect.iscoroutinefunction(item.as_function())
    assert inspect.isfunction(plain.as_function())
    assert not inspect.iscoroutinefunction(plain.as_function())
    assert plain.as_function()(1) == plain.get(1) == 1
    assert asyncio.run(item.as_function()("a")) == item.get("a") == item.as_function().get("a") == "item a"


def test_flask() -> None:
    flask = pytest.importorskip("flask")
    pytest.importorskip("asgiref")
    app = flask.Flask("cached")
    app.testing = True
    app.route("/<name>")(item)
    app.add_url_rule("/api/<name>", "api", Api().get)
    answers = [app.test_client().get(path).text for path in ("/a", "/a", "/b", "/api/a")]
    assert answers == ["item a", "item a", "item b", "a"]
    assert made == ["a", "b"]


def test_django() -> None:
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="s", DEBUG=True)
        django.setup()
    from django.test import AsyncClient
    from django.urls import path

    global urlpatterns
    urlpatterns = [path("<name>", view)]

    async def ask() -> list[bytes]:
        return [(await AsyncClient().get(one)).content for one in ("/a", "/a", "/b")]

    assert asyncio.run(ask()) == [b"item a", b"item a", b"item b"]
    assert made == ["a", "b"]


@cache.cache_on_arguments(ignore=("request",))
async def view(request: Any, name: str) -> Any:
    """A view of Django."""
    from django.http import HttpResponse

    made.append(name)
    return HttpResponse(f"item {name}")


def test_starlette() -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("httpx")
    from starlette.applications import Starlette
    from starlette.routing import Route

    app = Starlette(routes=[Route("/{rest:path}", by_path.as_function())])
    assert asked(app, "/a", "/a", "/b") == ["path /a", "path /a", "path /b"]
    assert made == ["/a", "/b"]


def test_fastapi() -> None:
    fastapi = pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    app = fastapi.FastAPI()
    app.get("/items/{name}")(item)
    app.get("/functions/{name}")(item.as_function())
    answers = asked(app, "/items/a", "/items/a", "/items/b", "/functions/a")
    assert answers == ['"item a"', '"item a"', '"item b"', '"item a"']
    assert made == ["a", "b"]


def asked(app: Any, *paths: str) -> list[str]:
    """The answers of an ASGI application."""
    import httpx

    async def ask() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
            return [(await client.get(path)).text for path in paths]

    return asyncio.run(ask())
