"""The end of what a job has printed: of its last run, of each of its attempts, and not of a redacted job."""

from collections.abc import Callable
from functools import partial
from trioflow import Job, Retry, Scheduler, current_job
from trioflow.view import _print_ends
from trioflow.view._print_ends import end_of_prints, keep_end
from ..bodies import nothing
from ..conftest import Virtual
from ..midway import answers_midway


def end(job: Job[None]) -> str:
    return end_of_prints(job, job.started_at)


def test_the_end_of_prints_has_a_line_before_each_further_attempt(
    virtual: Virtual,
) -> None:
    """Nothing of an earlier run is in it, and a start that is not the last one has none."""

    async def say() -> None:
        job = current_job()
        keep_end(job, f"run {runs[0]}, ")
        keep_end(job, f"try {job.attempts}\n\n")
        if job.attempts <= runs[0]:
            raise OSError

    runs = [2]
    jobs = [Job(say, retry=Retry(2, first=0, jitter=False), redact=n == 1) for n in (0, 1)]  # fmt: skip
    scheduler = Scheduler(jobs, log=False)
    shown, hidden = jobs
    assert end(shown) == ""
    virtual(scheduler.co_run)
    assert end(shown) == (
        "run 2, try 1\n---- attempt 2\nrun 2, try 2\n---- attempt 3\nrun 2, try 3\n\n"
    )
    assert end_of_prints(shown, None) == ""
    assert end(hidden) == ""
    runs[0] = 0
    virtual(scheduler.co_run)
    assert end(shown) == "run 0, try 1\n\n"
    assert end_of_prints(shown, (shown.started_at or 0.0) - 1.0) == ""


def test_what_nobody_printed_is_not_kept(virtual: Virtual) -> None:
    async def silent() -> None:
        keep_end(current_job(), "")
        keep_end(None, "said")

    job = Job(silent)
    virtual(Scheduler(job).co_run)
    assert end(job) == ""


def test_the_end_of_prints_may_be_asked_as_it_is_dropped() -> None:
    """The answer to a page was an error, and a warning in the log of the program."""
    jobs: list[Job[None]] = []

    def prepare() -> tuple[Callable[[], str], Callable[[], object]]:
        job = Job(nothing)
        jobs.append(job)
        _print_ends._ends[job] = [(1, 2.0), "said"]
        return partial(end_of_prints, job, 2.0), partial(_print_ends._ends.pop, job)

    assert {*answers_midway(prepare)} == {"", "said"}
    _print_ends._ends.clear()
