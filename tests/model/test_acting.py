"""Hooks of instruments may do what they like: the run ends, and nothing is left behind."""

import pytest
from .acting import faults_in
from .generator import scenario_of

PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_hooks_that_act_leave_nothing_behind(part: int, backend: str) -> None:
    """Hooks cancel, drain, add and raise at random: each job settles, limits are free, and no run stands still."""
    for number in range(part, 24, PARTS):
        scenario = scenario_of(("acting", number), varied=number % 2 == 0)
        assert ([*faults_in(scenario, backend, number)], number) == ([], number)


@pytest.mark.soak
def test_hooks_that_act_leave_nothing_behind_in_many_scenarios(backend: str) -> None:
    for number in range(1000):
        scenario = scenario_of(("many acting", number), varied=number % 2 == 0)
        assert ([*faults_in(scenario, backend, number)], number) == ([], number)
