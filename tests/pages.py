"""The documentation's pages: their code blocks, commands and tables, for tests."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

_PROGRAM = r"(?:\.venv/bin/)?(aws|make|prefect|prefect-aws|swath)"
_START = re.compile(rf"(?:^|[;|&({{]|\bdo\b)[ \t]*{_PROGRAM}(?=[ \t])", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|[ \t])#[^'\"\n]*$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"<<(\w+)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    """The text of a page of `docs`."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose header begins with `first`."""
    lines = text[text.index(f"\n| {first}") + 1 :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r" \|", line.strip("| "))] for line in lines[2:]]


def json_objects(text: str) -> list[dict[str, Any]]:
    """All JSON objects of a page, in code blocks and here-documents; `$NAME` becomes `name`."""
    shell = "\n".join(blocks(text, "sh"))
    found = [body for _, body in _HERE_DOCUMENT.findall(shell) if body.startswith("{")]
    found = [re.sub(r"\$(PWD|HOME)\b", "/home/me", body) for body in found]
    plain = [re.sub(r"\$(\w+)", lambda name: name[1].lower(), body) for body in found]
    return [json.loads(body) for body in blocks(text, "json") + plain]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a page's shell blocks, X for what the shell fills in."""
    for block in blocks(text, "sh"):
        code = _HERE_DOCUMENT.sub("\n", _COMMENT.sub("", block).replace("\\\n", " "))
        for start in _START.finditer(code):
            rest = code[start.start(1) :]
            yield shlex.split(_without_variables(rest[: _end(rest)]))


def mentions(text: str) -> Iterator[list[str]]:
    """The words of each command that a page mentions in its text."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(rf"`{_PROGRAM}( [^`]+)`", prose):
        yield shlex.split(_without_variables("".join(code)))


def _end(code: str) -> int:
    """The end of the command with which the code begins."""
    quote, depth = "", 0
    for index, (character, before) in enumerate(zip(code, f" {code}", strict=False)):
        if quote != "'" and character == "(" and before == "$":
            depth += 1
        elif depth:
            depth -= character == ")"
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "\n;|&<>)":
            return index
    return len(code)


def _without_variables(code: str) -> str:
    """The code with X for substitutions and variables."""
    inner = re.sub(r"\$\((?:[^()]|\([^()]*\))*\)", "X", code)
    return re.sub(r"\$(?:\w+|\{[^}]*\})", "X", inner)
