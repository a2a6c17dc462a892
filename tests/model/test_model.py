"""The suite's part of the soak: scenarios of chosen seeds, run on both backends, end as the model predicts."""

from __future__ import annotations

import pytest

from .generator import scenario_of
from .shrink import found_in

SEEDS = (
    29, 47, 48, 60, 81, 185, 215, 233, 246, 300, 303, 308, 333, 351, 451, 504, 507, 521, 535, 552, 577, 604,
    638, 706, 713, 794, 799, 816, 848, 849, 904, 925, 930, 948, 976, 1000, 1036, 1048, 1082, 1086, 1143, 1154,
    1155, 1161, 1252, 1266, 1287, 1374, 1399, 1412, 1459, 1535, 1554, 1574, 1582, 1665, 1714, 1867, 1877,
    1898, 1999, 2013, 2104, 2333, 2396, 2401, 2520, 2546, 2568, 2605, 2629, 2847, 2992, 3106, 3193,
    3244, 3389, 3399, 3404, 3408, 3451, 3459, 3550, 3552, 3569, 3599, 3600, 3663, 3686, 3702, 3744, 3811,
    3841, 3859, 3862, 3869, 3893, 3915, 4053, 4119, 4133, 4148, 4162, 4178, 4233, 4249, 4260, 4311, 4372,
    4375, 4390, 4424, 4491, 4520, 4585, 4663, 4710, 4715, 4779, 4815, 4820, 4890, 4903, 4993, 5116, 5139,
    5143, 5170, 5174, 5224, 5234, 5248, 5317, 5324, 5327, 5426, 5432, 5532, 5564, 5573, 5601, 5666, 5703,
    5856, 5870, 5911, 5954, 5999,
)  # fmt: skip
"""Of the first 6,000 seeds, a few in which as many pairs of mechanisms as possible take effect."""
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_random_scenarios_end_as_the_model_predicts(part: int, backend: str) -> None:
    """States, causes, times, attempts, orders, verdicts and hooks are those that the contract says."""
    for seed in SEEDS[part::PARTS]:
        scenario = scenario_of(("suite", seed))
        assert (found_in(scenario, backend)[1], seed) == ([], seed), scenario
