"""PostgreSQL by asyncpg, psycopg, SQLAlchemy: a job that is cut off leaves no query, transaction or connection."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any
import asyncpg
import pytest
from trioflow import Job, Scheduler
from ..places import PATIENCE
from ..servers import needs_postgres
from .ways import (
    DONE,
    MANY_TIMEOUTS,
    SOAK,
    TIMED_OUT,
    can_be_held_at_once,
    comes_to,
    few_or_many,
    times,
    with_service,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

pytestmark = [pytest.mark.libraries, needs_postgres]

SLOW = "select pg_sleep(1000)"


class Server:
    """What the server knows about the clients of a test."""

    def __init__(self, observer: asyncpg.Connection[Any]) -> None:
        self._observer = observer

    async def queries(self) -> int:
        return await self._count("state = 'active'")

    async def clients(self) -> int:
        return await self._count("true")

    async def _count(self, condition: str) -> int:
        count: int = await self._observer.fetchval(
            "select count(*) from pg_stat_activity"
            f" where backend_type = 'client backend' and pid <> pg_backend_pid() and {condition}"
        )
        return count


@contextlib.asynccontextmanager
async def observed(dsn: str) -> AsyncIterator[Server]:
    observer = await asyncpg.connect(dsn)
    try:
        yield Server(observer)
    finally:
        await observer.close()


@contextlib.asynccontextmanager
async def engine_of(dsn: str, driver: str) -> AsyncIterator[AsyncEngine]:
    """Provide SQLAlchemy's engine, with a pool of 3 connections."""
    from sqlalchemy.ext.asyncio import (
        create_async_engine,  # not in each process that collects the tests: it takes long
    )

    engine = create_async_engine(
        dsn.replace("postgresql", f"postgresql+{driver}"), pool_size=3, max_overflow=0
    )
    try:
        yield engine
    finally:
        await engine.dispose()


# ---------------------------------------------------------------- timeouts
@pytest.mark.parametrize(
    ("driver", "timeouts"),
    [
        ("asyncpg", [0.2] * 3),
        ("psycopg", [0.2] * 3),
        pytest.param("asyncpg", MANY_TIMEOUTS, marks=SOAK),
    ],
    ids=["asyncpg", "psycopg", "many"],
)
def test_timeouts_end_the_queries_of_an_engine_in_the_server(
    dsn: str, driver: str, timeouts: list[float]
) -> None:
    """SQLAlchemy: a timeout in mid-query ends the query in the server, and the pool has all its connections."""

    async def main() -> None:
        async with observed(dsn) as server, engine_of(dsn, driver) as engine:

            async def query(number: int) -> None:
                async with engine.begin() as connection:
                    await connection.exec_driver_sql(SLOW)

            assert await can_be_held_at_once(
                3, engine.connect
            )  # connected, so that the few hit in mid-query
            assert await times(query, timeouts, window=6) == {TIMED_OUT: len(timeouts)}
            assert engine.pool.checkedout() == 0
            assert await comes_to(0, server.queries)
            assert await can_be_held_at_once(3, engine.connect)

    asyncio.run(main())


@few_or_many
def test_timeouts_give_connections_back_to_a_pool_of_asyncpg(
    dsn: str, timeouts: list[float]
) -> None:
    async def main() -> None:
        async with observed(dsn) as server:
            async with asyncpg.create_pool(dsn, min_size=3, max_size=3) as pool:

                async def query(number: int) -> None:
                    async with pool.acquire() as connection, connection.transaction():
                        await connection.execute(SLOW)

                assert await times(query, timeouts, window=6) == {
                    TIMED_OUT: len(timeouts)
                }
                assert pool.get_idle_size() == pool.get_size()
                assert await comes_to(0, server.queries)
                assert await can_be_held_at_once(3, pool.acquire)
            assert await comes_to(0, server.clients)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("create temporary table numbers (number int)")
        yield connection
    finally:
        connection.terminate()


async def insert(
    connection: asyncpg.Connection[Any], number: int, *, slow: bool = False
) -> None:
    async with connection.transaction():
        await connection.execute("insert into numbers values ($1)", number)
        if slow:
            await connection.execute(SLOW)


