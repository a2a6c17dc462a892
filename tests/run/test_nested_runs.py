"""Nested runs in a row and side by side: none notices another, or leaves anything behind."""

import asyncio
import contextvars
import gc
import math
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, Final
import anyio
import anyio.lowlevel
import pytest
import trio
from trioflow import (
    Answer,
    First,
    Job,
    Pool,
    Rate,
    Scheduler,
    Sequence,
    Service,
    ThreadJob,
    current_job,
)
from trioflow.testing import run_virtual
from ..bodies import CANCELLED, FAILED, IDLE, LIMIT, SUCCEEDED, nap, nothing
from ..conftest import Virtual
from ..places import PATIENCE
from ..pythons import python


async def turn() -> None:
    await anyio.lowlevel.checkpoint()


async def deadline() -> float:
    await anyio.lowlevel.checkpoint()
    return anyio.current_effective_deadline()


def group(*jobs: Job[Any], **options: Any) -> Scheduler:
    """Return a nested scheduler whose jobs block, so that it gets several workers."""
    return Scheduler(Job(turn), Job(turn), *jobs, **options)


def in_turn(*groups: Scheduler) -> Scheduler:
    """Return groups in a row, and one more that waits for all, so that workers leave in between."""
    return Scheduler(Sequence(*groups, group()), timeout=LIMIT)


