"""A run in another process: the answers of its program to a page, merged into facts, and the contents of the page.

The page shows, as data, the head of the run, its running, failed and waiting jobs, and a chosen job.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from typing import Any, Final

from ..._core.base._states import JobState, ReportedState
from ..._core.base._text_forms import clause, duration_text, join_names, plural
from ..._core.job._labels import printable, shorten, unescape_path
from .._state_styles import STATE_PRECEDENCE, recorded_state, state_class
from ..monitor._run_header import elapsed_text, estimate_text
from ..text._failure_text import common_headline, group_failures
from ..text._verdict import (
    FOREVER_KEY,
    TOLERATED_KEY,
    Tally,
    failed_groups_text,
    forever_jobs_text,
)
from ..trace._record_builder import JobFacts, RecordBuilder, RunFacts
from ..trace._spans import CommandRecord, HostFacts, IncidentMark, Span
from ..trace._trace_file import read_plain
from ..trace._trace_record import GraphDescription, LiveObjects, TraceRecord, tally_of
from ..trace.report import _report
from ._process_record import Record, line_text
from ._watch import MAX_DROPPED

NO_ANSWER: Final[Record] = {
    "number": 0, "seen": "", "now": 0.0, "phase": "waits for a run", "pause": "", "left": None, "left_is_least": False,
    "more": False, "is_over": False, "may_steer": False, "keeps_jobs": True, "tally": None, "unexplained": 0,
    "windows": (), "waiting": (), "questions": (), "resources": (), "mended": False,
}  # fmt: skip
"""The placeholder for an answer until a run begins."""


class WatchedRun:
    """The facts that a program has told of a run."""

    def __init__(self) -> None:
        self.answer: Record = NO_ANSWER
        self.runs: Final[dict[int, RunFacts]] = {}
        self.jobs: Final[dict[int, tuple[int, JobFacts]]] = {}
        """The facts about each job by its key, with the index of its run."""
        self.opened_at = 0.0
        """When the first answer was made, on the clock of the run."""
        self.replaced: Final[list[JobFacts]] = []
        """The failed jobs of a batch in whose place there are new ones."""
        self.incidents: Final[list[IncidentMark]] = []
        self.questions: Final[dict[tuple[int, int], tuple[float, str]]] = {}
        """The questions of jobs, with their times, by the keys and attempts of the jobs."""
        self._constant_fields: Final[dict[str, Any]] = {"wall_offset": 0.0}

    def place(self) -> Record:
        """Return which answer was the last, and the run that it belongs to."""
        return {
            name: self.answer[name]
            for name in ("number", "began")
            if name in self.answer
        }

    def update(self, answer: Record) -> None:
        """Merge an answer with those before it. The first begins anew."""
        if answer["number"] == 0:
            # No run is in progress yet.
            return
        if answer["number"] == 1:
            for known in (
                self.runs,
                self.jobs,
                self.replaced,
                self.incidents,
                self.questions,
            ):
                known.clear()
            host = read_plain(answer["host"], HostFacts)
            self._constant_fields.update(host=host, wall_offset=answer["wall_offset"])
            self.opened_at = answer["now"]
        self.answer = NO_ANSWER | answer
        self.runs.update(read_plain(answer["runs"], dict[int, RunFacts]))
        for index, facts in read_plain(
            list(map(json.loads, answer["jobs"])), list[tuple[int, JobFacts]]
        ):
            if (
                self.jobs.get(facts.span.number, (0, facts))[1].added_at
                != facts.added_at
            ):
                self.replaced.append(self.jobs[facts.span.number][1])
            self.jobs[facts.span.number] = index, facts
        for key, state, started_at, finished_at in answer["steps"]:
            index, facts = self.jobs[key]
            new = dataclasses.replace(
                facts.span,
                state=JobState(state),
                started_at=started_at,
                finished_at=finished_at,
            )
            new = dataclasses.replace(new, took=new.elapsed)
            self.jobs[key] = index, dataclasses.replace(facts, span=new)
        self.incidents.extend(IncidentMark(*details) for details in answer["incidents"])
        for key, question, *_ in self.answer["questions"]:
            span = self.jobs[key][1].span
            self.questions.setdefault(
                (key, len(span.attempts)),
                (span.attempt_started_at or answer["now"], question),
            )
        if answer["graphs"]:
            self._constant_fields["stored_graphs"] = read_plain(
                answer["graphs"], tuple[GraphDescription, ...]
            )

    def take_record(self, record: TraceRecord) -> None:
        """Take over the last run of each scheduler in the record of a run that has ended."""
        # Enclosing ones first.
        for run in {
            (run.parent, run.scheduler_number): run for run in record.runs
        }.values():
            if run.parent is not None and run.parent not in self.jobs:
                # It was a part of an earlier run.
                continue
            index = len(self.runs)
            self.runs[index] = RunFacts(run, (), ())
            for number in run.member_numbers:
                span = dataclasses.replace(
                    record.spans[number], attempts=record.spans[number].attempts[1:]
                )
                facts = JobFacts(
                    span,
                    0,
                    failure=record.failures.get(number),
                    command=record.commands.get(number),
                    printed=record.printed.get(number, ""),
                )
                self.jobs[number] = index, facts
        self.incidents.extend(record.incidents)
        self.answer = NO_ANSWER | {"is_over": True, "phase": "", "now": record.end_time}
        self._constant_fields["wall_offset"] = record.wall_offset

    def record(self) -> TraceRecord:
        """Return the record of the run so far."""
        members: dict[int, list[JobFacts]] = {index: [] for index in self.runs}
        for index, facts in self.jobs.values():
            members[index].append(facts)
        runs = [
            dataclasses.replace(run, jobs=tuple(members[index]))
            for index, run in sorted(self.runs.items())
        ]
        live = LiveObjects(
            tally=None if self.answer["keeps_jobs"] else self.counted()[0]
        )
        return RecordBuilder(runs).build(
            self.incidents, self.answer["now"], live=live, **self._constant_fields
        )

    def counted(self) -> tuple[Tally, list[JobFacts], list[JobFacts]]:
        """Return the counts of all jobs, the known jobs among them, and the groups that failed by themselves.

        Neither groups nor the jobs in a `First` count, which is a single job.
        """
        # For each run in a `First`, the key of the outermost `First`.
        firsts = dict[int, int]()
        schedulers = {
            key
            for facts in self.runs.values()
            if (key := facts.span.parent) is not None
        }
        # Enclosing runs come first.
        for index, facts in sorted(self.runs.items()):
            if (parent := facts.span.parent) is not None:
                outer, scheduler = self.jobs[parent]
                if outer in firsts or scheduler.span.is_first:
                    firsts[index] = firsts.get(outer, parent)
        running = {
            facts.span.number
            for _, facts in self.jobs.values()
            if facts.span.state is JobState.RUNNING
        }
        idle = running - {firsts.get(self.jobs[key][0]) for key in running - schedulers}
        known = [facts for index, facts in self.jobs.values() if index not in firsts]
        groups = {key for key in schedulers if not self.jobs[key][1].span.is_first}
        jobs = [
            _as_waiting(facts)
            if facts.span.is_first and facts.span.number in idle
            else facts
            for facts in known
            if facts.span.number not in groups
        ]
        failed = [
            facts
            for facts in known
            if facts.span.number in groups and facts.failure is not None
        ]
        if self.answer["tally"] is not None:
            return Tally.from_counts(*self.answer["tally"]), jobs, failed
        return (
            tally_of((facts.span for facts in jobs), (facts.span for facts in failed)),
            jobs,
            failed,
        )

    def attempt_mark(self, key: int | None) -> str:
        """Return the `attempt_mark` of a job, as its program has told its attempts."""
        numbers = list[str]()
        while key in self.jobs:
            span = self.jobs[key][1].span
            numbers.append(
                str(
                    1
                    + max((number for number, _, _ in span.failed_attempts), default=0)
                )
            )
            key = span.parent
        return ".".join(numbers)

    def names_of(self, keys: Sequence[int | None]) -> str:
        """Return the names of the first of these jobs, and how many there are more, or "" for None."""
        names = [
            name_of(self.jobs[key][1].span.path)
            for key in keys[:MAX_NAMED]
            if key in self.jobs
        ]
        return join_names(names, MAX_NAMED, len(keys))

    def told_answers(self) -> Iterator[tuple[int, str]]:
        """Yield each job that has asked, and how its question went, if somebody outside has said so."""
        asked = {key for key, _ in self.questions}
        for mark in self.incidents:
            if mark.is_steering and mark.job_number in asked:
                yield mark.job_number, mark.message

    def clock_time(self, moment: float) -> str:
        """Return a time on the clock of the run as the time of the day."""
        return time.strftime(
            "%H:%M:%S", time.localtime(moment + self._constant_fields["wall_offset"])
        )

    def lacks(self, tally: Tally, counted: list[JobFacts]) -> str:
        """Return a text about the facts that a run which drops its jobs lacks, or "" if it lacks none."""
        if self.answer["keeps_jobs"]:
            return ""
        known = sum(
            facts.span.state.is_settled and not facts.span.forever for facts in counted
        )
        if (missing := tally.settled_count - known) <= 0:
            return "The program drops jobs that have ended: when each was added is not known"
        opened = self.clock_time(self.opened_at)
        return (
            f"The program drops jobs that have ended, and {missing} of them are not here: from before {opened}, when "
            f"the page was opened, and in each second all but the last {MAX_DROPPED}"
        )


def _as_waiting(facts: JobFacts) -> JobFacts:
    """Return the facts of a `First` without a running job, as `reported_state` has them."""
    return dataclasses.replace(
        facts, span=dataclasses.replace(facts.span, state=JobState.SCHEDULED)
    )


MAX_RUNNING: Final = 200
MAX_FAILED: Final = 8
MAX_RETRIED: Final = 50
MAX_LINKS: Final = 40
MAX_NAMED: Final = 3
MAX_BARS: Final = 60
MAX_RESOURCES: Final = 50
"""The maximum numbers of lines for running and for failed jobs, of jobs that a button tries again, of requirements of a
job, of names in a line, of bars in the timeline of a run that goes on, and of resources."""


def name_of(path: str) -> str:
    if not path.strip():
        return "(empty label)"
    return printable(shorten(unescape_path(path)))


def head(tally: Tally, asking: int = 0) -> Record:
    """Return the texts in the head of the page: the counts, which add up to the number of all jobs, and the rest."""
    tolerated = tally.count(TOLERATED_KEY)
    forever = tally.count(FOREVER_KEY)
    remarks: dict[ReportedState, str] = {
        JobState.FAILED: clause(" ({} tolerated)", tolerated),
        JobState.RUNNING: clause(" ({} waiting for a person)", asking),
    }
    return {
        "counts": [
            [state_class(each), remarks.get(each, ""), count, each.value]
            for each, count in tally.states()
        ],
        "count": tally.job_count,
        "settled": tally.settled_count,
        "may_grow": tally.may_grow,
        "beside": [
            *filter(
                None,
                (forever_jobs_text(forever), failed_groups_text(tally.failed_groups)),
            )
        ],
    }


def console(run: WatchedRun, problem: str, has_ended: bool) -> Record:
    """Return the facts that the page shows about the run so far, except its graph."""
    answer = run.answer
    now = run.answer["now"]
    tally, counted, failed_groups = run.counted()
    root = next(
        (facts.span for facts in run.runs.values() if facts.span.parent is None), None
    )
    questions = [
        asked for asked in answer["questions"] if asked[0] in run.jobs and not has_ended
    ]
    asking = {key for key, *_ in questions}
    running = [
        one.span
        for one in counted
        if one.span.state is JobState.RUNNING and one.span.number not in asking
    ]
    running.sort(
        key=lambda span: (span.forever, span.attempt_started_at or now, span.number)
    )
    groups = failure_groups(counted, failed_groups)
    steered = {span.number for span in running[:MAX_RUNNING]} | asking
    steered.update(
        one.span.number for group in groups[:MAX_FAILED] for one in group[:MAX_RETRIED]
    )
    began = None if root is None else root.started_at
    facts = {
        name: answer[name]
        for name in ("seen", "phase", "mended", "left_is_least", "unexplained")
    }
    facts |= head(tally, len(asking))
    title = ""
    if root is not None:
        title = name_of(root.label)
    for resource in answer["resources"][:MAX_RESOURCES]:
        owner = name_of(resource["scheduler"])
        facts["beside"].append(
            clause("{}: ", owner if owner != title else "")
            + printable(resource["text"])
        )
    if len(answer["resources"]) > MAX_RESOURCES:
        facts["beside"].append(
            f"and {len(answer['resources']) - MAX_RESOURCES} more resources"
        )
    return facts | {
        "title": title,
        "ended": has_ended,
        "verdict": "",
        "paused": answer["pause"],
        "steered": answer["may_steer"],
        "problem": problem,
        "lacks": run.lacks(tally, counted),
        "elapsed": "" if began is None else elapsed_text(now - began),
        "left": ""
        if answer["left"] is None
        else estimate_text(answer["left"], answer["left_is_least"]),
        "time": run.clock_time(now),
        "windows": [
            [key, run.names_of([key]), *slots] for key, *slots in answer["windows"]
        ],
        "running": [
            [
                span.number,
                name_of(span.path),
                "forever"
                if span.forever
                else f"attempt {len(span.attempts) + 1}" * bool(span.attempts),
                stopwatch_text(now - (span.attempt_started_at or now)),
            ]
            for span in running[:MAX_RUNNING]
        ],
        "asks": [_question_row(run, *asked) for asked in questions],
        "told": {key: printable(text) for key, text in run.told_answers()},
        "marks": {key: run.attempt_mark(key) for key in steered},
        "bars": _timeline_bars(run, counted),
        "running_count": len(running),
        "running_forever": sum(span.forever for span in running),
        "failed": [_failure_row(run, group) for group in groups[:MAX_FAILED]],
        "failed_count": sum(map(len, groups)),
        "waiting": [
            [name, keys[0], len(keys), run.names_of(keys), text]
            for name, keys, text in waiting_rows(run)
        ],
        "idle": tally.count(JobState.IDLE),
    }


def _timeline_bars(run: WatchedRun, counted: list[JobFacts]) -> list[Any]:
    """Return the bars of the jobs that run, and of those that have ended last, in the order of their starts.

    The time of the first start comes before the bars. A bar has its key, name and style, and its start and end in
    percent of the time from the first start to now.
    """
    spans = [
        facts.span
        for facts in counted
        if facts.span.started_at is not None and not facts.span.forever
    ]
    shown = nlargest(MAX_BARS, spans, key=_last_moment)
    if not shown:
        return ["", []]
    shown.sort(key=lambda span: (span.started_at or 0.0, span.number))
    now = run.answer["now"]
    first = shown[0].started_at or 0.0
    unit = max(now - first, 1e-9) / 100
    bars = list[Any]()
    for span in shown:
        end = now if span.finished_at is None else span.finished_at
        ends = [
            round((moment - first) / unit, 1)
            for moment in (span.started_at or 0.0, end)
        ]
        bars.append(
            [span.number, name_of(span.path), state_class(recorded_state(span)), *ends]
        )
    return [run.clock_time(first), bars]


def _last_moment(span: Span) -> tuple[bool, float]:
    """Sort jobs by their ends. Those that run come last, and of these, the one that has run for the longest time."""
    if span.finished_at is None:
        return True, -(span.started_at or 0.0)
    return False, span.finished_at


def _question_row(
    run: WatchedRun,
    key: int,
    question: str,
    choices: Any,
    is_secret: bool,
    refusal: str,
    _number: int,
) -> list[Any]:
    shown = choices and [[value, printable(value)] for value in choices]
    return [
        key,
        run.names_of([key]),
        _report.printable_lines(question),
        shown,
        is_secret,
        printable(refusal),
    ]


def ending(record: TraceRecord) -> Record:
    """Return the page's text about the end of a run: the verdict, as all views have it."""
    run = record.root_run
    if run is None:
        return {"verdict": "", "is_good": True}
    verdict = record.verdict(run, run.stop_reason)
    return {"verdict": verdict.sentence, "is_good": verdict.is_good}


