"""Rows for intervals: none overlaps in its row, and there are no more rows than needed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trioflow.view.trace._spans import assign_lanes

intervals = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=40).map(
    lambda pairs: sorted((float(begin), float(begin + length)) for begin, length in pairs)
)


@given(intervals)
def test_each_interval_takes_the_lowest_free_lane(given: list[tuple[float, float]]) -> None:
    until: list[float] = []
    for (begin, end), lane in zip(given, assign_lanes(given), strict=True):
        expected = next((number for number, free in enumerate(until) if free <= begin), len(until))
        assert lane == expected
        until[lane : lane + 1] = [end]


@given(intervals, st.lists(st.none() | st.integers(0, 20).map(float), max_size=40))
def test_a_job_that_waited_takes_the_lane_that_was_released_last(
    given: list[tuple[float, float]], since: list[float | None]
) -> None:
    """A job that waited takes the lane that was released last, during the wait; other jobs take the lowest free one."""
    until: list[float] = []
    waits = [*since, *[None] * len(given)]
    for (begin, end), waiting, lane in zip(given, waits, assign_lanes(given, since), strict=False):
        free = [number for number, at in enumerate(until) if at <= begin]
        latest = max((until[number] for number in free), default=0.0)
        if waiting is not None and latest > waiting:
            assert until[lane] == latest
        else:
            assert lane == min(free, default=len(until))
        until[lane : lane + 1] = [end]


def test_equal_waves_of_jobs_take_the_same_lanes() -> None:
    wave = [(0.0, 5.0), (0.0, 3.0), (3.0, 4.0)]
    both = [*wave, *((begin + 5, end + 5) for begin, end in wave)]
    assert list(assign_lanes(both, [0, 0, 0, 5, 5, 5])) == [0, 1, 1, 0, 1, 1]
