"""Clean-up jobs together with services, forever jobs, nested schedulers, contexts, and the shutdown."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from trioflow import AbstractJob, Job, JobTimeout, Scheduler, Service, StopReason, ThreadJob, current_job

from ...bodies import CANCELLED, FAILED, IDLE, SUCCEEDED, alarm, bad, fail, nap, serve, timed

if TYPE_CHECKING:
    from ...conftest import Virtual

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


class Line:
    """A record of words, each with the time when it was said."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def say(self, what: str) -> None:
        self.told.append((what, anyio.current_time()))

    async def for_ever(self, name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.say(f"{name} ends")

    async def serve(self, name: str, *, task_status: Any) -> None:
        task_status.started(self.say)
        await self.for_ever(name)

    async def step(self, name: str, seconds: float = 1) -> None:
        await anyio.sleep(seconds)
        self.say(f"{name} ends")


class Shut(AbstractJob[None]):
    """A job that records when it is shut down."""

    def __init__(self, line: Line, **options: Any) -> None:
        super().__init__(**options)
        self.line = line

    async def co_run(self) -> None: ...

    async def co_shutdown(self) -> None:
        self.line.say("shut down")


# --- services, forever jobs, shutdown


def test_clean_up_runs_after_ordinary_jobs_and_before_forever_jobs_end(virtual: Virtual) -> None:
    """When a run stops, clean-up jobs run first; then forever jobs end, then services; then comes the shutdown."""
    line = Line()
    critical = bad()
    assert virtual(
        timed,
        Scheduler(
            Service(line.serve, "service"),
            Job(line.for_ever, "monitor", forever=True),
            critical,
            Job(line.step, "cleaning", 2, required=critical, run_if="failed"),
            Shut(line),
        ),
    ) == (False, 3)
    assert line.told == [("cleaning ends", 3), ("monitor ends", 3), ("service ends", 3), ("shut down", 3)]


def test_clean_up_job_may_use_a_service_that_is_alive(virtual: Virtual) -> None:
    """A clean-up job can take a running service as its input and use it: the service ends after the clean-up."""
    line = Line()
    service = Service(line.serve, "service")
    critical = bad()

    async def report(say: Callable[[str], None]) -> None:
        await anyio.sleep(1)
        say("reported")

    job = Job(report, service, required=critical, run_if="failed")
    assert virtual(timed, Scheduler(critical, job)) == (False, 2)
    assert job.state is SUCCEEDED
    assert line.told == [("reported", 2), ("service ends", 2)]


def test_clean_up_job_that_requires_an_unready_service_does_not_start(virtual: Virtual) -> None:
    """A clean-up job behind a service that never became ready does not start, because the service has not settled."""

    async def late(*, task_status: Any) -> None:
        await anyio.sleep(99)
        task_status.started()

    service, critical = Service(late), bad()
    job = alarm([service, critical])
    assert virtual(timed, Scheduler(service, critical, job)) == (False, 1)
    assert (service.state, job.state) == (CANCELLED, IDLE)


@pytest.mark.parametrize("turns", range(6))
def test_a_service_that_ends_when_the_clean_up_does_starts_no_clean_up_job(virtual: Virtual, turns: int) -> None:
    """What settles while the phase is ending starts no further job; the run once crashed."""
    critical, late = bad(), Service(serve, 99)
    first, second = Job(nap, 1, required=critical, run_if="failed"), alarm([critical, late])
    scheduler = Scheduler(late, critical, first, second)

    async def cancel_late() -> None:
        await first.wait_settled()
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        if late.is_running():
            late.cancel()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_late)
            assert await scheduler.co_run() is False

    virtual(main)
    assert first.state is SUCCEEDED
    assert second.state in (IDLE, SUCCEEDED)


def test_a_forever_job_or_service_is_no_clean_up_job(virtual: Virtual) -> None:
    """A forever job or service with `run_if="failed"` is not started by the clean-up."""
    critical = bad()
    monitor = Job(nap, 99, required=critical, run_if="failed", forever=True)
    assert virtual(timed, Scheduler(critical, monitor)) == (False, 1)
    assert monitor.state is IDLE


def test_clean_up_job_is_shut_down_once(virtual: Virtual) -> None:
    """`co_shutdown` of a clean-up job is called once, after it has run."""
    line = Line()

    class Cleaning(Shut):
        async def co_run(self) -> None:
            line.say("cleans")

    critical = bad()
    assert virtual(timed, Scheduler(critical, Cleaning(line, required=critical, run_if="failed"))) == (False, 1)
    assert line.told == [("cleans", 1), ("shut down", 1)]


# --- as jobs


