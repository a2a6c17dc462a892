"""What is shown of a run can be shown of any run, above all of those that went wrong."""

from __future__ import annotations

import functools
import io
import itertools
import json
import re
import xml.etree.ElementTree as Tree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import AbstractJob, Events, Job, JobState, JUnit, Monitor, Pool, Scheduler, Trace
from trioflow.abc import incidents_of
from trioflow.view import listing, save
from ..bodies import fail, nap
from ..conftest import Virtual
from ..odd_errors import MAKERS

JOBS = st.fixed_dictionaries({
    "body": st.sampled_from([nap, nap, nap, fail]),
    "seconds": st.integers(1, 4),
    "needs": st.sampled_from([None, {"gpu": 1}]),
    "requires": st.booleans(),
    "options": st.sampled_from([{}, {}, {}, {"timeout": 1}, {"run_if": "failed"}, {"run_if": "succeeded"}]),
})  # fmt: skip
OPTIONS = st.fixed_dictionaries({"jobs_window": st.integers(1, 2), "timeout": st.sampled_from([None, 3, 6])})
PLANS = st.lists(JOBS | st.tuples(OPTIONS, st.lists(JOBS, min_size=2, max_size=5)), min_size=3, max_size=6)


def build(plans: list[Any], options: dict[str, Any], numbers: itertools.count[int], **more: Any) -> Scheduler:
    """Return a scheduler for a plan; a pair in it is a nested one."""
    jobs: list[Any] = []
    for plan in plans:
        if isinstance(plan, tuple):
            jobs.append(build(plan[1], plan[0], numbers, label=f"in{next(numbers)}"))
            continue
        required = jobs[-1:] if plan["requires"] else ()
        body = functools.partial(plan["body"], plan["seconds"])
        jobs.append(Job(body, label=f"j{next(numbers)}", needs=plan["needs"], required=required, **plan["options"]))
    return Scheduler(*jobs, **options, **more)


@pytest.mark.usefixtures("no_dot")
@given(plans=PLANS, options=OPTIONS)
def test_every_view_of_any_run_can_be_written(
    virtual: Virtual, tmp_path_factory: Any, plans: list[Any], options: dict[str, Any]
) -> None:
    """JUnit, report, table and critical path are written after timeouts and waits outside a nested run. They once were
    missing for just these runs: a job that had waited for a slot and never started had no lane, and the path through a
    resource looked for the holder's slot in the run of the job that had waited."""
    folder: Path = tmp_path_factory.mktemp("views")
    trace, junit = Trace(), folder / "junit.xml"
    scheduler = build(plans, options, itertools.count(), pool=Pool(gpu=1))
    virtual(functools.partial(scheduler.co_run, instruments=[trace, JUnit(junit)]))
    assert incidents_of(scheduler) == ()
    assert len({span.number for span in trace.critical_path}) == len(trace.critical_path)
    trace.time_spent()
    save(trace, folder / "report.html")
    save(trace, folder / "trace.json")
    assert Tree.parse(junit).getroot().tag == "testsuites"


@pytest.mark.sampled
@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("maker", MAKERS)
def test_every_view_of_any_failure_can_be_written(virtual: Virtual, tmp_path: Path, maker: str) -> None:
    """Whatever the code of an exception's class does, all views show the failure of its job and of other jobs."""
    trace, junit = Trace(), JUnit(tmp_path / "junit.xml")
    events, monitor = Events(tmp_path / "events"), Monitor(file=io.StringIO())
    bad = [Job(fail, 1, MAKERS[maker](), label=f"bad{number}") for number in range(2)]
    scheduler = Scheduler(*bad, Job(nap, bad[0], label="needs"), ClosingBadly(MAKERS[maker]()), label="s")
    virtual(functools.partial(scheduler.co_run, instruments=[trace, junit, events, monitor]))
    assert [incident.job.label for incident in incidents_of(scheduler) if incident.job] == ["ClosingBadly"]
    scheduler.debrief(text := io.StringIO())
    assert {"bad0", "bad1"} <= set(re.findall("bad[01]", text.getvalue()))
    assert sum(span.state is JobState.FAILED for span in trace.spans if span.label in {"bad0", "bad1"}) == len(bad)
    assert listing(scheduler, details=True).count("bad") >= len(bad)
    assert "failed" in scheduler.explain(bad[0])
    save(trace, tmp_path / "report.html")
    cases = Tree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    assert [case.get("name") for case in cases if list(case)][:2] == ["bad0", "bad1"]
    assert [json.loads(line)["event"] for line in (tmp_path / "events").read_text().splitlines()][-1] == "run_ended"


class ClosingBadly(AbstractJob[None]):
    """A job whose shutdown raises the exception."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(label="ClosingBadly")
        self.error = error

    async def co_run(self) -> None:
        pass

    async def co_shutdown(self) -> None:
        raise self.error
