"""aiohttp, httpx and websockets, and FastAPI under uvicorn: a job that is cut off leaves no request on either side."""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any
import anyio
import pytest
from trioflow import Job, JobTimeout, Scheduler
from ..places import PATIENCE, patiently
from ..servers import folder_of_server
from .ways import TIMED_OUT, comes_to, other_tasks, times

pytestmark = pytest.mark.libraries

CONNECTIONS = 3
"""The size of each client's pool."""

Open = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Sends a request for a path, and provides what the answer consists of, as it comes."""


@pytest.fixture(scope="module")
def web_socket() -> Iterator[str]:
    """Return the socket of a server with the app beside this file, in a thread."""
    import uvicorn  # not in each process that collects the tests: it takes long
    from .web_app import app

    with folder_of_server() as folder:
        socket = str(folder / "web.sock")
        server = uvicorn.Server(
            uvicorn.Config(
                app, uds=socket, loop="asyncio", ws="websockets-sansio", log_config=None
            )
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield socket
        server.should_exit = True
        thread.join()


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


@contextlib.asynccontextmanager
async def by_aiohttp(socket: str) -> AsyncIterator[Open]:
    import aiohttp

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
    async with httpx.AsyncClient(
        transport=transport, base_url="http://server", timeout=None
    ) as client:

        @contextlib.asynccontextmanager
        async def opened(path: str) -> AsyncIterator[AsyncIterator[bytes]]:
            async with client.stream("GET", path) as response:
                yield response.raise_for_status().aiter_bytes()

        yield opened


@pytest.mark.parametrize(
    ("client", "backend"),
    [(by_aiohttp, "asyncio"), (by_httpx, "asyncio"), (by_httpx, "trio")],
)
@patiently(0.3, 10)  # httpx loses connections that are cut off before the stream begins
def test_timeouts_in_mid_stream_spare_pools(
    client: Any, backend: Any, web_socket: str, name: str, unit: float
) -> None:
    from .web_app import under_way

    holding: list[str] = []

    async def main() -> None:
        async with client(web_socket) as opened:

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

            reading = [Job(read, timeout=unit) for _ in range(2 * CONNECTIONS)]
            assert not await Scheduler(reading, jobs_window=CONNECTIONS).co_run()
            assert {type(job.raised_exception()) for job in reading} == {JobTimeout}
            assert await comes_to(0, lambda: under_way[name])
            all_hold = anyio.Event()
            assert await Scheduler(
                [Job(hold) for _ in range(CONNECTIONS)],
                timeout=min(30 * unit, PATIENCE),
            ).co_run(check=True)

    anyio.run(main, backend=backend)


def test_jobs_of_a_handler_clean_up_when_its_client_leaves(
    web_socket: str, name: str
) -> None:
    """When a client has left after a timeout, the jobs of its request in FastAPI have cleaned up to the last line."""
    from .web_app import begun, under_way

    async def main() -> None:
        async with by_aiohttp(web_socket) as opened:

            async def ask(number: int) -> None:
                async with opened(f"/page/{name}"):
                    pass

            assert await times(ask, [0.5] * CONNECTIONS) == {TIMED_OUT: CONNECTIONS}
            assert await comes_to(0, lambda: under_way[name])
            assert begun[name]

    asyncio.run(main())


def test_timeouts_leave_no_connection_of_websockets(web_socket: str, name: str) -> None:
    from websockets.asyncio.client import unix_connect
    from .web_app import under_way

    async def main() -> None:
        async def talk(number: int) -> None:
            async with unix_connect(
                web_socket, f"ws://server/echo/{name}"
            ) as connection:
                while True:
                    await connection.send(f"{number}")
                    assert await connection.recv() == f"{number}"
                    await asyncio.sleep(0.01)

        assert await times(talk, [0.3] * 4) == {TIMED_OUT: 4}
        assert other_tasks() == set()
        assert await comes_to(0, lambda: under_way[name])

    asyncio.run(main())
