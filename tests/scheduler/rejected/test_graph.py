"""Graphs that cannot run: the error names the jobs and the remedy; and nothing is consumed."""

import re

import pytest
from trioflow import CycleError, Job, JobTimeout, MissingRequirement, Retry, Scheduler, Sequence, StopReason
from ...bodies import fail_now, nap
from ...conftest import Virtual


# --- the graph
def test_cycle_is_rejected_before_anything_starts(virtual: Virtual) -> None:
    a, b = Job(nap(), label="a"), Job(nap(), label="b")
    other = Job(nap(), label="other")
    a.requires(b)
    b.requires(a)
    scheduler = Scheduler(other, a, b)
    with pytest.raises(CycleError, match=r"a requires b requires a|b requires a requires b") as caught:
        virtual(scheduler.co_run)
    assert set(caught.value.cycle) == {a, b}
    assert "requires(..., remove=True)" in str(caught.value)
    assert all(job.is_idle() for job in scheduler)
    a.requires(b, remove=True)
    assert virtual(scheduler.co_run) is True


def test_cycle_error_shows_the_cycle_along_the_requirements() -> None:
    a, b, c = (Job(nap, label=label) for label in "abc")
    Sequence(a, b, c)
    a.requires(c)
    with pytest.raises(CycleError) as caught:
        Scheduler(a, b, c).run()
    cycle = caught.value.cycle
    assert all(after in job.required for job, after in zip(cycle, (*cycle[1:], cycle[0]), strict=True))
    assert " requires ".join(job.label for job in (*cycle, cycle[0])) in str(caught.value)


def test_cycle_error_has_the_jobs_of_the_cycle_alone() -> None:
    first, a, b, waits, last = (Job(nap, label=label) for label in ("first", "a", "b", "waits", "last"))
    Sequence(first, a, b, waits, last)
    a.requires(b)
    for jobs in ([last, waits, a, b, first], [first, waits, b, a, last]):
        scheduler = Scheduler(*jobs)
        with pytest.raises(CycleError) as caught:
            scheduler.run()
        assert sorted(job.label for job in caught.value.cycle) == ["a", "b"]
        for job in jobs:
            scheduler.remove(job)


def test_errors_name_jobs_with_the_same_label_by_their_paths() -> None:
    """Errors name jobs with equal labels by their paths, because labels alone would be ambiguous."""
    a, b = Job(nap, 1), Job(nap, 1)
    b.requires(a)
    a.requires(b)
    home = Scheduler(Scheduler(a, b, label="inner"))
    with pytest.raises(CycleError, match=re.escape("inner/nap(1) requires inner/nap(1)#2 requires inner/nap(1)")):
        home.run()
    watch = Job(nap, 1, forever=True)
    with pytest.raises(ValueError, match=re.escape("'nap(1)#2' requires 'nap(1)', which is a forever job")):
        Scheduler(watch, Job(nap, 1, required=watch)).run()


def test_job_that_requires_itself_raises_cycle_error() -> None:
    a, b = Job(nap, label="a"), Job(nap, label="b")
    with pytest.raises(CycleError, match="a requires a"):
        a.requires(b, a)
    assert list(a.required) == []


def test_cycle_in_a_nested_scheduler_is_found_before_the_outer_starts(virtual: Virtual) -> None:
    a, b = Job(nap, label="a"), Job(nap, label="b")
    a.requires(b)
    b.requires(a)
    first = Job(nap, label="first")
    outer = Scheduler(first, Scheduler(Scheduler(a, b), required=first))
    with pytest.raises(CycleError):
        virtual(outer.co_run)
    assert first.is_idle()
    assert outer.stop_reason is None


