"""`compute_ticks`: the ticks of a timeline's axis."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow.view.trace._timeline import TICK_STEPS, compute_ticks


@pytest.mark.parametrize(
    ("end", "texts"),
    [
        (3.3e-6, "0|1 µs|2 µs|3 µs"),
        (0.9, "0|200 ms|400 ms|600 ms|800 ms"),
        (2, "0|500 ms|1 s|1.5 s|2 s"),
        (33, "0|10 s|20 s|30 s"),
        (100, "0|30 s|1 min|1 min 30 s"),
        (3700, "0|15 min|30 min|45 min|1 h"),
        (9000, "0|30 min|1 h|1 h 30 min|2 h|2 h 30 min"),
        (200_000, "0|12 h|1 d|1 d 12 h|2 d"),
        (432_000, "0|1 d|2 d|3 d|4 d|5 d"),
    ],
)
def test_ticks_are_at_round_numbers_of_a_unit(end: float, texts: str) -> None:
    assert "|".join(text for _, text in compute_ticks(end, 5)) == texts


@given(st.floats(1e-7, 1e10), st.integers(1, 20))
def test_ticks_are_equally_spaced_on_the_whole_axis(end: float, most: int) -> None:
    """Ticks begin at 0, do not exceed the axis or their maximum number, are equally spaced, and have unique labels."""
    found = compute_ticks(end, most)
    assert found[0] == (0, "0")
    assert len(found) <= most + 1
    assert found[-1][0] <= end * (1 + 1e-9)
    assert len({text for _, text in found}) == len(found)
    steps = [round((b - a) / end, 9) for (a, _), (b, _) in itertools.pairwise(found)]
    assert len(set(steps)) <= 1


def test_tick_steps_increase() -> None:
    """The possible distances between ticks are listed in increasing order."""
    assert list(TICK_STEPS) == sorted(set(TICK_STEPS))