def test_clean_up_job_has_its_own_context_and_current_job(virtual: Virtual) -> None:
    """Each clean-up job starts in its own copy of the run's context, and sees no changes of others."""

    async def look() -> tuple[str, str]:
        seen = variable.get()
        variable.set("changed")
        await anyio.lowlevel.checkpoint()
        return current_job().label, seen

    async def spoil() -> None:
        variable.set("spoiled")
        raise OSError

    critical = Job(spoil, critical=True)
    first, second = (Job(look, required=critical, run_if="failed", label=label) for label in ("first", "second"))
    third = Job(look, required=[critical, first], run_if="failed", label="third")

    async def main() -> None:
        variable.set("of the caller")
        await Scheduler(critical, first, second, third).co_run()

    virtual(main)
    assert [job.result() for job in (first, second, third)] == [
        (label, "of the caller") for label in ("first", "second", "third")
    ]


def test_scope_left_open_by_a_clean_up_job_fails_only_this_job(virtual: Virtual) -> None:
    """A scope that a clean-up job leaves open is closed, and fails that job alone."""

    async def careless() -> None:
        anyio.CancelScope().__enter__()

    critical = bad()
    job = Job(careless, required=critical, run_if="failed")
    beside = alarm(critical)
    assert virtual(timed, Scheduler(critical, job, beside)) == (False, 2)
    assert (job.state, beside.state) == (FAILED, SUCCEEDED)
    assert "cancel scope still open" in str(job.raised_exception())


def test_job_of_a_coroutine_object_may_clean_up(virtual: Virtual) -> None:
    """A coroutine object may be a clean-up job; if it was not needed, closing the scheduler closes the coroutine."""
    critical = bad()
    job = Job(nap(1, "clean"), required=critical, run_if="failed")
    assert virtual(timed, Scheduler(critical, job)) == (False, 2)
    assert job.result() == "clean"
    unused = Scheduler(Job(nap(1), run_if="failed"))
    assert virtual(unused.co_run) is True
    unused.close()


def test_thread_job_may_clean_up(backend: str) -> None:
    """A ThreadJob may be a clean-up job."""
    critical = Job(fail, 0, critical=True)
    job = ThreadJob(lambda: current_job().label, required=critical, run_if="failed", label="thread")
    assert Scheduler(critical, job).run(backend=backend) is False  # type: ignore[arg-type]
    assert job.result() == "thread"


def test_interruption_in_a_clean_up_job_is_raised_after_the_shutdown(virtual: Virtual) -> None:
    """SystemExit from a clean-up job is raised after the shutdown, and leaves the stop reason unchanged."""

    async def leave() -> None:
        raise SystemExit(3)

    line = Line()
    critical = bad()
    scheduler = Scheduler(critical, Job(leave, required=critical, run_if="failed"), Shut(line))
    with pytest.raises(SystemExit):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert line.told == [("shut down", 1)]


def test_no_job_can_be_added_during_the_clean_up(virtual: Virtual) -> None:
    """A stopping scheduler accepts no new jobs, not even from clean-up jobs."""

    async def meddle() -> None:
        with pytest.raises(RuntimeError, match="stopping"):
            scheduler.add(Job(nap))

    critical = bad()
    job = Job(meddle, required=critical, run_if="failed")
    scheduler = Scheduler(critical, job)
    assert virtual(timed, scheduler) == (False, 1)
    job.result()


# --- nested schedulers


@pytest.mark.parametrize("window", ["none", "number", "limiter"])
def test_nested_scheduler_may_be_a_clean_up_job(virtual: Virtual, window: str) -> None:
    """A nested scheduler with `run_if="failed"` runs completely as a clean-up job, even under the outer limiter."""
    critical = bad()
    nested = Scheduler(Job(nap, 1), Job(nap, 1), required=critical, run_if="failed")
    scheduler = Scheduler(critical, Job(nap, 9), nested)

    async def main() -> tuple[bool, float]:
        limit: Any = {"none": None, "number": 1, "limiter": anyio.CapacityLimiter(1)}[window]
        scheduler.jobs_window = nested.jobs_window = limit
        return await timed(scheduler)

    assert virtual(main) == (False, 2 if window == "none" else 3)
    assert nested.state is SUCCEEDED


def test_nested_scheduler_cleans_up_before_jobs_that_require_it_start(virtual: Virtual) -> None:
    """A nested scheduler that stops cleans up before it settles, and jobs that require it start after that."""
    critical = bad()
    cleaning = alarm(critical, 3)
    inner = Scheduler(critical, cleaning)
    behind = Job(nap, required=inner, run_if="settled")
    assert virtual(timed, Scheduler(inner, behind)) == (False, 5)
    assert inner.state is FAILED
    assert inner.finished_at == behind.started_at == cleaning.finished_at == 4


