"""`on_settled` of a kind of job is called once, whatever becomes of the job, unless the job never had a slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from trioflow import Budget, Job, Pool, Rate, Retry, Scheduler, StopReason, Throttled
from trioflow.abc import JobKind, incidents_of

from ..bodies import BLOCKED, CANCELLED, Flaw, later, nap
from ..conftest import Virtual


class Tries(JobKind[None]):
    """A kind whose attempts fail after 2 seconds, with an error or because they are throttled."""

    def __init__(self, error: Exception, **options: Any) -> None:
        self.error = error
        self.seen: list[str] = []
        super().__init__(on_settled=self.note, label="job", **options)

    def note(self, job: JobKind[Any]) -> None:
        """Note the exception that the callback sees."""
        self.seen.append(type(job.raised_exception()).__name__)

    async def co_run(self) -> None:
        await anyio.sleep(2)
        raise self.error


def flaky(**options: Any) -> Tries:
    """Return a job that fails, and waits 10 s for its next attempt."""
    return Tries(Flaw(), retry=Retry(2, first=10, jitter=False), **options)


def throttled(**options: Any) -> Tries:
    """Return a job that is throttled for 10 s."""
    return Tries(Throttled("api", after=10), needs={"api": 1}, **options)


ENDS: dict[str, tuple[float, Callable[[Scheduler], object]]] = {
    "drain in its body": (1, Scheduler.drain),
    "cancel in its body": (1, Scheduler.cancel),
    "drain while it waits": (5, Scheduler.drain),
    "cancel while it waits": (5, Scheduler.cancel),
    "cancel it in its body": (1, lambda scheduler: next(iter(scheduler)).cancel()),
    "cancel it while it waits": (5, lambda scheduler: next(iter(scheduler)).cancel()),
    "a critical failure": (5, lambda scheduler: scheduler.add(Job(crash_at_once, critical=True))),
}


async def crash_at_once() -> None:
    """Fail without a checkpoint."""
    raise Flaw


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("make", [flaky, throttled])
def test_on_settled_is_called_when_no_other_attempt_comes(
    virtual: Virtual, make: Callable[[], Tries], end: str, nested: bool
) -> None:
    """The job ends during an attempt that would be repeated, or while it waits for the next one."""
    job, (when, act) = make(), ENDS[end]

    async def main() -> None:
        inner = Scheduler(job, Job(nap, 8), critical_jobs=False)
        pool = Pool(api=Rate(requests=9, per=1))
        scheduler = Scheduler(inner, pool=pool) if nested else inner
        if not nested:
            inner.pool = pool
        async with anyio.create_task_group() as group:
            group.start_soon(scheduler.co_run)
            group.start_soon(later, when, lambda: act(inner))

    virtual(main)
    assert job.state is CANCELLED
    assert len(job.seen) == 1


def test_on_settled_is_called_when_a_budget_is_spent_before_the_next_attempt(virtual: Virtual) -> None:
    job = Tries(Flaw(), retry=Retry(2, first=10, jitter=False), needs={"usd": 3})
    rich = Job(nap, 1, needs={"usd": 4}, required=Job(nap, 4))
    assert not virtual(Scheduler(job, rich, *rich.required, pool=Pool(usd=Budget(9))).co_run)
    assert (job.state, job.seen) == (BLOCKED, ["BudgetSpent"])


def test_a_job_that_never_had_a_slot_is_not_reported(virtual: Virtual) -> None:
    job = flaky()
    scheduler = Scheduler(Job(nap, 5), job, jobs_window=1)
    virtual(lambda: both(scheduler))
    assert (job.state, job.seen) == (CANCELLED, [])


async def both(scheduler: Scheduler) -> None:
    """Run a scheduler, and cancel it after a second."""
    async with anyio.create_task_group() as group:
        group.start_soon(scheduler.co_run)
        group.start_soon(later, 1, scheduler.cancel)


def test_a_callback_that_raises_while_the_job_waits_ends_the_run(virtual: Virtual) -> None:
    class Raises(Tries):
        def note(self, job: JobKind[Any]) -> None:
            raise LookupError

    job = Raises(Flaw(), retry=Retry(1, first=10))
    scheduler = Scheduler(job, Job(later, 5, lambda: job.cancel()), Job(nap, 50))
    with pytest.raises(LookupError):
        virtual(lambda: scheduler.co_run(check=True))
    assert (job.state, scheduler.stop_reason) == (CANCELLED, StopReason.CRITICAL)
    assert [incident.message for incident in incidents_of(scheduler)] == ["on_settled of 'job' raised LookupError"]
