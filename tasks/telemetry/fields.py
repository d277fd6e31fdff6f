"""What a process works on: the fields of its log lines and the attributes of its spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_FIELDS: ContextVar[Mapping[str, str] | None] = ContextVar("fields", default=None)
_process: dict[str, str] = {}


@contextmanager
def working_on(**fields: str | None) -> Iterator[None]:
    """Add fields to the log lines of this thread, and of those that copy its context.

    Args:
        fields: `job`, `image`, `region`, `run` (Prefect's id), `attempt`; None for one that is not
            known.
    """
    known = {name: value for name, value in fields.items() if value is not None}
    token = _FIELDS.set({**(_FIELDS.get() or {}), **known})
    try:
        yield
    finally:
        _FIELDS.reset(token)


@contextmanager
def process_works_on(**fields: str | None) -> Iterator[None]:
    """The same for all threads of this process that have no fields of their own."""
    before = dict(_process)
    _process.clear()
    _process.update({name: value for name, value in fields.items() if value is not None})
    try:
        yield
    finally:
        _process.clear()
        _process.update(before)


def current_fields() -> dict[str, str]:
    """The fields that apply in this thread."""
    return dict(_FIELDS.get() or _process)
