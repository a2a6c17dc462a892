"""The page of a run in another process: the answers of the program merged, and the report of the run so far."""

from __future__ import annotations

import dataclasses
import math
import secrets
import threading
import time
from pathlib import Path
from typing import Any, Final

from ..._core.api.views import JobState, printable
from .._estimate import remaining_seconds
from ..monitor._run_header import elapsed_text, estimate_text
from ..text._verdict import Tally
from ..trace._facts import JobFacts, RunFacts
from ..trace._record import GraphDescription, LiveObjects, TraceRecord
from ..trace._span_builder import RecordBuilder
from ..trace._spans import HostFacts, Span
from ..trace._trace_file import read_plain
from ..trace.report import _report
from . import _answers, _client
from ._process_record import Record

MAX_RUNNING: Final = 20
"""The maximum number of running jobs that have a line beside what waits. The table has all."""
PAUSE_FACTOR: Final = 2
"""The pause before a page is made again, unless its run has ended, as a multiple of the time that it took."""
RETRY_INTERVAL: Final = 0.5
"""How long, in seconds, to wait before the next question to a program that has not answered."""
NO_ANSWER: Final[Record] = {
    **{"number": 0, "is_over": False, "may_steer": False, "now": 0.0},
    **{"phase": "waits for a run", "pause": "", "window": None, "waiting": (), "keeps_jobs": True, "counts": {}},
}
"""What stands in place of an answer until a run begins."""
GONE: Final = "The program was killed, or has ended without a word."


class WatchedRun:
    """What a program has told of one run."""

    def __init__(self) -> None:
        self.answer = NO_ANSWER
        """The last answer."""
        self._runs: Final[dict[int, RunFacts]] = {}
        self._jobs: Final[dict[int, tuple[int, JobFacts]]] = {}  # by key, with the index of the run
        self._incidents: Final[list[tuple[float, int, str]]] = []
        self._constant_fields: Final[dict[str, Any]] = {}

    def update(self, answer: Record) -> None:
        """Merge an answer with those before it. The first one has all."""
        if answer["number"] == 0:  # no run is in progress yet
            return
        if answer["number"] == 1:
            for known in (self._runs, self._jobs, self._incidents):
                known.clear()
            host = read_plain(answer["host"], HostFacts)
            self._constant_fields.update(host=host, wall_offset=answer["wall_offset"])
        self.answer = NO_ANSWER | answer
        self._runs.update(read_plain(answer["runs"], dict[int, RunFacts]))
        for index, facts in read_plain(answer["jobs"], list[tuple[int, JobFacts]]):
            self._jobs[facts.span.number] = index, facts
        for key, state, started_at, finished_at in answer["steps"]:
            index, facts = self._jobs[key]
            span = dataclasses.replace(
                facts.span, state=JobState(state), started_at=started_at, finished_at=finished_at
            )
            self._jobs[key] = index, dataclasses.replace(facts, span=span)
        self._incidents.extend((answer["now"], 0, message) for message in answer["incidents"])
        if answer["graphs"]:
            graphs = read_plain(answer["graphs"], tuple[GraphDescription, ...])
            self._constant_fields["stored_graphs"] = graphs

    def record(self) -> tuple[TraceRecord, list[JobFacts]]:
        """Return the record of the run so far, and the facts about the job of each of its spans."""
        members: dict[int, list[JobFacts]] = {index: [] for index in self._runs}
        for index, facts in list(self._jobs.values()):
            members[index].append(facts)
        runs = [dataclasses.replace(run, jobs=tuple(members[index])) for index, run in sorted(self._runs.items())]
        builder = RecordBuilder(runs)
        counts = {JobState(state): number for state, number in self.answer["counts"].items()}
        live = LiveObjects(tally=Tally.from_counts(counts) if counts else None)
        return builder.build(self._incidents, self.answer["now"], live=live, **self._constant_fields), builder.jobs


def live_facts(record: TraceRecord, answer: Record, names: dict[int, str], problem: str) -> Record:
    """Return what a page shows above the report of a run: the last answer, and what is counted in the record.

    Args:
        record: the record of the run so far.
        answer: the last answer of the program.
        names: the paths of the jobs, by their keys.
        problem: why there is no later answer; "" if there is none.

    """
    counted = [span for span in record.counted_spans if not (span.forever or record.is_group(span.number))]
    tally, settled_count = record.tally, record.tally.settled_count
    running = [span for span in record.leaf_spans if span.state is JobState.RUNNING and not span.forever]
    has_ended = answer["is_over"] or problem == GONE
    return answer | {
        "ended": has_ended,
        "problem": problem,
        "settled": settled_count,
        "count": tally.job_count,
        "may_grow": tally.may_grow,
        "percent": f"{100 * settled_count / max(1, tally.job_count):.1f}",
        "elapsed": elapsed_text(record.end_time - record.start_time),
        "left": "" if has_ended or answer["pause"] or tally.may_grow else estimate(record, counted, answer["window"]),
        "running": [
            (span.path, elapsed_text(record.end_time - (span.started_at or record.end_time)), len(span.attempts))
            for span in running[:MAX_RUNNING]
        ],
        "running_count": len(running),
        "waiting": [([names[key] for key in keys], count, text) for keys, count, text in answer["waiting"]],
        "idle_count": tally.count(JobState.IDLE),
        "time": time.strftime("%H:%M:%S", time.localtime(record.end_time + record.wall_offset)),
    }


