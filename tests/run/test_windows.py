"""Windows: numbers and limiters, one limiter over many schedulers, at any depth."""

import functools
import math
from typing import Any

import anyio
import pytest
import trio
from trioflow import Job, Scheduler
from trioflow._core.admission._window import max_slots
from trioflow.abc import AbstractJob, Instrument
from ..bodies import later, naps, starts, timed
from ..conftest import Virtual


class Watch(Instrument):
    """An instrument that records the order of starts, and how many leaf jobs ran at once at most."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.running = self.most = 0

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.order.append(job.label)
        if not isinstance(job, Scheduler) and not job.forever:
            self.running += 1
            self.most = max(self.most, self.running)

    def job_settled(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if not isinstance(job, Scheduler) and not job.forever and job.started_at is not None:
            self.running -= 1


# --- windows that are numbers
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 9])
def test_window_is_never_exceeded_and_always_full(virtual: Virtual, window: int) -> None:
    """There are never more running jobs than the window allows, and never fewer while enough jobs are ready."""
    watch = Watch()
    scheduler = Scheduler(naps(8), jobs_window=window)
    assert virtual(functools.partial(timed, scheduler, instruments=[watch])) == (True, -(-8 // window))
    assert watch.most == min(window, 8)
    assert starts(scheduler) == [number // window for number in range(8)]


@pytest.mark.parametrize("window", [0, None])
def test_a_window_of_0_or_none_is_no_limit(virtual: Virtual, window: int | None) -> None:
    """With a window of 0 or None, all ready jobs run at once."""
    assert virtual(timed, Scheduler(naps(50), jobs_window=window)) == (True, 1)


def test_run_overrides_the_window(virtual: Virtual) -> None:
    """The `jobs_window` of a call of `run` replaces the scheduler's own, and None removes the limit."""
    scheduler = Scheduler(naps(6), jobs_window=1)
    for window, seconds in [(2, 3), (None, 1), (0, 1), (6, 1), (..., 6)]:
        assert virtual(functools.partial(timed, scheduler, jobs_window=window)) == (True, seconds)

    async def by_limiter() -> tuple[bool, float]:
        return await timed(scheduler, jobs_window=anyio.CapacityLimiter(3))

    assert virtual(by_limiter) == (True, 2)


# --- limiters
def limiter_of(virtual: Virtual, kind: str, tokens: int) -> Any:
    return trio.CapacityLimiter(tokens) if kind == "trio" else anyio.CapacityLimiter(tokens)


@pytest.mark.parametrize("kind", ["trio", "anyio"])
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_a_limiter_may_be_the_window(virtual: Virtual, kind: str, tokens: int) -> None:
    """The window may be anyio's limiter, or trio's on trio: as many jobs run at once as it has tokens."""
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = limiter_of(virtual, kind, tokens)
        answer = await timed(Scheduler(naps(10), jobs_window=limiter), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    if kind == "trio" and virtual.backend == "asyncio":
        with pytest.raises(TypeError, match="CapacityLimiter of anyio"):
            virtual(main)
        return
    assert virtual(main) == (True, 10 // tokens)
    assert watch.most == tokens


def test_tokens_held_by_other_code_are_not_available_as_slots(virtual: Virtual) -> None:
    """Tokens that other code holds are no slots until they are given back."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(2)
        async with anyio.create_task_group() as tasks:
            limiter.acquire_on_behalf_of_nowait("somebody")
            tasks.start_soon(later, 2.5, lambda: limiter.release_on_behalf_of("somebody"))
            return await timed(Scheduler(naps(6), jobs_window=limiter))

    assert virtual(main) == (True, 4.5)


def test_another_user_of_the_limiter_waits_for_one_job_only(virtual: Virtual) -> None:
    got: list[float] = []

    async def stranger(limiter: anyio.CapacityLimiter) -> None:
        await anyio.sleep(0.5)
        async with limiter:
            got.append(anyio.current_time())

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stranger, limiter)
            await Scheduler(naps(20), jobs_window=limiter).co_run()

    virtual(main)
    assert got[0] <= 2


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_last_job_leaves_the_limiters_queue_empty(virtual: Virtual, jobs: int) -> None:
    async def main() -> list[int]:
        limiter = anyio.CapacityLimiter(1)
        waiting: list[int] = []

        async def note() -> None:
            await anyio.sleep(1)
            waiting.append(limiter.statistics().tasks_waiting)

        assert await Scheduler([Job(note) for _ in range(jobs)], jobs_window=limiter).co_run()
        return waiting

    assert virtual(main) == [1] * (jobs - 1) + [0]


def test_a_limiter_without_a_limit_is_no_limit(virtual: Virtual) -> None:
    """A limiter with infinitely many tokens lets all jobs run at once, and views show no limit."""
    limiter = anyio.CapacityLimiter(math.inf)
    assert max_slots(limiter) is None
    assert virtual(timed, Scheduler(naps(9), jobs_window=limiter)) == (True, 1)
