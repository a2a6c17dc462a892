"""The counts of a monitor are right for jobs that settle while they wait for another attempt."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import anyio

from trioflow import Budget, Job, Monitor, Pool, Retry, Scheduler

if TYPE_CHECKING:
    from ...conftest import Virtual


def test_a_job_that_is_blocked_before_its_next_attempt_is_not_counted_as_running(virtual: Virtual) -> None:
    """A job whose budget is spent while it waits for its next attempt no longer runs, and is not waiting either."""

    async def fail() -> None:
        await anyio.sleep(1)
        raise OSError("try again")

    job = Job(fail, retry=Retry(3, first=1), needs={"usd": 1})
    log = io.StringIO()
    virtual(Scheduler(job, pool=Pool(usd=Budget(1)), instruments=[Monitor(file=log)]).co_run)
    verdict = log.getvalue().splitlines()[-1]
    assert "1 blocked" in verdict
    assert "running" not in verdict
    assert "never started" not in verdict
