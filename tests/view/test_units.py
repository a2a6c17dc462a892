"""Durations, exact and in few columns, and the ticks of an axis."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow.view._units import COMPACT_COLUMNS, DAY, STEPS, compact, duration, estimate, running, ticks


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1e-12, "0 s"),
        (2.5e-7, "250 ns"),
        (1.25e-5, "12.5 µs"),
        (0.000_999_9, "1 ms"),
        (0.0123, "12.3 ms"),
        (0.9999, "1 s"),
        (1.2345, "1.23 s"),
        (9.999, "10 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (61, "1 min 01 s"),
        (750, "12 min 30 s"),
        (3599.7, "1 h"),
        (11_100, "3 h 05 min"),
        (86_399, "1 d"),
        (187_200, "2 d 04 h"),
        (-1.5, "-1.5 s"),
    ],
)
def test_a_duration_has_three_figures(seconds: float, text: str) -> None:
    """Or two units that people say together; nothing is rounded up to 60 of a unit."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("end", "texts"),
    [
        (0, "0 s"),
        (3.3e-6, "0|1 µs|2 µs|3 µs"),
        (0.9, "0|200 ms|400 ms|600 ms|800 ms"),
        (2, "0|0.5 s|1.0 s|1.5 s|2.0 s"),
        (33, "0|10 s|20 s|30 s"),
        (100, "0|30 s|1 min|1 min 30 s"),
        (3700, "0|15 min|30 min|45 min|1 h"),
        (9000, "0|30 min|1 h|1 h 30 min|2 h|2 h 30 min"),
        (200_000, "0|12 h|1 d|1 d 12 h|2 d"),
        (432_000, "0|1 d|2 d|3 d|4 d|5 d"),
    ],
)
def test_ticks_are_where_people_count(end: float, texts: str) -> None:
    """At round numbers of a unit, with as many figures as they need."""
    assert "|".join(text for _, text in ticks(end, 5)) == texts


@given(st.floats(1e-7, 1e10), st.integers(1, 20))
def test_ticks_fill_the_axis(end: float, most: int) -> None:
    """They begin at 0, do not go beyond the end, are at most so many, equally far apart, and all told apart."""
    found = ticks(end, most)
    assert found[0] == (0, "0")
    assert len(found) <= most + 1
    assert found[-1][0] <= end * (1 + 1e-9)
    assert len({text for _, text in found}) == len(found)
    steps = [round((b - a) / end, 9) for (a, _), (b, _) in itertools.pairwise(found)]
    assert len(set(steps)) <= 1


def test_steps_grow() -> None:
    """The next step is larger than the one before."""
    assert list(STEPS) == sorted(set(STEPS))


# --- in few columns


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0ms"),
        (0, "0ms"),
        (0.34, "340ms"),
        (0.9994, "999ms"),
        (0.9996, "1.0s"),
        (3.21, "3.2s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (245, "4m05s"),
        (3599.7, "1h00m"),
        (2 * 3600 + 3 * 60 + 59, "2h03m"),
        (3 * 86400 + 4 * 3600, "3d04h"),
    ],
)
def test_compact_times_that_are_over(seconds: float, said: str) -> None:
    """Two significant figures; rounding never gives sixty of anything."""
    assert compact(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.9, "0s"), (9.9, "9s"), (59.9, "59s"), (60, "1m00s"), (3600, "1h00m")])
def test_times_that_go_on(seconds: float, said: str) -> None:
    """Whole seconds, rounded down: the figure changes once a second."""
    assert running(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "5s"), (6, "10s"), (118, "2m00s"), (121, "2m30s"), (601, "11m00s"), (7200, "2h00m")]
)
def test_estimates_are_rough(seconds: float, said: str) -> None:
    """Steps of 5 seconds, then 30, then minutes, upwards."""
    assert estimate(seconds) == said


@given(st.floats(min_value=0, max_value=99 * DAY))
def test_compact_times_fit_their_column(seconds: float) -> None:
    """Up to 99 days none is wider than the column."""
    assert max(map(len, (compact(seconds), running(seconds)))) <= COMPACT_COLUMNS
