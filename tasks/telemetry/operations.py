"""Counts and times the operations of a job, under the names that OSML gave them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.telemetry.catalogue import DURATION, ERRORS, INVOCATIONS, Operation
from tasks.telemetry.source import SOURCE


@contextmanager
def operation(kind: Operation, **dimensions: str) -> Iterator[None]:
    """Count the block as one execution of an operation, and as an error if it raises one.

    Args:
        kind: The operation.
        dimensions: `ModelName`, `InputFormat`.
    """
    began, failed = time.perf_counter(), True
    try:
        yield
        failed = False
    finally:
        record_operation(kind, time.perf_counter() - began, failed=failed, **dimensions)


def record_operation(
    kind: Operation, seconds: float, *, failed: bool = False, **dimensions: str
) -> None:
    """Count one execution of an operation.

    Args:
        kind: The operation.
        seconds: How long it took.
        failed: Whether it counts as an error.
        dimensions: `ModelName`, `InputFormat`.
    """
    known = {"Operation": kind.value, **dimensions}
    SOURCE.add(INVOCATIONS, 1, **known)
    SOURCE.observe(DURATION, seconds, **known)
    SOURCE.add(ERRORS, int(failed), **known)
