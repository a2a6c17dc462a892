"""Durations for people: few columns, no more exact than they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow.view import _monitor_units as units


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
def test_times_that_are_over(seconds: float, said: str) -> None:
    """Two figures that matter; rounding never gives sixty of anything."""
    assert units.duration(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.9, "0s"), (9.9, "9s"), (59.9, "59s"), (60, "1m00s"), (3600, "1h00m")])
def test_times_that_go_on(seconds: float, said: str) -> None:
    """Whole seconds that are over: the figure changes once a second."""
    assert units.running(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "5s"), (6, "10s"), (118, "2m00s"), (121, "2m30s"), (601, "11m00s"), (7200, "2h00m")]
)
def test_estimates_are_rough(seconds: float, said: str) -> None:
    """Steps of 5 seconds, then 30, then minutes, upwards."""
    assert units.estimate(seconds) == said


@given(st.floats(min_value=0, max_value=99 * units.DAY))
def test_they_fit_their_column(seconds: float) -> None:
    """Up to 99 days none is wider than the column."""
    assert max(map(len, (units.duration(seconds), units.running(seconds)))) <= units.COLUMNS
