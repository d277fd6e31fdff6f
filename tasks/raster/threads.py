"""Work on many items in a few threads, with the results in order and bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MOST_THREADS = 4
_MEMORY = 256 << 20  # bytes that all threads together may need


def threads_for(item_bytes: int) -> int:
    """The number of threads for computations, each of which needs so many bytes of memory."""
    cpus = len(os.sched_getaffinity(0))
    return max(1, min(_MOST_THREADS, cpus, _MEMORY // item_bytes))


def in_order(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    threads: int,
    weight: Callable[[_Item], int],
    most: int,
) -> Generator[_Result]:
    """The results of a function for each item, in the order of the items.

    Who does not take them all closes the generator, which ends the threads.

    Args:
        function: Is called in threads.
        items: Are taken in the caller's thread, each when there is room for its result.
        threads: Number of threads.
        weight: What the result of an item weighs, such as its bytes.
        most: What the results that have not been taken yet weigh together at most, if it is not a
            single one.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="raster")
    waiting: deque[tuple[Future[_Result], int]] = deque()
    try:
        together = 0
        for item in items:
            own = weight(item)
            while waiting and together + own > most:
                future, taken = waiting.popleft()
                together -= taken
                yield future.result()
            waiting.append((pool.submit(copy_context().run, function, item), own))
            together += own
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # a garbage collector may close this