def failure_groups(
    counted: list[JobFacts], failed_groups: list[JobFacts]
) -> list[list[JobFacts]]:
    """Return the failures, similar failures together, as rows of the page."""
    failed = (
        (one, one.failure)
        for one in (*counted, *failed_groups)
        if one.failure is not None
    )
    return group_failures(
        (one, one.span.critical, failure.number, failure.kind)
        for one, failure in failed
    )


def waiting_rows(run: WatchedRun) -> Iterator[tuple[str, list[int], str]]:
    """Yield a name, the keys and the words for all jobs with the same wait. Lines of many schedulers share a row."""
    kinds: dict[str, list[tuple[str, list[int], str]]] = {}
    for name, keys, _, text in run.answer["waiting"]:
        wait_text = text
        if keys[1:] and text.startswith("waits "):
            wait_text = f"wait {text.removeprefix('waits ')}"
        kinds.setdefault(name.rpartition(" ")[0], []).append((name, keys, wait_text))
    for kind, rows in kinds.items():
        if len(rows) > MAX_NAMED:
            text = f"{rows[0][2].partition(':')[0].replace('waits ', 'wait ', 1)}, in {len(rows)} groups"
            rows = [(kind, [key for _, keys, _ in rows for key in keys], text)]
        yield from rows


def _failure_row(run: WatchedRun, group: list[JobFacts]) -> list[Any]:
    first = group[0].span
    failure = group[0].failure
    assert failure is not None
    tag = {True: "critical", None: "", False: "tolerated"}[first.critical]
    if first.state is JobState.BLOCKED:
        tag = "did not run"
    headline = common_headline(one.failure for one in group)
    text = printable(" · ".join(filter(None, (headline, _last_line(group[0].command)))))
    keys = [one.span.number for one in group]
    place = printable(str(failure.location or ""))
    return [
        first.number,
        len(group),
        run.names_of(keys),
        text,
        tag,
        place,
        keys[:MAX_RETRIED],
    ]


