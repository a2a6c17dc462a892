"""Another try of a job is like any other, whoever has asked for it: what counts on counts on, all else is new."""

from typing import Any

import anyio
import pytest
from trioflow import Budget, Job, Pool, Scheduler, current_job
from trioflow.abc import fraction_done
from ..bodies import nap
from ..conftest import Virtual


@pytest.mark.parametrize("way", ["retry", "the job", "its group", "all", "the job in an ended group", "on_job_settled"])
def test_a_job_in_its_second_try_says_the_same_in_whatever_way_it_has_come_to_it(virtual: Virtual, way: str) -> None:
    seen: dict[str, Any] = {}

    async def work(_: object) -> str:
        job = current_job()
        if job.attempts == 1:
            job.progress(0.5)
            job.used(usd=2)
            await anyio.sleep(9)
        seen.update(
            fraction=fraction_done(job), timed_out=job.timed_out, attempts=job.attempts, granted=dict(job.granted),
            started_at=job.started_at, state=job.state.name, restored=job.restored,
        )  # fmt: skip
        job.used(usd=4)
        return "done"

    async def again() -> None:
        await (group if "group" in way else job).wait_settled()
        {"the job": job, "its group": group, "all": scheduler, "the job in an ended group": job}[way].try_again()

    def tell(ended: Any) -> None:
        if ended is job and job.attempts == 1:
            job.try_again()

    source = Job(nap, 1)
    job = Job(work, source, timeout=1, needs={"usd": 1}, retry=int(way == "retry"), label="job")
    told = tell if way == "on_job_settled" else None
    goes_on = [] if "group" in way else [Job(nap, 5)]
    group = Scheduler(source, job, Job(nap, required=job), goes_on, label="group", on_job_settled=told)
    pool = Pool(usd=Budget(9))
    scheduler = Scheduler(group, [] if way in ("retry", "on_job_settled") else Job(again), pool=pool, log=False)
    assert virtual(scheduler.co_run)
    assert seen == {
        "fraction": None, "timed_out": True, "attempts": 2, "granted": {"usd": 1}, "started_at": 1, "state": "RUNNING",
        "restored": False,
    }  # fmt: skip
    assert (pool.budgets, job.result(), job.timed_out) == ({"usd": 3}, "done", True)
