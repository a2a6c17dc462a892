"""SQLite by aiosqlite and SQLAlchemy: a job that is cut off leaves no thread, no transaction, no connection in use.

SQLite works in a thread, where no cancellation reaches a query: its connection can be closed or used again only after
its end, which the test decides."""

import asyncio
import random
import sqlite3
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any
import aiosqlite
import pytest
from ..places import PATIENCE
from .ways import DONE, TIMED_OUT, can_be_held_at_once, other_tasks, times, with_service

pytestmark = pytest.mark.libraries


class SlowQueries:
    """A function of SQL, `slow(number)`, that returns some time after the timeout of its job."""

    def __init__(self) -> None:
        self._over: defaultdict[int, threading.Event] = defaultdict(threading.Event)

    def wait(self, number: int) -> int:
        """Wait for the end of a query, in SQLite's thread."""
        assert self._over[number].wait(PATIENCE)
        return number

    def ends_after(self, number: int, seconds: float) -> None:
        """End this query when the loop has come to a later moment than its timeout."""
        asyncio.get_running_loop().call_later(seconds, self._over[number].set)


@pytest.mark.timeout(
    240, method="thread"
)  # what hangs here hangs at the end of the loop, too
def test_a_timeout_in_mid_query_of_an_engine_ends(tmp_path: Path) -> None:
    """SQLAlchemy on aiosqlite: timeouts in mid-query end, and no task and no connection in use is left."""
    from sqlalchemy import (
        event,  # not in each process that collects the tests: it takes long
    )
    from sqlalchemy.ext.asyncio import create_async_engine

    slow = SlowQueries()

    async def main() -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path}/db", pool_size=2, max_overflow=1
        )

        @event.listens_for(engine.sync_engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            connection.create_function("slow", 1, slow.wait)

        async def query(number: int) -> None:
            slow.ends_after(number, 0.3)
            async with engine.begin() as connection:
                await connection.exec_driver_sql(f"select slow({number})")

        assert await times(query, [0.1] * 3) == {TIMED_OUT: 3}
        assert other_tasks() == set()
        assert engine.pool.checkedout() == 0
        assert await can_be_held_at_once(3, engine.connect)
        await engine.dispose()

    asyncio.run(main())


async def insert(connection: aiosqlite.Connection, table: str, number: int) -> None:
    """Insert a number, and roll back what was cut off, as aiosqlite leaves to its users."""
    try:
        await connection.execute(f"insert into {table} select slow(?)", (number,))
        await connection.commit()
    except BaseException:
        await connection.rollback()
        raise


def test_a_timeout_rolls_back_a_transaction_on_a_shared_connection() -> None:
    """aiosqlite: the `except` of a job that a timeout has cut off rolls back, before another job goes on."""
    slow = SlowQueries()

    async def main() -> None:
        async with aiosqlite.connect(":memory:") as connection:
            await connection.create_function("slow", 1, slow.wait)
            await connection.execute("create table numbers (number int)")

            async def work(number: int) -> None:
                slow.ends_after(number, 0.0 if number % 2 else 0.2)
                await insert(connection, "numbers", number)

            assert await times(work, [0.1, None] * 3, window=1) == {
                TIMED_OUT: 3,
                DONE: 3,
            }
            assert not connection.in_transaction
            rows = await connection.execute_fetchall(
                "select number from numbers order by number"
            )
            assert list(rows) == [(1,), (3,), (5,)]

    asyncio.run(main())


def test_a_connection_that_is_a_service_is_closed_when_its_jobs_have_ended() -> None:
    closed: list[str] = []

    async def database(*, task_status: Any) -> None:
        connection = await aiosqlite.connect(":memory:")
        try:
            task_status.started(connection)
            await asyncio.Event().wait()
        finally:
            await connection.close()
            closed.append("closed")

    async def use(connection: aiosqlite.Connection, number: int) -> None:
        assert list(await connection.execute_fetchall("select ?", (number,))) == [
            (number,)
        ]

    asyncio.run(with_service(database, 4, use))
    assert closed == ["closed"]


@pytest.mark.soak
def test_five_hundred_timeouts_leave_an_engine_whole(tmp_path: Path) -> None:
    """After 500 timeouts, at any moment from asking for a connection on, all was rolled back, and the pool is whole."""
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main() -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path}/db", pool_size=2, max_overflow=1
        )
        async with engine.begin() as connection:
            await connection.exec_driver_sql("create table numbers (number int)")

        async def write(number: int) -> None:
            async with engine.begin() as connection:
                await connection.exec_driver_sql(
                    f"insert into numbers values ({number})"
                )
                await asyncio.Event().wait()

        timeouts = [random.uniform(0.001, 0.1) for _ in range(500)]
        assert await times(write, timeouts, window=20) == {TIMED_OUT: 500}
        assert other_tasks() == set()
        assert engine.pool.checkedout() == 0
        assert await can_be_held_at_once(3, engine.connect)
        await engine.dispose()

    asyncio.run(main())
    with sqlite3.connect(tmp_path / "db", isolation_level=None) as database:
        database.execute("begin exclusive")
        assert database.execute("select count(*) from numbers").fetchall() == [(0,)]
    database.close()
