"""Every view, export and verdict of every scenario can be written and read back, and what they say can be true."""

import pytest
from ..conftest import BACKENDS
from ..model.generator import scenario_of
from .all_views import strange_in_views

pytestmark = pytest.mark.usefixtures("no_dot")

SEEDS = (0, 20, 27, 32, 34, 74, 87, 100, 109, 387, 465, 574, 1393, 1844)
"""Scenarios of which a view once was missing, or had a number that none of the others had."""


@pytest.mark.sampled
@pytest.mark.parametrize("seed", SEEDS)
def test_all_views_of_a_scenario_can_be_written_and_agree(seed: int) -> None:
    """No view raises, counts are equal, nothing is negative, no share is above 1, at the end and in between."""
    assert strange_in_views(scenario_of(("views", seed)), BACKENDS[seed % 2]) == []


@pytest.mark.parametrize("seed", [1, 4, 23])
def test_all_views_of_a_scenario_that_is_paused_can_be_written_and_agree(seed: int, backend: str) -> None:
    assert strange_in_views(scenario_of(("views", seed)), backend, is_paused=True) == []


@pytest.mark.soak
@pytest.mark.parametrize("is_paused", [False, True])
@pytest.mark.parametrize("part", range(8))
def test_all_views_of_many_scenarios_can_be_written_and_agree(part: int, is_paused: bool, backend: str) -> None:
    for seed in range(part, 2000, 8):
        assert (strange_in_views(scenario_of(("views", seed)), backend, is_paused=is_paused), seed) == ([], seed)
