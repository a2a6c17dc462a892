"""A program that calls a function in worker processes, one call for each, and writes the CPU time that all of it took.

    python -m benchmarks.in_processes trioflow asyncio 8

Each worker imports this module, which imports trioflow, as the modules of users do. The rival is imported before the
time is taken.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver
from typing import Any, Final

import anyio
import anyio.to_process

from trioflow import ProcessJob, Scheduler

BUSY: Final = 0.3
"""Seconds that a call takes, asleep, so that each needs a worker of its own."""


def call(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def ours(backend: str, calls: int, seconds: float) -> set[int]:
    jobs = [ProcessJob(call, seconds) for _ in range(calls)]
    Scheduler(*jobs).run(backend=backend, check=True)
    return {job.result() for job in jobs}


def executor(method: str, backend: str, calls: int, seconds: float) -> set[int]:
    with concurrent.futures.ProcessPoolExecutor(calls, multiprocessing.get_context(method)) as pool:
        found = set(pool.map(call, [seconds] * calls))
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server._stop()  # it would remain, and not be counted
    return found


def by_anyio(backend: str, calls: int, seconds: float) -> set[int]:
    found = set[int]()

    async def job(limiter: anyio.CapacityLimiter) -> None:
        found.add(await anyio.to_process.run_sync(call, seconds, limiter=limiter))

    async def main() -> None:
        limiter = anyio.CapacityLimiter(calls)
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(job, limiter)

    anyio.run(main, backend=backend)
    return found


WAYS: Final[dict[str, Callable[[str, int, float], set[int]]]] = {
    "trioflow": ours,
    "anyio.to_process": by_anyio,
    "ProcessPoolExecutor, spawn": partial(executor, "spawn"),
    "ProcessPoolExecutor, forkserver": partial(executor, "forkserver"),
}


def used() -> float:
    """Return the CPU time of this process and of the children that have been waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def main(name: str, backend: str, calls: int) -> None:
    """Run `calls` calls, each in a process of its own, and write how many seconds of CPU time that took.

    Raises:
        RuntimeError: two calls had the same process.

    """
    asyncio.run(asyncio.sleep(0))  # the start of the first loop is not part of it
    before = used()
    processes = WAYS[name](backend, calls, BUSY if calls > 1 else 0.0)
    taken = used() - before
    if len(processes) != calls:
        raise RuntimeError(f"{name}: {calls} calls had {len(processes)} processes")
    print(taken)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
