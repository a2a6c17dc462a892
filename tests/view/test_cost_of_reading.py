"""Whatever is asked of every job of a run costs the same for each, however long a chain of jobs is behind a failure."""

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
import pytest
from trioflow import Job, JobState, JUnit, Monitor, Scheduler, StopReason, Trace
from trioflow.abc import WaitCause
from trioflow.view import save
from trioflow.view.text._failure_text import FailureText, placeholder_exception
from trioflow.view.trace._compare import compare, run_times
from trioflow.view.trace._record_builder import (
    JobFacts,
    RecordBuilder,
    ResourceFacts,
    RunFacts,
)
from trioflow.view.trace._spans import (
    CommandOutput,
    CommandRecord,
    IncidentMark,
    RunSpan,
    Span,
)
from trioflow.view.trace._time_spent import compute_slot_use
from trioflow.view.trace._trace_file import csv_text, json_text
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report._report import report_html
from ..bodies import refuse
from .steps import executed_lines

Reader = Callable[[Scheduler, Trace, Path], object]


async def use(*_: Any) -> None:
    """Use the result of another job."""


def chain(size: int, failing: int) -> list[Job[Any]]:
    jobs: list[Job[Any]] = []
    for number in range(size):
        jobs.append(
            Job(refuse if number == failing else use, *jobs[-1:], label=f"job {number}")
        )
    return jobs


