"""Reads the values that Ultralytics writes into a file: text of Python literals, never evaluated.

Models are untrusted: a value may be of any length, of any nesting, or code.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping

from tasks.errors import RequestError
from tasks.inference.description.signature import ModelSignature

_MAX_LENGTH = 1 << 20  # characters; the names of 20,000 classes take half of that
_MAX_NAME = 1000  # characters of a class
_MAX_SHOWN = 60  # characters of a value in an error


def read_literal(model: ModelSignature, key: str) -> object:
    """The literal of a metadata entry: numbers, text, lists, dictionaries, True, False, None.

    Raises:
        RequestError: The entry is no literal, or too long.
    """
    text = model.metadata[key]
    if len(text) > _MAX_LENGTH:
        raise refusal(model, key, f"has {len(text)} characters, more than {_MAX_LENGTH}")
    try:
        with warnings.catch_warnings(action="ignore"):  # about escapes in the text
            return ast.literal_eval(text)
    # literal_eval runs no code; the last two are its answer to deep nesting
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise refusal(model, key, f"{_shown(text)} is not a literal") from None


def read_integer(model: ModelSignature, key: str, least: int = 1, most: int = 1 << 24) -> int:
    """The whole number of a metadata entry.

    Raises:
        RequestError: The entry is no whole number, or out of range.
    """
    number = read_literal(model, key)
    if not _is_whole(number, least, most):
        raise refusal(model, key, f"{_shown(model.metadata[key])} is not a number from {least}")
    return int(str(number))


def read_size(model: ModelSignature, key: str) -> tuple[int, int]:
    """The height and width of a metadata entry, `[640, 640]` or `640`.

    Raises:
        RequestError: The entry is none of these.
    """
    size = read_literal(model, key)
    sides = size if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(_is_whole(side, 1, 1 << 24) for side in sides):
        raise refusal(model, key, f"{_shown(model.metadata[key])} is not [height, width]")
    return sides[0], sides[1]


def read_names(model: ModelSignature, key: str) -> tuple[str, ...]:
    """The names of the classes in a metadata entry, `{0: 'ship', 1: 'barge'}` or `['ship', …]`.

    Two classes may have the same name.

    Raises:
        RequestError: The entry is none of these, or its numbers are not 0, 1, 2, …
    """
    found = read_literal(model, key)
    if isinstance(found, Mapping):
        if sorted(map(repr, found)) != sorted(map(repr, range(len(found)))):
            raise refusal(model, key, "does not number the classes 0, 1, 2, …")
        found = [found[value] for value in range(len(found))]
    if not isinstance(found, list | tuple) or not found:
        raise refusal(model, key, f"{_shown(model.metadata[key])} is not a list of classes")
    for value, name in enumerate(found):
        if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME:
            problem = f"has {_shown(str(name))} as class {value}, no text of 1 to {_MAX_NAME}"
            raise refusal(model, key, f"{problem} characters")
    return tuple(found)


def read_flag(found: object) -> bool | None:
    """True or False; None for anything else, as versions of Ultralytics differ in their flags."""
    return found if isinstance(found, bool) else None


def refusal(model: ModelSignature, key: str, problem: str) -> RequestError:
    """The error about a metadata entry."""
    return RequestError(
        f"{model.name}: the entry {key!r} of its metadata {problem}; export the model again, or "
        f"describe it in a file: swath models describe {model.name}"
    )


def _is_whole(number: object, least: int, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")
