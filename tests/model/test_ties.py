"""The suite's part of the scenarios whose times are drawn from a grid."""

from __future__ import annotations

import pytest

from .generator import scenario_of
from .ties import STEPS, differs_between_loops, with_ties

PARTS = 8
COUNT = 10


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("step", STEPS)
def test_what_comes_in_one_instant_comes_in_one_order_on_both_loops(step: float, part: int) -> None:
    """A scenario with times on a grid, which the model predicts alike for both loops, ends alike on both."""
    found = {
        seed: differs_between_loops(with_ties(scenario_of(("ties", seed)), step))
        for seed in range(part * COUNT, (part + 1) * COUNT)
    }
    assert not any(found.values()), found
    assert sum(apart is not None for apart in found.values()) >= COUNT / 2
