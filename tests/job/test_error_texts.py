"""The texts of exceptions: what a job or a run raises is facts, and advice for developers is a note."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

import trioflow
from trioflow import (
    Budget,
    BudgetSpent,
    Job,
    JobCancelled,
    JobNotDone,
    JobSkipped,
    JobTimeout,
    Pool,
    RequirementFailed,
    Scheduler,
    Throttled,
)

from ..bodies import add, fail, later, nap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..conftest import Virtual

OF_THE_PROGRAM = {"CycleError", "JournalError", "MissingRequirement", "TrioflowError"}
"""What is wrong with a program or a file before its jobs run: the message says what to write."""
OF_COMMANDS = {"CommandError", "SshError", "Unreachable"}
"""What a program or an ssh has said, with its command line: nothing that a server shows to a client."""
ADVICE = re.compile(r"\b(give|write|enlarge|reduce|leave out|put it|require it|ask for|await its|pass|call|choose)\b")


def jobs_without_result() -> Iterator[tuple[type[BaseException], Any]]:
    bad, skipped, cancelled = Job(fail), Job(nap, run_if="failed"), Job(nap, 9, label="long")
    yield RequirementFailed, Job(add, bad, 1)
    yield RequirementFailed, Job(nap, required=bad)
    yield JobTimeout, Job(nap, 9, timeout=1)
    yield JobTimeout, Job(nap, 9, idle_timeout=1, on_timeout="fail")
    yield JobTimeout, Scheduler(Job(nap, 9), timeout=1, label="group")
    yield BudgetSpent, Job(nap, needs={"usd": 2})
    yield JobSkipped, skipped
    yield JobCancelled, cancelled
    yield JobNotDone, Job(add, 1, 2, keep_result=False, label="dropped")


def test_the_text_of_what_a_job_raises_has_no_advice(virtual: Virtual) -> None:
    """A server once sent its client "give it more time with timeout=": such advice is a note, which tracebacks show."""
    wanted = [*jobs_without_result()]
    jobs = [job for _, job in wanted]
    spender = Job(nap, needs={"usd": 2}, label="spender")
    canceller = Job(later, 0.5, lambda: jobs[-2].cancel())
    user = Job(add, jobs[-1], 1)
    for job in jobs:
        if isinstance(job, Job) and job.needs:
            job.requires(spender)
    scheduler = Scheduler(spender, *jobs, canceller, user, pool=Pool(usd=Budget(3)))
    assert not virtual(scheduler.co_run)
    for kind, job in wanted:
        with pytest.raises(kind) as caught:
            job.result()
        assert not ADVICE.search(str(caught.value)), caught.value
        has_advice = kind not in (JobSkipped, JobCancelled)
        assert bool(ADVICE.search("".join(getattr(caught.value, "__notes__", [])))) is has_advice, caught.value


def test_each_public_exception_is_looked_at() -> None:
    """Each public class of exceptions is among those that the test above raises, or has its reason not to be."""
    found = {
        name
        for name in dir(trioflow)
        if isinstance(kind := getattr(trioflow, name), type) and issubclass(kind, BaseException)
    }
    raised = {kind.__name__ for kind, _ in jobs_without_result()} | {Throttled.__name__}
    assert found == raised | OF_THE_PROGRAM | OF_COMMANDS
    assert not ADVICE.search(str(Throttled("api", after=2)))
