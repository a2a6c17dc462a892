"""`on_job_settled` of a scheduler gets each of its jobs in the step in which it settles."""

from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, JobTimeout, RequirementFailed, Scheduler, Service, StopReason
from trioflow.abc import AbstractJob, incidents_of
from ..bodies import (
    CANCELLED,
    FAILED,
    Flaw,
    fail,
    flaky,
    later,
    nap,
    nothing,
    raising,
    serve,
)
from ..conftest import Virtual


def test_it_gets_the_jobs_with_their_results(virtual: Virtual) -> None:
    results: list[Any] = []

    def note(job: AbstractJob[Any]) -> int:
        results.append(job.result())
        return 1

    assert (
        virtual(
            Scheduler([Job(nap, 2, "b"), Job(nap, 1, "a")], on_job_settled=note).co_run
        )
        is True
    )
    assert results == ["a", "b"]


def test_what_it_adds_is_run(virtual: Virtual) -> None:
    labels: list[str] = []

    def follow(job: AbstractJob[Any]) -> None:
        labels.append(job.label)
        if len(labels) < 4:
            scheduler.add(Job(nap, 1, label=f"{len(labels)}"))

    scheduler = Scheduler(Job(nap, label="0"), on_job_settled=follow)
    assert virtual(scheduler.co_run) is True
    assert labels == ["0", "1", "2", "3"]


@pytest.mark.parametrize("keeps", [False, True])
def test_what_it_tries_again_is_told_each_time_as_it_was(
    virtual: Virtual, keeps: bool
) -> None:
    """So is what the failure has blocked; with `keep_jobs=False`, what it tries again is not dropped."""
    told: list[tuple[str, str]] = []

    def mend(job: AbstractJob[Any]) -> None:
        told.append((job.label, job.state.name))
        assert job.is_settled()
        if isinstance(job.raised_exception(), Flaw):
            job.try_again()
        elif job.raised_exception() is not None:
            with pytest.raises(RequirementFailed):
                job.result()

    async def main() -> None:
        async with Scheduler(on_job_settled=mend, keep_jobs=keeps) as scheduler:
            first = scheduler.add(Job(flaky(2, error=Flaw), label="first"))
            if keeps:
                scheduler.add(Job(nap, required=first, label="second"))

    virtual(main)
    first = [("first", "FAILED"), ("second", "BLOCKED")] * 2 + [
        ("first", "SUCCEEDED"),
        ("second", "SUCCEEDED"),
    ]
    assert told == [each for each in first if keeps or each[0] == "first"]


def test_what_a_group_keeps_is_not_told_again(virtual: Virtual) -> None:
    told: list[str] = []

    def note(job: AbstractJob[Any]) -> None:
        told.append(f"{job.label} {job.state.value}")
        if told == ["fine succeeded", "bad failed", "raises succeeded"]:
            raise Flaw

    fine, bad = Job(nap, 1, label="fine"), Job(flaky(seconds=2), label="bad")
    jobs = fine, bad, Job(nap, 3, label="raises"), Job(nap, 3, label="late")
    group = Scheduler(*jobs, label="group", on_job_settled=note)
    scheduler = Scheduler(group)
    scheduler.add(Job(later, 5, group.try_again))
    assert virtual(scheduler.co_run)
    assert told[:3] == ["fine succeeded", "bad failed", "raises succeeded"]
    assert sorted(told[3:]) == ["bad succeeded", "late succeeded", "raises succeeded"]


def test_an_open_scheduler_that_keeps_no_jobs_gives_it_all(virtual: Virtual) -> None:
    results: list[Any] = []

    async def main() -> None:
        async with Scheduler(
            keep_jobs=False, on_job_settled=lambda job: results.append(job.result())
        ) as scheduler:
            scheduler.map(nap, [0, 0, 0], "abc")
            await anyio.sleep(0.5)
            assert len(scheduler) == 0

    virtual(main)
    assert results == ["a", "b", "c"]


def test_if_it_raises_the_run_ends_critical_with_this_exception(
    virtual: Virtual,
) -> None:
    """The run is CRITICAL without a culprit, `check=True` raises the exception itself, and no further call is made."""
    flaw = Flaw()

    def refuse(job: AbstractJob[Any]) -> None:
        calls.append(job.label)
        raise flaw

    calls: list[str] = []
    scheduler = Scheduler(
        Job(nap, 1, label="a"),
        Job(nap, 1.5, label="b"),
        long := Job(nap, 9),
        on_job_settled=refuse,
        label="refusing",
    )
    with pytest.raises(Flaw) as caught:
        virtual(lambda: scheduler.co_run(check=True))
    assert caught.value is flaw
    assert (scheduler.stop_reason, scheduler.culprit, long.state) == (
        StopReason.CRITICAL,
        None,
        CANCELLED,
    )
    assert calls == ["a"]
    assert (
        incidents_of(scheduler)[0].message
        == "on_job_settled of 'refusing' raised Flaw for 'a'"
    )


def test_if_it_raises_in_a_nested_scheduler_this_has_failed(virtual: Virtual) -> None:
    flaw = Flaw()
    nested = Scheduler(Job(nap), on_job_settled=raising(flaw))
    assert virtual(Scheduler(nested).co_run) is False
    assert (nested.state, nested.raised_exception()) == (FAILED, flaw)


