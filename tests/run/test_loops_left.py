"""No run keeps its event loop, or a program that runs a scheduler for each request would keep one for each.

A value of a weak dictionary had a reference to its own key, so each run on asyncio left its loop behind."""

import asyncio
import gc
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

import anyio
import pytest
import trio
from trioflow import Answer, First, Job, Pool, Rate, Scheduler, Service, ThreadJob, current_job
from trioflow.testing import run_virtual
from ..places import PATIENCE
from ..pythons import python

LOOPS: Final[list[weakref.ref[Any]]] = []
"""References to an object of each loop in which a job has run."""


async def nap(seconds: float) -> None:
    in_trio = trio.lowlevel.in_trio_run()
    LOOPS.append(weakref.ref(trio.lowlevel.current_root_task() if in_trio else asyncio.get_running_loop()))
    await anyio.sleep(seconds)


async def serve(*, task_status: Any) -> None:
    task_status.started()
    await nap(99)


async def fail_once() -> None:
    if current_job().attempts < 2:
        raise OSError("once")


def scenario() -> Scheduler:
    pool = Pool(cpu=1, api=Rate(requests=100, per=0.01))
    group = Scheduler(Job(nap, 0, needs={"cpu": 1, "api": 1}), First(Job(nap, 0, timeout=9), Job(nap, 9)))
    answer = Answer("yes?", timeout=0.01, critical=False)
    thread = ThreadJob(lambda: current_job().progress(0.5))
    return Scheduler(
        group, answer, thread, Service(serve), Job(fail_once, retry=1), pool=pool, jobs_window=4, timeout=9, log=False
    )


async def run_both() -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(Scheduler(Job(nap, 0)).co_run)


async def run_open() -> None:
    async with Scheduler(keep_jobs=False) as scheduler:
        await scheduler.add(Job(nap, 0))


async def cancel_run() -> None:
    async def cancel() -> None:
        await nap(0)
        scope.cancel()

    with anyio.CancelScope() as scope:
        await Scheduler(Scheduler(Job(nap, 9)), Job(cancel), log=False).co_run()


KINDS: Final[dict[str, Callable[[Any], object]]] = {
    "run": lambda backend: scenario().run(backend=backend),
    "co_run": lambda backend: anyio.run(scenario().co_run, backend=backend),
    "as settled": lambda backend: [*scenario().run_as_settled(backend=backend)],
    "two at once": lambda backend: anyio.run(run_both, backend=backend),
    "open block": lambda backend: anyio.run(run_open, backend=backend),
    "cancelled": lambda backend: anyio.run(cancel_run, backend=backend),
    "virtual": lambda backend: run_virtual(run_both, backend=backend),
}


def check(kind: str, backend: str) -> None:
    """Fail if a weak reference to the loop of a run that has ended is alive."""
    for _ in range(2):
        KINDS[kind](backend)
    assert LOOPS
    deadline = time.monotonic() + PATIENCE / 4
    while any(loop() is not None for loop in LOOPS) and time.monotonic() < deadline:
        # anyio's threads end a moment after the loop that they refer to.
        time.sleep(0.01)
        gc.collect()
    assert [loop() for loop in LOOPS if loop() is not None] == []


@pytest.mark.both_backends
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_no_event_loop(backend: str, kind: str) -> None:
    """After each kind of run, a weak reference to its event loop is dead, in a program that has nothing else."""
    done = python("-c", f"from tests.run.test_loops_left import check; check({kind!r}, {backend!r})", cwd=os.getcwd())
    assert done.returncode == 0, done.stderr.decode()
