"""Each policy orders the jobs of random scenarios alike, in each run and on both backends, and gives its reasons."""

from __future__ import annotations

import operator
import random
from typing import Any, Final, get_args

import anyio
import pytest

from trioflow import AbstractJob, Job, Pool, Scheduler, current_job, current_scheduler, ref, simulate
from trioflow.abc import Policy, PolicyName
from trioflow.testing import run_virtual

from ..bodies import DepthFirst
from ..conftest import BACKENDS


class PolicyScenario:
    """A random scenario, which is the same for the same seed.

    It has windows, pools, priorities, unknown durations, nested schedulers, and jobs that are added during the run; the
    policy serves several schedulers at once.
    """

    def __init__(self, policy: Any, seed: int) -> None:
        self._policy: Final = policy
        self._draw: Final = random.Random(seed)
        self._starts: Final[list[tuple[str, str]]] = []  # the labels of the schedulers and of their jobs that started
        self._numbers: Final = iter(range(10_000))
        self.scheduler: Final = self._make_scheduler(2)

    def _make_scheduler(self, depth: int) -> Scheduler:
        draw = self._draw
        members: list[AbstractJob[Any]] = []
        for _ in range(draw.randint(3, 9)):
            required = draw.sample(members, min(len(members), draw.randint(0, 2)))
            if depth and draw.random() < 0.3:
                nested = self._make_scheduler(depth - 1)
                nested.requires(*required)
                members.append(nested)
            else:
                members.append(self._make_job(required=required, needs=draw.choice([None, None, {"unit": 1}])))
        window = draw.choice([1, 1, 2, 3])
        label = f"scheduler {next(self._numbers)}"
        return Scheduler(*members, jobs_window=window, policy=self._policy, pool=Pool(unit=1), label=label)

    def _make_job(self, **options: Any) -> Job[None]:
        draw = self._draw
        added = self._make_job() if draw.random() < 0.2 else None
        return Job(
            self._work,
            draw.choice([0.1, 0.5, 1, 2]) + draw.random() / 100,  # trio resumes tasks of the same instant in any order
            ref(added) if added is not None else None,
            label=f"job {next(self._numbers)}",
            expected_duration=draw.choice([None, 0, 1, 2.5]),
            priority=draw.choice([0, 0, 0, 1]),
            **options,
        )

    async def _work(self, seconds: float, added: Job[None] | None) -> None:
        scheduler = current_scheduler()
        self._starts.append((scheduler.label, current_job().label))
        for other in scheduler:
            assert scheduler.explain(other)  # with the reason, if it waits behind others
        await anyio.sleep(seconds)
        if added is not None:
            scheduler.add(added)

    @property
    def order(self) -> list[str]:
        """The labels of the jobs in the order in which they started, scheduler by scheduler."""
        return [job for _, job in sorted(self._starts, key=operator.itemgetter(0))]


class ByPriority(Policy):
    """A policy of a user, whose keys are tuples."""

    def key(self, job: Any, outlook: Any) -> tuple[float, ...]:
        return job.priority, 0.5

    def reason(self, job: Any, outlook: Any) -> str:
        return "because"


@pytest.mark.parametrize("policy", [*get_args(PolicyName), DepthFirst(), ByPriority()])
def test_a_policy_orders_the_same_jobs_alike_in_each_run(policy: Any) -> None:
    """A scenario that was simulated runs in one order on both backends, and an explanation of each wait is given."""
    orders: list[list[str]] = []
    for backend in BACKENDS:
        scenario = PolicyScenario(policy, 1)
        simulate(scenario.scheduler)
        assert run_virtual(scenario.scheduler.co_run, backend=backend)
        orders.append(scenario.order)
    assert orders[0] == orders[1]
