"""Puts a page together from its source and its contents, so that nothing in them can run.

Names of classes, files and jobs come from strangers. They are JSON in an element that browsers do
not run, where no `<` ends it, and the program shows them as text only. The page's policy allows the
scripts and the style of `source/` by their digests, pictures inside the page, and no address.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).parent / "source"
_LIBRARY = "deckgl.min.js"
SCRIPTS = (
    *("contents.js", "filter.js", "marks.js", "paint.js", "drawing.js", "map.js"),
    *("controls.js", "table.js", "page.js"),
)
"""The page's own program, in the order in which it runs."""

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def document(title: str, facts: Mapping[str, Any], columns: str) -> str:
    """A page as text.

    Args:
        title: Its title.
        facts: What the page says in words, and where its columns are.
        columns: Its columns, as `columns.packed` gives them.
    """
    library, style = _read(_LIBRARY), _read("page.css")
    program = '"use strict";\n(() => {\n' + "\n".join(map(_read, SCRIPTS)) + "})();\n"
    text = json.dumps(facts, separators=(",", ":"))  # ASCII only
    policy = {
        "default-src": "'none'",
        "script-src": f"{_digest(library)} {_digest(program)}",
        "style-src": _digest(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    contents = {
        "policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "title": escape(title.encode(errors="replace").decode()),
        "style": style,
        "facts": "".join(_UNSAFE.get(letter, letter) for letter in text),
        "columns": columns,
        "licences": escape(_read("deckgl.LICENSE.txt")),
        "library": library,
        "program": program,
    }
    return _PLACE.sub(lambda found: contents[found[1]], _read("page.html"))


def _read(name: str) -> str:
    return (_SOURCE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """A source of a Content-Security-Policy: an inline script or style with this content."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
