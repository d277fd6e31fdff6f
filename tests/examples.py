"""How many examples a property test draws."""

from __future__ import annotations

from hypothesis import settings


def examples(factor: float) -> settings:
    """The profile's number of examples, times a factor: `make unit` draws two fifths of them."""
    default = settings.default
    assert default is not None
    return settings(max_examples=max(1, round(factor * default.max_examples)))
