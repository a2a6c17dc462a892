"""The page about servers: the filter of its log, its TCP server, and its FastAPI app under uvicorn."""

import contextlib
import http.client
import logging
import re
import signal
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import anyio.abc
import pytest
from trioflow import Job, Scheduler
from ..conftest import Virtual
from ..jobs.posix.process_trees import until_there
from ..places import DOCS, PATIENCE
from ..pythons import Python

PAGE = DOCS / "how-to/server.md"
REST = """

from pathlib import Path


async def ask(what):
    return what


async def join(*answers):
    return " and ".join(answers)


queue = None


async def consume(queue):
    await anyio.sleep_forever()


async def leave_a_note():
    Path("begun").touch()
    await anyio.sleep(0.5)
    Path("done").touch()


@app.get("/note")
async def note(request: Request):
    request.app.state.jobs.add(Job(leave_a_note))


@app.get("/slow")
async def slow(request: Request):
    async def work():
        Path("slow").touch()
        try:
            await anyio.sleep_forever()
        finally:
            Path("cancelled").touch()

    scheduler = Scheduler(Job(work, critical=True), jobs_window=request.app.state.limiter)
    scheduler.add(Job(cancel_when_gone, request, forever=True))
    await scheduler.co_run()
"""


def page_block(heading: str) -> str:
    return (
        PAGE.read_text()
        .partition(f"## {heading}")[2]
        .split("```")[1]
        .removeprefix("python")
    )


def test_the_filter_of_the_log_lets_one_failure_of_each_kind_through_in_a_minute(
    virtual: Virtual,
) -> None:
    page: dict[str, Any] = {}
    lines: list[str] = []

    async def ask(number: int) -> None:
        raise OSError(f"answer {number}")

    async def requests() -> None:
        for number in range(3):
            await Scheduler(Job(ask, number, label="ask"), label="page").co_run()
        await anyio.sleep(60)
        await Scheduler(Job(ask, 3, label="ask"), label="page").co_run()

    logger, handler = logging.getLogger("trioflow"), logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    filters = list(logger.filters)
    exec(page_block("Its log"), page)
    page["time"] = types.SimpleNamespace(monotonic=anyio.current_time)
    logger.addHandler(handler)
    try:
        virtual(requests)
    finally:
        logger.removeHandler(handler)
        logger.filters[:] = filters
    place = f'it was in ask at test_server.py:{ask.__code__.co_firstlineno + 1} (raise OSError(f"answer {{number}}"))'
    assert lines == [
        f"'ask' failed: OSError: answer 0; the run goes on; {place}; 0 like it were left out",
        f"'ask' failed: OSError: answer 3; the run goes on; {place}; 2 like it were left out",
    ]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_tcp_server_answers_clients_and_ends_at_sigterm(backend: str) -> None:
    page: dict[str, Any] = {}
    exec(
        PAGE.read_text()
        .partition("## One scheduler")[2]
        .split("```python\n")[1]
        .split("```")[0],
        page,
    )

    async def main() -> list[str]:
        heard: list[str] = []
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def client(name: str) -> None:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(name.encode())
                if name != "impatient":
                    heard.append((await stream.receive()).decode())

        async with anyio.create_task_group() as group:
            group.start_soon(page["serve"], listener)
            async with anyio.create_task_group() as clients:
                for name in ("Ada", "impatient", "Grace"):
                    clients.start_soon(client, name)
            signal.raise_signal(signal.SIGTERM)
        return sorted(heard)

    assert anyio.run(main, backend=backend) == ["answer to Ada", "answer to Grace"]


class Server:
    """A uvicorn process with the page's app, in the given directory."""

    def __init__(self, directory: Path) -> None:
        (directory / "app.py").write_text(page_block("In FastAPI") + REST)
        words = ["-m", "uvicorn", "app:app", "--port", "0"]
        self.process = Python(words, cwd=directory, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        lines = (
            re.search(r"running on http://127.0.0.1:(\d+)", line)
            for line in self.process.stderr
        )
        found = next(match for match in lines if match)
        self.port = int(found[1])

    def end(self) -> str:
        """End the server by SIGTERM, and return what it has logged since its start."""
        self.process.send_signal(signal.SIGTERM)
        logged = self.process.communicate(timeout=PATIENCE)[1]
        assert self.process.returncode in (0, -signal.SIGTERM)
        return logged

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str) -> str:
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", path)
            with connection.getresponse() as response:
                assert response.status == 200
                return response.read().decode()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    """One server; the last test of this file ends it."""
    server = Server(place)
    with server.process:
        yield server
        server.process.kill()


@pytest.mark.slow
def test_a_client_that_disconnects_ends_the_jobs_of_its_request(
    server: Server, place: Path
) -> None:
    """When a client disconnects, FastAPI does not cancel the handler, but the forever job on the page does."""
    connection = server.connection()
    connection.request("GET", "/slow")
    until_there(place / "slow")
    assert not (place / "cancelled").exists()
    connection.close()
    until_there(place / "cancelled")
    assert (place / "cancelled").exists()


@pytest.mark.slow
def test_the_server_completes_accepted_jobs_at_sigterm(
    server: Server, place: Path
) -> None:
    """At SIGTERM, the lifespan of the app waits for jobs that outlive their requests."""
    assert server.get("/page") == '"user and basket"'
    server.get("/note")
    until_there(place / "begun")
    server.end()
    assert (place / "done").exists()
