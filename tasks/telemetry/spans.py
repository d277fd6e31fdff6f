"""Spans of a trace: which part of a job took how long; without cost if no one collects them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_CARRIED = "traceparent"


class Span(Protocol):
    """A span that has begun."""

    def set_attribute(self, key: str, value: str | float) -> None:
        """Say something about it."""

    def end(self) -> None:
        """End it now."""


class _NoSpan:
    """A span that nobody collects."""

    def set_attribute(self, key: str, value: str | float) -> None:
        """Ignore it."""

    def end(self) -> None:
        """Ignore it."""


_NO_SPAN = _NoSpan()


@contextmanager
def span(
    name: str, parent: str | None = None, *, new_trace: bool = False, **attributes: str | float
) -> Iterator[Span]:
    """A span around a block, the parent of those within; an exception is recorded in it.

    Args:
        name: Such as `region`.
        parent: Of another process, as of `traceparent`; counts if this one has no span yet.
        new_trace: Whether it has no parent at all.
        attributes: What it is about; `swath.` is put before each name.
    """
    if not _collected():
        yield _NO_SPAN
        return
    # slow, and only for who collects spans
    from opentelemetry import propagate, trace  # noqa: PLC0415
    from opentelemetry.context import Context  # noqa: PLC0415

    outer = Context() if new_trace else None
    if parent and not trace.get_current_span().get_span_context().is_valid:
        outer = propagate.extract({_CARRIED: parent})
    with trace.get_tracer("swath").start_as_current_span(name, context=outer) as found:
        for key, value in attributes.items():
            found.set_attribute(f"swath.{key}", value)
        yield found


def begin_span(name: str, **attributes: str | float) -> Span:
    """A span that ends when it is told to, in any thread."""
    if not _collected():
        return _NO_SPAN
    from opentelemetry import trace  # noqa: PLC0415 - as above

    found = trace.get_tracer("swath").start_span(name)
    for key, value in attributes.items():
        found.set_attribute(f"swath.{key}", value)
    return found


def traceparent() -> str | None:
    """The present span for another process, in the form of W3C's Trace Context; or None."""
    if not _collected():
        return None
    from opentelemetry import propagate  # noqa: PLC0415 - as above

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(_CARRIED)


def _collected() -> bool:
    """Whether this process sends spans; without the SDK's module, nobody can have set it up."""
    return "opentelemetry.sdk.trace" in sys.modules