def estimate(record: TraceRecord, counted: list[Span], window: int | None) -> str:
    """Return about how long the other jobs take; "" if unknown."""
    took = [span.elapsed for span in counted if span.elapsed is not None]  # restored ones did not run here
    pauses = [min(until, record.end_time) - since for run in record.root_runs for since, until in run.pauses]
    running = [record.end_time - (span.started_at or 0.0) for span in counted if span.state is JobState.RUNNING]
    left, slots = record.tally.job_count - record.tally.settled_count, math.inf
    if window is not None and not record.scheduler_numbers:
        slots = window
    elapsed = record.end_time - record.start_time - sum(pauses)
    seconds = remaining_seconds(len(took), sum(took), running, left, elapsed, slots)
    return "" if seconds is None else estimate_text(seconds)


class Page:
    """The page of one run, and the questions to its program.

    Args:
        pid: the process of the program.
        label: the label of the run; None if only one run is in progress.
        is_own: whether the program has started the server of the page, which ends with it.

    """

    def __init__(self, pid: int, label: str | None, *, is_own: bool = False) -> None:
        self._pid, self._label, self._is_own = pid, label, is_own
        self._key: Final = secrets.token_hex(8)
        self._run: Final = WatchedRun()
        self._problem = ""
        self.version = 0
        """Another number for each state of the page."""
        self._lock: Final = threading.Condition()  # of what is told; notified when there is news
        self._making: Final = threading.Lock()  # so that the page is made once for all tabs
        self._made = -1, ""  # the version of the page, and its text
        self._read_version, self._last_read = -1, (TraceRecord(), list[JobFacts](), NO_ANSWER)
        self._next_at = -math.inf  # when the page may be made again
        _report.require_jinja()

    def ask(self) -> None:
        """Ask the program what has changed; it answers when something has, or after a second.

        Raises:
            NoAnswer: it does not answer.

        """
        request = {"watch": self._key, "number": self._run.answer["number"], "run": self._label}
        answer = _client.ask(self._pid, request)
        with self._lock:
            self._run.update(answer)
            self._set_problem("")

    @property
    def has_ended(self) -> bool:
        return self._run.answer["is_over"] or self._problem == GONE

    def follow(self) -> None:
        """Ask again and again, until the run has ended, or the program is gone."""
        while not self.has_ended:
            try:
                self.ask()
            except _client.NoAnswer as error:
                time.sleep(RETRY_INTERVAL)  # a process that was killed takes a moment to end
                with self._lock:
                    self._set_problem(str(error) if _client.is_there(self._pid) else GONE)

    def _set_problem(self, problem: str) -> None:
        self._problem = problem
        self.version += 1
        self._lock.notify_all()

    def wait_for_news(self, query: str) -> None:
        """Wait until the page is not that of a query any more, such as `have=7`; a second at most, or as it takes."""
        with self._lock:
            self._lock.wait_for(lambda: self.has_ended, max(0.0, self._next_at - time.monotonic()))
            self._lock.wait_for(lambda: query != f"have={self.version}", _answers.WATCH_INTERVAL)

    def html(self) -> tuple[int, str]:
        """Return the version of the page, and the page."""
        with self._making:
            version, began = self.version, time.monotonic()
            if self._made[0] != version:
                record, jobs, answer = self._read()
                names = {facts.span.number: facts.span.path for facts in jobs}
                live = live_facts(record, answer, names, self._problem) | {"is_own": self._is_own}
                self._made = version, _report.report_html(record, Path.cwd(), live)
                self._next_at = time.monotonic() + PAUSE_FACTOR * (time.monotonic() - began)
            return self._made

    def report(self) -> str:
        """Return the report of the run so far, to be saved."""
        return _report.report_html(self._read()[0], Path.cwd())

    def _read(self) -> tuple[TraceRecord, list[JobFacts], Record]:
        with self._lock:
            if self._read_version != self.version:
                self._read_version, self._last_read = self.version, (*self._run.record(), self._run.answer)
            return self._last_read

    def steer(self, action: str, value: object) -> Record:
        """Steer the run as the words of `trioflow look` do; return what was done, or the error."""
        if isinstance(value, str):  # a path, as the page shows it
            paths = (span.path for span in self._read()[0].spans if not span.state.is_settled)
            value = next((path for path in paths if printable(path) == value), value)
        try:
            return _client.ask(self._pid, {"do": action, "value": value, "run": self._label, "page": True})
        except _client.NoAnswer as error:
            return {"error": str(error)}


class TracePage(Page):
    """The page of a run that has ended, of which there is a trace."""

    def __init__(self, record: TraceRecord) -> None:
        super().__init__(0, None)
        self._record: Final = record
        self._run.answer = NO_ANSWER | {"is_over": True, "phase": ""}

    def _read(self) -> tuple[TraceRecord, list[JobFacts], Record]:
        return self._record, [], self._run.answer
