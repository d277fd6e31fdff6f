"""Machine code of functions, made by numba and stored in files for later processes.

The folder of the files is named after a hash of the sources of this package, and is in
`NUMBA_CACHE_DIR` if that is set, otherwise in `__pycache__`. The hash is needed because numba
itself only checks the file of a function, not the files of the functions that are compiled into it.

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
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numba
from numba.core import caching

_CONFIG: Any = numba.config  # its attributes are set at run time

_FILES = "*/*.nb[ic]"  # of a cache folder: numba's indices and machine code, by source folder


def dispatcher(function: Callable[..., Any], *, forceinline: bool) -> Callable[..., Any]:
    """A function of machine code, which is loaded or compiled when it is first called.

    Args:
        function: Of numbers and arrays.
        forceinline: Whether it becomes a part of the machine code of the functions that call it.
    """
    compiler: Any = numba.njit(error_model="numpy", forceinline=forceinline)(function)
    cache: Any = _Cache
    given = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = _FOLDER  # only here, so that other libraries keep their own folders
    try:
        compiler._cache = cache(function)  # noqa: SLF001 - as `njit(cache=True)` sets numba's own
    finally:
        _CONFIG.CACHE_DIR = given
    return cast("Callable[..., Any]", compiler)


class _Cache(caching.FunctionCache):
    """numba's cache, whose errors cost the time to compile and no more.

    A file may be damaged, as after a power failure, and the disk may be full.
    """

    def load_overload(self, *arguments: object) -> object:
        """The machine code of a function; None if there is none, or if its files are damaged."""
        cache: Any = super()
        try:
            return cache.load_overload(*arguments)
        except Exception:  # a damaged pickle may raise any
            with suppress(OSError):
                cache.flush()
            return None

    def save_overload(self, *arguments: object) -> None:
        """Store the machine code of a function, if that is possible."""
        cache: Any = super()
        with suppress(Exception):  # it reads the index of the files first
            cache.save_overload(*arguments)


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


def _prepare(folder: Path) -> Path:
    """A cache folder that numba can use, with all files of the one given."""
    return folder if _is_writable(folder) else _linked(folder)


_FOLDER = str(_prepare(_cache_folder()))
