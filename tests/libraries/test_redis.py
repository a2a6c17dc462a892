"""Redis by redis-py: a job that is cut off leaves no lock, and no connection in use.

While it connects, redis-py may lose a cancellation, by hand as well. So timeouts here hit connected clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from ..servers import needs_redis
from .ways import DONE, TIMED_OUT, Way, comes_to

if TYPE_CHECKING:
    from redis.asyncio import Redis

pytestmark = [pytest.mark.libraries, needs_redis]


@contextlib.asynccontextmanager
async def observed(redis_socket: str) -> AsyncIterator[Redis]:
    """Look at an empty server by a client of its own."""
    from redis.asyncio import Redis  # not in each process that collects the tests: it takes long

    async with Redis(unix_socket_path=redis_socket) as observer:
        await observer.flushall()
        yield observer


@contextlib.asynccontextmanager
async def connected(redis_socket: str, connections: int) -> AsyncIterator[Redis]:
    """Provide a client with so many connections, all of which are open."""
    from redis.asyncio import Redis

    async with Redis(unix_socket_path=redis_socket, max_connections=connections) as client:
        await asyncio.gather(*[client.ping() for _ in range(connections)])
        yield client


async def clients(observer: Redis) -> int:
    """Count the other connections."""
    return len(await observer.client_list()) - 1


def test_a_timeout_releases_the_lock_that_its_job_holds(way: Way, redis_socket: str) -> None:
    """A lock is released when the timeout of the job that holds it has hit, long before it would expire."""

    async def main() -> None:
        async with observed(redis_socket) as observer, connected(redis_socket, 20) as client:

            async def hold(number: int) -> None:
                async with client.lock(f"lock:{number}", timeout=1000):
                    await asyncio.Event().wait()

            assert await way.times(hold, [0.3] * 20) == {TIMED_OUT: 20}
            assert await observer.keys() == []

    asyncio.run(main())


def test_a_timeout_gives_the_connection_back_to_the_pool(way: Way, redis_socket: str) -> None:
    """A timeout in a command that blocks gives its connection back, and no command gets the answer to another."""

    async def main() -> None:
        async with observed(redis_socket) as observer:
            async with connected(redis_socket, 10) as client:

                async def wait(number: int) -> None:
                    await client.blpop([f"list:{number}"], timeout=0)

                async def echo(number: int) -> None:
                    assert await client.echo(f"{number}") == f"{number}".encode()

                assert await way.times(wait, [0.1] * 10) == {TIMED_OUT: 10}
                assert await way.times(echo, [None] * 20, window=10) == {DONE: 20}
            assert await comes_to(0, lambda: clients(observer))

    asyncio.run(main())


def test_a_client_that_is_a_service_is_closed_when_its_jobs_have_ended(way: Way, redis_socket: str) -> None:
    """The `finally` of a service closes its client, to the last line, and no connection is left in the server."""
    closed: list[str] = []

    from redis.asyncio import Redis

    async def cache(*, task_status: Any) -> None:
        client = Redis(unix_socket_path=redis_socket)
        try:
            task_status.started(client)
            await asyncio.Event().wait()
        finally:
            await client.aclose()
            closed.append("closed")

    async def use(client: Redis, number: int) -> None:
        await client.set(f"key:{number}", number)

    async def main() -> None:
        async with observed(redis_socket) as observer:
            await way.with_service(cache, 10, use)
            assert closed == ["closed"]
            assert len(await observer.keys()) == 10
            assert await comes_to(0, lambda: clients(observer))

    asyncio.run(main())


@pytest.mark.soak
def test_five_hundred_timeouts_leave_no_lock_and_no_connection(way: Way, redis_socket: str) -> None:
    """After 500 timeouts of jobs that hold locks, no key and no connection is left."""

    async def main() -> None:
        async with observed(redis_socket) as observer:
            async with connected(redis_socket, 20) as client:

                async def hold(number: int) -> None:
                    async with client.lock(f"lock:{number}", timeout=1000):
                        await asyncio.Event().wait()

                timeouts = [random.uniform(0.4, 0.6) for _ in range(500)]
                assert await way.times(hold, timeouts, window=20) == {TIMED_OUT: 500}
                assert await observer.keys() == []
            assert await comes_to(0, lambda: clients(observer))

    asyncio.run(main())
