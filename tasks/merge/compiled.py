"""Functions of numbers and arrays, compiled to machine code by numba when they are first called.

numba stores the machine code in files for later processes. Their folder is named after a hash of
the sources of this package, and is in `NUMBA_CACHE_DIR` if that is set, otherwise in `__pycache__`.
The hash is needed because numba itself only checks the file of a function, not the files of the
functions that are compiled into it.

If that folder cannot be written, as on the read-only file system of a container, the process works
in a temporary folder with links to the files. Functions that are missing are then compiled by each
process.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

_CONFIG: Any = numba.config  # its attributes are set at run time

_FILES = "*/*.nb[ic]"  # of a cache folder: numba's indices and machine code, by source folder


def compiled(function: Function) -> Function:
    """Compile a function with numba.

    Arithmetic is IEEE 754 as written: no operations are reordered, and 0 / 0 is NaN as in numpy.
    """
    return _compile(function, forceinline=False)


def inlined(function: Function) -> Function:
    """Compile a short function into the functions that call it."""
    return _compile(function, forceinline=True)


def _compile(function: Function, *, forceinline: bool) -> Function:
    given = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = _FOLDER  # only here, so that other libraries keep their own folders
    try:
        compiler = numba.njit(cache=True, error_model="numpy", forceinline=forceinline)
        return cast("Function", compiler(function))
    finally:
        _CONFIG.CACHE_DIR = given


def _cache_folder() -> Path:
    """The folder with the machine code of these sources; it may not exist yet."""
    package = Path(__file__).parent
    sources = sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    parent = Path(_CONFIG.CACHE_DIR or package / "__pycache__")
    return parent / f"machine-code-{sources.hexdigest()[:16]}"


def _is_writable(folder: Path) -> bool:
    """Whether files can be written to a folder, which is created, and to each folder in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return all(os.access(each, os.W_OK) for each in (folder, *folder.iterdir()))


def _linked(folder: Path) -> Path:
    """A temporary folder with links to the files of another; removed when the process ends."""
    temporary = Path(tempfile.mkdtemp(prefix="swath-machine-code-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    for file in folder.glob(_FILES):
        link = temporary / file.relative_to(folder)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(file)
    return temporary


def _remove_damaged(folder: Path) -> None:
    """Remove files that are empty or incomplete, as after a power failure: numba would raise."""
    for file in folder.glob(_FILES):
        content = file.read_bytes()
        if not (content.startswith(b"\x80") and content.endswith(b".")):  # no complete pickle
            file.unlink(missing_ok=True)


def _prepare(folder: Path) -> Path:
    """A cache folder that numba can use, with all intact files of the one given."""
    usable = folder if _is_writable(folder) else _linked(folder)
    _remove_damaged(usable)
    return usable


_FOLDER = str(_prepare(_cache_folder()))
