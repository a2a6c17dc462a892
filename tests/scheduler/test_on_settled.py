"""`on_settled` of a scheduler gets each of its jobs as they settle, in a call beside the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from trioflow import Job, JobTimeout, Scheduler, Service, StopReason
from trioflow.abc import AbstractJob, incidents_of

from ..bodies import CANCELLED, FAILED, Flaw, fail, nap, nothing, serve

if TYPE_CHECKING:
    from ..conftest import Virtual


class Report:
    """A function for `on_settled` that sleeps, and notes each call when it ends."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.calls: list[tuple[str, str]] = []
        self.ended_at: list[float] = []
        self.running = 0

    async def __call__(self, job: AbstractJob[Any]) -> None:
        assert not self.running
        self.running += 1
        await anyio.sleep(self.seconds)
        self.running -= 1
        self.calls.append((job.label, job.state.value))
        self.ended_at.append(anyio.current_time())


def test_a_plain_function_does(virtual: Virtual) -> None:
    """A plain function, which returns anything but an awaitable, gets the jobs with their results."""
    results: list[Any] = []

    def note(job: AbstractJob[Any]) -> int:
        results.append(job.result())
        return 1

    assert virtual(Scheduler([Job(nap, 2, "b"), Job(nap, 1, "a")], on_settled=note).co_run) is True
    assert results == ["a", "b"]


def test_many_quick_calls_leave_turns_to_other_tasks(virtual: Virtual) -> None:
    """A task of the program gets its turns while a function takes a long line of jobs: the clock of the test stands."""
    turns: list[int] = []
    count = 0

    def note(_: AbstractJob[Any]) -> None:
        nonlocal count
        count += 1

    async def tick(scheduler: Scheduler) -> None:
        while count < 5000:
            turns.append(count)
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        scheduler = Scheduler([Job(nothing) for _ in range(5000)], on_settled=note)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick, scheduler)
            await scheduler.co_run()

    virtual(main)
    assert len({turn for turn in turns if 0 < turn < 5000}) > 5


def test_what_it_adds_is_run(virtual: Virtual) -> None:
    """The function may add jobs, even for the last job: the run goes on, and gives it these jobs too."""
    labels: list[str] = []

    async def follow(job: AbstractJob[Any]) -> None:
        await anyio.sleep(1)
        labels.append(job.label)
        if len(labels) < 4:
            scheduler.add(Job(nap, 1, label=f"{len(labels)}"))

    scheduler = Scheduler(Job(nap, label="0"), on_settled=follow)
    assert virtual(scheduler.co_run) is True
    assert labels == ["0", "1", "2", "3"]


def test_an_open_scheduler_that_keeps_no_jobs_gives_it_all(virtual: Virtual) -> None:
    """With `keep_jobs=False`, each job reaches the function, with its result, after the scheduler has dropped it."""
    results: list[Any] = []

    async def take(job: AbstractJob[Any]) -> None:
        await anyio.sleep(1)
        results.append(job.result())

    async def main() -> None:
        async with Scheduler(keep_jobs=False, on_settled=take) as scheduler:
            scheduler.map(nap, [0, 0, 0], "abc")
            await anyio.sleep(0.5)
            assert len(scheduler) == 0

    virtual(main)
    assert results == ["a", "b", "c"]


@pytest.mark.parametrize("is_async", [False, True])
def test_if_it_raises_the_run_ends_critical_with_this_exception(virtual: Virtual, is_async: bool) -> None:
    """The run is CRITICAL without a culprit, `check=True` raises the exception itself, and no further call is made."""
    flaw = Flaw()

    def refuse(job: AbstractJob[Any]) -> object:
        calls.append(job.label)
        if is_async:
            return fail(1, flaw)
        raise flaw

    calls: list[str] = []
    scheduler = Scheduler(
        Job(nap, 1, label="a"), Job(nap, 1.5, label="b"), long := Job(nap, 9), on_settled=refuse, label="refusing"
    )
    with pytest.raises(Flaw) as caught:
        virtual(lambda: scheduler.co_run(check=True))
    assert caught.value is flaw
    assert (scheduler.stop_reason, scheduler.culprit, long.state) == (StopReason.CRITICAL, None, CANCELLED)
    assert calls == ["a"]
    assert incidents_of(scheduler)[0].message == "on_settled of 'refusing' raised Flaw for 'a'"


def test_if_it_raises_in_a_nested_scheduler_this_has_failed(virtual: Virtual) -> None:
    """A nested scheduler fails with the exception of its function, as it does with that of a critical job."""
    flaw = Flaw()

    def refuse(_: AbstractJob[Any]) -> None:
        raise flaw

    nested = Scheduler(Job(nap), on_settled=refuse)
    assert virtual(Scheduler(nested).co_run) is False
    assert (nested.state, nested.raised_exception()) == (FAILED, flaw)