def test_members_see_the_variables_of_their_own_scheduler(virtual: Virtual) -> None:
    """A variable set in the `co_run` of a nested scheduler's class is seen by its own members alone."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar(
        "variable", default="nobody's"
    )

    class Named(Scheduler):
        async def co_run(self, **options: Any) -> bool:
            variable.set(self.label)
            return await super().co_run(**options)

    async def read() -> str:
        before = variable.get()
        await turn()
        assert variable.get() == before
        return before

    groups = [
        kind([Job(read) for _ in range(3)], label=str(n))
        for n, kind in enumerate([Named, Scheduler] * 3)
    ]
    assert virtual(in_turn(*groups).co_run) is True
    assert [{job.result() for job in one} for one in groups] == [
        {"0"}, {"nobody's"}, {"2"}, {"nobody's"}, {"4"}, {"nobody's"},
    ]  # fmt: skip


@pytest.mark.fast_way("asyncio")  # with direct isolation, jobs do not see it there
def test_only_the_groups_own_timeout_ends_its_jobs(virtual: Virtual) -> None:
    before, long = Job(deadline), Job(nap, LIMIT)
    limited = [
        group(Job(deadline), timeout=50),
        group(long, timeout=5),
        group(Job(deadline), timeout=70),
    ]
    limited[2].run_if = "settled"
    after = Job(deadline)

    async def main() -> None:
        begun = anyio.current_time()
        assert (
            await Scheduler(
                Sequence(group(before), *limited, group(Job(nap, 100), after))
            ).co_run()
            is False
        )
        assert [one.state for one in limited] == [SUCCEEDED, FAILED, SUCCEEDED]
        assert long.state is CANCELLED
        found = [list(one)[-1].result(default=None) for one in limited]
        assert (found[0] - begun, found[2] - begun) == (50, 75)
        assert before.result() == after.result() == math.inf
        assert anyio.current_time() - begun == 105

    virtual(main)


@pytest.mark.parametrize("how", ["cancel", "timeout", "scope", "critical"])
def test_workers_of_nested_runs_end_with_the_outermost_run(
    virtual: Virtual, how: str
) -> None:
    """However the outermost run ends, it leaves no worker's task; the test's fixture would find one."""
    waiting = Job(nap, 100)
    scope: Any = None

    async def end() -> None:
        await anyio.sleep(5)
        if how == "cancel":
            outer.cancel()
        elif how == "scope":
            scope.cancel()
        elif how == "critical":
            raise OSError("broken")

    outer = Scheduler(
        Sequence(group(), group(), waiting, group()),
        Job(end, critical=True),
        timeout=5.5 if how == "timeout" else None,
    )

    async def main() -> None:
        nonlocal scope
        with anyio.CancelScope() as scope:
            assert await outer.co_run() is False
        assert scope.cancelled_caught is (how == "scope")

    virtual(main)
    assert waiting.state is CANCELLED


def test_jobs_at_each_depth_have_the_scheduler_of_their_own_group(
    virtual: Virtual,
) -> None:
    async def where() -> str:
        await turn()
        return current_job().path

    def nest(depth: int) -> Scheduler:
        inner = [nest(depth - 1) for _ in range(2)] if depth else []
        return Scheduler(
            [Job(where, label=f"job {n}") for n in range(3)], *inner, jobs_window=2
        )

    outer = nest(3)
    assert virtual(outer.co_run) is True
    assert all(
        job.result() == job.path for job in outer.iterate_jobs() if isinstance(job, Job)
    )


def test_a_long_run_keeps_no_group_that_has_ended(virtual: Virtual) -> None:
    async def main() -> None:
        gone: list[weakref.ref[Any]] = []
        async with Scheduler(keep_jobs=False) as outer:
            hour = outer.add(Job(nap, 3600))
            last = outer.add(Job(nothing, required=hour))
            for _ in range(5):
                nested = outer.add(group(Job(nothing)))
                gone.append(weakref.ref(nested))
                await nested.wait_settled()
                del nested
                await anyio.sleep(1)
            gc.collect()
            assert [one() for one in gone] == [None] * 5
            assert last.state is IDLE

    virtual(main)


# --- No run keeps its event loop, or a program that runs a scheduler for each request would keep one for each
LOOPS: Final[list[weakref.ref[Any]]] = []
"""References to an object of each loop in which a job has run."""


async def rest(seconds: float) -> None:
    in_trio = trio.lowlevel.in_trio_run()
    LOOPS.append(
        weakref.ref(
            trio.lowlevel.current_root_task() if in_trio else asyncio.get_running_loop()
        )
    )
    await anyio.sleep(seconds)


async def serve(*, task_status: Any) -> None:
    task_status.started()
    await rest(99)


async def fail_once() -> None:
    if current_job().attempts < 2:
        raise OSError("once")


def scenario() -> Scheduler:
    pool = Pool(cpu=1, api=Rate(requests=100, per=0.01))
    group = Scheduler(
        Job(rest, 0, needs={"cpu": 1, "api": 1}),
        First(Job(rest, 0, timeout=9), Job(rest, 9)),
    )
    answer = Answer("yes?", timeout=0.01, critical=False)
    thread = ThreadJob(lambda: current_job().progress(0.5))
    return Scheduler(
        group,
        answer,
        thread,
        Service(serve),
        Job(fail_once, retry=1),
        pool=pool,
        jobs_window=4,
        timeout=9,
        log=False,
    )


async def run_both() -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(Scheduler(Job(rest, 0)).co_run)


async def run_open() -> None:
    async with Scheduler(keep_jobs=False) as scheduler:
        await scheduler.add(Job(rest, 0))


async def cancel_run() -> None:
    async def cancel() -> None:
        await rest(0)
        scope.cancel()

    with anyio.CancelScope() as scope:
        await Scheduler(Scheduler(Job(rest, 9)), Job(cancel), log=False).co_run()


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
    done = python(
        "-c",
        f"from tests.run.test_nested_runs import check; check({kind!r}, {backend!r})",
        cwd=os.getcwd(),
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.both_backends
def test_a_group_that_is_cancelled_starts_nothing_from_then_on(
    virtual: Virtual,
) -> None:
    """Not even a job that comes in the same turn, before the loop has told the group."""

    async def cancel() -> bool:
        await anyio.sleep(1)
        is_running = first.is_running()
        group.cancel()
        return is_running

    first, second, word = Job(nap, 1), Job(nap, 1), Job(cancel)
    group = Scheduler(first, second, jobs_window=1)
    assert virtual(Scheduler(word, group).co_run)
    assert second.started_at is None or not word.result()
