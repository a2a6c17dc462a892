"""The page of a run in another process: the answers of the program merged, and the report of the run so far."""

from __future__ import annotations

import math
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any, Final

from ..trace._trace_record import TraceRecord
from ..trace.report import _report
from . import _answers, _client, _console
from ._picture import Picture
from ._process_record import Record
from ._watched_run import WatchedRun

PAUSE_FACTOR: Final = 2
"""The pause before a report is made, or a graph laid out, again, as a multiple of the time that it took."""
PLAN_PAUSE_FACTOR: Final = 50
"""That of a graph whose jobs have changed and whose boxes have not: of a run that grows, it is planned all the time."""
RETRY_INTERVAL: Final = 0.5
"""How long, in seconds, to wait before the next question to a program that has not answered."""
ANYWHERE: Final = Path(os.devnull)
"""The directory of a saved report, in which no file is: links to files are absolute."""
GONE: Final = "The program was killed, or has ended without a word."


class Page:
    """The page of one run, and the questions to its program.

    Args:
        pid: the process of the program.
        label: the label of the run; None if only one run is in progress.
        own_key: the key under which the program expects the page, if it has started its server, which ends with it.

    """

    def __init__(self, pid: int, label: str | None, own_key: str = "") -> None:
        self._pid, self._label, self._is_own = pid, label, bool(own_key)
        self._key: Final = own_key or secrets.token_hex(8)
        self._run: Final = WatchedRun()
        self._problem = ""
        self.version = 0
        """Another number for each state of the page."""
        self._lock: Final = threading.Condition()  # of what is told; notified when there is news
        self._making: Final = threading.Lock()  # so that the report is made once for all tabs
        self._made = -1, ""  # the version of the report, and its text
        self._next_at = -math.inf  # when the report may be made again
        self._state_version, self._shown = -1, dict[str, Any]()
        self.picture: Picture | None = None
        self.picture_number = 0
        self._structure, self._next_picture_at, self._is_drawing = ("", -1, -1), -math.inf, False
        _report.require_jinja()

    def ask(self) -> None:
        """Ask the program what has changed; it answers when something has, or after a second.

        Raises:
            NoAnswer: it does not answer.

        """
        while True:
            answer = self._request({"run": self._label, **self._run.place()})
            with self._lock:
                self._run.update(answer)
                if not self._run.answer["more"]:
                    self._set_problem("")
                    self._begin_picture()
                    return

    def _request(self, request: Record) -> Record:
        return _client.ask(self._pid, {"watch": self._key, **request})

    @property
    def has_ended(self) -> bool:
        return bool(self._run.answer["is_over"]) or self._problem == GONE

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

    # ---- the graph

    def _begin_picture(self) -> None:
        """Lay out the graph in a thread if its structure has changed. The lock is held."""
        requirements = sum(len(facts.span.required) for _, facts in self._run.jobs.values())
        structure = self._run.answer["seen"], len(self._run.jobs), requirements
        if structure == self._structure or self._is_drawing or time.monotonic() < self._next_picture_at:
            return
        began = time.monotonic()
        self._structure, picture = structure, Picture(self._run)
        if self.picture is not None and picture.take_layout(self.picture):
            self.picture = picture
            self._next_picture_at = time.monotonic() + PLAN_PAUSE_FACTOR * (time.monotonic() - began)
            return
        self._is_drawing = True
        threading.Thread(target=self._draw, args=(picture,), name="trioflow look", daemon=True).start()

    def _draw(self, picture: Picture) -> None:
        began = time.monotonic()
        try:
            picture.draw(self.picture_number + 1)
        finally:
            with self._lock:
                self.picture, self.picture_number = picture, self.picture_number + 1
                self._next_picture_at = time.monotonic() + PAUSE_FACTOR * (time.monotonic() - began)
                self._is_drawing = False
                self._set_problem(self._problem)

    # ---- what is served

    def state(self, query: str = "") -> Record:
        """Return the console of the run so far as data, when it is not that of a query any more, such as `have=7`."""
        with self._lock:
            self._lock.wait_for(lambda: query != f"have={self.version}", _answers.WATCH_INTERVAL)
            if self.has_ended:  # a browser asks no more
                self._lock.wait_for(lambda: not self._is_drawing, _answers.WATCH_INTERVAL)
            if self._state_version != self.version and not self._run.answer["more"]:
                self._shown = self._make_state() | {"own": self._is_own}
                self._state_version = self.version
            return {"version": self._state_version, **self._shown}

    def _make_state(self) -> Record:
        picture = self.picture
        end = _console.ending(self._read()[0]) if self.has_ended else {}
        return (
            _console.console(self._run, self._problem, self.has_ended)
            | end
            | {
                "graph": self.picture_number if picture is not None and picture.svg else 0,
                "graph_note": "" if picture is None else picture.note,
                "nodes": {} if picture is None else picture.states(self._run),
            }
        )

    def job(self, seen: str, key: int) -> Record:
        """Return what there is to say of one job that the page has shown."""
        told: Record = {}
        with self._lock:
            if seen != self._run.answer["seen"] or key not in self._run.jobs:
                return {}
            is_settled = self._run.jobs[key][1].span.state.is_settled
        if not (is_settled or self.has_ended):
            try:
                told = self._request({"seen": seen, "detail": key})
            except _client.NoAnswer:
                told = {}  # it has just ended
        with self._lock:
            return _console.describe_job(self._run, key, told) if key in self._run.jobs else {}

    def shell(self) -> str:
        """Return the page without the run, which it asks for."""
        return _report.report_html(TraceRecord(), None)

    def wait_for_report(self, query: str) -> None:
        """Wait until the report is not that of a query any more, and until it may be made again."""
        with self._lock:
            self._lock.wait_for(lambda: self.has_ended, max(0.0, self._next_at - time.monotonic()))
            self._lock.wait_for(lambda: query != f"have={self.version}", _answers.WATCH_INTERVAL)

    def html(self) -> tuple[int, str]:
        """Return the version of the report in the page, and the page with it."""
        with self._making:
            version, began = self.version, time.monotonic()
            if self._made[0] != version:
                record, lacks = self._read()
                self._made = version, _report.report_html(record, None, lacks=lacks)
                self._next_at = time.monotonic() + PAUSE_FACTOR * (time.monotonic() - began)
            return self._made

    def report(self) -> str:
        """Return the report of the run so far, to be saved."""
        record, lacks = self._read()
        return _report.report_html(record, ANYWHERE, lacks=lacks)

    def files(self) -> set[str]:
        """Return the paths of the files to which the page has links."""
        with self._lock:
            commands = [facts.command for _, facts in self._run.jobs.values()]
        return {path for command in commands if command is not None for _, path in command.files}

    def _read(self) -> tuple[TraceRecord, str]:
        with self._lock:
            return self._run.record(), self._run.report_lacks()

    def steer(self, request: Record) -> Record:
        """Steer the run and the job that the page has shown; return what was done, or the error."""
        words = {name: request.get(name) for name in ("do", "value", "seen", "job")}
        try:
            return self._request({**words, "page": True})
        except _client.NoAnswer as error:
            return {"error": str(error).removeprefix(f"process {self._pid}: ")}


class TracePage(Page):
    """The page of a run that has ended, of which there is a trace."""

    def __init__(self, record: TraceRecord) -> None:
        super().__init__(0, None)
        self._record: Final = record
        self._run.take_record(record)
        self.picture, self.picture_number = Picture(self._run).draw(1), 1

    def _make_state(self) -> Record:
        title = ", ".join(run.label for run in self._record.root_runs)
        return super()._make_state() | _console.head(self._record.tally) | {"title": title}

    def _read(self) -> tuple[TraceRecord, str]:
        return self._record, ""
