"""Whole answers of Prefect, which hands them out in pages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

_PAGE = 200  # rows that the server hands out at once, at the most

T = TypeVar("T")


def every(read: Callable[..., list[T]]) -> list[T]:
    """All that a query finds.

    Args:
        read: A query of Prefect's client, which takes a `limit` and an `offset`.
    """
    found: list[T] = []
    for offset in count(0, _PAGE):
        page = read(limit=_PAGE, offset=offset)
        found += page
        if len(page) < _PAGE:
            break
    return found
