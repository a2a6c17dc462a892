"""Share the slots of a scheduler among tenants by weights, even if one of them floods it: start-time fair queueing.

    python examples/tenants.py

Of the first forty jobs that start, tenant C, whose weight is 2, has twenty, and the others ten each.
"""

from __future__ import annotations

import heapq

from trioflow import AbstractJob, Scheduler, ThreadJob
from trioflow.abc import Outlook, Policy


class Fair(Policy):
    """Start the job with the least tag: the virtual time at which its tenant's share reaches it.

    A job's tenant is the first word of its label.
    """

    def __init__(self, **weights: float) -> None:
        self.weights = weights
        self.finish = dict.fromkeys(weights, 0.0)
        self.waiting: list[float] = []
        self.started = 0
        self.now = 0.0

    def key(self, job: AbstractJob, outlook: Outlook) -> float:
        while self.waiting and self.started < outlook.starts:
            self.now = heapq.heappop(self.waiting)
            self.started += 1
        tenant = job.label.split()[0]
        tag = max(self.now, self.finish[tenant])
        self.finish[tenant] = tag + 1 / self.weights[tenant]
        heapq.heappush(self.waiting, tag)
        return tag


def main() -> list[str]:
    """Run sixty jobs one after the other, and return the tenants in the order in which their jobs ran."""
    order: list[str] = []
    jobs = [ThreadJob(order.append, tenant, label=f"{tenant} {number}") for tenant in "ABC" for number in range(20)]
    Scheduler(jobs, jobs_window=1, policy=Fair(A=1, B=1, C=2)).run()
    return order


if __name__ == "__main__":
    order = main()
    print({tenant: order[:40].count(tenant) for tenant in "ABC"})
