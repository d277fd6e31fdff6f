"""The folders of this machine that an operator allowed requests to name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def within(path: str | Path, roots: Sequence[Path]) -> Path | None:
    """A path with its links and `..` resolved, or None where it lies outside every root.

    Raises:
        OSError: The path is too long, or may not be followed.
        RuntimeError: Its links run in a circle.
    """
    resolved = Path(path).resolve()
    inside = any(resolved.is_relative_to(root.resolve()) for root in roots)
    return resolved if inside else None
