"""Every view shows any state, any run, above all those that went wrong, and any user's job."""

from __future__ import annotations

import functools
import io
import itertools
import json
import pickle
import re
import xml.etree.ElementTree as Tree
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio.lowlevel
import pytest
import trioflow
from hypothesis import given
from hypothesis import strategies as st
from trioflow import (
    AbstractJob,
    Events,
    Job,
    JobState,
    JUnit,
    Monitor,
    Pool,
    Scheduler,
    StopReason,
    Trace,
)
from trioflow._check import findings
from trioflow._core.base._states import (
    MOVED_ON,
    STOP_REASON_TEXTS,
    TRANSITIONS,
    ReportedState,
)
from trioflow._core.job._errors import CancelledOutcome, Failure
from trioflow._core.words import _explain
from trioflow.abc import WaitCause, incidents_of
from trioflow.journal import _serialization
from trioflow.view import _state_styles, listing, save
from trioflow.view.monitor import _picture_renderer, _terminal
from trioflow.view.monitor._records import JobCounts
from trioflow.view.monitor._run_header import RunHeader, RunProgress
from trioflow.view.text import _symbols
from trioflow.view.text._failure_text import describe_failure
from trioflow.view.trace import _spans, _timeline, _trace_file
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report import _report
from ..bodies import fail, idle, nap
from ..conftest import Virtual
from ..odd_errors import MAKERS
from ..transitions import lead_to
from .graph.pictures import mermaid

EVERY = set(JobState)
REPORTED: list[ReportedState] = list(_state_styles.STATE_STYLES)

