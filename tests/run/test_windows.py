"""Windows: numbers and limiters, one limiter over many schedulers, at any depth."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from trioflow import Job, Scheduler, StopReason
from trioflow._core.api.views import max_slots
from trioflow.abc import AbstractJob, Instrument

from ..bodies import CANCELLED, fail, later, nap, naps, starts, timed

if TYPE_CHECKING:
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

    def job_finished(self, scheduler: Any, job: AbstractJob[Any]) -> None:
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


def test_window_is_filled_from_whatever_becomes_ready(virtual: Virtual) -> None:
    """A job that becomes ready while a slot is free gets it at once, whatever made it ready."""
    gate = Job(nap, 1)
    scheduler = Scheduler(Job(nap, 10), gate, [Job(nap, 3, required=gate) for _ in range(4)], jobs_window=3)
    assert virtual(timed, scheduler) == (True, 10)
    assert starts(scheduler) == [0, 0, 1, 1, 4, 4]


def cut_by_cancel() -> Job[Any]:
    job: Job[Any]

    async def cancel() -> None:
        await anyio.sleep(1)
        job.cancel()
        await anyio.sleep(5)

    job = Job(cancel)
    return job


OUTCOMES: dict[str, Callable[[], AbstractJob[Any]]] = {
    "success": lambda: Job(nap, 1),
    "failure": lambda: Job(fail, 1),
    "timeout": lambda: Job(nap, 9, timeout=1),
    "moved on": lambda: Job(nap, 9, timeout=1, on_timeout="move_on"),
    "cancelled": cut_by_cancel,
    "own task": lambda: Job(nap, 1, own_task=True),
    "nested": lambda: Scheduler(Job(nap, 1)),
    "nested failure": lambda: Scheduler(Job(fail, 1), critical_jobs=True, critical=False),
    "nested timeout": lambda: Scheduler(Job(nap, 9), timeout=1),
}
WINDOWS: dict[str, Callable[[], Any]] = {"number": lambda: 2, "limiter": lambda: anyio.CapacityLimiter(2)}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_slot_is_given_back_on_every_outcome(virtual: Virtual, outcome: str, window: str) -> None:
    """However a job ends, its slot is free at once, so more jobs may fail than the window has slots."""

    async def main() -> tuple[bool, float]:
        scheduler = Scheduler([OUTCOMES[outcome]() for _ in range(10)], jobs_window=WINDOWS[window]())
        return await timed(scheduler)

    # Under a limiter nested schedulers start at once, and their timeouts with them.
    fails = outcome in ("failure", "timeout", "nested timeout")  # a nested failure is tolerated
    assert virtual(main) == (not fails, 1 if (outcome, window) == ("nested timeout", "limiter") else 5)


def test_a_job_cancelled_before_its_start_takes_no_slot(virtual: Virtual) -> None:
    """A job that is cancelled while it waits for a slot never takes one, and the next job gets it."""
    first, second, third = naps(3, 2)

    async def main() -> tuple[bool, float]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 1, second.cancel)
            return await timed(Scheduler(first, second, third, jobs_window=1))

    assert virtual(main) == (True, 4)
    assert (second.state, third.started_at) == (CANCELLED, 2)


@pytest.mark.parametrize("window", WINDOWS)
def test_forever_jobs_take_no_slot(virtual: Virtual, window: str) -> None:
    """Forever jobs, even more of them than there are slots, keep no other job from running."""

    async def main() -> tuple[bool, float]:
        return await timed(Scheduler(naps(5, 99, forever=True), naps(4), jobs_window=WINDOWS[window]()))

    assert virtual(main) == (True, 2)


def test_nested_scheduler_takes_one_slot(virtual: Virtual) -> None:
    """A nested scheduler takes one slot of its parent, however many jobs it has."""
    outer = Scheduler(Scheduler(naps(5, 3)), naps(2, 2), jobs_window=2)
    assert virtual(timed, outer) == (True, 4)
    assert starts(outer) == [0, 0, 2]


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


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("schedulers", [2, 3])
def test_sibling_schedulers_that_share_a_limiter_use_all_its_tokens(
    virtual: Virtual, tokens: int, schedulers: int
) -> None:
    """Schedulers that share a limiter together run as many jobs at once as it has tokens, at any time."""
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(tokens)
        inner = [Scheduler(naps(4), jobs_window=limiter) for _ in range(schedulers)]
        answer = await timed(Scheduler(inner), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    assert virtual(main) == (True, 4 * schedulers / tokens)
    assert watch.most == tokens


def test_schedulers_that_share_a_limiter_take_turns(virtual: Virtual) -> None:
    """Runs that share a limiter take turns after each job, so none starves."""
    watch = Watch()

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as tasks:
            for name in "ab":
                scheduler = Scheduler([Job(nap, 1, label=name) for _ in range(5)], jobs_window=limiter)
                tasks.start_soon(functools.partial(scheduler.co_run, instruments=[watch]))

    virtual(main)
    assert "".join(watch.order) in ("ab" * 5, "ba" * 5)


def test_another_user_of_the_limiter_waits_for_one_job_only(virtual: Virtual) -> None:
    """Another user of the limiter waits only for the jobs before it in the queue."""
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


def nest(limiter: Any, depth: int, between: Callable[[], Any], jobs: int = 2) -> Scheduler:
    """Return jobs in nested schedulers with `limiter`, each in a scheduler with another window or none."""
    scheduler = Scheduler(naps(jobs), jobs_window=limiter)
    for _ in range(depth):
        scheduler = Scheduler(Scheduler(scheduler, jobs_window=between()), naps(jobs), jobs_window=limiter)
    return scheduler


BETWEEN: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "one": lambda: 1,
    "another": lambda: anyio.CapacityLimiter(1),
}


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("tokens", [1, 2])
def test_nested_schedulers_with_the_same_limiter_do_not_deadlock(
    virtual: Virtual, tokens: int, between: str, depth: int
) -> None:
    """Nested schedulers under the limiter of their parent never wait for each other, and use all tokens for jobs."""
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(tokens)
        answer = await timed(nest(limiter, depth, BETWEEN[between]), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    result, seconds = virtual(main)
    assert result is True
    assert watch.most == tokens
    assert seconds == 2 * (depth + 1) / tokens


def test_sibling_nested_schedulers_share_the_tokens_of_a_limiter(virtual: Virtual) -> None:
    """Sibling schedulers inside one under a limiter use its tokens in turn, all of them."""
    watch = Watch()

    async def main(tokens: int) -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(tokens)
        inner = Scheduler([Scheduler(naps(3), jobs_window=limiter) for _ in range(3)])
        answer = await timed(Scheduler(inner, jobs_window=limiter), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    assert virtual(main, 1) == (True, 9)
    assert watch.most == 1
    assert virtual(main, 3) == (True, 3)
    assert watch.most == 3


def test_more_nested_schedulers_than_tokens_do_not_deadlock(virtual: Virtual) -> None:
    """Nested schedulers under their parent's limiter do not deadlock, though they outnumber its tokens."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(2)
        inner = [Scheduler(naps(2), jobs_window=limiter) for _ in range(6)]
        answer = await timed(Scheduler(inner, jobs_window=limiter))
        assert limiter.borrowed_tokens == 0
        return answer

    assert virtual(main) == (True, 6)


