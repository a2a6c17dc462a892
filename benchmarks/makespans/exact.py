"""The least makespan of a small scenario, by exhaustive search.

Some order of the jobs gives it: place each job, in this order, at the earliest time at which what it requires has ended
and what it needs is free as long as it takes (an *active* schedule; Sprecher, Kolisch and Drexl 1995). The search goes
through all orders, and leaves those whose longest path is already too long. It ends when no order can be better. Ten
jobs take some milliseconds; fifteen may take minutes.
"""

from __future__ import annotations

import math

from trioflow import Scheduler, simulate
from trioflow.abc import AbstractJob

SLOTS = "slots of the window"


def least_makespan(scheduler: Scheduler, window: int | None) -> float:
    """Return the least makespan of a scheduler whose jobs take whole numbers of seconds."""
    bound = math.ceil(simulate(scheduler, jobs_window=window).lower_bound)
    order = scheduler.topological_order()
    seconds = {job: job.expected_duration or 0.0 for job in order}
    needs = {job: {**(job.needs or {}), **({SLOTS: 1} if window else {})} for job in order}
    total = {**(scheduler.pool.total if scheduler.pool else {}), **({SLOTS: window} if window else {})}
    after = dict.fromkeys(order, 0.0)  # how long the longest path after a job is
    for job in reversed(order):
        for requirement in job.required:
            after[requirement] = max(after[requirement], seconds[job] + after[job])

    placed: dict[AbstractJob, tuple[float, float]] = {}
    least = math.inf

    def fits(job: AbstractJob, start: float) -> bool:
        """Whether there is enough at the start, and whenever another job starts while it runs."""
        during = [start, *(begin for begin, _ in placed.values() if start < begin < start + seconds[job])]
        return all(
            amount + sum(needs[one].get(name, 0) for one, (begin, end) in placed.items() if begin <= moment < end)
            <= total[name]
            for moment in during
            for name, amount in needs[job].items()
        )

    def search() -> None:
        nonlocal least
        eligible = [job for job in order if job not in placed and all(one in placed for one in job.required)]
        if not eligible:
            least = min(least, max((end for _, end in placed.values()), default=0.0))
        for job in eligible:
            ready = max((placed[one][1] for one in job.required), default=0.0)
            starts = sorted({ready, *(end for _, end in placed.values() if end > ready)})
            start = next(moment for moment in starts if fits(job, moment))
            if least > bound and start + seconds[job] + after[job] < least:
                placed[job] = (start, start + seconds[job])
                search()
                del placed[job]

    search()
    return least
