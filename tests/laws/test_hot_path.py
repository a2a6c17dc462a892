"""The engine's hot path, which settles the plainest jobs in its own frame, has the same effects as `Run.settle`."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import Job, Scheduler
from trioflow._core.run._run import Run
from trioflow.abc import Instrument, RunIf

from ..bodies import fail_now, nap, nothing
from ..conftest import Virtual
from .checks import FEW, MANY, is_the_same_again
from .oracle import predict
from .real_run import RealRun, Recording
from .scenarios import Scenario, scenarios


class OffThePath(Instrument):
    """Takes each job off the hot path when it starts, and changes nothing else."""

    def job_started(self, scheduler: Any, job: Any) -> None:
        job._ensure_extras()


def check(virtual: Virtual, scenario: Scenario) -> None:
    """Run a scenario on and off the hot path, and compare the outcomes, all events, and the order of starts."""

    async def both() -> tuple[Recording, Recording]:
        first = await RealRun(scenario).run(True, holds_tasks=False)
        return first, await RealRun(scenario).run(True, OffThePath(), holds_tasks=False)

    first, second = virtual(both)
    is_the_same_again(first, second)
    assert sorted(first.events) == sorted(second.events)
    assert order(first) == order(second)


def order(seen: Recording) -> dict[str, list[tuple[str, str]]]:
    """Return for each scheduler in which order its jobs became ready and started; they may be cancelled in any."""
    found: dict[str, list[tuple[str, str]]] = {}
    for event in seen.events:
        if event.hook in ("scheduled", "started"):
            found.setdefault(event.scheduler, []).append((event.hook, event.job))
    return found


def is_defined(scenario: Scenario, backend: str) -> bool:
    """Return whether the contract determines all that happens, in whatever order tasks continue."""
    return predict(scenario, backend).exact


@FEW
@given(scenarios())
def test_random_scenarios_run_alike_on_and_off_the_hot_path(scenario: Scenario) -> None:
    """On and off the hot path, a random scenario has the same states, times, outcomes, events and order of starts."""
    for backend in ("trio", "asyncio"):
        if is_defined(scenario, backend):
            check(Virtual(backend), scenario)


@pytest.mark.soak
@MANY
@given(scenarios())
def test_many_random_scenarios_run_alike_on_and_off_the_hot_path(scenario: Scenario) -> None:
    """A long run of `test_random_scenarios_run_alike_on_and_off_the_hot_path`."""
    for backend in ("trio", "asyncio"):
        if is_defined(scenario, backend):
            check(Virtual(backend), scenario)


class Told(Instrument):
    """An instrument that writes down what happens to each job."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def job_scheduled(self, scheduler: Any, job: Any) -> None:
        self.events.append(("scheduled", job.label, job.state.name))

    def job_started(self, scheduler: Any, job: Any) -> None:
        self.events.append(("started", job.label, job.state.name))

    def job_finished(self, scheduler: Any, job: Any) -> None:
        self.events.append(("finished", job.label, job.state.name))


Plans = list[tuple[set[int], bool, str]]
PLANS = st.lists(st.tuples(st.sets(st.integers(0, 8), max_size=3), st.booleans(), st.sampled_from(get_args(RunIf))))


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@given(plans=PLANS, window=st.sampled_from([None, 1, 2]))
def test_successors_are_released_in_the_same_order_on_and_off_the_hot_path(
    backend: Any, plans: Plans, window: int | None
) -> None:
    """Off the hot path, successors with any rule start in the same order as on it, whether or not jobs fail."""

    def told(*others: Instrument) -> list[tuple[str, str, str]]:
        jobs: list[Job[None]] = []
        for number, (required, fails, run_if) in enumerate(plans):
            options: Any = {"run_if": run_if, "required": [jobs[one] for one in required if one < number]}
            jobs.append(Job(fail_now if fails else nothing, label=str(number), **options))
        watch = Told()
        Scheduler(jobs, jobs_window=window).run(backend=backend, instruments=[*others, watch])
        return watch.events

    assert told() == told(OffThePath())


@pytest.mark.fast_way
def test_plain_jobs_are_settled_by_run_settle_only_off_the_hot_path(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Run.settle` settles plain jobs only off the hot path: this file does not compare the hot path with itself."""
    settled: list[Any] = []
    settle = Run.settle
    monkeypatch.setattr(Run, "settle", lambda run, job, *rest: (settled.append(job), settle(run, job, *rest)))
    jobs = [Job(nap, 0.01), Job(nap, 0.01)]  # not so long that their tasks are named
    scheduler = Scheduler(jobs)
    assert virtual(scheduler.co_run)
    assert settled == []
    assert virtual(lambda: scheduler.co_run(instruments=[OffThePath()]))
    assert set(settled) == set(jobs)
