"""The program `prefect` with two fixes for its server on SQLite.

A statement that fails, most often with "database is locked", leaves its cursor open in SQLAlchemy.
Later, the garbage collector closes the cursor in the event loop's thread, which then waits for the
cursor's connection. If the connection waits for a database lock, and the holder of that lock waits
for the event loop, the server answers no request until SQLite's time-out of 60 s. With the fix, the
connection's own thread closes a cursor as soon as its statement fails.

A transaction that reads before it writes fails at once with "database is locked" if another one
has written in between, whatever the time-out is: most of all when the server catches up after it
was stopped. With the fix, every transaction waits for the lock at its start.
"""

from __future__ import annotations

import runpy
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from aiosqlite import Cursor

if TYPE_CHECKING:
    from prefect.server.database.configurations import AioSqliteConfiguration
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

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
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