@pytest.mark.parametrize("home", [None, "elsewhere"])
def test_missing_requirement_names_the_pair_and_the_remedy(virtual: Virtual, home: str | None) -> None:
    stray = Job(nap(), label="stray")
    inside = Job(nap(), label="inside", required=stray)
    elsewhere = Scheduler(stray, label=home) if home else None
    scheduler = Scheduler(inside, label="home")
    with pytest.raises(MissingRequirement, match=r"'inside'.*'stray'.*sanitize\(\)") as caught:
        virtual(scheduler.co_run)
    assert (caught.value.job, caught.value.requirement) == (inside, stray)
    assert inside.is_idle()
    assert scheduler.sanitize() == [(inside, stray)]
    assert virtual(scheduler.co_run) is True
    (elsewhere or stray).close()


def test_job_in_two_schedulers_is_rejected() -> None:
    job, other = Job(nap, label="shared"), Job(nap, label="other")
    first, second = Scheduler(job, label="first"), Scheduler(label="second")
    with pytest.raises(ValueError, match=r"'shared'.*'first'.*'second'"):
        second.update([other, job])
    assert job.scheduler is first
    assert list(first) == [job]
    assert list(second) == []
    assert other.scheduler is None


def test_scheduler_inside_itself_is_rejected() -> None:
    inner = Scheduler(label="inner")
    outer = Scheduler(Scheduler(inner, label="middle"), label="outer")
    with pytest.raises(ValueError, match=r"'outer'.*itself"):
        outer.add(outer)
    with pytest.raises(ValueError, match=r"'outer'.*itself"):
        inner.add(outer)
    assert outer.scheduler is None
    assert list(inner) == []


def test_requirement_on_a_forever_job_is_rejected(virtual: Virtual) -> None:
    monitor = Job(nap, label="monitor", forever=True)
    user = Job(nap, label="user", required=monitor)
    first = Job(nap, label="first")
    with pytest.raises(ValueError, match=r"'user'.*'monitor'.*(forever|forever)"):
        virtual(Scheduler(first, monitor, user).co_run)
    assert first.is_idle()


# --- one-shot coroutines
def test_a_retry_of_a_one_shot_coroutine_is_rejected(virtual: Virtual) -> None:
    job = Job(nap(), label="once", timeout=1, retry=Retry(None, first=0, on=JobTimeout))
    scheduler = Scheduler(job)
    with pytest.raises(ValueError, match=r"'once'.*Job\(function"):
        virtual(scheduler.co_run)
    assert scheduler.is_runnable() is False
    assert job.is_idle()
    scheduler.close()


def test_a_retry_of_a_scheduler_with_a_one_shot_coroutine_inside_is_rejected(virtual: Virtual) -> None:
    """A nested scheduler that may be retried cannot contain coroutine objects, at any depth, because they run once."""
    job = Job(nap(0.5), label="once")
    inner = Scheduler(Scheduler(job), timeout=1, retry=Retry(None, first=0, on=JobTimeout))
    outer = Scheduler(inner)
    with pytest.raises(ValueError, match="'once'"):
        virtual(outer.co_run)
    outer.remove(inner)
    inner.retry = None
    assert virtual(inner.co_run) is True


def test_second_run_of_one_shot_jobs_raises_and_names_them(virtual: Virtual) -> None:
    """Running coroutine objects again raises a ValueError that names their jobs; the results of the first run stay."""
    jobs = [Job(nap(1, "first"), label="once"), Job(nap(1, "second"), label="twice")]
    scheduler = Scheduler(*jobs, Job(nap, label="any"))
    assert virtual(scheduler.co_run) is True
    with pytest.raises(ValueError, match=r"'once'"):
        virtual(scheduler.co_run)
    assert [job.result() for job in jobs] == ["first", "second"]
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_one_shot_job_that_was_never_reached_can_run_the_next_time(virtual: Virtual) -> None:
    first = Job(fail_now, critical=True)
    second = Job(nap(1, "done"), required=first)
    scheduler = Scheduler(first, second)
    assert virtual(scheduler.co_run) is False
    assert second.is_idle()
    second.requires(first, remove=True)
    scheduler.remove(first)
    assert virtual(scheduler.co_run) is True
    assert second.result() == "done"
