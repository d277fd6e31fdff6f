"""The C library's allocator, which decides how much memory a process keeps."""

from __future__ import annotations

import ctypes
import os

_ARENA_MAX = -8  # `M_ARENA_MAX` of glibc's <malloc.h>
_ARENAS = 2


def limit_arenas() -> None:
    """Have all threads share two arenas, unless `MALLOC_ARENA_MAX` says how many.

    By default nearly every thread has one of its own, and keeps what was freed in it: several
    hundred MiB in the run of a wide image. Without effect where the library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, _ARENAS)