def test_nested_scheduler_cleans_up_before_its_parent_does(virtual: Virtual) -> None:
    """If a critical nested scheduler fails, first its own clean-up jobs run, then those of the outer scheduler."""
    critical = bad()
    inside = alarm(critical, 2)
    inner = Scheduler(critical, inside, critical=True)
    outside = alarm(inner, 1)
    outer = Scheduler(inner, outside)
    assert virtual(timed, outer) == (False, 4)
    assert outer.culprit is inner
    assert (inside.started_at, outside.started_at) == (1, 3)


def test_nested_scheduler_cancelled_by_the_outer_run_does_not_clean_up(virtual: Virtual) -> None:
    """A nested scheduler that the outer run cancels does not clean up: only a stop of its own starts that."""
    slow = Job(nap, 99)
    inside = alarm(slow)
    inner = Scheduler(slow, inside)
    outside = alarm(inner)
    outer = Scheduler(inner, outside, timeout=2)
    assert virtual(timed, outer) == (False, 3)
    assert inner.stop_reason is StopReason.CANCELLED
    assert (inner.state, inside.state, outside.state) == (CANCELLED, IDLE, SUCCEEDED)


@pytest.mark.parametrize("stop", ["timeout", "critical", "cancel"])
def test_outer_stop_does_not_shorten_the_clean_up_of_a_nested_scheduler(virtual: Virtual, stop: str) -> None:
    """When the outer scheduler stops, it waits until the clean-up of a nested one has ended."""
    critical = bad()
    inside = alarm(critical, 3)
    inner = Scheduler(critical, inside)
    outside = alarm(inner)

    async def halt() -> None:
        await anyio.sleep(2)
        if stop == "critical":
            raise OSError
        if stop == "cancel":
            outer.cancel()

    outer = Scheduler(inner, outside, Job(halt, critical=True), timeout=2 if stop == "timeout" else None)
    assert virtual(timed, outer) == (False, 4 if stop == "cancel" else 5)
    assert outer.stop_reason is StopReason[{"timeout": "TIMEOUT", "cancel": "CANCELLED"}.get(stop, "CRITICAL")]
    assert (inside.state, inside.finished_at) == (SUCCEEDED, 4)
    assert inner.stop_reason is StopReason.CRITICAL
    assert outside.state is (IDLE if stop == "cancel" else SUCCEEDED)


def test_each_level_of_nested_schedulers_has_its_own_cleanup_timeout(virtual: Virtual) -> None:
    """Each level of nested schedulers has its own `cleanup_timeout`, one after the other."""
    critical = bad()
    inner = Scheduler(critical, alarm(critical, 99), critical=True, cleanup_timeout=2)
    outer = Scheduler(inner, alarm(inner, 99), cleanup_timeout=3)
    assert virtual(timed, outer) == (False, 1 + 2 + 3)


def test_nested_scheduler_that_cleans_up_may_have_its_own_clean_up_jobs(virtual: Virtual) -> None:
    """A nested scheduler that runs as a clean-up job and then stops on its own failure cleans up in turn."""
    critical, inner_bad = bad(), bad()
    inside = alarm(inner_bad)
    nested = Scheduler(inner_bad, inside, required=critical, run_if="failed")
    assert virtual(timed, Scheduler(critical, nested)) == (False, 3)
    assert (nested.state, inside.state) == (FAILED, SUCCEEDED)


def test_each_attempt_of_a_nested_scheduler_cleans_up(virtual: Virtual) -> None:
    """With `retry`, each attempt of a nested scheduler is a run with its own clean-up."""
    cleaned: list[float] = []

    async def clean() -> None:
        cleaned.append(anyio.current_time())

    critical = bad()
    inner = Scheduler(critical, Job(clean, required=critical, run_if="failed"), retry=1)
    assert virtual(timed, Scheduler(inner)) == (False, 2)
    assert cleaned == [1, 2]


def test_nested_scheduler_cleans_up_after_its_own_timeout(virtual: Virtual) -> None:
    """A nested scheduler that times out cleans up, and then fails with JobTimeout."""
    slow = Job(nap, 99)
    inside = alarm(slow, 2)
    inner = Scheduler(slow, inside, timeout=1)
    assert virtual(timed, Scheduler(inner)) == (False, 3)
    assert isinstance(inner.raised_exception(), JobTimeout)
    assert inside.state is SUCCEEDED


def test_clean_up_that_ends_in_time_is_not_logged(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """A clean-up job that takes seconds is not reported as a job that does not end."""
    critical = bad()
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert virtual(timed, Scheduler(critical, alarm(critical, 4))) == (False, 5)
    assert not [record for record in caplog.records if "is still running" in record.getMessage()]
