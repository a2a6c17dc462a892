"""Whatever is asked of every job of a run costs the same for each, however long a chain of jobs is behind a failure."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trioflow import Job, JUnit, Monitor, Scheduler, Trace
from trioflow.view import save

from .steps import executed_lines

Reader = Callable[[Scheduler, Trace, Path], object]


async def fail(*_: Any) -> None:
    raise OSError("broken")


async def use(*_: Any) -> None:
    """Use the result of another job."""


def chain(size: int, failing: int) -> list[Job[Any]]:
    """Return jobs of which each uses the result of the one before it; one of them fails."""
    jobs: list[Job[Any]] = []
    for number in range(size):
        jobs.append(Job(fail if number == failing else use, *jobs[-1:], label=f"job {number}"))
    return jobs


def failure_in_nested_schedulers(size: int) -> Scheduler:
    """Return a chain of schedulers behind one that fails, and a chain of jobs behind a failure in another one."""
    groups = [Scheduler(Job(fail), label="group 0", critical_jobs=True)]
    for number in range(1, size // 2):
        groups.append(Scheduler(Job(use), required=groups[-1], label=f"group {number}"))
    return Scheduler(*groups, Scheduler(*chain(size // 2, 0), label="inner"))


SCENARIOS: dict[str, Callable[[int], Scheduler]] = {
    "at the head of a chain": lambda size: Scheduler(*chain(size, 0)),
    "at its end": lambda size: Scheduler(*chain(size, size - 1)),
    "in a nested one": failure_in_nested_schedulers,
    "of each job": lambda size: Scheduler(*[Job(fail, label=f"job {number}") for number in range(size)]),
}


def raise_for_failures(scheduler: Scheduler, _trace: Trace, _path: Path) -> None:
    with pytest.raises(ExceptionGroup):
        scheduler.raise_for_failures()


READERS: dict[str, Reader] = {
    "debrief": lambda scheduler, _trace, _path: scheduler.debrief(file=io.StringIO()),
    "listing": lambda scheduler, _trace, _path: scheduler.list(file=io.StringIO(), details=True),
    "failures": lambda scheduler, _trace, _path: scheduler.failures(),
    "raise_for_failures": raise_for_failures,
    "explain": lambda scheduler, _trace, _path: [job.scheduler.explain(job) for job in scheduler.iterate_jobs()],  # type: ignore[union-attr]
    "trace": lambda _scheduler, trace, path: save(trace, path / "trace.json"),
    "report": lambda _scheduler, trace, path: save(trace, path / "report.html"),
    "monitor": lambda scheduler, _trace, _path: scheduler.run(instruments=[Monitor(file=io.StringIO())]),
    "junit": lambda scheduler, _trace, path: scheduler.run(instruments=[JUnit(path / "junit.xml")]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("failure", SCENARIOS)
@pytest.mark.usefixtures("no_dot")
def test_reading_a_run_with_a_failure_costs_the_same_for_each_job(tmp_path: Path, failure: str, reader: str) -> None:
    """Four times as many jobs take four times as many steps to read; a chain that is walked for each job takes 16."""
    steps: list[int] = []
    for size in (10, 25, 100):  # the first one fills caches
        scheduler, trace = SCENARIOS[failure](size), Trace()
        scheduler.run(instruments=[trace])
        steps.append(executed_lines(functools.partial(READERS[reader], scheduler, trace, tmp_path)))
    assert steps[2] < 4.5 * steps[1]
