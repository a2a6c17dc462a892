"""A run in another process: the answers of its program to a page, merged into facts."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, Final

from ..._core.base._states import JobState
from ..text._verdict import Tally
from ..trace._facts import JobFacts, RunFacts
from ..trace._span_builder import RecordBuilder
from ..trace._spans import HostFacts, IncidentMark
from ..trace._trace_file import read_plain
from ..trace._trace_record import GraphDescription, LiveObjects, TraceRecord, tally_of
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
    "failed_groups": 0,
    "may_grow": False,
    "keeps_jobs": True,
}
"""What stands in place of an answer until a run begins."""


class WatchedRun:
    """What a program has told of one run."""

    def __init__(self) -> None:
        self.answer: Record = NO_ANSWER
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
        for index, facts in read_plain(list(map(json.loads, answer["jobs"])), list[tuple[int, JobFacts]]):
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

    def take_record(self, record: TraceRecord) -> None:
        """Take over the last run of each scheduler in the record of a run that has ended."""
        for run in {(run.parent, run.scheduler_number): run for run in record.runs}.values():  # enclosing ones first
            if run.parent is not None and run.parent not in self.jobs:
                continue  # it was a part of an earlier run
            index = len(self.runs)
            self.runs[index] = RunFacts(run, (), ())
            for number in run.member_numbers:
                span = dataclasses.replace(record.spans[number], attempts=record.spans[number].attempts[1:])
                failure, command = record.failures.get(number), record.commands.get(number)
                self.jobs[number] = index, JobFacts(span, 0, failure=failure, command=command)
        self.answer = NO_ANSWER | {"is_over": True, "phase": "", "now": record.end_time}
        self._constant_fields["wall_offset"] = record.wall_offset

    def record(self) -> TraceRecord:
        """Return the record of the run so far."""
        members: dict[int, list[JobFacts]] = {index: [] for index in self.runs}
        for index, facts in self.jobs.values():
            members[index].append(facts)
        runs = [dataclasses.replace(run, jobs=tuple(members[index])) for index, run in sorted(self.runs.items())]
        live = LiveObjects(tally=None if self.answer["keeps_jobs"] else self.counted()[0])
        return RecordBuilder(runs).build(self._incidents, self.answer["now"], live=live, **self._constant_fields)

    def counted(self) -> tuple[Tally, list[JobFacts], list[JobFacts]]:
        """Return the counts of all jobs, those of them that are known, and the groups that failed by themselves.

        Neither groups nor the jobs in a `First` count, which is one job.
        """
        firsts = dict[int, int]()  # for each run in a `First`, the key of the outermost one
        schedulers = {key for facts in self.runs.values() if (key := facts.span.parent) is not None}
        for index, facts in sorted(self.runs.items()):  # enclosing runs come first
            if (parent := facts.span.parent) is not None:
                outer, scheduler = self.jobs[parent]
                if outer in firsts or scheduler.span.is_first:
                    firsts[index] = firsts.get(outer, parent)
        running = {facts.span.number for _, facts in self.jobs.values() if facts.span.state is JobState.RUNNING}
        idle = running - {firsts.get(self.jobs[key][0]) for key in running - schedulers}
        known = [facts for index, facts in self.jobs.values() if index not in firsts]
        groups = {key for key in schedulers if not self.jobs[key][1].span.is_first}
        jobs = [
            _as_waiting(facts) if facts.span.is_first and facts.span.number in idle else facts
            for facts in known
            if facts.span.number not in groups
        ]
        failed = [facts for facts in known if facts.span.number in groups and facts.failure is not None]
        if self.answer["counts"] is None:
            return tally_of((facts.span for facts in jobs), (facts.span for facts in failed)), jobs, failed
        tally = Tally.from_counts(self.answer["counts"], self.answer["may_grow"])
        tally.failed_groups = self.answer["failed_groups"]
        return tally, jobs, failed

    def counted_jobs(self) -> list[JobFacts]:
        return self.counted()[1]

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
        tally, jobs, _ = self.counted()
        return self.lacks(tally, jobs)


def _as_waiting(facts: JobFacts) -> JobFacts:
    """Return the facts of a `First` of which no job runs, as `reported_state` has them."""
    return dataclasses.replace(facts, span=dataclasses.replace(facts.span, state=JobState.SCHEDULED))
