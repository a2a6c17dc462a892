"""Nested runs in a row and side by side: none notices another, or leaves anything behind."""

import contextvars
import gc
import math
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, Scheduler, Sequence, current_job
from ..bodies import CANCELLED, FAILED, IDLE, LIMIT, SUCCEEDED, nap, nothing
from ..conftest import Virtual


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
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")

    class Named(Scheduler):
        async def co_run(self, **options: Any) -> bool:
            variable.set(self.label)
            return await super().co_run(**options)

    async def read() -> str:
        before = variable.get()
        await turn()
        assert variable.get() == before
        return before

    groups = [kind([Job(read) for _ in range(3)], label=str(n)) for n, kind in enumerate([Named, Scheduler] * 3)]
    assert virtual(in_turn(*groups).co_run) is True
    assert [{job.result() for job in one} for one in groups] == [
        {"0"}, {"nobody's"}, {"2"}, {"nobody's"}, {"4"}, {"nobody's"},
    ]  # fmt: skip


@pytest.mark.fast_way("asyncio")  # with direct isolation, jobs do not see it there
def test_only_the_groups_own_timeout_ends_its_jobs(virtual: Virtual) -> None:
    before, long = Job(deadline), Job(nap, LIMIT)
    limited = [group(Job(deadline), timeout=50), group(long, timeout=5), group(Job(deadline), timeout=70)]
    limited[2].run_if = "settled"
    after = Job(deadline)

    async def main() -> None:
        begun = anyio.current_time()
        assert await Scheduler(Sequence(group(before), *limited, group(Job(nap, 100), after))).co_run() is False
        assert [one.state for one in limited] == [SUCCEEDED, FAILED, SUCCEEDED]
        assert long.state is CANCELLED
        found = [list(one)[-1].result(default=None) for one in limited]
        assert (found[0] - begun, found[2] - begun) == (50, 75)
        assert before.result() == after.result() == math.inf
        assert anyio.current_time() - begun == 105

    virtual(main)


@pytest.mark.parametrize("how", ["cancel", "timeout", "scope", "critical"])
def test_workers_of_nested_runs_end_with_the_outermost_run(virtual: Virtual, how: str) -> None:
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
        Sequence(group(), group(), waiting, group()), Job(end, critical=True), timeout=5.5 if how == "timeout" else None
    )

    async def main() -> None:
        nonlocal scope
        with anyio.CancelScope() as scope:
            assert await outer.co_run() is False
        assert scope.cancelled_caught is (how == "scope")

    virtual(main)
    assert waiting.state is CANCELLED


def test_jobs_at_each_depth_have_the_scheduler_of_their_own_group(virtual: Virtual) -> None:
    async def where() -> str:
        await turn()
        return current_job().path

    def nest(depth: int) -> Scheduler:
        inner = [nest(depth - 1) for _ in range(2)] if depth else []
        return Scheduler([Job(where, label=f"job {n}") for n in range(3)], *inner, jobs_window=2)

    outer = nest(3)
    assert virtual(outer.co_run) is True
    assert all(job.result() == job.path for job in outer.iterate_jobs() if isinstance(job, Job))


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
