"""The record of a run that was paused, or whose number of slots has changed: waits, critical path, window, report."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import Job, Pool, Rate, Retry, Scheduler, ThreadJob, Trace, current_scheduler
from trioflow.abc import WaitCause
from trioflow.view import save
from trioflow.view.look import _answers
from trioflow.view.text import _verdict
from trioflow.view.trace import _time_spent
from trioflow.view.trace._event_log import record_of_last_run
from trioflow.view.trace._trace_file import read_record
from trioflow.view.trace._trace_record import TraceRecord
from ...bodies import later, nap, nothing, raising
from ...cli.command_line import trioflow as command


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("is_nested", [False, True])
def test_pause_is_what_jobs_have_waited_for(virtual: Any, tmp_path: Path, window: int | None, is_nested: bool) -> None:
    """A job that became ready in a pause has waited for its end, at any depth, and so the critical path says it."""

    async def pause() -> None:
        scheduler.pause()
        await anyio.sleep(4)
        during.extend(wait.cause for span in trace.spans if span.label == "after" for wait in span.waits)
        scheduler.resume()

    during: list[WaitCause] = []
    first, after = Job(nap, 1, label="first"), Job(nap, 1, label="after")
    after.requires(first)
    jobs: Any = Scheduler(first, after, label="group", jobs_window=window) if is_nested else (first, after)
    scheduler = Scheduler(jobs, jobs_window=None if is_nested or window is None else 2)
    scheduler.add(Job(pause))
    trace = Trace()
    virtual(partial(scheduler.co_run, instruments=[trace]))
    assert during[-1] is WaitCause.PAUSE
    span = next(span for span in trace.spans if span.label == "after")
    assert [(wait.cause, wait.seconds) for wait in span.waits][-1] == (WaitCause.PAUSE, 3)
    save(trace, tmp_path / "trace.json")
    record: TraceRecord = read_record(tmp_path / "trace.json")
    assert {run.pauses for run in record.runs} == {((record.start_time, record.start_time + 4),)}
    [wait] = [part for part in _time_spent.critical_path_parts(record) if part.is_wait]
    assert (wait.name, wait.seconds) == ("a resume", 3)


def tries_again() -> Job[None]:
    """Return a job that tries again, after 20 seconds, what has failed in its scheduler."""
    return Job(later, 20, lambda: current_scheduler().try_again(), forever=True)


def test_what_was_held_has_waited_for_another_try(virtual: Any) -> None:
    """The time in which a failed job lay until somebody tried it again is neither work nor a backoff."""

    async def work() -> None:
        await anyio.sleep(1)
        if job.attempts < 3:
            raise OSError("not yet")

    job = Job(work, label="work", retry=Retry(1, first=2, jitter=False))
    scheduler = Scheduler(job, tries_again(), hold=True, log=False)
    trace = Trace()
    virtual(partial(scheduler.co_run, instruments=[trace]))
    span = next(span for span in trace.spans if span.label == "work")
    assert [(wait.cause, wait.seconds) for wait in span.waits] == [(WaitCause.RETRY, 2), (WaitCause.HELD, 16)]
    assert span.took == 3
    assert trace.time_spent().waits["another try"] == 16
    # A run of 21 s whose only job took 3 s was said to be slow, and nothing said why.
    record = trace._get_record()
    verdicts = [_verdict.run_verdict(scheduler, scheduler.stop_reason, has_duration=True)]
    verdicts.append(record.verdict(*record.root_runs, scheduler.stop_reason))
    assert {verdict.sentence for verdict in verdicts} == {"1 job succeeded, 21.0 s, paused or held for 16.0 s of it"}


def test_what_runs_again_with_its_requirement_has_waited_for_that_and_not_for_a_slot(virtual: Any) -> None:
    """Nor has what left the line, as its requirement was tried again: it had been scheduled, with no slot free."""
    collect = Job(nap, 1, label="collect")
    used, waits = Job(nap, 1, label="used", priority=1, required=collect), Job(nap, 1, label="waits", required=collect)
    holder, trace = Job(nap, 5, label="holder"), Trace()
    mend = Job(later, 3, collect.try_again, forever=True)
    virtual(partial(Scheduler(collect, holder, used, waits, mend, jobs_window=1).co_run, instruments=[trace]))
    found = {span.label: [(wait.cause.name, wait.since, wait.until) for wait in span.waits] for span in trace.spans}
    assert found["used"] == [("JOBS", 0, 1), ("HELD", 2, 3), ("JOBS", 3, 8)]
    assert found["waits"] == [("JOBS", 0, 8), ("SLOT", 8, 9)]


def test_what_was_blocked_had_no_slot_before_it_started(virtual: Any, tmp_path: Path) -> None:
    """Two jobs in a row never fill two slots, though the second was blocked first; and a hold is no attempt."""

    async def work() -> None:
        await anyio.sleep(1)
        if job.attempts < 2:
            raise OSError("not yet")

    job = Job(work, label="work")
    scheduler = Scheduler(job, Job(nap, 3, label="last", required=job), tries_again(), hold=True, log=False)
    trace = Trace()
    virtual(partial(scheduler.co_run, instruments=[trace]))
    use = _time_spent.compute_slot_use(trace._get_record())
    assert (use.slot_count, use.work_seconds) == (1, 5)
    assert [[bar.end - bar.start for bar in bars] for bars in use.bars_by_slot] == [[1, 1, 3]]
    save(trace, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["dur"] for event in events if event.get("cat") == "attempt"] == [1e6, 1e6]


@pytest.mark.parametrize(("is_paused", "words"), [(True, "a resume"), (False, "the next start")])
def test_a_run_in_progress_does_not_wait_for_its_end(virtual: Any, is_paused: bool, words: str) -> None:
    """After its last job, a run that has not ended waits for a resume if it is paused, and otherwise for a job."""

    async def look() -> None:
        if is_paused:
            scheduler.pause()
        await anyio.sleep(4)
        parts.extend(part.name for part in _time_spent.critical_path_parts(trace._get_record()) if part.is_wait)
        scheduler.resume()

    parts: list[str] = []
    jobs = [Job(nap, 1, label=label, needs={"api": {"calls": 1}}) for label in ("first", "late")]
    trace, scheduler = Trace(), Scheduler(*jobs, Job(look, forever=True), pool=Pool(api=Rate(calls=1, per=20)))
    virtual(partial(scheduler.co_run, instruments=[trace]))
    assert parts == [words]


def test_the_numbers_of_slots_of_a_run_are_recorded(virtual: Any, tmp_path: Path) -> None:
    async def widen() -> None:
        await anyio.sleep(5)
        scheduler.jobs_window = 4

    jobs = [Job(nap, 10, label=f"job {number}") for number in range(3)]
    scheduler = Scheduler(Job(widen), *jobs, jobs_window=2)
    trace = Trace()
    virtual(partial(scheduler.co_run, instruments=[trace]))
    save(trace, tmp_path / "trace.json")
    [run] = read_record(tmp_path / "trace.json").runs
    assert run.started_at is not None
    assert (run.window_size, run.window_sizes) == (4, ((run.started_at, 2), (run.started_at + 5, 4)))
    waits = [(wait.cause, wait.seconds) for span in trace.spans for wait in span.waits]
    assert waits == [(WaitCause.SLOT, 5)] * 2
    save(trace, tmp_path / "trace.html")
    assert "2 to 4, 4 at the end" in (tmp_path / "trace.html").read_text(encoding="utf-8")


def test_steering_from_outside_did_not_go_wrong(backend: Any, tmp_path: Path) -> None:
    with _answers.answering():
        words = "pause", "resume"
        steering = ThreadJob(lambda: [command("steer", os.getpid(), word) for word in words])
        trace = Trace()
        assert Scheduler(steering, Job(nothing), label="night").run(backend=backend, instruments=[trace])
    save(trace, tmp_path / "trace.html")
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert "No job failed." in page
    assert "paused by trioflow steer, pid" in page.partition("Where and how it ran")[2]


def test_a_label_that_reads_as_steering_hides_no_incident(backend: Any, tmp_path: Path, capsys: Any) -> None:
    """Whether an incident is a word from outside is not read from its text, in which a label may stand."""
    trace, job = Trace(), Job(nothing, label="load by trioflow steer, pid 1")
    scheduler = Scheduler(job, label="night", on_job_settled=raising(ValueError("the hook is broken")))
    assert not scheduler.run(backend=backend, instruments=[trace])
    save(trace, tmp_path / "trace.html")
    assert "Incidents: 1" in (tmp_path / "trace.html").read_text(encoding="utf-8")
    scheduler.debrief()
    assert "steered:" not in str(capsys.readouterr())


def test_without_a_trace_a_pause_and_a_window_are_known_too(virtual: Any) -> None:
    async def steer() -> None:
        scheduler.jobs_window = 3
        await anyio.sleep(0.5)
        scheduler.pause()
        await anyio.sleep(4)
        scheduler.resume()

    jobs = [Job(nap, 1, label=f"job {number}") for number in range(5)]
    group = Scheduler(*jobs, label="group", jobs_window=1)
    trace, scheduler = Trace(), Scheduler(group, Job(nap, 1, required=group, label="after"), Job(steer), jobs_window=2)
    virtual(partial(scheduler.co_run, instruments=[trace]))
    records = trace._get_record(), record_of_last_run(scheduler)
    paused, without_trace = ({run.label: run.pauses for run in record.runs} for record in records)
    assert without_trace == paused
    assert len(paused["group"]) == 1
    windows, without_trace_windows = ({run.label: run.window_sizes for run in record.runs} for record in records)
    assert without_trace_windows == windows
    parts, without_trace_parts = map(_time_spent.critical_path_parts, records)
    assert without_trace_parts == parts
