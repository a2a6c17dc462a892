"""The suite's part of the soak: scenarios of chosen seeds, run on both backends, end as the model predicts."""

from __future__ import annotations

import itertools

import pytest

from .generator import scenario_of
from .model import predict, predict_restart
from .pairs import Table
from .shrink import found_in

SEEDS = (
    6, 22, 47, 86, 93, 97, 148, 215, 221, 222, 295, 314, 437, 438, 494, 533, 706, 820, 831, 832, 856, 865, 1001,
    1012, 1202, 1321, 1325, 1437, 1485, 1495, 1525, 1608, 1655, 1671, 1689, 1818, 1922, 1962, 1996, 2169, 2194,
    2210, 2426, 2445, 2527, 2671, 2771, 2868, 2893, 2971, 2999, 3028, 3055, 3067, 3114, 3145, 3156, 3344, 3391,
    3533, 3603, 3790, 3922, 3944, 4004, 4097, 4151, 4170, 4205, 4230, 4319, 4359, 4377, 4443, 4511, 4519, 4629,
    4668, 4674, 4688, 4778, 4836, 4960, 5055, 5138, 5210, 5268, 5333, 5512, 5604, 5668, 5753, 5823, 5993, 6084,
    6136, 6267, 6438, 6444, 6494, 6497, 6601, 6607, 6635, 6642, 6659, 6880, 6920, 7216, 7224, 7369, 7476, 7551,
    7762, 7867, 7879, 7938, 8190, 8205, 8303, 8338, 8386, 8636, 8726, 8876, 9038, 9044, 9142, 9376, 9407, 9660,
    9676, 9705, 9711, 9731, 9904, 9930, 9992, 10137, 10152, 10265, 10283, 10406, 10453, 10490, 10499, 10546,
    10678, 10713, 10716, 10733, 10824, 10842, 10898, 10915, 11043, 11071, 11275, 11284, 11393, 11518, 11528,
    11610, 11623, 11651, 11740, 11741, 11747, 11882, 11913, 11940, 11986, 12068, 12073, 12262, 12281, 12284,
    12408, 12449, 12834, 12844, 12851, 12877, 12977, 12995, 13245, 13354, 13425, 13483, 13495, 13500, 13646,
    13766, 14068, 14491, 14542, 14722, 14815, 14876, 14937, 15121, 15142, 15178, 15214, 15237, 15385, 15391,
    15520, 15641, 15739, 15740, 15854, 15992, 16151, 16328, 16438, 16499, 16704, 16733, 16900, 17172, 17260,
    17435, 17473, 17628, 17629, 17763, 17794, 17869, 17888, 17952, 18008, 18109, 18197, 18247, 18261, 18334,
    18365, 18409, 18423, 18426, 18508, 18526, 18569, 18607, 18901, 19172, 19257, 19550, 19564, 19646, 19826,
    19895,
)  # fmt: skip
"""Of the first 20,000 seeds, a few in which each pair of mechanisms takes effect three times."""
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_random_scenarios_end_as_the_model_predicts(part: int, backend: str) -> None:
    """States, causes, times, attempts, orders, verdicts and hooks are those that the contract says."""
    for seed in SEEDS[part::PARTS]:
        scenario = scenario_of(("suite", seed))
        assert (found_in(scenario, backend)[1], seed) == ([], seed), scenario


def test_each_pair_of_mechanisms_takes_effect_three_times() -> None:
    """In these scenarios, whose outcome is certain, any two of the mechanisms meet: there is no pair that cannot."""
    table = Table()
    for seed in SEEDS:
        scenario = scenario_of(("suite", seed))
        predicted = [predict(scenario, "trio")] if scenario.killed_at is None else predict_restart(scenario, "trio")
        assert not any(outcome.doubts for outcome in predicted), seed
        table.add(predicted[-1].effects)
    assert min(table.pairs[pair] for pair in itertools.combinations(sorted(table.single), 2)) >= 3
    assert len(table.single) == 58
