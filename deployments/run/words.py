"""Options whose value is a list of words or a JSON object."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tasks.errors import RequestError
from tasks.request import FeatureFormat

_ALL = "all"  # in place of the names of all formats


def words(option: str, values: Iterable[str]) -> Iterator[str]:
    """Words separated by commas; a word with a comma is given in double quotes.

    Raises:
        RequestError: A quote is not closed, or there is a line break.
    """
    for value in values:
        try:
            for found in csv.reader([value], skipinitialspace=True, strict=True):
                yield from filter(None, map(str.strip, found))
        except csv.Error as error:
            raise RequestError(
                f"{option}: {value!r:.100} is no list of words ({error}); separate them by commas, "
                "and put one that has a comma or begins with a quote in double quotes."
            ) from error


def format_names(texts: Sequence[str]) -> list[str]:
    """The names of formats that `--formats` has, of which `all` is each one; none if not given.

    Raises:
        RequestError: It is given and names no format, or one that there is not.
    """
    names = list(words("--formats", texts))
    if texts and not names:
        raise RequestError("--formats: names no format; give geojson,parquet, or leave it out.")
    known = [*map(str, FeatureFormat), _ALL]
    for name in names:
        if name not in known:
            listed = ", ".join(map(repr, known[:-1]))
            raise RequestError(
                f"--formats: {name!r:.100} is not one of {listed} or {_ALL!r}; give one of these."
            )
    return [*FeatureFormat] if _ALL in names else names


def json_object(option: str, text: str, *, word: str, example: str) -> dict[str, Any]:
    """The fields of a value that is given as a JSON object, in place of a word.

    Args:
        option: The option.
        text: Its value, which begins with a brace.
        word: A value without a brace, for the error.
        example: An object, for the error.

    Raises:
        RequestError: It is not well-formed.
    """
    try:
        fields: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise RequestError(
            f"{option}: {text!r:.100} is no JSON object ({error}); give {word}, or an object such "
            f"as '{example}'."
        ) from error
    return fields
