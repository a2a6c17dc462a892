"""aiohttp, httpx and websockets, and FastAPI under uvicorn: a job that is cut off leaves no request on either side."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from trioflow import CommandService, Job, Scheduler

from ..places import PATIENCE, ROOT
from ..servers import folder_of_server, serving
from .ways import DONE, TIMED_OUT, Way, can_be_held_at_once, comes_to, other_tasks

pytestmark = pytest.mark.libraries

CONNECTIONS = 5
"""The size of each client's pool."""

Open = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Sends a request for a path, and provides what the answer consists of, as it comes."""


@pytest.fixture(scope="module")
def web_socket() -> Iterator[str]:
    """Return the socket of a server with the app beside this file."""
    with folder_of_server() as folder:
        socket = folder / "web.sock"
        server = CommandService(
            [sys.executable, "-m", "uvicorn", "tests.libraries.web_app:app", "--uds", socket, "--loop", "asyncio"],
            ready=socket, cwd=ROOT, stderr=folder / "web.log", stdout=folder / "web.log", timeout=PATIENCE,
        )  # fmt: skip
        with serving(server):
            yield str(socket)


@pytest.fixture
def name() -> str:
    """Return a name for the requests of one test."""
    return uuid.uuid4().hex


@contextlib.asynccontextmanager
async def by_aiohttp(socket: str) -> AsyncIterator[Open]:
    import aiohttp  # not in each process that collects the tests: it takes long

    connector = aiohttp.UnixConnector(socket, limit=CONNECTIONS)
    async with aiohttp.ClientSession("http://server", connector=connector) as session:

        @contextlib.asynccontextmanager
        async def opened(path: str) -> AsyncIterator[AsyncIterator[bytes]]:
            async with session.get(path, raise_for_status=True) as response:
                yield response.content.iter_any()

        yield opened


@contextlib.asynccontextmanager
async def by_httpx(socket: str) -> AsyncIterator[Open]:
    import httpx

    limits = httpx.Limits(max_connections=CONNECTIONS)
    transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=None) as client:

        @contextlib.asynccontextmanager
        async def opened(path: str) -> AsyncIterator[AsyncIterator[bytes]]:
            async with client.stream("GET", path) as response:
                yield response.raise_for_status().aiter_bytes()

        yield opened


async def counts(socket: str, name: str) -> dict[str, int]:
    """Ask the server for the counts of requests, by a client of its own."""
    import httpx

    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), timeout=PATIENCE) as client:
        found: dict[str, int] = (await client.get(f"http://server/counts/{name}")).json()
        return found


async def under_way(socket: str, name: str) -> int:
    return (await counts(socket, name))["under way"]


clients = pytest.mark.parametrize("client", [by_aiohttp, by_httpx])


@clients
def test_timeouts_in_mid_stream_leave_the_pool_whole(way: Way, client: Any, web_socket: str, name: str) -> None:
    """After timeouts in mid-stream the pool has all its connections, and no answer goes on in the server."""

    async def main() -> None:
        async with client(web_socket) as opened:

            async def read(number: int) -> None:
                async with opened(f"/stream/{name}") as pieces:
                    async for _ in pieces:
                        pass

            assert await way.times(read, [0.3] * 20, window=CONNECTIONS) == {TIMED_OUT: 20}
            assert await comes_to(0, lambda: under_way(web_socket, name))
            assert await can_be_held_at_once(CONNECTIONS, lambda: opened(f"/stream/{name}"))

    asyncio.run(main())


@clients
def test_two_hundred_requests_keep_to_their_window(way: Way, client: Any, web_socket: str, name: str) -> None:
    """200 jobs under a window all get their answers, and no more are under way than the window lets in."""

    async def main() -> None:
        async with client(web_socket) as opened:

            async def ask(number: int) -> None:
                async with opened(f"/short/{name}") as pieces:
                    assert b"".join([piece async for piece in pieces]) == b'"here it is"'

            assert await way.times(ask, [None] * 200, window=4) == {DONE: 200}
            seen = await counts(web_socket, name)
            assert (seen["begun"], seen["under way"]) == (200, 0)
            assert seen["most"] <= 4
            assert await can_be_held_at_once(CONNECTIONS, lambda: opened(f"/stream/{name}"))

    asyncio.run(main())


@clients
def test_jobs_of_a_handler_clean_up_when_its_client_leaves(way: Way, client: Any, web_socket: str, name: str) -> None:
    """When a client has left after a timeout, the jobs of its request in FastAPI have cleaned up to the last line."""

    async def main() -> None:
        async with client(web_socket) as opened:

            async def ask(number: int) -> None:
                async with opened(f"/page/{name}"):
                    pass

            assert await way.times(ask, [0.5] * CONNECTIONS) == {TIMED_OUT: CONNECTIONS}
            assert await comes_to(0, lambda: under_way(web_socket, name))
            assert (await counts(web_socket, name))["begun"]

    asyncio.run(main())


def test_timeouts_in_mid_stream_leave_httpx_whole_on_both_backends(backend: Any, web_socket: str, name: str) -> None:
    """httpx, which runs on trio as well: after timeouts in mid-stream the pool has all its connections."""
    holding: list[str] = []

    async def main() -> None:
        async with by_httpx(web_socket) as opened:

            async def read() -> None:
                async with opened(f"/stream/{name}") as pieces:
                    async for _ in pieces:
                        pass

            async def hold() -> None:
                async with opened(f"/stream/{name}"):
                    holding.append(name)
                    if len(holding) == CONNECTIONS:
                        all_hold.set()
                    await all_hold.wait()

            reading = [Job(read, timeout=0.3) for _ in range(20)]
            assert not await Scheduler(reading, jobs_window=CONNECTIONS).co_run()
            all_hold = anyio.Event()
            assert await Scheduler([Job(hold) for _ in range(CONNECTIONS)], timeout=PATIENCE).co_run(check=True)

    anyio.run(main, backend=backend)


def test_timeouts_leave_no_connection_of_websockets(way: Way, web_socket: str, name: str) -> None:
    """websockets: when timeouts have hit between messages, no task and no connection is left."""
    from websockets.asyncio.client import unix_connect

    async def main() -> None:
        async def talk(number: int) -> None:
            async with unix_connect(web_socket, f"ws://server/echo/{name}") as connection:
                while True:
                    await connection.send(f"{number}")
                    assert await connection.recv() == f"{number}"
                    await asyncio.sleep(0.01)

        assert await way.times(talk, [0.3] * 8) == {TIMED_OUT: 8}
        assert other_tasks() == set()
        assert await comes_to(0, lambda: under_way(web_socket, name))

    asyncio.run(main())
