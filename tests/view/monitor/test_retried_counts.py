"""The counts of a monitor are right for jobs that settle while they wait for another attempt."""

from __future__ import annotations

import io

import anyio

from trioflow import Budget, Job, Monitor, Pool, Retry, Scheduler, ref

from ...conftest import Virtual


def test_a_job_that_is_blocked_before_its_next_attempt_is_not_counted_as_running(virtual: Virtual) -> None:
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


def test_a_group_that_a_spent_budget_blocks_in_each_try_counts_once(virtual: Virtual) -> None:
    tries: list[None] = []

    async def fail_twice() -> None:
        tries.append(None)
        await anyio.sleep(2)
        if len(tries) < 3:
            raise OSError("try again")

    async def try_again(job: Scheduler) -> None:
        for _ in range(2):
            await anyio.sleep(4)
            job.try_again()

    spending = Job(anyio.sleep, 1, needs={"usd": 2})
    blocked = Scheduler(Job(anyio.sleep, 1), needs={"usd": 1}, required=spending)
    group = Scheduler(spending, blocked, Job(fail_twice))
    log = io.StringIO()
    outer = Scheduler(group, Job(try_again, ref(group)), pool=Pool(usd=Budget(2)), instruments=[Monitor(file=log)])
    virtual(outer.co_run)
    assert len(tries) == 3
    assert "1 group failed" in log.getvalue().splitlines()[-1]
