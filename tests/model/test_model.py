"""The suite's part of the soak: scenarios of chosen seeds, run on both backends, end as the model predicts."""

import itertools
from collections.abc import Collection, Sequence
import pytest
from .generator import MEETINGS, scenario_of
from .model import predict, predict_restart
from .pairs import Table
from .shrink import found_in

ONCE = (
    147, 168, 176, 249, 279, 314, 488, 506, 728, 827, 832, 984, 995, 1386, 1580, 1675, 1837, 1840, 1904, 2013, 2308,
    2848, 2883, 2935, 2971, 3055, 3144, 3617, 3676, 3709, 3727, 3790, 3922, 3932, 3965, 3966, 4050, 4170, 4230, 4359,
    4382, 4394, 4397, 4521, 4561, 4668, 4674, 4706, 4784, 4937, 4958, 5003, 5030, 5055, 5092, 5106, 5193, 5282, 5303,
    5461, 5692, 5741, 5772, 5803, 5921, 5922, 5933, 5934, 5942, 6003, 6049, 6218, 6438, 6494, 6518, 6547, 6576, 6612,
    6642, 7476, 7792, 7879, 8190, 8205, 8303, 8636, 8726, 9731, 10283, 10733, 10898, 10962, 11245, 11275, 11467, 11528,
    11747, 12877, 13245, 13425, 13467, 14068, 15121, 15172, 16328, 17473, 17629, 18334, 18365, 18426, 18700, 19895,
    20357, 20523, 24942, 25408, 27771, 33455, 36855, 38570, 40284,
)  # fmt: skip
"""Some of the first 40,000 seeds, in which each pair of mechanisms takes effect."""
AGAIN = (
    52, 69, 78, 289, 327, 536, 546, 648, 853, 856, 893, 1024, 1055, 1155, 1219, 1325, 1358, 1394, 1498, 1525, 1532,
    1889, 1922, 2104, 2445, 2527, 2614, 2723, 2746, 2787, 2849, 2893, 3026, 3080, 3336, 3350, 3404, 3543, 3553, 3603,
    3660, 3744, 3826, 3845, 3870, 3888, 3941, 4235, 4237, 4293, 4297, 4310, 4325, 4519, 4542, 4581, 4629, 4732, 4799,
    4983, 5095, 5141, 5334, 5352, 5354, 5362, 5512, 5617, 5753, 5757, 5811, 5913, 5917, 5945, 5993, 6001, 6069, 6410,
    6444, 6521, 6690, 6821, 6863, 6878, 6920, 6969, 6991, 7185, 8394, 8876, 9412, 10152, 10307, 10406, 11043, 11242,
    11393, 11913, 12844, 12851, 12970, 13354, 14862, 15178, 16017, 18008, 18109, 18607, 19564, 26991, 30316, 30412,
    34471, 35931, 38872, 39134,
)  # fmt: skip
"""Seeds with which each pair takes effect once more."""
VARIED = (
    11,
    12,
    13,
    14,
    15,
    17,
    21,
    29,
    39,
    46,
    62,
    64,
    66,
    68,
    72,
    75,
    80,
    81,
    86,
    89,
    90,
    91,
)
"""Seeds of variations, in which limiters change, and what a clean-up job has goes to another group or run."""
PARTS = 8


@pytest.mark.parametrize(
    "part",
    [
        *range(PARTS // 4),
        *(
            pytest.param(part, marks=pytest.mark.ci)
            for part in range(PARTS // 4, PARTS)
        ),
    ],
)
def test_random_scenarios_end_as_the_model_predicts(part: int, backend: str) -> None:
    """States, causes, times, attempts, orders, verdicts and hooks are those that the contract says."""
    check(ONCE[part::PARTS], backend)


@pytest.mark.ci
@pytest.mark.parametrize("part", range(PARTS))
def test_more_random_scenarios_end_as_the_model_predicts(
    part: int, backend: str
) -> None:
    """The same for the seeds with which each pair takes effect once more."""
    check(AGAIN[part::PARTS], backend)


def check(seeds: Sequence[int], backend: str) -> None:
    """Compare the scenarios of these seeds with what the model predicts."""
    for seed in seeds:
        scenario = scenario_of(("suite", seed))
        assert (found_in(scenario, backend)[1], seed) == ([], seed), scenario


@pytest.mark.parametrize(
    "seed",
    [
        *VARIED[: len(VARIED) // 2],
        *(
            pytest.param(seed, marks=pytest.mark.ci)
            for seed in VARIED[len(VARIED) // 2 :]
        ),
    ],
)
def test_varied_scenarios_end_as_the_model_predicts(seed: int, backend: str) -> None:
    """Limiters shrink, also to 0, and grow; clean-up jobs need what other groups wait for; runs share pools."""
    scenario = scenario_of(("suite", seed), varied=True)
    expected, found = found_in(scenario, backend)
    assert found == [], scenario
    assert expected is not None
    assert not expected.doubts


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize(
    "seeds",
    [
        range(2),
        pytest.param(range(2, 6), marks=pytest.mark.ci),
        pytest.param(range(6, 32), marks=pytest.mark.soak),
    ],
    ids=["few", "more", "most"],
)
def test_mechanisms_seldom_together_end_as_the_model_predicts(
    meeting: str, seeds: range, backend: str
) -> None:
    """Pools merge, durations come late, failures are dropped: what a few jobs show shows beside all else."""
    scenarios = [scenario_of(("meeting", seed), meeting=meeting) for seed in seeds]
    found = [found_in(scenario, backend) for scenario in scenarios]
    assert [differences for _, differences in found] == [[]] * len(found)
    assert sum(bool(expected and not expected.doubts) for expected, _ in found) >= max(
        1, len(seeds) // 3
    )


@pytest.mark.ci
def test_each_pair_of_mechanisms_takes_effect_twice() -> None:
    """In these scenarios, whose outcome is certain, any two of the mechanisms meet: there is no pair that cannot."""
    table = Table()
    for number, seed in enumerate(ONCE + AGAIN):
        if number == len(ONCE):
            assert count_of_rarest_pair(table) == 1
        scenario = scenario_of(("suite", seed))
        if scenario.killed_at is None:
            predicted = [predict(scenario, "trio")]
        else:
            predicted = predict_restart(scenario, "trio")
        assert not any(outcome.doubts for outcome in predicted), seed
        table.add(predicted[-1].effects)
    assert count_of_rarest_pair(table, SELDOM) == 2
    assert len(table.single) == 67
    assert min(table.single[name] for name in SECONDS) > len(ONCE + AGAIN) / 10


SECONDS = "drain in a clean-up", "third try", "service of two", "answer in a retry"
"""What comes for the second time in each tenth scenario, and by chance in none of two hundred, or in few."""
NEVER = {
    ("keep_jobs=False", "try again"),
    ("keep_jobs=False", "taken back"),
    ("keep_jobs=False", "third try"),
}
"""What was dropped is not tried again."""
SELDOM = {("await of what is not reached", "kept")}
"""They meet once in 40,000 seeds."""


def count_of_rarest_pair(
    table: Table, besides: Collection[tuple[str, str]] = ()
) -> int:
    pairs = itertools.combinations(sorted(table.single), 2)
    return min(table.pairs[pair] for pair in pairs if pair not in {*NEVER, *besides})
