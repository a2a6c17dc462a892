"""The suite's part of the soak: scenarios of chosen seeds, run on both backends, end as the model predicts."""

import itertools
from collections.abc import Collection, Sequence

import pytest
from .generator import MEETINGS, scenario_of
from .model import predict, predict_restart
from .pairs import Table
from .shrink import found_in

ONCE = (
    34, 69, 97, 101, 107, 148, 195, 222, 244, 294, 393, 433, 453, 454, 488, 494, 541, 556, 706, 749, 831, 867, 1018,
    1043, 1076, 1325, 1387, 1580, 1648, 1661, 1742, 1904, 1976, 2042, 2054, 2085, 2136, 2169, 2209, 2308, 2374, 2527,
    2671, 2868, 2942, 2989, 3055, 3067, 3156, 3264, 3603, 3790, 3944, 4004, 4151, 4205, 4230, 4377, 4511, 4668, 4674,
    5210, 5333, 5917, 6084, 6494, 6497, 6635, 6642, 6880, 6920, 6971, 7216, 7369, 7476, 7515, 7551, 7650, 7762, 8190,
    8205, 8338, 8394, 8415, 8636, 8726, 9044, 9142, 9376, 9648, 9705, 9904, 10152, 10453, 10546, 10733, 10962, 11043,
    11275, 11284, 11393, 11747, 11882, 12068, 12834, 12844, 12851, 12877, 13425, 13646, 13766, 14095, 14937, 15142,
    15237, 15739, 16198, 16499, 17301, 17435, 17473, 17628, 17629, 17794, 17952, 18334, 18426, 18607, 18700, 18782,
    19172, 19550, 19564, 19638, 19826, 27771, 38872,
)  # fmt: skip
"""Some of the first 40,000 seeds, in which each pair of mechanisms takes effect."""
AGAIN = (
    11, 32, 62, 93, 129, 173, 215, 285, 314, 342, 398, 438, 832, 856, 901, 928, 1012, 1154, 1251, 1283, 1310, 1437,
    1496, 1525, 1527, 1608, 1765, 1818, 1834, 1996, 2445, 2458, 2520, 2819, 2971, 3028, 3114, 3145, 3618, 3785, 3826,
    3937, 4241, 4319, 4359, 4688, 4778, 4841, 4960, 4963, 5138, 5167, 5268, 5303, 5604, 5668, 5823, 6136, 6413, 6438,
    6834, 7185, 7879, 8096, 8303, 8311, 8386, 8876, 9407, 9556, 9731, 9992, 10232, 10283, 10307, 10406, 10552, 10716,
    10754, 10898, 10953, 11242, 11467, 11528, 11623, 11741, 11913, 12073, 12281, 12408, 12449, 12970, 12977, 13245,
    13352, 13354, 14068, 14815, 14876, 15121, 15178, 15641, 16017, 16151, 16328, 16438, 17260, 17869, 17888, 17919,
    18008, 18109, 18126, 18197, 18247, 18365, 18526, 19254, 19895, 20357, 24942, 40284, 41019,
)  # fmt: skip
"""Seeds with which each pair takes effect once more."""
VARIED = (11, 12, 13, 14, 15, 17, 21, 26, 29, 39, 46, 62, 64, 66, 68, 72, 73, 75, 80, 81, 85, 86)
"""Seeds of variations, in which limiters change, and what a clean-up job has goes to another group or run."""
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_random_scenarios_end_as_the_model_predicts(part: int, backend: str) -> None:
    """States, causes, times, attempts, orders, verdicts and hooks are those that the contract says."""
    check(ONCE[part::PARTS], backend)


@pytest.mark.ci
@pytest.mark.parametrize("part", range(PARTS))
def test_more_random_scenarios_end_as_the_model_predicts(part: int, backend: str) -> None:
    """The same for the seeds with which each pair takes effect once more."""
    check(AGAIN[part::PARTS], backend)


def check(seeds: Sequence[int], backend: str) -> None:
    """Compare the scenarios of these seeds with what the model predicts."""
    for seed in seeds:
        scenario = scenario_of(("suite", seed))
        assert (found_in(scenario, backend)[1], seed) == ([], seed), scenario


@pytest.mark.parametrize("seed", VARIED)
def test_varied_scenarios_end_as_the_model_predicts(seed: int, backend: str) -> None:
    """Limiters shrink, also to 0, and grow; clean-up jobs need what other groups wait for; runs share pools."""
    scenario = scenario_of(("suite", seed), varied=True)
    expected, found = found_in(scenario, backend)
    assert found == [], scenario
    assert expected is not None
    assert not expected.doubts


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 16), marks=pytest.mark.ci)], ids=["few", "more"])
def test_mechanisms_seldom_together_end_as_the_model_predicts(meeting: str, seeds: range, backend: str) -> None:
    """Pools merge, durations come late, failures are dropped: what a few jobs show shows beside all else."""
    scenarios = [scenario_of(("meeting", seed), meeting=meeting) for seed in seeds]
    found = [found_in(scenario, backend) for scenario in scenarios]
    assert [differences for _, differences in found] == [[]] * len(found)
    assert sum(bool(expected and not expected.doubts) for expected, _ in found) >= len(seeds) // 2


def test_each_pair_of_mechanisms_takes_effect_twice() -> None:
    """In these scenarios, whose outcome is certain, any two of the mechanisms meet: there is no pair that cannot."""
    table = Table()
    for number, seed in enumerate(ONCE + AGAIN):
        if number == len(ONCE):
            assert count_of_rarest_pair(table) == 1
        scenario = scenario_of(("suite", seed))
        predicted = [predict(scenario, "trio")] if scenario.killed_at is None else predict_restart(scenario, "trio")
        assert not any(outcome.doubts for outcome in predicted), seed
        table.add(predicted[-1].effects)
    assert count_of_rarest_pair(table, SELDOM) == 2
    assert len(table.single) == 63


NEVER = {("keep_jobs=False", "try again"), ("keep_jobs=False", "taken back")}
"""What was dropped is not tried again."""
SELDOM = {("await of what is not reached", "kept"), ("kept", "new window")}
"""They meet once in 25,000 seeds."""


def count_of_rarest_pair(table: Table, besides: Collection[tuple[str, str]] = ()) -> int:
    pairs = itertools.combinations(sorted(table.single), 2)
    return min(table.pairs[pair] for pair in pairs if pair not in {*NEVER, *besides})
