"""Budgets in runs with a journal: a run that was stopped goes on with the rest of its budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trioflow import Budget, BudgetSpent, Job, Pool, Retry, Scheduler, current_job

from ..bodies import nap

if TYPE_CHECKING:
    from ..conftest import Virtual


async def pay(used: float, fails: int = 0) -> None:
    await nap(1)
    current_job().used(usd=used)
    if current_job().attempts <= fails:
        raise OSError("broken")


def test_a_restored_job_counts_what_it_had_used_in_all_its_attempts(virtual: Virtual, tmp_path: Path) -> None:
    """A second run has what the first left; a job without a report counts its need, and failed attempts count, too."""

    def make() -> tuple[list[Job[Any]], Pool, Scheduler]:
        jobs: list[Job[Any]] = [
            Job(pay, 0.5, needs={"usd": 1}, label="reported"),
            Job(nap, 1, needs={"usd": 1}, label="unreported"),
            Job(pay, 0.25, 1, needs={"usd": 1}, retry=Retry(1, first=0), label="retried"),
        ]
        pool = Pool(usd=Budget(4))
        return jobs, pool, Scheduler(*jobs, pool=pool)

    lefts: list[float] = []
    for _ in range(2):
        jobs, pool, scheduler = make()
        more = scheduler.add(Job(pay, 0, needs={"usd": 3}, required=jobs))
        virtual(lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db"))
        lefts.append(pool.free["usd"])
        assert isinstance(more.raised_exception(), BudgetSpent)
    assert [job.restored for job in jobs] == [True] * 3
    assert lefts == [2, 2]