def failure_in_nested_schedulers(size: int) -> Scheduler:
    """Return a chain of schedulers behind one that fails, and a chain of jobs behind a failure in another one."""
    groups = [Scheduler(Job(refuse), label="group 0", critical_jobs=True)]
    for number in range(1, size // 2):
        groups.append(Scheduler(Job(use), required=groups[-1], label=f"group {number}"))
    return Scheduler(*groups, Scheduler(*chain(size // 2, 0), label="inner"))


SCENARIOS: dict[str, Callable[[int], Scheduler]] = {
    "at the head of a chain": lambda size: Scheduler(*chain(size, 0)),
    "at its end": lambda size: Scheduler(*chain(size, size - 1)),
    "in a nested one": failure_in_nested_schedulers,
    "of each job": lambda size: Scheduler(
        *[Job(refuse, label=f"job {number}") for number in range(size)]
    ),
}


def raise_for_failures(scheduler: Scheduler, _trace: Trace, _path: Path) -> None:
    with pytest.raises(ExceptionGroup):
        scheduler.raise_for_failures()


READERS: dict[str, Reader] = {
    "debrief": lambda scheduler, _trace, _path: scheduler.debrief(file=io.StringIO()),
    "listing": lambda scheduler, _trace, _path: scheduler.list(
        file=io.StringIO(), details=True
    ),
    "failures": lambda scheduler, _trace, _path: scheduler.failures(),
    "raise_for_failures": raise_for_failures,
    "explain": lambda scheduler, _trace, _path: [
        job.scheduler.explain(job) for job in scheduler.iterate_jobs()
    ],  # type: ignore[union-attr]
    "trace": lambda _scheduler, trace, path: save(trace, path / "trace.json"),
    "report": lambda _scheduler, trace, path: save(trace, path / "report.html"),
    "monitor": lambda scheduler, _trace, _path: scheduler.run(
        instruments=[Monitor(file=io.StringIO())]
    ),
    "junit": lambda scheduler, _trace, path: scheduler.run(
        instruments=[JUnit(path / "junit.xml")]
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("failure", SCENARIOS)
@pytest.mark.usefixtures("no_dot")
def test_reading_a_run_with_a_failure_costs_the_same_for_each_job(
    tmp_path: Path, failure: str, reader: str
) -> None:
    """Four times as many jobs take four times as many steps to read; a chain that is walked for each job takes 16."""
    steps: list[int] = []
    for size in (10, 25, 100):  # the first one fills caches
        scheduler, trace = SCENARIOS[failure](size), Trace()
        scheduler.run(instruments=[trace])
        steps.append(
            executed_lines(
                functools.partial(READERS[reader], scheduler, trace, tmp_path)
            )
        )
    assert steps[2] < 4.5 * steps[1]


def varied_record(size: int) -> TraceRecord:
    """Return a record in each part of which there are as many different values as jobs. The jobs come in pairs that
    need the same resource: the first one holds it, so that the second one waits for it. So at one time jobs wait for as
    many names as there are pairs."""
    states = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
    plain = Span(
        0, None, 1, "", "", "", JobState.IDLE, None, False, None, None, None, None, (), None, False, (), None
    )  # fmt: skip
    jobs, groups, members = list[JobFacts](), list[JobFacts](), list[JobFacts]()
    names = [f"{number:x}k" for number in range(size)]  # no two are of one family
    for number, name in enumerate(names):
        start, end = (
            number // 2 / 8 + number % 2 * size,
            number // 2 / 8 + size + number % 2,
        )
        state, before = states[number % 3], (size + number - 2,) * (number > 1)
        span = dataclasses.replace(
            plain, number=number, path=name, label=name, kind=name, state=state, started_at=start, finished_at=end,
            attempts=(end - 0.25,), throttled=((start, start + 0.125),), failed_attempts=((1, end - 0.5, name),),
            exception=placeholder_exception(f"{name}: {name}"), rerun_cause=name, returncode=number,
        )  # fmt: skip
        blocked_by = before[0] if before else None
        failure = (
            FailureText(number, name, name, name, name, name, None)
            if state is JobState.FAILED
            else None
        )
        command = CommandRecord(
            name, number, 1.0, 0.1, 0.1, number, (CommandOutput("stdout", name, 0),)
        )
        job = JobFacts(
            span, number, needs={f"r{number // 2}": 1.0},
            cooldowns=((f"r{number // 2}", start, end),), failure=failure, command=command,
            inner_waits=((WaitCause.MACHINE, end - 0.4, end - 0.3),),
        )  # fmt: skip
        jobs.append(job)
        group = dataclasses.replace(
            span, number=size + number, required=before, blocked_by=blocked_by
        )
        groups.append(JobFacts(group, size + number))
        members.append(
            JobFacts(
                dataclasses.replace(
                    span, number=2 * size + number, parent=size + number
                ),
                0,
            )
        )
    root = RunSpan(
        0, None, 1, "run", 0.0, 3.0 * size, size, StopReason.FAILED, None, (),
        window_sizes=tuple((float(number), 2 * size + number) for number in range(size)),
        options=tuple((name, name) for name in names),
    )  # fmt: skip
    resources = tuple(ResourceFacts(0, f"r{number}", 1.0) for number in range(size))
    runs = [RunFacts(root, resources, (*jobs, *groups))]
    for number, name in enumerate(names):
        inner = RunSpan(
            number + 1,
            size + number,
            1,
            name,
            0.0,
            3.0 * size,
            number,
            StopReason.FAILED,
            None,
            (),
        )
        runs.append(
            RunFacts(inner, (ResourceFacts(number + 1, name, 1.0),), (members[number],))
        )
    incidents = [
        IncidentMark(float(number), 0, name) for number, name in enumerate(names)
    ]
    return RecordBuilder(runs).build(incidents, 3.0 * size)


@pytest.mark.parametrize(
    "name", ["slots", "report", "comparison", "table", "trace", "record"]
)
@pytest.mark.usefixtures("no_dot")
def test_a_record_with_many_different_values_is_read_in_linear_time(
    tmp_path: Path, name: str
) -> None:
    """A report once took minutes if its jobs had waited for 12,800 names, as the hosts of a crawler are."""
    readers: dict[str, Callable[[TraceRecord], object]] = {
        "slots": compute_slot_use,
        "report": lambda record: report_html(record, tmp_path),
        "comparison": lambda record: compare(run_times(record), run_times(record)),
        "table": csv_text,
        "trace": json_text,
        "record": lambda record: varied_record(len(record.runs) - 1),
    }
    steps = [
        executed_lines(functools.partial(readers[name], varied_record(size)))
        for size in (16, 80, 320)
    ]
    assert steps[2] < 4.5 * steps[1]
