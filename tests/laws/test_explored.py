"""The laws under exploration: tasks continue in any order, and any fault is injected into random scenarios.

trio reverses the order of tasks in a turn at random, and asyncio always has the same one; here any order may come, on
both. The suite runs a few scenarios of each kind; for more of them::

    TRIOFLOW_SOAK=2000 python -m tests --soak -- tests/laws/test_explored.py
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioflow import Scheduler
from trioflow.testing import explore

from .checks import FEW, MANY, Ordered, check, check_shared, on_both
from .flow_laws import LAWS_OF_FLOW, ends_services_after_their_users
from .laws import LAWS_OF_RUNS, ends_forever_jobs_last
from .real_run import RealRun, Recorder
from .scenarios import LAST_CALL, Scenario, scenarios

SEEDS = st.integers(0, 2**32 - 1)
ALONE = {ends_forever_jobs_last, ends_services_after_their_users}  # they hold of jobs that nobody else ends


def explore_scenario(scenario: Scenario, seed: int, runs: int) -> None:
    """Explore a scenario: the laws hold whatever is done to its jobs, except those for jobs that are left alone."""
    real_runs: list[RealRun] = []

    def make() -> Scheduler:
        real = RealRun(scenario)
        real.root.instruments = [Recorder(real)]
        real.root.timeout = real.root.timeout or LAST_CALL
        real_runs[:] = [real]
        root: Any = real.root
        return root

    def keeps_laws(scheduler: Scheduler) -> None:
        real_runs[0].look()
        for law in (*LAWS_OF_RUNS, *LAWS_OF_FLOW):
            if law not in ALONE:
                law(real_runs[0].seen)

    explore(make, check=keeps_laws, runs=runs, seed=seed)


@FEW
@given(scenario=scenarios(), seed=SEEDS)
def test_random_scenarios_keep_all_laws_in_any_order_of_tasks(scenario: Scenario, seed: int) -> None:
    """Each random scenario keeps the laws and ends as the oracle predicts, in whatever order its tasks continue."""
    on_both(check, scenario, partial(Ordered, seed=seed))


@settings(FEW, max_examples=5)
@given(scenario=scenarios(shared=True), seed=SEEDS)
def test_scenarios_with_shared_limiters_keep_all_laws_in_any_order_of_tasks(scenario: Scenario, seed: int) -> None:
    """Scenarios whose schedulers share limiters at any depth keep the laws, in whatever order tasks continue."""
    on_both(check_shared, scenario, partial(Ordered, seed=seed))


@settings(FEW, max_examples=3)
@given(scenario=scenarios(), seed=SEEDS)
def test_random_scenarios_keep_all_laws_under_injected_faults(scenario: Scenario, seed: int) -> None:
    """Random scenarios keep the laws while injected faults delay, fail, hang, cancel or interrupt their jobs."""
    explore_scenario(scenario, seed, 20)


@pytest.mark.soak
@MANY
@given(scenario=scenarios(), seed=SEEDS)
def test_many_random_scenarios_keep_all_laws_in_any_order_of_tasks(scenario: Scenario, seed: int) -> None:
    """A long run of `test_random_scenarios_keep_all_laws_in_any_order_of_tasks`."""
    on_both(check, scenario, partial(Ordered, seed=seed))


@pytest.mark.soak
@MANY
@given(scenario=scenarios(shared=True), seed=SEEDS)
def test_many_scenarios_with_shared_limiters_keep_all_laws_in_any_order_of_tasks(scenario: Scenario, seed: int) -> None:
    """A long run of `test_scenarios_with_shared_limiters_keep_all_laws_in_any_order_of_tasks`."""
    on_both(check_shared, scenario, partial(Ordered, seed=seed))


@pytest.mark.soak
@settings(MANY, max_examples=int(os.environ.get("TRIOFLOW_SOAK", "1000")) // 10)
@given(scenario=scenarios(), seed=SEEDS)
def test_many_random_scenarios_keep_all_laws_under_injected_faults(scenario: Scenario, seed: int) -> None:
    """A long run of `test_random_scenarios_keep_all_laws_under_injected_faults`."""
    explore_scenario(scenario, seed, 200)
