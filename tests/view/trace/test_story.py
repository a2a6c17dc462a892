"""The story of a job, told from a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trioflow import Job, Scheduler, Trace

from ...bodies import fail, nap

if TYPE_CHECKING:
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
        "6.0 s: started attempt 2",
        "7.0 s: failed after 2 s: OSError: broken",
    ]
    assert trace.story(login).splitlines() == ["0 s: was ready", "0 s: started", "3.0 s: succeeded after 3 s"]
    assert trace.story(never).splitlines() == ["3.0 s: waited 3 s for jobs", "3.0 s: skipped"]  # it was never ready
