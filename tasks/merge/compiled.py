"""Functions of numbers and arrays that numba compiles to machine code when they are first called.

Loading numba and the machine code takes longer than Python itself needs for a few detections, so
those are left to Python (`quickest`). The result is the same to the last bit: it is the same
float64 arithmetic, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property, update_wrapper
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np

Function = TypeVar("Function", bound=Callable[..., object])

_FEW = 150  # detections that Python decides in less time than numba takes to load
_FEW_BYTES = 100 * _FEW  # of their geometries: each has a few corners
_OFTEN = 20  # in a process that decides a few detections more often, loading numba pays

_small_tables = count()  # numbers the tables of a few detections in this process
_in_python = ContextVar("in_python", default=False)


def compiled(function: Function) -> Function:
    """Compile a function with numba.

    Arithmetic is IEEE 754 as written: no operations are reordered, and 0 / 0 is NaN as in numpy.
    """
    return cast("Function", _Compiled(function, forceinline=False))


def inlined(function: Function) -> Function:
    """Compile a short function into the functions that call it."""
    return cast("Function", _Compiled(function, forceinline=True))


def quickest(detections: int, geometry_bytes: int = 0) -> AbstractContextManager[None]:
    """A context in which numba is not loaded only to decide a few detections.

    Args:
        detections: Their number.
        geometry_bytes: Bytes of their geometries; 0 if all are boxes.
    """
    few = detections <= _FEW and geometry_bytes <= _FEW_BYTES
    if detections == 0 or (few and next(_small_tables) < _OFTEN):
        return in_python()
    return nullcontext()


@contextmanager
def in_python() -> Iterator[None]:
    """Let Python itself run the functions of this package while the context lasts."""
    token = _in_python.set(True)
    try:
        with np.errstate(all="ignore"):  # as in machine code, 0 / 0 is NaN without a warning
            yield
    finally:
        _in_python.reset(token)


class _Compiled:
    """A function as machine code, or as it is written within `in_python`."""

    def __init__(self, function: Callable[..., Any], *, forceinline: bool) -> None:
        update_wrapper(self, function)
        self._function, self._forceinline = function, forceinline

    def __call__(self, *arguments: object) -> object:
        return (self._function if _in_python.get() else self._machine_code)(*arguments)

    @cached_property
    def _machine_code(self) -> Callable[..., Any]:
        from tasks.merge.machine_code import dispatcher  # noqa: PLC0415 - importing numba is slow

        return dispatcher(self._function, forceinline=self._forceinline)

    @property
    def _numba_type_(self) -> object:
        """What numba takes for the type of this object where another compiled function calls it."""
        machine_code: Any = self._machine_code
        return machine_code._numba_type_
