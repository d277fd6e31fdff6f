"""The program `prefect` with two fixes for its server on SQLite, and less work while it is idle.

A statement that fails, most often with "database is locked", leaves its cursor open in SQLAlchemy.
Later, the garbage collector closes the cursor in the event loop's thread, which then waits for the
cursor's connection. If the connection waits for a database lock, and the holder of that lock waits
for the event loop, the server answers no request until SQLite's time-out of 60 s. With the fix, the
connection's own thread closes a cursor as soon as its statement fails.

A transaction that reads before it writes fails at once with "database is locked" if another one
has written in between, whatever the time-out is: most of all when the server catches up after it
was stopped. With the fix, every transaction waits for the lock at its start.

Of the CPU that the server takes without a run, a third goes into the queue of background tasks, at
which it looks four times a second, and a third into noting with each poll of a worker, in two such
tasks, that work queues and deployments are polled. With the change, it looks once a second, and
notes polls every 15 s; what is polled counts as such for 60 s.
"""

from __future__ import annotations

import runpy
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from aiosqlite import Cursor

if TYPE_CHECKING:
    from prefect.server.database.configurations import AioSqliteConfiguration
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_LOOK = timedelta(seconds=1)  # between two looks for background tasks that are due
_NOTE = timedelta(seconds=15)  # between two notes that a worker polls
_NOTES = ("mark_work_queues_ready:", "mark_deployments_ready:")
"""How the keys of the background tasks begin that note it."""

P = ParamSpec("P")
T = TypeVar("T")


def close_on_failure() -> None:
    """Close every cursor of aiosqlite as soon as a statement fails."""
    for name in ("execute", "executemany", "fetchall", "fetchmany", "fetchone"):
        setattr(Cursor, name, _closing(getattr(Cursor, name)))


def lock_at_the_start() -> None:
    """Have every transaction of Prefect's server on SQLite wait for the lock at its start."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_immediately(
        self: AioSqliteConfiguration,
        session: AsyncSession,
        with_for_update: bool = False,  # noqa: ARG001 - Prefect's signature
    ) -> AbstractAsyncContextManager[AsyncSessionTransaction]:
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_immediately  # type: ignore[assignment]


def rest_while_idle() -> None:
    """Have Prefect's server look for background tasks, and note polls of workers, less often."""
    from docket import Docket, Worker
    from prefect.server.api import background_workers

    resting = partial(Worker, minimum_check_interval=_LOOK, scheduling_resolution=_LOOK)
    background_workers.Worker = resting  # type: ignore[attr-defined, assignment]
    add = Docket.add

    def add_later(
        self: Docket,
        function: Callable[..., Awaitable[Any]],
        when: datetime | None = None,
        key: str | None = None,
    ) -> Callable[..., Awaitable[Any]]:
        # one whose key is waiting already is not added
        if when is None and (key or "").startswith(_NOTES):
            when = datetime.now(UTC) + _NOTE
        return add(self, function, when, key)

    Docket.add = add_later  # type: ignore[assignment]


def _closing(
    method: Callable[Concatenate[Cursor, P], Awaitable[T]],
) -> Callable[Concatenate[Cursor, P], Awaitable[T]]:
    async def closing(cursor: Cursor, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(cursor, *args, **kwargs)
        except sqlite3.Error:
            with suppress(sqlite3.Error):  # its connection may be closed
                await cursor.close()
            raise

    return closing


if __name__ == "__main__":
    close_on_failure()
    lock_at_the_start()
    rest_while_idle()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
