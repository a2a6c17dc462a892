"""Redis by redis-py: a job that is cut off leaves no lock, and no connection in use.

While it connects, redis-py may lose a cancellation, by hand as well. So timeouts here hit connected clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
import pytest
from ..servers import needs_redis
from .ways import DONE, TIMED_OUT, comes_to, few_or_many, times, with_service

if TYPE_CHECKING:
    from redis.asyncio import Redis

pytestmark = [pytest.mark.libraries, needs_redis]


@contextlib.asynccontextmanager
async def observed(redis_socket: str) -> AsyncIterator[Redis]:
    """Look at an empty server by a client of its own."""
    from redis.asyncio import (
        Redis,  # not in each process that collects the tests: it takes long
    )

    async with Redis(unix_socket_path=redis_socket) as observer:
        await observer.flushall()
        yield observer


@contextlib.asynccontextmanager
async def connected(redis_socket: str, connections: int) -> AsyncIterator[Redis]:
    """Provide a client with so many connections, all of which are open."""
    from redis.asyncio import Redis

    async with Redis(
        unix_socket_path=redis_socket, max_connections=connections
    ) as client:
        await asyncio.gather(*[client.ping() for _ in range(connections)])
        yield client


async def clients(observer: Redis) -> int:
    return len(await observer.client_list()) - 1


@few_or_many
def test_timeouts_release_the_locks_that_their_jobs_hold(
    redis_socket: str, timeouts: list[float]
) -> None:
    async def main() -> None:
        async with observed(redis_socket) as observer:
            async with connected(redis_socket, 6) as client:

                async def hold(number: int) -> None:
                    async with client.lock(f"lock:{number}", timeout=1000):
                        await asyncio.Event().wait()

                later = (
                    [seconds + 0.4 for seconds in timeouts]
                    if len(timeouts) > 6
                    else timeouts
                )
                assert await times(hold, later, window=6) == {TIMED_OUT: len(timeouts)}
                assert await observer.keys() == []
            assert await comes_to(0, lambda: clients(observer))

    asyncio.run(main())


def test_a_timeout_gives_the_connection_back_to_the_pool(redis_socket: str) -> None:
    async def main() -> None:
        async with observed(redis_socket) as observer:
            async with connected(redis_socket, 4) as client:

                async def wait(number: int) -> None:
                    await client.blpop([f"list:{number}"], timeout=0)

                async def echo(number: int) -> None:
                    assert await client.echo(f"{number}") == f"{number}".encode()

                assert await times(wait, [0.1] * 4) == {TIMED_OUT: 4}
                assert await times(echo, [None] * 8, window=4) == {DONE: 8}
            assert await comes_to(0, lambda: clients(observer))

    asyncio.run(main())


def test_a_client_that_is_a_service_is_closed_when_its_jobs_have_ended(
    redis_socket: str,
) -> None:
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
            await with_service(cache, 4, use)
            assert closed == ["closed"]
            assert len(await observer.keys()) == 4
            assert await comes_to(0, lambda: clients(observer))

    asyncio.run(main())