TABLES: dict[str, tuple[Any, set[Any]]] = {
    "transitions": (TRANSITIONS, EVERY),
    "stop reasons": (STOP_REASON_TEXTS, set(StopReason)),
    "explain": (_explain.EXPLAIN_FUNCTIONS, EVERY),
    "causes of waits": (_state_styles.CAUSE_WORDS, set(WaitCause)),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_every_state_and_no_other_key(name: str) -> None:
    """Each table of a view has an entry for every state, stop reason or cause of a wait, and no other."""
    table, states = TABLES[name]
    assert set(table) == states


@pytest.mark.parametrize("kind", [JobState, StopReason])
def test_a_state_is_its_word(kind: type[JobState | StopReason]) -> None:
    """`job.state == "succeeded"` was False in silence, and JSON refused a state. A `repr` shows the member."""
    for each in kind:
        word = each.name.lower()
        assert (each, f"{each}", str(each), each.value) == (word, word, word, word)
        assert {word: 1}[each] == {each: 1}[word] == 1
        assert json.dumps([each, {each: each}]) == json.dumps([word, {word: word}])
        assert (
            pickle.loads(pickle.dumps(each))
            is kind(word)
            is _serialization.loads(_serialization.dumps(each))
            is each
        )
        assert repr(each) == f"<{kind.__name__}.{each.name}: {word!r}>"
        assert Job(nap, each, label=None).label == f"nap({kind.__name__}.{each.name})"


def test_every_state_has_a_record_of_its_styles() -> None:
    missing = ", ".join(
        f"JobState.{state.name}"
        for state in JobState
        if state not in _state_styles.STATE_STYLES
    )
    assert not missing, (
        f"trioflow/view/_state_styles.py: STATE_STYLES has no record for {missing}"
    )
    assert [state for state in REPORTED if state is not MOVED_ON] == list(JobState)


def test_every_state_has_a_unique_rank() -> None:
    """No state occurs twice in the order of precedence, which has all, and in that of unstarted jobs."""
    for states in (_state_styles.STATE_PRECEDENCE, _state_styles.NEVER_STARTED_STATES):
        assert len(set(states)) == len(states)
    assert set(_state_styles.STATE_PRECEDENCE) == set(REPORTED)


@pytest.mark.parametrize("encoding", [None, "ascii"], ids=["unicode", "ascii"])
def test_no_symbol_has_two_meanings(encoding: str | None) -> None:
    """No two states share a symbol, and none has that of critical or forever jobs."""
    assert (
        len({*map(_symbols.Symbols(encoding).of, _symbols.MARKS)})
        == len(_symbols.MARKS)
        == len(REPORTED) + 2
    )


def test_every_style_name_of_a_monitor_has_a_terminal_style() -> None:
    named = {
        one.monitor_style
        for one in (
            *_state_styles.STATE_STYLES.values(),
            _state_styles.CRITICAL_BADGE,
            _state_styles.FOREVER_BADGE,
        )
    }
    assert named <= _terminal.STYLES.keys()


def test_phrases_about_the_loop_call_it_the_event_loop() -> None:
    """Each phrase for a wait that names the loop says "event loop", because readers may know no other loop."""
    words = _state_styles.CAUSE_WORDS[WaitCause.LOOP]
    for phrase in (words.awaited_phrase, words.empty_reason):
        assert "the event loop" in phrase


def test_style_sheets_have_all_states() -> None:
    """The style sheets colour each state in the report's table, and each state that a bar of the timeline shows."""
    report, timeline = (
        (resources.files("trioflow.view.trace.report") / name).read_text(
            encoding="utf-8"
        )
        for name in ("report.css", "timeline.css")
    )
    assert set(map(_state_styles.state_class, REPORTED)) == set(
        re.findall(r"\.state-([a-z-]+)(?=[ ,])", report)
    )
    started = {*REPORTED} - {*_state_styles.NEVER_STARTED_STATES} | {
        JobState.CANCELLED,
        JobState.SKIPPED,
    }
    shown = {
        _state_styles.state_class(state) for state in started - {JobState.SUCCEEDED}
    }  # a job that succeeded has the color of its kind
    assert shown <= set(re.findall(r"^\.timeline \.([a-z-]+) ", timeline, re.MULTILINE))


def in_state(state: ReportedState) -> Any:
    job = idle(f"one {state.value}")
    lead_to(JobState.SUCCEEDED if state is MOVED_ON else state, job)
    if state is MOVED_ON:
        job.timeout = 1
        job.on_timeout = "move_on"
        job._started_at = 0.0
        job._ensure_extras().timed_out_in = job.attempts
    if state is JobState.FAILED:
        job._outcome = Failure(OSError("broken"))
    if state is JobState.BLOCKED:
        job._outcome = Failure(trioflow.RequirementFailed(job, idle("other")))
    if state is JobState.CANCELLED:
        job._outcome = CancelledOutcome()
    return job


@pytest.mark.sampled
@pytest.mark.parametrize("state", REPORTED)
def test_every_view_of_a_scheduler_shows_each_state_of_a_job(
    state: ReportedState,
) -> None:
    """Listing, graph, Mermaid text, Jupyter and `explain` show a job in any state."""
    scheduler = Scheduler(in_state(state), in_state(state))
    assert "one" in listing(scheduler, details=True)
    assert _state_styles.STATE_STYLES[state].symbol in listing(scheduler)
    assert _state_styles.STATE_STYLES[state].ascii_symbol in "".join(
        _symbols.Symbols("ascii").job_symbols(job) for job in scheduler
    )
    assert f"({state.value})" in scheduler.graph().source
    assert f":::{_state_styles.state_class(state)}" in mermaid(scheduler)
    assert "mermaid" in str(scheduler._repr_mimebundle_()) or "svg" in str(
        scheduler._repr_mimebundle_()
    )
    assert all(
        scheduler.explain(job).startswith(f"{job.label!r} ") for job in scheduler
    )


@pytest.mark.parametrize("state", REPORTED)
def test_debrief_counts_the_jobs_in_each_state(
    state: ReportedState, capsys: pytest.CaptureFixture[str]
) -> None:
    Scheduler(in_state(state)).debrief()
    assert f"1 job: 1 {state.value}\n" in capsys.readouterr().out


@pytest.mark.parametrize("state", REPORTED)
@pytest.mark.parametrize("started", [None, 1.0])
def test_every_export_of_a_trace_shows_each_state_of_a_job(
    state: ReportedState, started: float | None
) -> None:
    failed = state is JobState.FAILED
    span = _spans.Span(
        number=0, parent=None, run=1, path="job", label="job", kind="Job",
        state=JobState.SUCCEEDED if state is MOVED_ON else state, critical=False, forever=False,
        scheduled_at=0.5, started_at=started, ready_at=None, finished_at=2.0 if state.is_settled else None,
        attempts=() if started is None else (started,), lane=None if started is None else 1, timed_out=False,
        required=(), exception=OSError("broken") if failed else None, moved_on=state is MOVED_ON,
    )  # fmt: skip
    run = _spans.RunSpan(
        0, None, 1, "s", 0.0, 3.0, None, StopReason.COMPLETED, None, (0,)
    )
    failures = (
        {0: describe_failure(Job(nap), Failure(OSError("broken")))} if failed else {}
    )
    record = TraceRecord(
        (span,), (run,), end_time=3.0, failures=failures, families=("job",)
    )
    picture = _timeline.timeline_svg(record, 600)
    assert state.value in picture
    assert state.value in _trace_file.csv_text(record)
    assert state.value in _trace_file.json_text(record) or started is None
    assert state.value in _report.report_html(record, Path())


@pytest.mark.parametrize(
    "state", sorted({state for state in REPORTED if state.is_settled}, key=str)
)
def test_a_monitor_counts_the_jobs_in_each_final_state(state: ReportedState) -> None:
    counts = JobCounts()
    counts.move(None, state)
    progress = RunProgress("run", counts, 0.0)
    model: Any = SimpleNamespace(root=SimpleNamespace(counts=counts))
    assert re.fullmatch(
        r"1 [\w ]+", RunHeader(_symbols.Symbols()).counts_text(progress)
    )
    hidden = _picture_renderer.RowSelector(model)._count_hidden([], 0)
    assert sum(hidden.values()) == 1


# --- runs that went wrong
JOBS = st.fixed_dictionaries({
    "body": st.sampled_from([nap, nap, nap, fail]),
    "seconds": st.integers(1, 4),
    "needs": st.sampled_from([None, {"gpu": 1}]),
    "requires": st.booleans(),
    "options": st.sampled_from([{}, {}, {}, {"timeout": 1}, {"run_if": "failed"}, {"run_if": "succeeded"}]),
})  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {"jobs_window": st.integers(1, 2), "timeout": st.sampled_from([None, 3, 6])}
)
PLANS = st.lists(
    JOBS | st.tuples(OPTIONS, st.lists(JOBS, min_size=2, max_size=5)),
    min_size=3,
    max_size=6,
)


