"""The suite's part of the soak: scenarios of fixed seeds, run on both backends, end as the model predicts."""

from __future__ import annotations

import pytest

from .generator import scenario_of
from .shrink import found_in

BATCHES, BATCH = 12, 25


@pytest.mark.parametrize("number", range(BATCHES))
def test_random_scenarios_end_as_the_model_predicts(number: int, backend: str) -> None:
    """States, causes, times, attempts, orders, verdicts and hooks are those that the contract says."""
    for seed in range(number * BATCH, (number + 1) * BATCH):
        scenario = scenario_of(("suite", seed))
        assert (found_in(scenario, backend)[1], seed) == ([], seed), scenario
