"""How Sphinx reads these pages: ``make docs``, or ``sphinx-build -W docs docs/_build/html``.

Nothing here asks the network.
"""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_signature

import mpcache

sys.path.insert(0, str(Path(__file__).parent))

project = "mpcache"
author = "mpcache authors"
version = release = mpcache.__version__

extensions = ["sphinx.ext.autodoc", "tables", "played"]
exclude_patterns = ["_build"]
html_theme = "furo"

highlight_language = "none"  # what follows a "::" is a drawing; code says that it is code
smartquotes = False  # they would turn what is to be typed into what cannot be typed

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}

nitpicky = True


def setup(app: Any) -> None:
    """Whatever a docstring or a page refers to has to be there; what stands in a signature is printed as it is."""
    app.connect("missing-reference", _printed_as_it_is)


def _printed_as_it_is(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    if hasattr(builtins, node.get("reftarget", "")):
        return contnode
    above = node.parent
    while above is not None:
        if isinstance(above, desc_signature) or (isinstance(above, nodes.paragraph) and _is_made(above)):
            return contnode
        above = above.parent
    return None


def _is_made(paragraph: nodes.paragraph) -> bool:
    """Autodoc wrote it, and not we."""
    return paragraph.astext().startswith(("Bases: ", "alias of "))
