"""A browser without a window: what it makes of a page, as a tree and as a picture.

Needs Chromium, under any of its names; tools/need.sh browser installs one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")

SECONDS = 90
"""In which it must have looked at a page."""

_VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


@dataclass
class Element:
    """One of a page, with what is in it."""

    tag: str
    attributes: dict[str, str]
    inside: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str = "", **wanted: str) -> list[Element]:
        """It and those in it that have this tag and these attributes; ``class_`` is one of several words."""
        fits = (not tag or self.tag == tag) and all(self._has(name, value) for name, value in wanted.items())
        return [self] * fits + [found for one in self.inside for found in one.all(tag, **wanted)]

    def _has(self, name: str, value: str) -> bool:
        if name == "class_":
            return value in self.attributes.get("class", "").split()
        return self.attributes.get(name.replace("_", "-")) == value

    def one(self, tag: str = "", **wanted: str) -> Element:
        """The only one of these."""
        found = self.all(tag, **wanted)
        assert len(found) == 1, (tag, wanted, len(found))
        return found[0]

    def words(self) -> str:
        """All that can be read in it, with single spaces."""
        return " ".join(" ".join([self.text, *(one.words() for one in self.inside)]).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].inside.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self._open[-1].inside.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        while len(self._open) > 1 and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        self._open[-1].inside.append(Element("#text", {}, text=data))


def tree(text: str) -> Element:
    """The elements of a page."""
    reader = _Reader()
    reader.feed(text)
    return reader.root


def look(page: Path, folder: Path, dark: bool = False, size: tuple[int, int] = (1200, 4000)) -> tuple[Element, Any]:
    """Open a page: its tree, as the browser has it, and a picture of PIL.

    :param folder: for all that the browser writes.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, f"none of {', '.join(PROGRAMS)} is here; tools/need.sh browser installs one"
    from PIL import Image

    picture = folder / f"{page.parent.name}-{'dark' if dark else 'light'}.png"
    words = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += ["--disable-crash-reporter", "--disable-background-networking", "--hide-scrollbars", "--dump-dom"]
    words += [f"--user-data-dir={folder / 'browser'}", f"--screenshot={picture}", "--window-size={},{}".format(*size)]
    words += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", page.as_uri()]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"HOME": str(folder)},
        start_new_session=True,
    )
    try:
        said, complained = process.communicate(timeout=SECONDS)
    finally:
        with suppress(ProcessLookupError):  # those of them that have outlived it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert picture.exists(), complained.decode(errors="replace")
    with Image.open(picture) as opened:
        return tree(said.decode()), opened.convert("RGB")
