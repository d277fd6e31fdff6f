"""Functions of numbers and arrays, compiled to machine code when they are first called.

The machine code is kept for the processes that follow, in a folder named after the sources of this
package: numba itself would take a function's old code when one that it calls has changed in
another module. Where nothing can be written, each process compiles anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function with numba.

    Arithmetic is IEEE 754 as written: nothing is reordered, and 0 / 0 is NaN as in numpy.
    """
    return _compile(function, forceinline=False)


def inlined(function: Function) -> Function:
    """Compile a short function into those that call it."""
    return _compile(function, forceinline=True)


def _compile(function: Function, *, forceinline: bool) -> Function:
    made: Any = numba.njit(cache=_KEPT, error_model="numpy", forceinline=forceinline)(function)
    if _KEPT:
        _forgive(made._cache)  # noqa: SLF001 - numba has no other way to it
    return cast("Function", made)


def _forgive(cache: Any) -> None:  # noqa: ANN401 - numba has no types
    """Have a damaged file, or a full disk, cost the time to compile and no more."""
    load, save = cache.load_overload, cache.save_overload

    def load_overload(*of: object) -> object:
        try:
            return load(*of)
        except Exception:
            with suppress(OSError):
                cache.flush()
            return None

    def save_overload(*of: object) -> None:
        with suppress(Exception):
            save(*of)

    cache.load_overload, cache.save_overload = load_overload, save_overload


def _keep() -> bool:
    """Have numba keep machine code beside the byte code of this package, if it may."""
    package = Path(__file__).parent
    sources = sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    folder = package / "__pycache__" / f"machine-{sources.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return os.access(folder, os.W_OK)


_KEPT = _keep()
