"""A run in another process: the answers of its program to a page, merged into facts."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from typing import Any, Final

from ..._core.base._states import JobState
from ..text._verdict import Tally
from ..trace._facts import JobFacts, RunFacts
from ..trace._span_builder import RecordBuilder
from ..trace._spans import HostFacts, IncidentMark
from ..trace._trace_file import read_plain
from ..trace._trace_record import GraphDescription, LiveObjects, TraceRecord
from ._process_record import Record
from ._watch import MAX_DROPPED

NO_ANSWER: Final[Record] = {
    "number": 0,
    "seen": "",
    "more": False,
    "is_over": False,
    "may_steer": False,
    "now": 0.0,
    "phase": "waits for a run",
    "left": None,
    "pause": "",
    "windows": (),
    "waiting": (),
    "unexplained": 0,
    "counts": None,
    "may_grow": False,
    "keeps_jobs": True,
}
"""What stands in place of an answer until a run begins."""


class WatchedRun:
    """What a program has told of one run."""

    def __init__(self) -> None:
        self.answer = NO_ANSWER
        """The last answer."""
        self.runs: Final[dict[int, RunFacts]] = {}
        self.jobs: Final[dict[int, tuple[int, JobFacts]]] = {}
        """The facts about each job by its key, with the index of its run."""
        self.opened_at = 0.0
        """When the first answer was made, on the clock of the run."""
        self._incidents: Final[list[IncidentMark]] = []
        self._constant_fields: Final[dict[str, Any]] = {"wall_offset": 0.0}

    @property
    def wall_offset(self) -> float:
        return float(self._constant_fields["wall_offset"])

    def place(self) -> Record:
        """Return which answer was the last, and to which run it belongs."""
        return {name: self.answer[name] for name in ("number", "began") if name in self.answer}

    def update(self, answer: Record) -> None:
        """Merge an answer with those before it. The first one begins anew."""
        if answer["number"] == 0:  # no run is in progress yet
            return
        if answer["number"] == 1:
            for known in (self.runs, self.jobs, self._incidents):
                known.clear()
            host = read_plain(answer["host"], HostFacts)
            self._constant_fields.update(host=host, wall_offset=answer["wall_offset"])
            self.opened_at = answer["now"]
        self.answer = NO_ANSWER | answer
        self.runs.update(read_plain(answer["runs"], dict[int, RunFacts]))
        for index, facts in read_plain(answer["jobs"], list[tuple[int, JobFacts]]):
            self.jobs[facts.span.number] = index, facts
        for key, state, started_at, finished_at in answer["steps"]:
            index, facts = self.jobs[key]
            span = dataclasses.replace(
                facts.span, state=JobState(state), started_at=started_at, finished_at=finished_at
            )
            self.jobs[key] = index, dataclasses.replace(facts, span=span)
        self._incidents.extend(IncidentMark(answer["now"], 0, *details) for details in answer["incidents"])
        if answer["graphs"]:
            graphs = read_plain(answer["graphs"], tuple[GraphDescription, ...])
            self._constant_fields["stored_graphs"] = graphs

    def record(self) -> TraceRecord:
        """Return the record of the run so far."""
        members: dict[int, list[JobFacts]] = {index: [] for index in self.runs}
        for index, facts in self.jobs.values():
            members[index].append(facts)
        runs = [dataclasses.replace(run, jobs=tuple(members[index])) for index, run in sorted(self.runs.items())]
        live = LiveObjects(tally=None if self.answer["keeps_jobs"] else self.tally([]))
        return RecordBuilder(runs).build(self._incidents, self.answer["now"], live=live, **self._constant_fields)

    def counted_jobs(self) -> list[JobFacts]:
        """Return the jobs that count: neither groups nor the jobs in a `First`, which is one job."""
        hidden, groups = set[int](), set[int]()  # runs in a `First`, and the keys of groups
        for index, facts in sorted(self.runs.items()):  # enclosing runs come first
            if (parent := facts.span.parent) is None:
                continue
            outer, group = self.jobs[parent]
            if outer in hidden or group.span.is_first:
                hidden.add(index)
            if not group.span.is_first:
                groups.add(parent)
        return [facts for index, facts in self.jobs.values() if index not in hidden and facts.span.number not in groups]

    def tally(self, counted: list[JobFacts]) -> Tally:
        """Return the counts of all jobs, as the program tells them, or of those in `counted` if it does not."""
        if self.answer["counts"] is not None:
            return Tally.from_counts(self.answer["counts"], self.answer["may_grow"])
        tally = Tally()
        for key, number in Counter(facts.span.count_key for facts in counted).items():
            tally.add_jobs(*key, number)
        return tally

    def clock_time(self, moment: float) -> str:
        """Return a time on the clock of the run as the time of the day."""
        return time.strftime("%H:%M:%S", time.localtime(moment + self.wall_offset))

    def lacks(self, tally: Tally, counted: list[JobFacts]) -> str:
        """Say what is not known of a run that drops its jobs; "" if nothing is lacking."""
        if self.answer["keeps_jobs"]:
            return ""
        known = sum(facts.span.state.is_settled and not facts.span.forever for facts in counted)
        if (missing := tally.settled_count - known) <= 0:
            return "The program drops jobs that have ended: when each was added is not known"
        opened = self.clock_time(self.opened_at)
        return (
            f"The program drops jobs that have ended, and {missing} of them are not here: from before {opened}, when "
            f"the page was opened, and in each second all but the last {MAX_DROPPED}"
        )

    def report_lacks(self) -> str:
        """Say what a report of the run lacks."""
        counted = self.counted_jobs()
        return self.lacks(self.tally(counted), counted)
