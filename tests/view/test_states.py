"""Every view supports every state: a state of `JobState` that `view/_state_styles` lacks fails here."""

import json
import pickle
import re
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trioflow import Job, JobState, RequirementFailed, Scheduler, StopReason
from trioflow._core.base._states import MOVED_ON, STOP_REASON_TEXTS, TRANSITIONS, ReportedState
from trioflow._core.job._errors import CancelledOutcome, Failure
from trioflow._core.words import _explain
from trioflow.abc import WaitCause
from trioflow.journal import _serialization
from trioflow.view import _state_styles, listing
from trioflow.view.monitor import _picture_renderer, _terminal
from trioflow.view.monitor._records import JobCounts
from trioflow.view.monitor._run_header import RunHeader, RunProgress
from trioflow.view.text import _symbols
from trioflow.view.text._failure_text import describe_failure
from trioflow.view.trace import _spans, _timeline, _trace_file
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report import _report
from ..bodies import idle, nap
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
            pickle.loads(pickle.dumps(each)) is kind(word) is _serialization.loads(_serialization.dumps(each)) is each
        )
        assert repr(each) == f"<{kind.__name__}.{each.name}: {word!r}>"
        assert Job(nap, each, label=None).label == f"nap({kind.__name__}.{each.name})"


def test_every_state_has_a_record_of_its_styles() -> None:
    missing = ", ".join(f"JobState.{state.name}" for state in JobState if state not in _state_styles.STATE_STYLES)
    assert not missing, f"trioflow/view/_state_styles.py: STATE_STYLES has no record for {missing}"
    assert [state for state in REPORTED if state is not MOVED_ON] == list(JobState)


def test_every_state_has_a_unique_rank() -> None:
    """No state occurs twice in the order of precedence, which has all, and in that of unstarted jobs."""
    for states in (_state_styles.STATE_PRECEDENCE, _state_styles.NEVER_STARTED_STATES):
        assert len(set(states)) == len(states)
    assert set(_state_styles.STATE_PRECEDENCE) == set(REPORTED)


@pytest.mark.parametrize("symbols", [_symbols.UNICODE_SYMBOLS, _symbols.ASCII_SYMBOLS], ids=["unicode", "ascii"])
def test_no_symbol_has_two_meanings(symbols: _symbols.SymbolSet) -> None:
    """No two states share a symbol, and none has that of critical or forever jobs."""
    assert len(set(symbols.all_symbols())) == len(symbols.all_symbols()) == len(REPORTED) + 2


def test_every_style_name_of_a_monitor_has_a_terminal_style() -> None:
    named = {
        one.monitor_style
        for one in (*_state_styles.STATE_STYLES.values(), _state_styles.CRITICAL_BADGE, _state_styles.FOREVER_BADGE)
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
        (resources.files("trioflow.view.trace.report") / name).read_text(encoding="utf-8")
        for name in ("report.css", "timeline.css")
    )
    assert set(map(_state_styles.state_class, REPORTED)) == set(re.findall(r"\.state-([a-z-]+)(?=[ ,])", report))
    started = {*REPORTED} - {*_state_styles.NEVER_STARTED_STATES} | {JobState.CANCELLED, JobState.SKIPPED}
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
        job._ensure_extras().has_timed_out = True
    if state is JobState.FAILED:
        job._outcome = Failure(OSError("broken"))
    if state is JobState.BLOCKED:
        job._outcome = Failure(RequirementFailed(job, idle("other")))
    if state is JobState.CANCELLED:
        job._outcome = CancelledOutcome()
    return job


@pytest.mark.sampled
@pytest.mark.parametrize("state", REPORTED)
def test_every_view_of_a_scheduler_shows_each_state_of_a_job(state: ReportedState) -> None:
    """Listing, graph, Mermaid text, Jupyter and `explain` show a job in any state."""
    scheduler = Scheduler(in_state(state), in_state(state))
    assert "one" in listing(scheduler, details=True)
    assert _symbols.UNICODE_SYMBOLS.state_symbols[state] in listing(scheduler)
    assert _symbols.ASCII_SYMBOLS.state_symbols[state] in "".join(
        _symbols.Symbols("ascii").job_symbols(job) for job in scheduler
    )
    assert f"({state.value})" in scheduler.graph().source
    assert f":::{_state_styles.state_class(state)}" in mermaid(scheduler)
    assert "mermaid" in str(scheduler._repr_mimebundle_()) or "svg" in str(scheduler._repr_mimebundle_())
    assert all(scheduler.explain(job).startswith(f"{job.label!r} ") for job in scheduler)


@pytest.mark.parametrize("state", REPORTED)
def test_debrief_counts_the_jobs_in_each_state(state: ReportedState, capsys: pytest.CaptureFixture[str]) -> None:
    Scheduler(in_state(state)).debrief()
    assert f"1 job: 1 {state.value}\n" in capsys.readouterr().out


@pytest.mark.parametrize("state", REPORTED)
@pytest.mark.parametrize("started", [None, 1.0])
def test_every_export_of_a_trace_shows_each_state_of_a_job(state: ReportedState, started: float | None) -> None:
    failed = state is JobState.FAILED
    span = _spans.Span(
        number=0, parent=None, run=1, path="job", label="job", kind="Job",
        state=JobState.SUCCEEDED if state is MOVED_ON else state, critical=False, forever=False,
        scheduled_at=0.5, started_at=started, ready_at=None, finished_at=2.0 if state.is_settled else None,
        attempts=() if started is None else (started,), lane=None if started is None else 1, timed_out=False,
        required=(), exception=OSError("broken") if failed else None, moved_on=state is MOVED_ON,
    )  # fmt: skip
    run = _spans.RunSpan(0, None, 1, "s", 0.0, 3.0, None, StopReason.COMPLETED, None, (0,))
    failures = {0: describe_failure(Job(nap), Failure(OSError("broken")))} if failed else {}
    record = TraceRecord((span,), (run,), end_time=3.0, failures=failures, families=("job",))
    picture = _timeline.timeline_svg(record, 600)
    assert state.value in picture
    assert state.value in _trace_file.csv_text(record)
    assert state.value in _trace_file.json_text(record) or started is None
    assert state.value in _report.report_html(record, Path())


@pytest.mark.parametrize("state", sorted({state for state in REPORTED if state.is_settled}, key=str))
def test_a_monitor_counts_the_jobs_in_each_final_state(state: ReportedState) -> None:
    counts = JobCounts()
    counts.move(None, state)
    progress = RunProgress("run", counts, 0.0)
    model: Any = SimpleNamespace(root=SimpleNamespace(counts=counts))
    assert re.fullmatch(r"1 [\w ]+", RunHeader(_symbols.Symbols()).counts_text(progress))
    assert sum(_picture_renderer.RowSelector(model)._count_hidden_jobs([]).values()) == 1