# ---------------------------------------------------------------- other ends of a job


ENDS: list[tuple[dict[str, Any], dict[str, Any], Callable[[Job[Any]], object]]] = [
    ({"timeout": 0.2}, {}, id), ({"idle_timeout": 0.2}, {}, id), ({}, {"timeout": 0.2}, id), ({}, {}, Job.cancel),
    ({"forever": True}, {}, id),
]  # fmt: skip
"""Options of the job and of its scheduler, and what is done with the job in a moment."""


@pytest.mark.parametrize(("options", "others", "end"), ENDS)
def test_a_transaction_is_rolled_back_however_its_job_is_ended(
    options: Any, others: Any, end: Any, dsn: str
) -> None:
    async def end_soon() -> None:
        await asyncio.sleep(0.2)
        end(job)

    async def main() -> None:
        nonlocal job
        async with connected(dsn) as connection:
            job = Job(insert, connection, 1, kwargs={"slow": True}, **options)
            await Scheduler(job, Job(end_soon), **others).co_run()
            assert not connection.is_in_transaction()
            await insert(connection, 2)
            assert await connection.fetchval("select sum(number) from numbers") == 2

    job: Job[Any]
    asyncio.run(main())


def test_ctrl_c_lets_jobs_close_their_connections(dsn: str) -> None:
    connections: list[asyncpg.Connection[Any]] = []
    closed: list[asyncpg.Connection[Any]] = []

    async def query() -> None:
        connection = await asyncpg.connect(dsn)
        connections.append(connection)
        try:
            await connection.execute(SLOW)
        finally:
            await connection.close()
            closed.append(connection)

    async def press_ctrl_c() -> None:
        async with observed(dsn) as server:
            assert await comes_to(2, server.queries)
        signal.raise_signal(signal.SIGINT)

    async def look() -> None:
        async with observed(dsn) as server:
            assert await comes_to(0, server.clients)

    with pytest.raises(KeyboardInterrupt):
        Scheduler([Job(query) for _ in range(2)], Job(press_ctrl_c)).run(
            backend="asyncio"
        )
    assert sorted(map(id, closed)) == sorted(map(id, connections))
    asyncio.run(look())


# ---------------------------------------------------------------- services
def test_a_pool_that_is_a_service_is_closed_when_its_jobs_have_ended(dsn: str) -> None:
    """The `finally` of a service closes its pool, to the last line, and no connection is left in the server."""
    closed: list[str] = []

    async def service(*, task_status: Any) -> None:
        pool = await asyncpg.create_pool(dsn, min_size=2)
        try:
            task_status.started(pool)
            await asyncio.Event().wait()
        finally:
            await pool.close()
            closed.append("closed")

    async def use(pool: asyncpg.Pool[Any], number: int) -> None:
        assert await pool.fetchval("select 1") == 1

    async def main() -> None:
        async with observed(dsn) as server:
            await with_service(service, 4, use)
            assert closed == ["closed"]
            assert await comes_to(0, server.clients)

    asyncio.run(main())


# ---------------------------------------------------------------- tasks
def test_a_session_that_ends_with_its_task_ends_with_its_job(dsn: str) -> None:
    """fastapi-async-sqlalchemy gives a connection back when the task that asked for it is done: so each job is."""
    from fastapi_async_sqlalchemy import create_middleware_and_session_proxy
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    middleware, db = create_middleware_and_session_proxy()

    async def query(number: int) -> None:
        await db.session.execute(text("select 1"))

    async def main() -> None:
        url = dsn.replace("postgresql", "postgresql+asyncpg")
        engine = create_async_engine(
            url, pool_size=2, max_overflow=0, pool_timeout=PATIENCE
        )
        middleware(None, custom_engine=engine)
        async with db(multi_sessions=True, commit_on_exit=True):
            assert await times(query, [None] * 6, window=2) == {DONE: 6}
        assert await comes_to(0, engine.pool.checkedout)
        await engine.dispose()

    asyncio.run(main())