def _last_line(command: CommandRecord | None) -> str:
    """Return the last line that a command has written, or "" if that is not known."""
    ends = ""
    if command is not None:
        ends = "\n".join(text for _, text in _report.command_outputs(command))
    return "".join(ends.rstrip().splitlines()[-1:])


def stopwatch_text(seconds: float) -> str:
    """Return the seconds that something has run so far, such as `1:05`: aligned, they can be compared."""
    minutes, rest = divmod(max(0, math.floor(seconds)), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


# ---- the job that was chosen


def _retry_button(state: JobState, told: Record, is_mended: bool) -> list[str]:
    """Return the word, the text and the question of the button that tries a job again, with the mended code if any is.

    It asks if a success is taken back, with how many others, and what is cancelled for it.
    """
    others = told.get("following", 0)
    running = list(map(printable, told.get("running", ())))
    word = "reload and " * is_mended + "try-again"
    code = " with the mended code" * is_mended
    if not (state is JobState.SUCCEEDED or others):
        return [word, f"Try again{code}", ""]
    question = f"Run it again{clause(', and {} that used it', others and plural(others, 'job'))}?"
    if running:
        return [
            f"{word} --cancel",
            f"Run again{code}",
            f"Cancel {join_names(running, MAX_NAMED)}? {question}",
        ]
    return [word, f"Run again{code}", question]


def describe_job(run: WatchedRun, key: int, told: Record) -> Record:
    """Return the facts that the page shows about a job.

    Args:
        run: the run.
        key: the job.
        told: the facts that the program was asked about this job, or nothing if it has ended.

    """
    index, facts = run.jobs[key]
    span = facts.span
    failure = facts.failure
    command = facts.command
    line = str(told.get("command_line") or "")
    command_facts = ""
    files = list[Any]()
    outputs = list[Any]()
    if command is not None:
        line = command.line
        command_facts = " · ".join(_report.command_fact_texts(command))
        files += _report.file_links(command, None)
        outputs += map(list, _report.command_outputs(command))
    if result := str(told.get("result", "")):
        outputs.append(["result", _report.printable_lines(result)])
    if facts.printed and not told.get("output"):
        outputs.append([_report.PRINTED, _report.printable_lines(facts.printed)])
    so_far = "" if span.state.is_settled else " so far"
    outputs += [
        [name + so_far, _report.printable_lines(text)]
        for name, text in told.get("output", ())
    ]
    required_by = [
        one.span.number
        for at, one in run.jobs.values()
        if at == index and key in one.span.required
    ]
    return {
        "key": key,
        "name": name_of(span.path),
        "state": recorded_state(span).value,
        "style": state_class(recorded_state(span)),
        "mark": run.attempt_mark(key),
        "can_cancel": not span.state.is_settled,
        "can_retry": told.get("again", span.state is JobState.FAILED),
        "retry": _retry_button(span.state, told, run.answer["mended"]),
        "facts": [[name, printable(text)] for name, text in _job_facts(run, facts)],
        "why": printable(str(told.get("explanation", ""))),
        "status": printable(
            " · ".join(
                filter(None, (str(told.get("status", "")), line_text(told.get("line"))))
            )
        ),
        "inside": states_text(facts.span for facts in jobs_in(run, key)),
        "group": _links(run, [] if span.parent is None else [span.parent]),
        "blocked_by": _links(run, [] if span.blocked_by is None else [span.blocked_by]),
        "requires": _links(run, list(span.required)),
        "required_by": _links(run, required_by),
        "error": "" if failure is None else printable(failure.headline),
        "traceback": ""
        if failure is None
        else _report.printable_lines(failure.traceback),
        "command": printable(line),
        "command_facts": command_facts,
        "files": files,
        "outputs": outputs,
        "unkept": _unkept_text(list(told.get("unkept", ())), span, told),
    }


def jobs_in(run: WatchedRun, key: int | None) -> list[JobFacts]:
    """Return the jobs that count in a group, or the members of a `First`, or for None, all jobs and members."""
    groups = {key}
    outer = {facts.span.parent for facts in run.runs.values()}
    # Enclosing runs come first.
    for _, facts in sorted(run.runs.items()):
        parent = facts.span.parent
        span = run.jobs[parent][1].span if parent in run.jobs else None
        if (
            span is not None
            and span.parent in groups
            and (key is None or not span.is_first)
        ):
            groups.add(parent)
    members = (facts for _, facts in run.jobs.values() if facts.span.parent in groups)
    return [
        facts
        for facts in members
        if facts.span.is_first or facts.span.number not in outer
    ]


def has_words(text: str, words: str) -> bool:
    """Return whether a text contains all words, in any order, in lower or upper case."""
    return all(map(text.casefold().__contains__, words.casefold().split()))


def states_text(spans: Iterable[Span]) -> str:
    counts = Counter(map(recorded_state, spans))
    return ", ".join(
        f"{counts[state]} {state.value}" for state in STATE_PRECEDENCE if counts[state]
    )


def _unkept_text(streams: list[str], span: Span, told: Record) -> str:
    """Return a text about the outputs of a running job that the page cannot show."""
    is_python = (
        span.state is JobState.RUNNING
        and told.get("line") is not None
        and not told["output"]
    )
    if not (streams or is_python):
        return ""
    subject = "what it prints"
    if not is_python:
        subject = join_names(streams)
    verb = "go" if len(streams) > 1 else "goes"
    return f"{subject} {verb} to the terminal or the log of the program"


def _links(run: WatchedRun, keys: list[int]) -> list[Any]:
    spans = [run.jobs[key][1].span for key in keys[:MAX_LINKS] if key in run.jobs]
    links: list[Any] = [
        [span.number, name_of(span.path), state_class(recorded_state(span))]
        for span in spans
    ]
    if len(keys) > MAX_LINKS:
        links.append([None, f"and {len(keys) - MAX_LINKS} more", ""])
    return links


def _job_facts(run: WatchedRun, facts: JobFacts) -> Iterator[tuple[str, str]]:
    span = facts.span
    yield "kind", span.kind + ", forever" * span.forever
    if span.critical is not None:
        yield "a failure", "ends the run" if span.critical else "is tolerated"
    if span.started_at is not None and (began := span.attempt_started_at) is not None:
        end = ""
        if span.finished_at is not None:
            end = f", until {run.clock_time(span.finished_at)}"
        if span.attempts:
            # Two ages: the age of the attempt, and the age of the job.
            yield "first started", run.clock_time(span.started_at)
        yield "started", run.clock_time(began)
        if span.took is not None:
            yield "took", duration_text(span.took) + end
        elif span.state is JobState.RUNNING:
            yield "has run for", duration_text(run.answer["now"] - began)
        yield "attempts", str(len(span.attempts) + 1)
    for number, ended, error in span.failed_attempts:
        yield (
            f"attempt {number}" if number else "was blocked",
            f"{error or 'succeeded'}, at {run.clock_time(ended)}",
        )
    if span.restored:
        took = ""
        if span.restored_took is not None:
            took = f"; it took {duration_text(span.restored_took)}"
        yield "restored", f"from the journal{took}"
    if span.rerun_cause is not None:
        yield "runs again", f"because {span.rerun_cause}"
    if facts.needs:
        needs = (
            (name, f"{need:g}" if isinstance(need, float) else need)
            for name, need in facts.needs.items()
        )
        yield "needs", ", ".join(f"{name}={need}" for name, need in needs)