def build(
    plans: list[Any],
    options: dict[str, Any],
    numbers: itertools.count[int],
    **more: Any,
) -> Scheduler:
    """Return a scheduler for a plan; a pair in it is a nested one."""
    jobs: list[Any] = []
    for plan in plans:
        if isinstance(plan, tuple):
            jobs.append(build(plan[1], plan[0], numbers, label=f"in{next(numbers)}"))
            continue
        required = jobs[-1:] if plan["requires"] else ()
        body = functools.partial(plan["body"], plan["seconds"])
        jobs.append(
            Job(
                body,
                label=f"j{next(numbers)}",
                needs=plan["needs"],
                required=required,
                **plan["options"],
            )
        )
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
    assert len({span.number for span in trace.critical_path}) == len(
        trace.critical_path
    )
    trace.time_spent()
    save(trace, folder / "report.html")
    save(trace, folder / "trace.json")
    assert Tree.parse(junit).getroot().tag == "testsuites"


@pytest.mark.sampled
@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("maker", MAKERS)
def test_every_view_of_any_failure_can_be_written(
    virtual: Virtual, tmp_path: Path, maker: str
) -> None:
    """Whatever the code of an exception's class does, all views show the failure of its job and of other jobs."""
    trace, junit = Trace(), JUnit(tmp_path / "junit.xml")
    events, monitor = Events(tmp_path / "events"), Monitor(file=io.StringIO())
    bad = [Job(fail, 1, MAKERS[maker](), label=f"bad{number}") for number in range(2)]
    scheduler = Scheduler(
        *bad, Job(nap, bad[0], label="needs"), ClosingBadly(MAKERS[maker]()), label="s"
    )
    virtual(
        functools.partial(scheduler.co_run, instruments=[trace, junit, events, monitor])
    )
    assert [
        incident.job.label for incident in incidents_of(scheduler) if incident.job
    ] == ["ClosingBadly"]
    scheduler.debrief(text := io.StringIO())
    assert {"bad0", "bad1"} <= set(re.findall("bad[01]", text.getvalue()))
    assert sum(
        span.state is JobState.FAILED
        for span in trace.spans
        if span.label in {"bad0", "bad1"}
    ) == len(bad)
    assert listing(scheduler, details=True).count("bad") >= len(bad)
    assert "failed" in scheduler.explain(bad[0])
    save(trace, tmp_path / "report.html")
    cases = Tree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    assert [case.get("name") for case in cases if list(case)][:2] == ["bad0", "bad1"]
    assert [
        json.loads(line)["event"]
        for line in (tmp_path / "events").read_text().splitlines()
    ][-1] == "run_ended"


