"""The program `prefect` with a fix for a deadlock of its server on SQLite.

A statement that fails, most often with "database is locked", leaves its cursor open in SQLAlchemy.
Later, the garbage collector closes the cursor in the event loop's thread, which then waits for the
cursor's connection. If the connection waits for a database lock, and the holder of that lock waits
for the event loop, the server answers no request until SQLite's time-out of 60 s. With the fix, the
connection's own thread closes a cursor as soon as its statement fails.
"""

from __future__ import annotations

import runpy
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Concatenate, ParamSpec, TypeVar

from aiosqlite import Cursor

P = ParamSpec("P")
T = TypeVar("T")


def close_on_failure() -> None:
    """Close every cursor of aiosqlite as soon as a statement fails."""
    for name in ("execute", "executemany", "fetchall", "fetchmany", "fetchone"):
        setattr(Cursor, name, _closing(getattr(Cursor, name)))


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
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
