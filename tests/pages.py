"""The pages for users, read as a user reads them: their code, commands and tables."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_PROGRAM = r"(?:\.venv/bin/)?(aws|make|prefect|prefect-aws|swath)"
_START = re.compile(rf"(?:^|[;|&({{]|\bdo\b)[ \t]*{_PROGRAM}(?=[ \t])", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|[ \t])#[^'\"\n]*$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"<<(\w+)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    """A page of `docs`."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of a table, by how the first cell of its head begins."""
    lines = text[text.index(f"\n| {first}") + 1 :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r" \|", line.strip("| "))] for line in lines[2:]]


def json_objects(text: str) -> list[dict[str, Any]]:
    """All JSON of a page, in blocks and in here-documents; variables of the shell are words."""
    shell = "\n".join(blocks(text, "sh"))
    found = [body for _, body in _HERE_DOCUMENT.findall(shell)]
    plain = [re.sub(r"\$(\w+)", lambda name: name[1].lower(), body) for body in found]
    return [json.loads(body) for body in blocks(text, "json") + plain]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a page's shell blocks, with X for what the shell fills in."""
    for block in blocks(text, "sh"):
        code = _HERE_DOCUMENT.sub("\n", _COMMENT.sub("", block).replace("\\\n", " "))
        for start in _START.finditer(code):
            rest = code[start.start(1) :]
            yield shlex.split(_filled(rest[: _end(rest)]))


def mentions(text: str) -> Iterator[list[str]]:
    """The words of each command that a page's prose mentions."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(rf"`{_PROGRAM}( [^`]+)`", prose):
        yield shlex.split(_filled("".join(code)))


def _end(code: str) -> int:
    """Where the command ends that code begins with."""
    quote, depth = "", 0
    for place, (character, before) in enumerate(zip(code, f" {code}", strict=False)):
        if quote != "'" and character == "(" and before == "$":
            depth += 1
        elif depth:
            depth -= character == ")"
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "\n;|&<>)":
            return place
    return len(code)


def _filled(code: str) -> str:
    """Code with X for substitutions and variables."""
    inner = re.sub(r"\$\((?:[^()]|\([^()]*\))*\)", "X", code)
    return re.sub(r"\$(?:\w+|\{[^}]*\})", "X", inner)
