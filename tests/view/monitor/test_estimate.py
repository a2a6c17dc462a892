"""The estimate of the remaining time, a pure function of a graph and its progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow.view.monitor._eta import (
    RUNNING,
    SETTLED,
    SUCCEEDED,
    WAITING,
    Estimator,
    JobProgress,
    ResourceBound,
    SchedulerLevel,
)


def level(jobs: str, edges: str = "", slots: float = math.inf, node: str = "", nested: str = "") -> SchedulerLevel[str]:
    """Build a level of jobs with names of one letter; each edge is two letters, the first before the second."""
    before = {job: [edge[0] for edge in edges.split() if edge[1] == job] for job in jobs}
    return SchedulerLevel(node, list(jobs), before.__getitem__, slots, frozenset(nested))


def now(**states: JobProgress) -> Callable[[str], JobProgress]:
    return lambda job: states.get(job, (WAITING, 0.0, None))


def test_before_the_start_the_estimate_is_the_longest_chain() -> None:
    """Without a window, the estimate before the start is the longest chain of expected durations."""
    durations = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0}
    estimator = Estimator([level("abcd", "ab ac bd cd")], durations.get)
    assert estimator.estimate_remaining_seconds(now()) == 7


def test_with_a_window_the_estimate_is_the_work_divided_by_the_slots() -> None:
    """With two slots, the estimate for ten jobs of one second is five seconds."""
    assert Estimator([level("abcdefghij", slots=2)], lambda job: 1.0).estimate_remaining_seconds(now()) == 5


def test_the_elapsed_time_of_running_jobs_is_subtracted() -> None:
    """The elapsed time of a running job is subtracted from its expected duration, down to 0 for an overdue job."""
    estimator = Estimator([level("ab", "ab")], lambda job: 10.0)
    assert estimator.estimate_remaining_seconds(now(a=(RUNNING, 4.0, None))) == 16
    assert estimator.estimate_remaining_seconds(now(a=(RUNNING, 40.0, None))) == 10


def test_jobs_without_expected_duration_count_with_the_median() -> None:
    """In the estimate, a job without an expected duration counts with the median of the others."""
    estimator = Estimator([level("abcd", "ab bc cd")], {"a": 1.0, "b": 3.0, "c": 100.0}.get)
    assert estimator.estimate_remaining_seconds(now()) == 1 + 3 + 100 + 3


def test_without_durations_there_is_no_estimate_before_three_successes() -> None:
    """Without expected durations there is no estimate until three jobs have succeeded and their durations count."""
    estimator = Estimator([level("abcdef", slots=1)], lambda job: None)
    assert estimator.estimate_remaining_seconds(now()) is None
    assert estimator.estimate_remaining_seconds(now(a=(SUCCEEDED, 2.0, None), b=(SUCCEEDED, 3.0, None))) is None
    assert estimator.estimate_remaining_seconds(now(c=(SUCCEEDED, 4.0, None))) == 3 * 3


def test_failed_jobs_do_not_change_the_estimate() -> None:
    """Failed jobs do not change the estimate, because only success is evidence of how long jobs take."""
    estimator = Estimator([level("abcd", slots=1)], lambda job: None)
    assert (
        estimator.estimate_remaining_seconds(
            now(a=(SETTLED, 1.0, None), b=(SETTLED, 1.0, None), c=(SETTLED, 1.0, None))
        )
        is None
    )


def test_expected_durations_are_corrected_by_measured_ones() -> None:
    """If jobs take twice as long as expected, the estimate for the others rises, more with each further job."""
    jobs = "abcdefghijklmnopqrst"
    estimator = Estimator([level(jobs, slots=1)], lambda job: 1.0)
    first = estimator.estimate_remaining_seconds(now(a=(SUCCEEDED, 2.0, None)))
    assert first == pytest.approx(19 * (2 + 2) / (2 + 1))
    then = estimator.estimate_remaining_seconds(
        lambda job: (SUCCEEDED, 2.0, None) if job < "k" else (WAITING, 0.0, None)
    )
    assert then == pytest.approx(10 * (2 + 20) / (2 + 10))


def test_a_nested_scheduler_counts_with_the_estimate_of_its_jobs() -> None:
    """In the estimate, a nested scheduler is a job that takes as long as its own jobs under its own window."""
    outer = level("aN", "aN", node="outer", nested="N")
    inner = level("wxyz", slots=2, node="N")
    estimator = Estimator([outer, inner], lambda job: 1.0)
    assert estimator.estimate_remaining_seconds(now()) == 1 + 2
    states = now(
        a=(SUCCEEDED, 1.0, None),
        N=(RUNNING, 1.0, None),
        w=(SUCCEEDED, 1.0, None),
        x=(SUCCEEDED, 1.0, None),
        y=(RUNNING, 0.5, None),
    )
    assert estimator.estimate_remaining_seconds(states) == 1.0


def test_the_estimate_is_zero_when_all_jobs_have_settled() -> None:
    """When all jobs have settled, the estimate of the remaining time is zero."""
    assert Estimator([level("a")], lambda job: 2.0).estimate_remaining_seconds(now(a=(SUCCEEDED, 2.0, None))) == 0


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.lists(st.floats(0.1, 100), min_size=n, max_size=n),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20),
            st.integers(1, 4),
        )
    )
)
def test_the_estimate_lies_between_the_bounds(drawn: tuple[list[float], list[tuple[int, int]], int]) -> None:
    """The estimate is at least the longest job and the work over the slots, and at most the sum of all jobs."""
    durations, pairs, slots = drawn
    before: dict[int, list[int]] = {job: [] for job in range(len(durations))}
    for one, other in pairs:
        if one != other:
            before[max(one, other)].append(min(one, other))
    graph = SchedulerLevel(-1, list(before), before.__getitem__, slots)
    estimate = Estimator([graph], durations.__getitem__).estimate_remaining_seconds(lambda job: (WAITING, 0.0, None))
    assert estimate is not None
    assert max(*durations, sum(durations) / slots) <= estimate * 1.000001
    assert estimate <= sum(durations) * 1.000001


def trainings(**options: Any) -> SchedulerLevel[str]:
    """Return a level of five jobs that each need one of two GPUs."""
    return replace(level("abcde"), resource_bounds=[ResourceBound(list("abcde"), lambda job: 1.0, 2.0)], **options)


CARDS = {"a": 3.0, "b": 4.0, "c": 5.0, "d": 6.0, "e": 7.0}


def test_a_resource_is_shared_like_slots() -> None:
    """Five jobs that share two GPUs take 15 seconds in their order, or 14 if the longest is first, but never 7."""
    assert Estimator([trainings()], CARDS.get).estimate_remaining_seconds(now()) == 15
    assert Estimator([trainings(is_longest_first=True)], CARDS.get).estimate_remaining_seconds(now()) == 14
    states = now(a=(SUCCEEDED, 3.0, None), b=(RUNNING, 3.0, None), c=(RUNNING, 0.1, None))
    assert Estimator([trainings()], CARDS.get).estimate_remaining_seconds(states) == pytest.approx(11.9)


def test_work_on_a_resource_is_amount_times_duration() -> None:
    """The estimate is at least the sum of the jobs' amounts times durations, divided by the resource's capacity."""
    limit = ResourceBound(list("abc"), {"a": 3.0, "b": 1.0, "c": 2.0}.__getitem__, 4.0)
    assert (
        Estimator([replace(level("abc"), resource_bounds=[limit])], lambda job: 8.0).estimate_remaining_seconds(now())
        == 12
    )


def test_a_resource_is_shared_with_jobs_of_nested_schedulers() -> None:
    """In the estimate, jobs of nested schedulers share a resource with the other jobs."""
    inner = level("wx", node="N")
    outer = replace(
        level("aN", node="outer", nested="N"), resource_bounds=[ResourceBound(list("awx"), lambda job: 1.0, 1.0)]
    )
    assert Estimator([outer, inner], lambda job: 2.0).estimate_remaining_seconds(now()) == 6


def test_the_estimate_counts_the_time_until_a_rate_opens() -> None:
    """For jobs that need a rate, the estimate is the time until the last one may start plus its duration."""
    asked: list[list[str]] = []

    def opens_in(jobs: list[str]) -> float:
        asked.append(jobs)
        return 20.0

    rate = ResourceBound(list("abc"), lambda job: 1.0, start_delay=opens_in)
    estimator = Estimator([replace(level("abc"), resource_bounds=[rate])], lambda job: 2.0)
    assert estimator.estimate_remaining_seconds(now(a=(RUNNING, 1.0, None))) == 22
    assert asked == [["b", "c"]]
