"""Functions of numbers and arrays, compiled to machine code when they are first called.

The machine code is kept for the processes that follow, in a folder named after the sources of this
package: numba itself would take a function's old code when one that it calls has changed in
another module. What was kept is used also where nothing can be written, as in a container whose
file system is read-only; there, only what is missing is compiled by each process anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching

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
    made: Any = numba.njit(error_model="numpy", forceinline=forceinline)(function)
    kept: Any = _Kept
    made._cache = kept(function)  # noqa: SLF001 - numba has no other way to it
    return cast("Function", made)


def _folder() -> Path:
    """Where the machine code of these sources is kept: beside their byte code."""
    package = Path(__file__).parent
    sources = sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    return package / "__pycache__" / f"machine-{sources.hexdigest()[:16]}"


_FOLDER = _folder()


class _Place:
    """Tells numba where a function's machine code is kept; the sources are those of the folder."""

    def __init__(self, function: Callable[..., object], file: str) -> None:
        self._py_file = file  # numba names it in its warnings
        self._folder = _FOLDER / sha256(file.encode()).hexdigest()[:16]
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: Callable[..., object], file: str) -> _Place:
        return cls(function, file)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> str:
        return _FOLDER.name

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Results(caching.CompileResultCacheImpl):
    _locator_classes: list[type[object]] = [_Place]  # noqa: RUF012 - as numba has it


class _Kept(caching.FunctionCache):
    """Has a damaged file, or a disk that takes none, cost the time to compile and no more."""

    _impl_class = _Results

    def load_overload(self, *of: object) -> object:
        kept: Any = super()
        try:
            return kept.load_overload(*of)
        except Exception:
            with suppress(OSError):
                kept.flush()
            return None

    def save_overload(self, *of: object) -> None:
        kept: Any = super()
        with suppress(Exception):
            kept.save_overload(*of)
