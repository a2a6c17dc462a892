"""Random scenarios under exploration: their tasks continue in any order, and faults are injected into their jobs.

trio reverses the order of tasks in a turn at random, and asyncio always has the same one; here any order may come, on
both."""

from dataclasses import replace
from typing import Any
import pytest
from trioflow import Scheduler
from trioflow.testing import explore
from .generator import scenario_of
from .real import RealRun
from .scenario import LAST_CALL, Scenario
from .shrink import found_in


@pytest.mark.parametrize(
    "seeds",
    [range(4), pytest.param(range(4, 12), marks=pytest.mark.ci)],
    ids=["few", "more"],
)
def test_random_scenarios_end_as_predicted_in_any_order_of_tasks(
    seeds: range, backend: str
) -> None:
    for seed in seeds:
        scenario = scenario_of(("in any order", seed))
        assert (found_in(scenario, backend, order=seed)[1], seed) == ([], seed), (
            scenario
        )


def explore_scenario(scenario: Scenario, seed: int, runs: int) -> None:
    """Explore a scenario: whatever is done to its jobs, it leaves nothing behind, and results are passed on."""
    real_runs: list[RealRun] = []

    def make() -> Scheduler:
        real = RealRun(scenario)
        real.root.timeout = real.root.timeout or LAST_CALL
        real_runs[:] = [real]
        root: Any = real.root
        return root

    def check(scheduler: Scheduler) -> None:
        real_runs[0].check_end()
        assert real_runs[0].strange == []

    explore(make, check=check, runs=runs, seed=seed)


def test_nothing_of_a_random_run_is_left_under_injected_faults() -> None:
    for seed in range(3):
        explore_scenario(
            replace(
                scenario_of(("explored", seed), ("endless", "answer")),
                keep_jobs=True,
                apart=False,
            ),
            seed,
            20,
        )
