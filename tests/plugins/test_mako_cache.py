"""Templates of Mako itself, cached in regions."""

from __future__ import annotations

import configparser
import importlib
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from tests.conftest import Clock, Store

cache = pytest.importorskip("mako.cache")
template = pytest.importorskip("mako.template")

from mpcache.plugins.mako_cache import MakoPlugin  # noqa: E402  # it needs Mako, which may be missing

ROOT = Path(__file__).resolve().parent.parent.parent

cache.register_plugin("mpcache", "mpcache.plugins.mako_cache", "MakoPlugin")  # as the entry point does when installed

MENU = """\
<%def name="menu()" cached="True" cache_region="short" {more}>${{count()}}</%def>${{menu()}}"""


class Counter:
    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> int:
        self.number += 1
        return self.number


def page(text: str = MENU, more: str = "", **cache_args: Any) -> Any:
    return template.Template(text.format(more=more), cache_impl="mpcache", cache_args=cache_args)


@pytest.fixture
def region(store: Store) -> mpcache.CacheRegion:
    return store.region(expiration_time=60)


def test_1_9_what_was_rendered_is_kept(region: mpcache.CacheRegion) -> None:
    menu, count = page(regions={"short": region}), Counter()
    assert [menu.render(count=count) for _ in range(2)] == ["1", "1"]
    assert region.get("render_menu") == "1"


def test_1_9_until_it_expires(region: mpcache.CacheRegion, clock: Clock) -> None:
    menu, count = page(regions={"short": region}), Counter()
    brief = page(more='cache_timeout="5"', regions={"short": region})
    assert menu.render(count=count) == "1"
    clock.forward(6)
    assert [menu.render(count=count), brief.render(count=count)] == ["1", "2"]
    clock.forward(61)
    assert menu.render(count=count) == "3"


def test_1_9_put_get_and_invalidate(region: mpcache.CacheRegion, clock: Clock) -> None:
    menu, count = page(regions={"short": region}), Counter()
    menu.cache.put("render_menu", "put", region="short")
    assert [menu.render(count=count), menu.cache.get("render_menu", region="short")] == ["put", "put"]
    menu.cache.set("render_menu", "set", region="short")
    assert menu.render(count=count) == "set"
    clock.forward(6)
    assert menu.cache.get("render_menu", region="short", timeout=5) is NO_VALUE
    assert menu.cache.get("render_menu", region="short", timeout="7") == "set"
    menu.cache.invalidate_def("menu")
    assert menu.render(count=count) == "1"
    menu.cache.invalidate("render_menu", region="short")
    assert menu.cache.get("render_menu", region="short") is NO_VALUE


def test_1_9_the_plugin_by_itself(region: mpcache.CacheRegion) -> None:
    plugin = page(regions={"short": region}).cache.impl
    assert isinstance(plugin, MakoPlugin)
    assert plugin.get_and_replace("a", lambda: "made", region="short", timeout=3) == "made"
    plugin.put("a", "put", region="short")
    assert plugin.get("a", region="short") == "put"


def test_1_9_regions_are_required() -> None:
    with pytest.raises(KeyError, match=r"cache_args=\{'regions': \{name: region\}\}"):
        page().render(count=Counter())


def test_1_9_a_tag_names_one_of_them(region: mpcache.CacheRegion) -> None:
    with pytest.raises(KeyError, match="no region is named 'short'; there are: long, other"):
        page(regions={"long": region, "other": region}).render(count=Counter())
    unnamed = '<%def name="menu()" cached="True">x</%def>${{menu()}}'
    with pytest.raises(KeyError, match="has to name its cache_region, one of: long"):
        page(unnamed, regions={"long": region}).render()


@pytest.mark.parametrize("name", ["mpcache", "mpcache.cache"])
def test_1_1_mako_finds_it_by_its_entry_point(name: str) -> None:
    declared = configparser.ConfigParser(delimiters="=")
    declared.read(ROOT / "setup.cfg")
    lines = dict(line.split(" = ") for line in declared["options.entry_points"]["mako.cache"].strip().splitlines())
    module, _, attribute = lines[name].partition(":")
    assert getattr(importlib.import_module(module), attribute) is MakoPlugin