def test_leaving_the_block_raises_what_it_raised(virtual: Virtual) -> None:
    """The body of `async with` is cancelled, and leaving it raises the exception of the function."""

    async def main() -> None:
        async with Scheduler(Job(nap), on_settled=lambda _: fail(0, Flaw())):
            await anyio.sleep_forever()

    with pytest.raises(Flaw):
        virtual(main)


def test_if_it_raises_in_the_ending_the_run_has_not_completed(virtual: Virtual) -> None:
    """A service settles when the other jobs have; a function that refuses it makes the run CRITICAL."""

    def refuse_services(job: AbstractJob[Any]) -> None:
        if isinstance(job, Service):
            raise Flaw

    scheduler = Scheduler(Service(serve), Job(nap), on_settled=refuse_services)
    with pytest.raises(Flaw):
        virtual(lambda: scheduler.co_run(check=True))
    assert scheduler.stop_reason is StopReason.CRITICAL


def test_an_interruption_leaves_the_run_as_it_is(virtual: Virtual) -> None:
    """A SystemExit of the function ends the run INTERRUPTED, and is raised unwrapped."""

    def leave(_: AbstractJob[Any]) -> None:
        raise SystemExit(3)

    scheduler = Scheduler(Job(nap), Job(nap, 9), on_settled=leave)
    with pytest.raises(SystemExit, match="3"):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.INTERRUPTED


def test_a_cancelled_run_gives_it_the_cancelled_jobs(virtual: Virtual) -> None:
    """After a cancellation from outside, the function gets the cancelled jobs before the caller goes on."""
    report = Report(0.25)

    async def main() -> None:
        with anyio.move_on_after(1):
            await Scheduler([Job(nap, 9, label=label) for label in "ab"], on_settled=report).co_run()

    virtual(main)
    assert sorted(report.calls) == [("a", "cancelled"), ("b", "cancelled")]


def test_calls_that_are_left_when_the_run_stops_share_the_shutdown_timeout(virtual: Virtual) -> None:
    """A call that hangs is cancelled `shutdown_timeout` after the run stopped; an incident counts what is missing."""
    report = Report(100)
    jobs = [Job(nap, 1), Job(nap, 1)]
    scheduler = Scheduler(jobs, timeout=5, shutdown_timeout=2, on_settled=report)
    with pytest.raises(JobTimeout):
        virtual(lambda: scheduler.co_run(check=True))
    assert [incident.message for incident in incidents_of(scheduler)] == [
        "'Scheduler' waits for its on_settled, which was called with 'nap(1)'",
        "on_settled of 'Scheduler' did not end within shutdown_timeout=2.0 s: 2 calls cancelled or not made",
    ]
    assert report.calls == []


def test_a_call_that_raises_in_a_run_that_stops_leaves_the_others(virtual: Virtual) -> None:
    """A call cannot add a job to a run that has timed out; the calls for the other jobs are made."""
    got: list[str] = []

    async def follow_up(job: AbstractJob[Any]) -> None:
        await anyio.sleep(1)
        got.append(job.label)
        scheduler.add(Job(nothing))

    scheduler = Scheduler(
        *[Job(nap, 1, label=str(number)) for number in range(5)],
        on_settled=follow_up, timeout=2.5, shutdown_timeout=10,
    )  # fmt: skip
    assert virtual(scheduler.co_run) is False
    assert got[:5] == ["0", "1", "2", "3", "4"]
    assert scheduler.stop_reason is StopReason.TIMEOUT


def test_a_restored_job_reaches_it_too(virtual: Virtual, tmp_path: Path) -> None:
    """What it adds for a job is added again when a journal has restored the job."""
    ran: list[int] = []

    async def double(number: int) -> int:
        ran.append(number)
        await anyio.lowlevel.checkpoint()
        return 2 * number

    def follow(job: AbstractJob[Any]) -> None:
        if job.result() < 8:
            scheduler.add(Job(double, job.result(), label=f"double {job.result()}"))

    for expected in ([1, 2, 4], []):
        ran.clear()
        scheduler = Scheduler(Job(double, 1, label="double 1"), journal=tmp_path / "journal.db", on_settled=follow)
        assert virtual(scheduler.co_run) is True
        assert ran == expected
        assert [job.result() for job in scheduler] == [2, 4, 8]


def test_what_is_no_function_is_rejected() -> None:
    """`on_settled` takes a function or None."""
    with pytest.raises(TypeError, match="on_settled='print' of 'x': give a function of a job, plain or async, or None"):
        Scheduler(label="x", on_settled="print")  # type: ignore[arg-type]


def test_a_generator_function_is_rejected() -> None:
    """A call of one runs nothing: each job was once lost without a word."""

    def note(job: AbstractJob[Any]) -> Any:
        yield job

    async def note_later(job: AbstractJob[Any]) -> Any:
        yield job

    for function in (note, note_later):
        with pytest.raises(TypeError, match="give a function of a job"):
            Scheduler(on_settled=function)
