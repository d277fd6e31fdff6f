"""Regions that overlap in time: the next is read while the last one is settled and stored.

One region at a time is read. Shortly before its last tile is read, the next one begins, so that it
is ready to be read at once. The end of the first (its last answers, settling, storing, the end of
its run) needs little of the processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from threading import Event
from typing import TypeVar

MAX_AT_A_TIME = 2
"""Items at work at a time: one that is read, and one that is ending."""

T = TypeVar("T")

Work = Callable[[T, Callable[[], None]], bool]
"""Works an item, and calls its second argument once the next item may begin.

Returns whether the item must be worked again.
"""


def work_in_turn(items: Sequence[T], work: Work[T], threads: Executor) -> None:
    """Work items in order; each begins when the one before lets it, and no third one beside two.

    An item that must be worked again comes before those that have not begun. A single item is
    worked in the caller's thread.

    Args:
        items: The items.
        work: Works one of them, in a copy of the caller's context.
        threads: Runs `MAX_AT_A_TIME` items at a time.

    Raises:
        Exception: That of the first item that raised one; no further item begins.
    """
    if len(items) == 1:
        while work(items[0], lambda: None):
            pass
        return
    waiting = deque(items)
    begun: deque[tuple[T, Future[bool]]] = deque()
    while waiting or begun:
        while begun and (not waiting or len(begun) == MAX_AT_A_TIME or begun[0][1].done()):
            item, end = begun.popleft()
            if end.result():
                waiting.appendleft(item)
        if waiting:
            item, turn = waiting.popleft(), Event()
            end = threads.submit(copy_context().run, work, item, turn.set)
            end.add_done_callback(partial(_set, turn))
            begun.append((item, end))
            turn.wait()


def _set(turn: Event, _: object) -> None:
    turn.set()
