"""The estimate of the remaining time, from the records of a run."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import JobState
from trioflow._core.api.views import topological_order
from trioflow.view.monitor._eta import Estimator
from trioflow.view.monitor._records import JobRecord, SchedulerRecord


def stand_in(name: str, amount: float | None = None, slots: int | None = None) -> Any:
    """Return what an estimator reads of a job."""
    needs = {} if amount is None else {"shared": amount}
    return types.SimpleNamespace(
        name=name, needs=needs, window_size=slots, jobs_window=slots, attempts=1, timed_out=False, _extras=None,
        expected_duration=None,
    )  # fmt: skip


class Resource:
    """A resource of a pool, as an estimator reads it; a rate has no total."""

    def __init__(self, name: str, total: float | None, start_delay: float = 0.0) -> None:
        self.name, self.total, self._start_delay = name, total, start_delay
        self.delayed: list[str] = []

    def start_delay(self, jobs: Iterable[Any]) -> float:
        self.delayed = [job.name for job in jobs]
        return self._start_delay


class Graph:
    """A run of jobs with names of one letter; each edge is two letters, the first before the second.

    Jobs have the expected durations and the amounts of needs that they are given. Lower case letters are jobs of the
    outermost scheduler, but those in `inner` are jobs of the nested scheduler N.
    """

    def __init__(
        self,
        jobs: str,
        edges: str = "",
        *,
        durations: Mapping[str, float] | float | None = None,
        slots: int | None = None,
        inner: str = "",
        inner_slots: int | None = None,
        needs: Mapping[str, float] | None = None,
        resource: Resource | None = None,
    ) -> None:
        amounts = needs or {}
        self.root = SchedulerRecord(stand_in("root", slots=slots), None)
        self.jobs: dict[str, JobRecord] = {}
        nested = SchedulerRecord(stand_in("N", amounts.get("N"), inner_slots), self.root)
        for name in jobs:
            self.jobs[name] = nested if name == "N" else JobRecord(stand_in(name, amounts.get(name)), self.root)
            self.root.add_member(self.jobs[name])
        for name in inner:
            self.jobs[name] = JobRecord(stand_in(name, amounts.get(name)), nested)
            nested.add_member(self.jobs[name])
        self.edges = edges.split()
        self.durations = dict.fromkeys(self.jobs, durations) if isinstance(durations, float) else durations or {}
        self.resource = resource
        self.now = 100.0
        model: Any = self
        self.estimator = Estimator(model)

    def estimate(self) -> float | None:
        return self.estimator.estimate_remaining_seconds()

    def run(self, name: str, seconds: float) -> None:
        """Let a job run since some seconds."""
        self.jobs[name].state, self.jobs[name].started_at = JobState.RUNNING, self.now - seconds

    def end(self, names: str, seconds: float, state: JobState = JobState.SUCCEEDED) -> None:
        """Let jobs have settled that took some seconds."""
        for name in names:
            self.run(name, seconds)
            self.jobs[name].state, self.jobs[name].finished_at = state, self.now

    def name(self, job: JobRecord) -> str:
        return next(name for name, record in self.jobs.items() if record is job)

    def clock(self) -> float:
        return self.now

    def topological_order(self, scheduler: SchedulerRecord) -> list[JobRecord]:
        return topological_order(list(scheduler.members), self.required_members)

    def required_members(self, job: JobRecord) -> list[JobRecord]:
        return [self.jobs[edge[0]] for edge in self.edges if edge[1] == self.name(job)]

    def expected_durations(self, scheduler: SchedulerRecord) -> dict[JobRecord, float]:
        names = {job: self.name(job) for job in scheduler.members}
        return {job: self.durations[name] for job, name in names.items() if name in self.durations}

    def pool_resources(self, scheduler: SchedulerRecord) -> list[Any]:
        return [self.resource] if self.resource is not None and scheduler is self.root else []


def test_before_the_start_the_estimate_is_the_longest_chain() -> None:
    """Without a window, the estimate before the start is the longest chain of expected durations."""
    assert Graph("abcd", "ab ac bd cd", durations={"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0}).estimate() == 7


def test_with_a_window_the_estimate_is_the_work_divided_by_the_slots() -> None:
    """With two slots, the estimate for ten jobs of one second is five seconds."""
    assert Graph("abcdefghij", slots=2, durations=1.0).estimate() == 5


def test_the_elapsed_time_of_running_jobs_is_subtracted() -> None:
    """The elapsed time of a running job is subtracted from its expected duration, down to 0 for an overdue job."""
    graph = Graph("ab", "ab", durations=10.0)
    graph.run("a", 4.0)
    assert graph.estimate() == 16
    graph.run("a", 40.0)
    assert graph.estimate() == 10


def test_jobs_without_expected_duration_count_with_the_median() -> None:
    """In the estimate, a job without an expected duration counts with the median of the others."""
    assert Graph("abcd", "ab bc cd", durations={"a": 1.0, "b": 3.0, "c": 100.0}).estimate() == 1 + 3 + 100 + 3


def test_without_durations_there_is_no_estimate_before_three_successes() -> None:
    """Without expected durations there is no estimate until three jobs have succeeded and their durations count."""
    graph = Graph("abcdef", slots=1)
    assert graph.estimate() is None
    graph.end("a", 2.0)
    graph.end("b", 3.0)
    assert graph.estimate() is None
    graph.end("c", 4.0)
    assert graph.estimate() == 3 * 3


def test_failed_jobs_do_not_change_the_estimate() -> None:
    """Failed jobs do not change the estimate, because only success is evidence of how long jobs take."""
    graph = Graph("abcd", slots=1)
    graph.end("abc", 1.0, JobState.FAILED)
    assert graph.estimate() is None


def test_expected_durations_are_corrected_by_measured_ones() -> None:
    """If jobs take twice as long as expected, the estimate for the others rises, more with each further job."""
    graph = Graph("abcdefghijklmnopqrst", slots=1, durations=1.0)
    graph.end("a", 2.0)
    assert graph.estimate() == pytest.approx(19 * (2 + 2) / (2 + 1))
    graph.end("bcdefghij", 2.0)
    assert graph.estimate() == pytest.approx(10 * (2 + 20) / (2 + 10))


def test_a_nested_scheduler_counts_with_the_estimate_of_its_jobs() -> None:
    """In the estimate, a nested scheduler is a job that takes as long as its own jobs under its own window."""
    graph = Graph("aN", "aN", durations=1.0, inner="wxyz", inner_slots=2)
    assert graph.estimate() == 1 + 2
    graph.end("awx", 1.0)
    graph.run("N", 1.0)
    graph.run("y", 0.5)
    assert graph.estimate() == 1.0


def test_the_estimate_is_zero_when_all_jobs_have_settled() -> None:
    """When all jobs have settled, the estimate of the remaining time is zero."""
    graph = Graph("a", durations=2.0)
    graph.end("a", 2.0)
    assert graph.estimate() == 0


def test_a_job_that_reports_progress_continues_at_its_speed() -> None:
    """If all jobs that are left report progress, it alone gives the estimate, but not after a retry."""
    graph = Graph("a")
    graph.run("a", 3.0)
    graph.jobs["a"].job._extras = types.SimpleNamespace(fraction=0.25)
    assert graph.estimate() == 9
    graph.jobs["a"].job.attempts = 2
    assert graph.estimate() is None


def test_there_is_no_estimate_while_a_person_is_asked() -> None:
    """While an `Answer` remains, there is an estimate only if it has an expected duration."""
    graph = Graph("abcde")
    graph.end("abcd", 1.0)
    assert graph.estimate() == 1
    graph.jobs["e"].takes_slot = False
    assert graph.estimate() is None
    graph.jobs["e"].job.expected_duration = 1.0
    assert graph.estimate() == 1


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
    names = "abcdefghijkl"[: len(durations)]
    edges = " ".join({names[min(pair)] + names[max(pair)] for pair in pairs if pair[0] != pair[1]})
    graph = Graph(names, edges, slots=slots, durations=dict(zip(names, durations, strict=True)))
    estimate = graph.estimate()
    assert estimate is not None
    assert max(*durations, sum(durations) / slots) <= estimate * 1.000001
    assert estimate <= sum(durations) * 1.000001


def test_work_on_a_resource_is_amount_times_duration() -> None:
    """The estimate is at least the sum of the jobs' amounts times durations, divided by the resource's capacity."""
    needs = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert Graph("abc", durations=8.0, needs=needs, resource=Resource("shared", 4.0)).estimate() == 12


def test_a_resource_is_shared_with_jobs_of_nested_schedulers() -> None:
    """In the estimate, jobs of nested schedulers share a resource with the other jobs."""
    needs = dict.fromkeys("awx", 1.0)
    graph = Graph("aN", inner="wx", durations=2.0, needs=needs, resource=Resource("shared", 1.0))
    assert graph.estimate() == 6


def test_the_estimate_counts_the_time_until_a_rate_opens() -> None:
    """For jobs that need a rate, the estimate is the time until the last one may start plus its duration."""
    rate = Resource("shared", None, start_delay=20.0)
    graph = Graph("abc", durations=2.0, needs=dict.fromkeys("abc", 1.0), resource=rate)
    graph.run("a", 1.0)
    assert graph.estimate() == 22
    assert rate.delayed == ["b", "c"]
