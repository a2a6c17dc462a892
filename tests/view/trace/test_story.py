"""The story of a job, told from a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, Pool, Rate, Retry, Scheduler, Throttled, Trace
from trioflow.view import save
from trioflow.view.trace._story import story_lines
from trioflow.view.trace._trace_file import read_record

from ...bodies import fail, fail_now, nap

if TYPE_CHECKING:
    from trioflow.view.trace._record import TraceRecord

    from ...conftest import Virtual


def test_a_story_has_each_step_with_its_time_and_the_job_that_led_to_it(virtual: Virtual) -> None:
    """A story has the requirement that settled last, the wait for a slot and who released it, attempts, and the end."""
    trace = Trace()
    login, fetch = Job(nap, 3, label="login"), Job(nap, 5, label="fetch")
    job = Job(fail, 1, label="job", required=login, retry=1)
    other = Job(nap, 4, label="other", required=login)
    never = Job(nap, 1, label="never", run_if="failed", required=login)
    scheduler = Scheduler(login, fetch, other, job, never, jobs_window=2, instruments=[trace], label="night")
    virtual(scheduler.co_run)
    assert trace.story(job).splitlines() == [
        "3.0 s: was ready, because login settled",
        "5.0 s: waited 2 s for a slot, until fetch released it",
        "5.0 s: started",
        "6.0 s: attempt 1 failed: OSError: broken",
        "6.0 s: started attempt 2",
        "7.0 s: failed after 2 s: OSError: broken",
    ]
    assert trace.story(login).splitlines() == ["0 s: was ready", "0 s: started", "3.0 s: succeeded after 3 s"]
    assert trace.story(never).splitlines() == ["3.0 s: waited 3 s for jobs", "3.0 s: skipped"]  # it was never ready


async def ask(answers: Iterator[BaseException | None]) -> None:
    """Wait for a second, and raise the next answer, unless it is None."""
    await anyio.sleep(1)
    if (answer := next(answers)) is not None:
        raise answer


def test_a_story_says_when_and_why_each_attempt_failed(virtual: Virtual, tmp_path: Path) -> None:
    """So does that of a trace file; a throttled attempt does not count."""
    answers = iter([OSError("429:\nslow"), Throttled("api", after=2), None])
    job = Job(ask, answers, label="job", needs={"api": 1}, retry=Retry(2, first=3, jitter=False))
    trace = Trace()
    virtual(Scheduler(job, pool=Pool(api=Rate(requests=9, per=1)), instruments=[trace]).co_run)
    story = [
        "0 s: was ready",
        "0 s: started",
        "1.0 s: attempt 1 failed: OSError: 429: slow",
        "4.0 s: waited 3 s for a retry",
        "5.0 s: was throttled",
        "7.0 s: waited 2 s, throttled by api, because of job",
        "7.0 s: started attempt 2",
        "8.0 s: succeeded after 8 s",
    ]
    assert trace.story(job).splitlines() == story
    record = trace_file_record(trace, tmp_path)
    assert story_lines(record.spans, record.spans[0], record.start_time) == story


def trace_file_record(trace: Trace, tmp_path: Path) -> TraceRecord:
    save(trace, tmp_path / "trace.json")
    return read_record(tmp_path / "trace.json")


def test_a_job_that_waits_for_a_retry_has_a_story_until_then(virtual: Virtual) -> None:
    """Its last line says why the last attempt failed."""
    trace = Trace()
    job = Job(fail, label="job", retry=Retry(1, first=9, jitter=False))
    stories: list[str] = []

    async def look() -> None:
        await anyio.sleep(5)
        stories.append(trace.story(job))

    virtual(Scheduler(job, Job(look), instruments=[trace]).co_run)
    assert stories[0].splitlines()[-1] == "1.0 s: attempt 1 failed: OSError: broken"


def test_a_trace_of_two_runs_has_the_stories_of_both(virtual: Virtual) -> None:
    """The paths in such a trace begin with the labels of the schedulers, so a story is found by its job."""
    trace = Trace()
    jobs = [Job(nap, number, label="job") for number in (1, 2)]

    async def run_both() -> None:
        async with anyio.create_task_group() as tasks:
            for number, job in enumerate(jobs):
                tasks.start_soon(Scheduler(job, label=f"run {number}", instruments=[trace]).co_run)

    virtual(run_both)
    assert [trace.story(job).splitlines()[-1] for job in jobs] == [
        "1.0 s: succeeded after 1 s",
        "2.0 s: succeeded after 2 s",
    ]


def test_attempts_that_take_no_time_are_told_in_their_order(virtual: Virtual) -> None:
    """The failure of an attempt follows its start, even if both are at the same time."""
    trace, job = Trace(), Job(fail_now, retry=1, label="job")
    virtual(Scheduler(job, instruments=[trace]).co_run)
    assert trace.story(job).splitlines() == [
        "0 s: was ready",
        "0 s: started",
        "0 s: attempt 1 failed: OSError: broken",
        "0 s: started attempt 2",
        "0 s: failed after 0 s: OSError: broken",
    ]


def test_a_story_of_what_is_no_job_is_an_error() -> None:
    """A label in place of the job is named in the error."""
    name: Any = "job"
    with pytest.raises(TypeError, match=r"story\(\): 'job' is not a job"):
        Trace().story(name)
