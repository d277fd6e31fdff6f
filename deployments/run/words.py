"""Lists of words in an option."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from tasks.errors import RequestError


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