class ClosingBadly(AbstractJob[None]):
    """A job whose shutdown raises the exception."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(label="ClosingBadly")
        self.error = error

    async def co_run(self) -> None:
        pass

    async def co_shutdown(self) -> None:
        raise self.error


# --- a user's job with attributes named like a scheduler's is a job
SCHEDULERS_OWN = sorted(
    name
    for name in dir(Scheduler)
    if not name.startswith("_") and not hasattr(AbstractJob, name)
)


class Busy(AbstractJob[int]):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in SCHEDULERS_OWN:
            setattr(self, name, 7)

    async def co_run(self) -> int:
        await anyio.lowlevel.checkpoint()
        raise OSError("broken")


@pytest.fixture
def scheduler() -> Scheduler:
    busy = Busy(label="busy")
    return Scheduler(
        busy,
        Scheduler(
            Busy(label="inside", required=None),
            label="inner",
            required=busy,
            run_if="settled",
        ),
        label="outer",
    )


def run_virtually(
    virtual: Virtual, scheduler: Scheduler, *instruments: Any
) -> Scheduler:
    virtual(lambda: scheduler.co_run(instruments=instruments))
    return scheduler


def test_text_views_show_a_job_with_scheduler_attributes_as_a_job(
    virtual: Virtual, scheduler: Scheduler
) -> None:
    """Listing, debrief and `explain` show a user's job with a scheduler's attributes as a job."""
    run_virtually(virtual, scheduler)
    assert "1    ✗    <Busy busy>" in listing(scheduler, details=True)
    told = io.StringIO()
    scheduler.debrief(told)
    assert "2 jobs: 2 failed" in told.getvalue()
    assert "2 failures of one kind:\n  busy\n  inner/inside\n" in told.getvalue()
    assert all(
        "OSError" in scheduler.explain(job)
        for job in scheduler.iterate_jobs()
        if isinstance(job, Busy)
    )


@pytest.mark.parametrize("options", [{}, {"collapse": True}], ids=str)
def test_graphs_draw_a_job_with_scheduler_attributes_as_a_box(
    scheduler: Scheduler, options: Any
) -> None:
    assert scheduler.graph(**options).source.count("subgraph") == (
        0 if "collapse" in options else 1
    )
    assert mermaid(scheduler, **options).count("subgraph") == (
        0 if "collapse" in options else 1
    )


def test_monitor_counts_a_job_with_scheduler_attributes_as_a_job(
    virtual: Virtual, scheduler: Scheduler
) -> None:
    log = io.StringIO()
    run_virtually(virtual, scheduler, Monitor(file=log))
    assert "outer: 2 jobs" in log.getvalue()
    assert log.getvalue().count("FAILED") == 3  # with that of the nested scheduler
    assert "2 failed of 2" in log.getvalue().splitlines()[-1]


def test_exports_show_a_job_of_odd_attributes_as_one(
    virtual: Virtual, scheduler: Scheduler, tmp_path: Path
) -> None:
    trace = Trace()
    run_virtually(virtual, scheduler, trace)
    assert [span.path for span in trace.spans] == ["busy", "inner", "inner/inside"]
    assert len(trace.spans) == 3
    save(trace, tmp_path / "t.csv")
    save(trace, tmp_path / "t.json")
    save(trace, tmp_path / "t.svg")
    save(trace, tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    (failures,) = re.findall(
        r'class="failure".*?</ul>', page, re.DOTALL
    )  # of one kind, and so together
    assert "busy" in failures
    assert "inner/inside" in failures


def test_check_finds_no_fault_in_a_job_with_scheduler_attributes(
    scheduler: Scheduler,
) -> None:
    assert findings(scheduler) == []
