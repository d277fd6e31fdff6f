"""Shares as text."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share as text: `100 %` and `0 %` only if the share is exactly 1 or 0."""
    if 0 < share < 0.001:
        return "less than 0.1 %"
    if 0.999 < share < 1:
        return "more than 99.9 %"
    return f"{share:.0%}".replace("%", " %") if share in (0, 1) else f"{100 * share:.1f} %"
