"""Placeholders in a drafted description: texts that its author is to replace."""

from __future__ import annotations

from collections.abc import Iterator

_MARK = "FILL IN: "


def placeholder(wanted: str) -> str:
    """The text that stands in a description for a value that only its author knows."""
    return f"{_MARK}{wanted}"


def find_placeholders(document: object) -> Iterator[tuple[str, str]]:
    """Find the placeholders that are left in a description.

    Args:
        document: Any JSON.

    Yields:
        The field of each placeholder, such as `mlm:output[0].name`, and what is wanted there.
    """
    pending: list[tuple[str, object]] = [("", document)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str) and value.startswith(_MARK):
            yield path, value.removeprefix(_MARK)
        elif isinstance(value, list):
            entries = [(f"{path}[{index}]", entry) for index, entry in enumerate(value)]
            pending += reversed(entries)
        elif isinstance(value, dict):
            start = f"{path}." if path else ""
            pending += reversed([(f"{start}{name}", entry) for name, entry in value.items()])
