"""The suite's part of the scenarios whose times are drawn from a grid."""

from __future__ import annotations

import pytest

from .generator import scenario_of
from .scenario import Fail, Group, Leaf, Nap, Scenario
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
    assert sum(apart is not None for apart in found.values()) >= COUNT / 3


FOUND = {
    "a forever job that ends as the time of the clean-up is over has ended": Scenario(
        root=Group(
            name="root",
            jobs=(
                Leaf(name="bad", critical=True, bodies=((Nap(5.0), Fail()),)),
                Leaf(name="clean-up", requires=("bad",), run_if="failed", bodies=((Nap(10.0),),)),
                Leaf(name="forever", forever=True, bodies=((Nap(9.0), Nap(1.0)),)),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_ties_that_the_loops_once_decided_differently_end_alike(name: str) -> None:
    """A scenario with a tie that was decided by turns of the loop, as small as it gets."""
    assert not differs_between_loops(FOUND[name])
