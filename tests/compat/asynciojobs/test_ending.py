"""asynciojobs' names: how jobs are cancelled, and faults of the original that trioflow does not have."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from trioflow.compat.asynciojobs import AbstractJob, Job, PureScheduler, Scheduler, Sequence
from trioflow.testing import run_virtual


class Stubborn:
    """A body that records each cancellation, and swallows the given number of them."""

    def __init__(self, times: int, sleep: float = 1.0) -> None:
        self.times, self.sleep = times, sleep
        self.cancelled_at: list[float] = []

    async def body(self) -> str:
        while True:
            try:
                await asyncio.sleep(self.sleep)
                return "slept"
            except asyncio.CancelledError:
                self.cancelled_at.append(anyio.current_time())
                if len(self.cancelled_at) > self.times:
                    raise


def timed(scheduler: PureScheduler) -> tuple[bool, float]:
    """Run under virtual time, and return the result and the duration."""

    async def main() -> tuple[bool, float]:
        return await scheduler.co_run(), anyio.current_time()

    return run_virtual(main, backend="asyncio")


# ---- cancellation as asyncio programs know it
@pytest.mark.parametrize("shutdown_timeout", [2, None])
def test_a_job_is_cancelled_once(shutdown_timeout: float | None) -> None:
    stubborn = Stubborn(times=9, sleep=4.0)
    job = Job(stubborn.body())
    assert timed(PureScheduler(job, timeout=1, shutdown_timeout=shutdown_timeout)) == (False, 5.0)
    assert stubborn.cancelled_at == [1.0]
    assert job.result() == "slept"


def test_a_forever_job_that_goes_on_after_shutdown_timeout_is_cancelled_at_each_await() -> None:
    stubborn = Stubborn(times=3, sleep=60)
    job = Job(stubborn.body(), label="stubborn", forever=True)
    assert timed(PureScheduler(job, Job(sleep(1)), shutdown_timeout=2)) == (True, 3.0)
    assert stubborn.cancelled_at == [1.0, 3.0, 3.0, 3.0]
    assert not job.is_done()


# ---- faults of asynciojobs that are not here
async def sleep(delay: float = 0.0) -> None:
    await anyio.sleep(delay)


def test_forever_jobs_alone_run_until_all_of_them_have_ended() -> None:
    short, long = Job(sleep(1), forever=True), Job(sleep(3), forever=True)
    assert timed(PureScheduler(short, long)) == (True, 3.0)
    assert short.is_done()
    assert long.is_done()


def test_forever_jobs_take_no_slot() -> None:
    """Forever jobs take no slot; in asynciojobs, those that fill the window leave no room for others."""
    forever = [Job(sleep(60), forever=True) for _ in range(3)]
    assert timed(PureScheduler(*forever, Job(sleep(1)), jobs_window=1)) == (True, 1.0)


def test_a_second_run_runs_jobs_and_shuts_them_down_again() -> None:
    notes: list[str] = []

    class Again(AbstractJob):
        async def co_run(self) -> None:
            notes.append("run")

        async def co_shutdown(self) -> None:
            notes.append("shutdown")

    scheduler = Scheduler(Scheduler(Again()))
    for _ in range(2):
        assert timed(scheduler)[0]
    assert notes == ["run", "shutdown"] * 2


def test_a_second_run_with_used_coroutines_is_rejected_before_it_starts() -> None:
    """A second run with used coroutines starts no job; in asynciojobs, it fails halfway, with Python's own error."""
    notes: list[str] = []

    class Again(AbstractJob):
        async def co_run(self) -> None:
            notes.append("run")

    spent = Job(sleep(), label="spent")
    scheduler = PureScheduler(Again(), spent)
    assert timed(scheduler)[0]
    with pytest.raises(ValueError, match=r"awaited already: spent; .* a new corun"):
        timed(scheduler)
    spent.corun = sleep()
    assert timed(scheduler)[0]
    assert notes == ["run", "run"]


def test_jobs_that_cannot_be_run_fail_with_an_explanation() -> None:
    nothing = AbstractJob(critical=False)
    shared: Any = sleep()
    twice = [Job(shared, critical=False), Job(shared, critical=False)]
    Sequence(*twice)
    assert timed(PureScheduler(nothing, *twice)) == (True, 0.0)
    assert "must define async def co_run" in str(nothing.raised_exception())
    assert "awaited" in str(twice[1].raised_exception())
