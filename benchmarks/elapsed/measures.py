"""The measurements: each function runs one workflow in one way and returns its figures."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio

from trioflow.testing import run_virtual

from .. import loops
from .ways import Way
from .workflows import Workflow

SERVER: Final = """
import asyncio

async def serve(reader, writer):
    while line := await reader.readline():
        seconds = float(line.split()[1][1:])
        while (await reader.readline()).strip():
            pass
        await asyncio.sleep(seconds)
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
"""Answers `GET /SECONDS` after that many seconds, over connections that stay open."""


def simulated(way: Way, workflow: Workflow, window: int | None) -> float | None:
    """Return the makespan over the lower bound, on a virtual clock; None for threads, which cannot have one."""
    if way.backend == "threads":
        return None
    taken = 0.0

    async def body(number: int) -> None:
        await anyio.sleep(workflow.seconds[number])

    async def main() -> None:
        nonlocal taken
        run = way.build(workflow, body, window)
        start = anyio.current_time()
        await run()
        taken = anyio.current_time() - start

    run_virtual(main, backend=way.backend)
    return taken / workflow.lower_bound(window)


def slept(way: Way, workflow: Workflow, window: int | None) -> dict[str, float]:
    """Run it with real sleeps: makespan over the lower bound, latency, CPU a task.

    The latency is the time from the end of the last requirement of a task to its start, in microseconds. With a window
    it has the wait for a slot in it.
    """
    seconds = workflow.seconds
    begun, ended = [0.0] * len(seconds), [0.0] * len(seconds)

    async def body(number: int) -> None:
        begun[number] = time.perf_counter()
        await anyio.sleep(seconds[number])
        ended[number] = time.perf_counter()

    def in_thread(number: int) -> None:
        begun[number] = time.perf_counter()
        time.sleep(seconds[number])
        ended[number] = time.perf_counter()

    cpu, wall = timed(
        way, workflow, in_thread if way.backend == "threads" else body, window
    )
    waits = [
        begun[number] - max(ended[one] for one in required)
        for number, required in enumerate(workflow.graph.requirements)
        if required
    ]
    return {
        "makespan": wall / workflow.lower_bound(window),
        "latency p50": percentile(waits, 0.5) * 1e6,
        "latency p99": percentile(waits, 0.99) * 1e6,
        "CPU": cpu / len(seconds) * 1e6,
    }


def requested(
    way: Way, workflow: Workflow, window: int | None, port: int
) -> dict[str, float] | None:
    """Run it with real HTTP requests, answered by a server process after the seconds of the task."""
    if way.backend == "threads":
        return None
    import httpx

    seconds = workflow.seconds
    client: httpx.AsyncClient

    async def body(number: int) -> None:
        answer = await client.get(f"http://127.0.0.1:{port}/{seconds[number]:.6f}")
        answer.raise_for_status()

    async def around(run: Callable[[], Any]) -> None:
        nonlocal client
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(
            limits=limits, timeout=60, trust_env=False
        ) as client:
            await run()

    cpu, wall = timed(way, workflow, body, window, around)
    return {
        "makespan": wall / workflow.lower_bound(window),
        "CPU": cpu / len(seconds) * 1e6,
    }


def timed(
    way: Way,
    workflow: Workflow,
    body: Any,
    window: int | None,
    around: Callable[[Any], Any] | None = None,
) -> tuple[float, float]:
    """Return the CPU time and the time that a run took, in seconds; building it does not count."""
    gc.collect()
    cpu = wall = 0.0
    if way.backend == "threads":
        run = way.build(workflow, body, window)
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        return time.process_time() - cpu, time.perf_counter() - wall

    async def main() -> None:
        nonlocal cpu, wall
        run = way.build(workflow, body, window)

        async def measured() -> None:
            nonlocal cpu, wall
            cpu, wall = time.process_time(), time.perf_counter()
            await run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall

        await (measured() if around is None else around(measured))

    loops.run(way.backend, main)
    return cpu, wall


def cancelled(way: Way, workflow: Workflow) -> float | None:
    """Return the milliseconds from a cancellation from outside, while entry tasks sleep, to the end of the run."""
    if way.backend == "threads":
        return None
    taken = 0.0

    async def body(number: int) -> None:
        await anyio.sleep(3600)

    async def main() -> None:
        nonlocal taken
        run = way.build(workflow, body, None)
        start = 0.0
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await anyio.sleep(0.05)
                start = time.perf_counter()
                scope.cancel()
        taken = time.perf_counter() - start

    gc.collect()
    loops.run(way.backend, main)
    return taken * 1e3


def remembered(way: Way, workflow: Workflow) -> float | None:
    """Return the bytes a task at the peak of a run in which all sleep for a moment, from building it to its end."""
    if way.backend == "threads":
        return None

    async def body(number: int) -> None:
        await anyio.sleep(0.001)

    async def main() -> None:
        gc.collect()
        tracemalloc.start()
        await way.build(workflow, body, None)()

    try:
        loops.run(way.backend, main)
        return tracemalloc.get_traced_memory()[1] / len(workflow.seconds)
    finally:
        tracemalloc.stop()


@contextmanager
def serving() -> Iterator[int]:
    """Run the server while the block lasts; yield its port."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def percentile(values: list[float], part: float) -> float:
    """Return the least value that this fraction of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