def test_leaving_the_block_raises_what_it_raised(virtual: Virtual) -> None:
    """The body of `async with` is cancelled, and leaving it raises the exception of the function."""

    async def main() -> None:
        async with Scheduler(Job(nap), on_job_settled=raising(Flaw())):
            await anyio.sleep_forever()

    with pytest.raises(Flaw):
        virtual(main)


def test_if_it_raises_in_the_ending_the_run_has_not_completed(virtual: Virtual) -> None:
    """A service settles when the other jobs have; a function that refuses it makes the run CRITICAL."""

    def refuse_services(job: AbstractJob[Any]) -> None:
        if isinstance(job, Service):
            raise Flaw

    scheduler = Scheduler(Service(serve), Job(nap), on_job_settled=refuse_services)
    with pytest.raises(Flaw):
        virtual(lambda: scheduler.co_run(check=True))
    assert scheduler.stop_reason is StopReason.CRITICAL


def test_an_interruption_leaves_the_run_as_it_is(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap), Job(nap, 9), on_job_settled=raising(SystemExit(3)))
    with pytest.raises(SystemExit, match="3"):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.INTERRUPTED


def test_a_cancelled_run_gives_it_the_cancelled_jobs(virtual: Virtual) -> None:
    told: list[tuple[str, str]] = []

    async def main() -> None:
        jobs = [Job(nap, 9, label=label) for label in "ab"]
        with anyio.move_on_after(1):
            await Scheduler(
                jobs,
                on_job_settled=lambda job: told.append((job.label, job.state.value)),
            ).co_run()

    virtual(main)
    assert sorted(told) == [("a", "cancelled"), ("b", "cancelled")]


def test_a_call_that_raises_in_a_run_that_stops_leaves_the_others(
    virtual: Virtual,
) -> None:
    got: list[str] = []

    def follow_up(job: AbstractJob[Any]) -> None:
        got.append(job.label)
        if job.state is CANCELLED:
            scheduler.add(Job(nothing))

    scheduler = Scheduler(
        *[Job(nap, number, label=str(number)) for number in range(5)],
        on_job_settled=follow_up,
        timeout=2.5,
    )
    with pytest.raises(JobTimeout):
        virtual(lambda: scheduler.co_run(check=True))
    assert sorted(got) == ["0", "1", "2", "3", "4"]
    assert scheduler.stop_reason is StopReason.TIMEOUT


def test_a_restored_job_reaches_it_too(virtual: Virtual, tmp_path: Path) -> None:
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
        scheduler = Scheduler(
            Job(double, 1, label="double 1"),
            journal=tmp_path / "journal.db",
            on_job_settled=follow,
        )
        assert virtual(scheduler.co_run) is True
        assert ran == expected
        assert [job.result() for job in scheduler] == [2, 4, 8]


def test_what_is_no_plain_function_is_rejected() -> None:
    def note(job: AbstractJob[Any]) -> Any:
        yield job

    async def note_later(job: AbstractJob[Any]) -> Any:
        yield job

    async def store(_: AbstractJob[Any]) -> None: ...

    wrong: list[Any] = ["print", note, note_later, store]
    for function in wrong:
        with pytest.raises(
            TypeError,
            match=r"give a plain function of a job, or None; .*as_settled\(\)",
        ):
            Scheduler(on_job_settled=function)


def test_an_awaitable_that_it_returns_is_an_error(virtual: Virtual) -> None:
    """A lambda may hide that the function is async: the run ends, and the error says what to write."""
    scheduler = Scheduler(Job(nap), on_job_settled=lambda _: nap(1))
    with pytest.raises(TypeError, match=r"it returned an awaitable; .*as_settled\(\)"):
        virtual(lambda: scheduler.co_run(check=True))


@pytest.mark.parametrize("at", range(1, 7))
def test_over_three_tries_each_end_is_told_once(virtual: Virtual, at: int) -> None:
    """A function that raises once loses no end, and gets none twice, whichever call it is that raises."""

    async def flaky() -> None:
        await nap(1)
        if flaky_job.attempts < 3:
            raise Flaw

    def note(job: AbstractJob[Any]) -> None:
        calls.append((job.label, job.attempts))
        if len(calls) == at:
            raise Flaw

    async def try_again() -> None:
        await group.wait_settled()
        while group.state is FAILED:
            group.try_again()
            await group.wait_settled()

    calls: list[tuple[str, int]] = []
    flaky_job = Job(flaky, label="flaky", critical=True)
    group = Scheduler(
        Job(nap, 1, label="a"),
        Job(nap, 1, label="b"),
        flaky_job,
        label="group",
        on_job_settled=note,
    )
    assert virtual(Scheduler(group, Job(try_again), log=False).co_run)
    assert group.attempts >= 3
    taken = [*calls[: at - 1], *calls[at:]]
    assert len({*taken}) == len(taken)
    assert {(job.label, job.attempts) for job in group} <= {*taken}


def test_a_job_that_a_hook_adds_waits_for_all_that_it_requires(
    virtual: Virtual,
) -> None:
    """What a failure settles is what required the job until then."""

    def add_late(job: AbstractJob[Any]) -> None:
        if job is bad:
            late.requires(bad, settled=True)
            late.requires(slow)
            scheduler.add(late)

    bad, slow, late = Job(fail, critical=False), Job(nap, 10), Job(nothing)
    users = [Job(nothing, required=bad) for _ in range(2)]
    scheduler = Scheduler(bad, slow, *users, on_job_settled=add_late)
    assert virtual(scheduler.co_run)
    assert late.started_at == 10
