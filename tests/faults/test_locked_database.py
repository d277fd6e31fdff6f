"""The local Prefect server goes on when a statement finds its SQLite database locked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COLLISION = """
import asyncio, gc, sys
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from deployments.local.prefect_program import close_on_failure

async def collide(path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", isolation_level="AUTOCOMMIT")
    async with engine.connect() as holder, engine.connect() as waiter:
        await holder.exec_driver_sql("CREATE TABLE runs (name)")
        await holder.exec_driver_sql("BEGIN IMMEDIATE")
        await waiter.exec_driver_sql("PRAGMA busy_timeout = 0")
        try:
            await waiter.exec_driver_sql("INSERT INTO runs VALUES ('one')")
        except OperationalError as error:
            error.itself = error  # garbage that only the collector frees
        await waiter.exec_driver_sql("PRAGMA busy_timeout = 5000")
        waiting = asyncio.create_task(waiter.exec_driver_sql("BEGIN IMMEDIATE"))
        await asyncio.sleep(0.5)
        gc.collect()
        await holder.exec_driver_sql("COMMIT")
        await waiting
        await waiter.exec_driver_sql("COMMIT")
    await engine.dispose()

close_on_failure()
asyncio.run(collide(sys.argv[1]))
"""

READ_THEN_WRITE = """
import asyncio, sys
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy import text
from deployments.local.prefect_program import lock_at_the_start

async def add(configuration, engine):
    session = await configuration.session(engine)
    async with session, configuration.begin_transaction(session):
        await session.execute(text("SELECT count(*) FROM runs"))
        await asyncio.sleep(0.2)
        await session.execute(text("INSERT INTO runs VALUES ('one')"))

async def main(path):
    configuration = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{path}")
    engine = await configuration.engine()
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE runs (name)"))
    await asyncio.gather(*[add(configuration, engine) for _ in range(3)])
    await engine.dispose()

lock_at_the_start()
asyncio.run(main(sys.argv[1]))
"""


def test_a_failed_statement_blocks_neither_the_event_loop_nor_the_holder_of_the_lock(
    tmp_path: Path,
) -> None:
    run(COLLISION, tmp_path / "runs.db")


def test_transactions_that_read_before_they_write_wait_for_each_other(tmp_path: Path) -> None:
    run(READ_THEN_WRITE, tmp_path / "runs.db")


def run(program: str, database: Path) -> None:
    command = [sys.executable, "-c", program, str(database)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
