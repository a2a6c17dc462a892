"""The suite's part of the scenarios whose times are drawn from a grid."""

import pytest
from .generator import scenario_of
from .ties import STEPS, differs_from_itself, with_ties

COUNT = 10


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("step", STEPS)
def test_what_comes_in_one_instant_comes_in_one_order_each_time(
    step: float, part: int, backend: str
) -> None:
    """On virtual time, a scenario with times on a grid ends alike each time, so that users can test an order."""
    seeds = range(part * COUNT, (part + 1) * COUNT)
    found = {
        seed: differs_from_itself(with_ties(scenario_of(("ties", seed)), step), backend)
        for seed in seeds
    }
    assert not any(found.values()), found
