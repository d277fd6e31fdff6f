"""How many examples a property test draws."""

from __future__ import annotations

from hypothesis import settings


def examples(factor: float) -> settings:
    """As many examples as the profile says, times a factor: `make unit` draws a fifth of them."""
    default = settings.default
    assert default is not None
    return settings(max_examples=max(1, round(factor * default.max_examples)))