def test_forever_scheduler_with_the_limiter_of_its_parent_takes_no_token(virtual: Virtual) -> None:
    """A forever scheduler with the limiter of its parent takes no token itself, but its jobs take tokens."""
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(naps(3), jobs_window=limiter, forever=True)
        answer = await timed(Scheduler(inner, naps(3), jobs_window=limiter), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    result, seconds = virtual(main)
    assert result is True
    assert seconds <= 6
    assert watch.most == 1


async def ended_by(how: str, scheduler: Scheduler) -> None:
    if how == "timeout":
        await scheduler.co_run(timeout=1.5)
    elif how == "outer cancel":
        with anyio.move_on_after(1.5):
            await scheduler.co_run()
    else:
        async with anyio.create_task_group() as tasks:
            if how == "cancel()":
                tasks.start_soon(later, 1.5, scheduler.cancel)
            await scheduler.co_run()


@pytest.mark.parametrize("how", ["completion", "critical", "timeout", "outer cancel", "cancel()"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_no_token_is_left_borrowed(virtual: Virtual, how: str, depth: int) -> None:
    """However a run ends, nested or not, all tokens are given back, and no worker waits for one."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(2)
        scheduler = nest(limiter, depth, lambda: None, jobs=4)
        if how == "critical":
            scheduler.add(Scheduler(Job(fail, 1, critical=True), naps(3, 9), jobs_window=limiter, critical=True))
            scheduler.jobs_window = anyio.CapacityLimiter(9)
        await ended_by(how, scheduler)
        expected = {"completion": "completed", "outer cancel": "cancelled", "cancel()": "cancelled"}.get(how, how)
        assert scheduler.stop_reason is StopReason(expected)
        assert (limiter.borrowed_tokens, limiter.statistics().tasks_waiting) == (0, 0)

    virtual(main)


def test_a_token_that_a_nested_scheduler_does_not_need_goes_to_others(virtual: Virtual) -> None:
    """When a nested scheduler has fewer jobs than there are tokens, another run has the rest."""

    async def main() -> list[float | None]:
        limiter = anyio.CapacityLimiter(2)
        outside = Job(nap, 1)
        inner = Scheduler(Job(nap, 2), Job(nap, 9), jobs_window=limiter)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Scheduler(inner, jobs_window=limiter).co_run)
            await anyio.sleep(1)
            await Scheduler(outside, jobs_window=limiter).co_run()
        return [outside.started_at, inner.finished_at]

    assert virtual(main) == [2, 9]


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_last_job_leaves_the_limiters_queue_empty(virtual: Virtual, jobs: int) -> None:
    """A run waits in a limiter's queue only while it has a job for a token, so not during its last one."""

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


def test_a_job_that_is_tried_again_at_once_comes_before_those_that_may_start(virtual: Virtual) -> None:
    """A job that fails before others with a slot have begun is tried again before them."""
    begun: list[str] = []

    async def note(name: str) -> None:
        begun.append(name)
        if begun == ["a"]:
            raise OSError

    assert virtual(Scheduler(*[Job(note, name, retry=1) for name in "abcd"], jobs_window=4).co_run)
    assert begun == ["a", "a", "b", "c", "d"]
