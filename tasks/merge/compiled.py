"""Functions of numbers and arrays, compiled to machine code when they are first called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function with numba, and keep the machine code for the processes that follow.

    Arithmetic is IEEE 754 as written: nothing is reordered, and 0 / 0 is NaN as in numpy.

    Where nothing can be kept, on a file system that is read-only, each process compiles anew.
    """
    try:
        return cast("Function", njit(cache=True, error_model="numpy")(function))
    except RuntimeError:  # no place for the machine code
        return cast("Function", njit(error_model="numpy")(function))
