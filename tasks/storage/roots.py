"""The local folders in which an operator allows requests to name files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def within(path: str | Path, roots: Sequence[Path]) -> Path | None:
    """Resolve a path's symbolic links and `..`; None if the result is outside every root.

    Raises:
        OSError: The path is too long, or a part of it may not be read.
        RuntimeError: Its symbolic links form a loop.
    """
    resolved = Path(path).resolve()
    inside = any(resolved.is_relative_to(root.resolve()) for root in roots)
    return resolved if inside else None
