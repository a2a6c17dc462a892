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
from typing import Any, Final, NamedTuple

from ..._core.base._states import JobState, ReportedState
from ..._core.base._text_forms import (
    clause,
    duration_text,
    join_names,
    plural,
)
from ..._core.job._labels import printable, shorten, unescape_path
from .._families import fit_name
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


class CountedJobs(NamedTuple):
    """The jobs of a run that count.

    Neither groups nor the jobs in a `First` do, which is a single job.

    Attributes:
        tally: the counts of all jobs.
        jobs: the jobs among them that are known.
        failed_groups: the groups that failed by themselves.

    """

    tally: Tally
    jobs: list[JobFacts]
    failed_groups: list[JobFacts]


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
            self._constant_fields["host"] = read_plain(answer["host"], HostFacts)
            self._constant_fields["wall_offset"] = answer["wall_offset"]
            self.opened_at = answer["now"]
        self.answer = NO_ANSWER | answer
        self.runs.update(read_plain(answer["runs"], dict[int, RunFacts]))
        told_jobs = list(map(json.loads, answer["jobs"]))
        for index, facts in read_plain(told_jobs, list[tuple[int, JobFacts]]):
            key = facts.span.number
            _, earlier = self.jobs.get(key, (index, facts))
            if earlier.added_at != facts.added_at:
                self.replaced.append(earlier)
            self.jobs[key] = index, facts
        for key, state, started_at, finished_at in answer["steps"]:
            index, facts = self.jobs[key]
            span = dataclasses.replace(
                facts.span,
                state=JobState(state),
                started_at=started_at,
                finished_at=finished_at,
            )
            span = dataclasses.replace(span, took=span.elapsed)
            self.jobs[key] = index, dataclasses.replace(facts, span=span)
        self.incidents.extend(IncidentMark(*details) for details in answer["incidents"])
        for key, question, *_ in self.answer["questions"]:
            span = self.jobs[key][1].span
            asked_at = span.attempt_started_at or answer["now"]
            self.questions.setdefault((key, len(span.attempts)), (asked_at, question))
        if answer["graphs"]:
            graphs = read_plain(answer["graphs"], tuple[GraphDescription, ...])
            self._constant_fields["stored_graphs"] = graphs

    def take_record(self, record: TraceRecord) -> None:
        """Take over the last run of each scheduler in the record of a run that has ended."""
        last_runs = {(run.parent, run.scheduler_number): run for run in record.runs}
        # Enclosing runs come first.
        for run in last_runs.values():
            if run.parent is not None and run.parent not in self.jobs:
                # It was a part of an earlier run.
                continue
            index = len(self.runs)
            self.runs[index] = RunFacts(run, (), ())
            for number in run.member_numbers:
                span = record.spans[number]
                facts = JobFacts(
                    dataclasses.replace(span, attempts=span.attempts[1:]),
                    0,
                    failure=record.failures.get(number),
                    command=record.commands.get(number),
                    printed=record.printed.get(number, ""),
                )
                self.jobs[number] = index, facts
        self.incidents.extend(record.incidents)
        self.answer = NO_ANSWER | {
            "is_over": True,
            "phase": "",
            "now": record.end_time,
        }
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
        tally = None
        if not self.answer["keeps_jobs"]:
            tally = self.counted().tally
        return RecordBuilder(runs).build(
            self.incidents,
            self.answer["now"],
            live=LiveObjects(tally=tally),
            **self._constant_fields,
        )

    def counted(self) -> CountedJobs:
        """Return the jobs that count."""
        schedulers = {run.span.parent for run in self.runs.values()}
        firsts = self._enclosing_firsts()
        # A `First` runs while one of its jobs does.
        busy: set[int] = set()
        for key, (index, facts) in self.jobs.items():
            is_running = facts.span.state is JobState.RUNNING
            if is_running and index in firsts and key not in schedulers:
                busy.add(firsts[index])
        jobs: list[JobFacts] = []
        failed_groups: list[JobFacts] = []
        for key, (index, facts) in self.jobs.items():
            if index in firsts:
                continue
            if facts.span.is_first:
                shown = facts
                if facts.span.state is JobState.RUNNING and key not in busy:
                    # As `reported_state` has it.
                    span = dataclasses.replace(facts.span, state=JobState.SCHEDULED)
                    shown = dataclasses.replace(facts, span=span)
                jobs.append(shown)
            elif key not in schedulers:
                jobs.append(facts)
            elif facts.failure is not None:
                failed_groups.append(facts)
        if self.answer["tally"] is not None:
            tally = Tally.from_counts(*self.answer["tally"])
        else:
            tally = tally_of(_spans(jobs), _spans(failed_groups))
        return CountedJobs(tally, jobs, failed_groups)

    def _enclosing_firsts(self) -> dict[int, int]:
        """Return the key of the outermost `First` around each run in a `First`."""
        firsts: dict[int, int] = {}
        # Enclosing runs come first.
        for index, run in sorted(self.runs.items()):
            parent = run.span.parent
            if parent is None:
                continue
            outer, scheduler = self.jobs[parent]
            if outer in firsts or scheduler.span.is_first:
                firsts[index] = firsts.get(outer, parent)
        return firsts

    def attempt_mark(self, key: int | None) -> str:
        """Return the `attempt_mark` of a job, as its program has told its attempts."""
        numbers: list[str] = []
        while key in self.jobs:
            span = self.jobs[key][1].span
            failed = [number for number, _, _ in span.failed_attempts]
            numbers.append(str(max(failed, default=0) + 1))
            key = span.parent
        return ".".join(numbers)

    def known_spans(self, keys: Iterable[int | None]) -> list[Span]:
        """Return the spans of those of these jobs that are known."""
        return [self.jobs[key][1].span for key in keys if key in self.jobs]

    def names_of(self, keys: Sequence[int | None]) -> str:
        """Return the names of the first of these jobs, and how many there are more, or "" for None."""
        spans = self.known_spans(keys[:MAX_NAMED])
        names = [name_of(span.path) for span in spans]
        return join_names(names, MAX_NAMED, len(keys))

    def told_answers(self) -> Iterator[tuple[int, str]]:
        """Yield each job that has asked, and how its question went, if somebody outside has said so."""
        asked = {key for key, _ in self.questions}
        for mark in self.incidents:
            if mark.is_steering and mark.job_number in asked:
                yield mark.job_number, mark.message

    def clock_time(self, moment: float) -> str:
        """Return a time on the clock of the run as the time of the day."""
        wall_time = moment + self._constant_fields["wall_offset"]
        return time.strftime("%H:%M:%S", time.localtime(wall_time))

    def lacks(self, counted: CountedJobs) -> str:
        """Return a text about the facts that a run which drops its jobs lacks, or "" if it lacks none."""
        if self.answer["keeps_jobs"]:
            return ""
        missing = counted.tally.settled_count
        for span in _spans(counted.jobs):
            if span.state.is_settled and not span.forever:
                missing -= 1
        if missing <= 0:
            return "The program drops jobs that have ended: when each was added is not known"
        opened = self.clock_time(self.opened_at)
        return (
            f"The program drops jobs that have ended, and {missing} of them are not here: "
            f"from before {opened}, when the page was opened, and in each second all but the "
            f"last {MAX_DROPPED}"
        )


def _spans(jobs: Iterable[JobFacts]) -> Iterator[Span]:
    return (facts.span for facts in jobs)


MAX_RUNNING: Final = 200
MAX_FAILED: Final = 8
PLURALS: Final = {
    "waits ": "wait ",
    "is ready, and starts ": "are ready, and start ",
    "is ready, ": "are ready, ",
}
"""How the explanation of a wait begins, for one job and for several."""
MAX_RETRIED: Final = 50
MAX_LINKS: Final = 40
MAX_NAMED: Final = 3
MAX_BARS: Final = 60
MAX_RESOURCES: Final = 50
"""The maximum numbers of lines for running and for failed jobs, of jobs that a button tries again, of requirements of a
job, of names in a line, of bars in the timeline of a run that goes on, and of resources."""
BAR_NAME_LENGTH: Final = 32
"""The number of characters of a name beside a bar: a wide page has them in a line, a phone in two."""


def name_of(path: str) -> str:
    if not path.strip():
        return "(empty label)"
    return printable(shorten(unescape_path(path)))


def job_cells(span: Span) -> list[Any]:
    """Return the key, the name and the style of a job."""
    return [span.number, name_of(span.path), state_class(recorded_state(span))]


def head(tally: Tally, asking: int = 0) -> Record:
    """Return the texts in the head of the page: the counts, which add up to the number of all jobs, and the rest."""
    remarks: dict[ReportedState, str] = {
        JobState.FAILED: clause(" ({} tolerated)", tally.count(TOLERATED_KEY)),
        JobState.RUNNING: clause(" ({} waiting for a person)", asking),
    }
    beside = (
        forever_jobs_text(tally.count(FOREVER_KEY)),
        failed_groups_text(tally.failed_groups),
    )
    return {
        "counts": [
            [state_class(state), remarks.get(state, ""), count, state.value]
            for state, count in tally.states()
        ],
        "count": tally.job_count,
        "settled": tally.settled_count,
        "may_grow": tally.may_grow,
        "beside": [text for text in beside if text],
    }


def console(run: WatchedRun, problem: str, has_ended: bool) -> Record:
    """Return the facts that the page shows about the run so far, except its graph."""
    answer = run.answer
    now = answer["now"]
    counted = run.counted()
    tally = counted.tally
    questions: list[Any] = []
    if not has_ended:
        questions = [asked for asked in answer["questions"] if asked[0] in run.jobs]
    asking = {key for key, *_ in questions}
    running = [
        span
        for span in _spans(counted.jobs)
        if span.state is JobState.RUNNING and span.number not in asking
    ]
    running.sort(
        key=lambda span: (span.forever, span.attempt_started_at or now, span.number)
    )
    groups = failure_groups(counted)
    steered = asking | {span.number for span in running[:MAX_RUNNING]}
    for group in groups[:MAX_FAILED]:
        steered.update(one.span.number for one in group[:MAX_RETRIED])
    title = elapsed = left = ""
    for facts in run.runs.values():
        root = facts.span
        if root.parent is None:
            title = name_of(root.label)
            if root.started_at is not None:
                elapsed = elapsed_text(now - root.started_at)
            break
    if answer["left"] is not None:
        left = estimate_text(answer["left"], answer["left_is_least"])
    kept = "seen", "phase", "mended", "left_is_least", "unexplained"
    shown = head(tally, len(asking)) | {name: answer[name] for name in kept}
    shown["beside"] += _resource_texts(answer["resources"], title)
    return shown | {
        "title": title,
        "ended": has_ended,
        "verdict": "",
        "paused": answer["pause"],
        "steered": answer["may_steer"],
        "problem": problem,
        "lacks": run.lacks(counted),
        "elapsed": elapsed,
        "left": left,
        "time": run.clock_time(now),
        "windows": [
            [key, run.names_of([key]), *slots] for key, *slots in answer["windows"]
        ],
        "running": [_running_row(span, now) for span in running[:MAX_RUNNING]],
        "asks": [_question_row(run, asked) for asked in questions],
        "told": {key: printable(text) for key, text in run.told_answers()},
        "marks": {key: run.attempt_mark(key) for key in steered},
        "bars": _timeline_bars(run, counted.jobs),
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
        span
        for span in _spans(counted)
        if span.started_at is not None and not span.forever
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
        began = span.started_at or 0.0
        end = now if span.finished_at is None else span.finished_at
        ends = [round((moment - first) / unit, 1) for moment in (began, end)]
        cells = job_cells(span)
        bars.append([*cells, *ends, fit_name(cells[1], BAR_NAME_LENGTH)])
    return [run.clock_time(first), bars]


def _last_moment(span: Span) -> tuple[bool, float]:
    """Sort jobs by their ends. Those that run come last, and of these, the one that has run for the longest time."""
    if span.finished_at is None:
        return True, -(span.started_at or 0.0)
    return False, span.finished_at


def _resource_texts(resources: list[Record], title: str) -> Iterator[str]:
    for resource in resources[:MAX_RESOURCES]:
        text = printable(resource["text"])
        owner = name_of(resource["scheduler"])
        yield text if owner == title else f"{owner}: {text}"
    if len(resources) > MAX_RESOURCES:
        yield f"and {len(resources) - MAX_RESOURCES} more resources"


def _running_row(span: Span, now: float) -> list[Any]:
    remark = ""
    if span.forever:
        remark = "forever"
    elif span.attempts:
        remark = f"attempt {len(span.attempts) + 1}"
    return [span.number, name_of(span.path), remark, stopwatch_text(span, now)]


def _question_row(run: WatchedRun, asked: Any) -> list[Any]:
    key, question, choices, is_secret, refusal, _ = asked
    return [
        key,
        run.names_of([key]),
        _report.printable_lines(question),
        choices and [[value, printable(value)] for value in choices],
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


def failure_groups(counted: CountedJobs) -> list[list[JobFacts]]:
    """Return the failures, similar failures together, as rows of the page."""
    failures: list[tuple[JobFacts, bool | None, int, str]] = []
    for facts in (*counted.jobs, *counted.failed_groups):
        failure = facts.failure
        if failure is not None:
            failures.append((facts, facts.span.critical, failure.number, failure.kind))
    return group_failures(failures)


def waiting_rows(run: WatchedRun) -> Iterator[tuple[str, list[int], str]]:
    """Yield a name, the keys and the words for all jobs with the same wait. Lines of many schedulers share a row."""
    kinds: dict[str, list[tuple[str, list[int], str]]] = {}
    for name, keys, _, text in run.answer["waiting"]:
        wait_text = text
        if keys[1:]:
            wait_text = _in_plural(text)
        kinds.setdefault(name.rpartition(" ")[0], []).append((name, keys, wait_text))
    for kind, rows in kinds.items():
        if len(rows) <= MAX_NAMED:
            yield from rows
            continue
        all_keys = list[int]()
        for _, keys, _ in rows:
            all_keys += keys
        words = _in_plural(rows[0][2].partition(":")[0])
        yield kind, all_keys, f"{words}, in {len(rows)} groups"


def _in_plural(explanation: str) -> str:
    for one, several in PLURALS.items():
        if explanation.startswith(one):
            return several + explanation.removeprefix(one)
    return explanation


def _failure_row(run: WatchedRun, group: list[JobFacts]) -> list[Any]:
    first = group[0]
    assert first.failure is not None
    tag = {True: "critical", None: "", False: "tolerated"}[first.span.critical]
    if first.span.state is JobState.BLOCKED:
        tag = "did not run"
    headline = common_headline(one.failure for one in group)
    keys = [one.span.number for one in group]
    return [
        first.span.number,
        len(group),
        run.names_of(keys),
        _joined(headline, _last_line(first.command)),
        tag,
        printable(str(first.failure.location or "")),
        keys[:MAX_RETRIED],
    ]


def _joined(*texts: str) -> str:
    return printable(" · ".join(text for text in texts if text))


def _last_line(command: CommandRecord | None) -> str:
    """Return the last line that a command has written, or "" if that is not known."""
    if command is None:
        return ""
    written = "\n".join(text for _, text in _report.command_outputs(command))
    lines = written.rstrip().splitlines()
    return lines[-1] if lines else ""


def stopwatch_text(span: Span, now: float) -> str:
    """Return how long a job has run so far, such as `1:05`: aligned, such times can be compared."""
    elapsed = now - (span.attempt_started_at or now)
    minutes, seconds = divmod(max(0, math.floor(elapsed)), 60)
    if minutes < 60:
        return f"{minutes}:{seconds:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


# ---- the job that was chosen


def _retry_button(state: JobState, told: Record, is_mended: bool) -> list[str]:
    """Return the word, the text and the question of the button that tries a job again, with the mended code if any is.

    It asks if a success is taken back, with how many others, and what is cancelled for it.
    """
    word = "try-again"
    code = ""
    if is_mended:
        word = "reload and try-again"
        code = " with the mended code"
    others = told.get("following", 0)
    if state is not JobState.SUCCEEDED and not others:
        return [word, f"Try again{code}", ""]
    question = "Run it again?"
    if others:
        question = f"Run it again, and {plural(others, 'job')} that used it?"
    running = [printable(name) for name in told.get("running", ())]
    if running:
        word = f"{word} --cancel"
        question = f"Cancel {join_names(running, MAX_NAMED)}? {question}"
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
    command = facts.command
    line = str(told.get("command_line") or "")
    command_facts = list[str]()
    files = list[Any]()
    if command is not None:
        line = command.line
        command_facts += _report.command_fact_texts(command)
        files += _report.file_links(command, None)
    error = traceback = ""
    if facts.failure is not None:
        error = printable(facts.failure.headline)
        traceback = _report.printable_lines(facts.failure.traceback)
    status = str(told.get("status", ""))
    required_by = [
        one.span.number
        for at, one in run.jobs.values()
        if at == index and key in one.span.required
    ]
    state = recorded_state(span)
    return {
        "key": key,
        "name": name_of(span.path),
        "state": state.value,
        "style": state_class(state),
        "mark": run.attempt_mark(key),
        "can_cancel": not span.state.is_settled,
        "can_retry": told.get("again", span.state is JobState.FAILED),
        "retry": _retry_button(span.state, told, run.answer["mended"]),
        "facts": [[name, printable(text)] for name, text in _job_facts(run, facts)],
        "why": printable(str(told.get("explanation", ""))),
        "status": _joined(status, line_text(told.get("line"))),
        "inside": states_text(_spans(jobs_in(run, key))),
        "group": _links(run, [span.parent]),
        "blocked_by": _links(run, [span.blocked_by]),
        "requires": _links(run, span.required),
        "required_by": _links(run, required_by),
        "error": error,
        "traceback": traceback,
        "command": printable(line),
        "command_facts": " · ".join(command_facts),
        "files": files,
        "outputs": [[title, text] for title, text in _outputs(facts, told)],
        "unkept": _unkept_text(list(told.get("unkept", ())), span, told),
    }


def _outputs(facts: JobFacts, told: Record) -> Iterator[tuple[str, str]]:
    """Yield the title and the text of what a job has written and returned."""
    if facts.command is not None:
        yield from _report.command_outputs(facts.command)
    result = str(told.get("result", ""))
    if result:
        yield "result", _report.printable_lines(result)
    if facts.printed and not told.get("output"):
        yield _report.PRINTED, _report.printable_lines(facts.printed)
    for name, text in told.get("output", ()):
        title = name if facts.span.state.is_settled else f"{name} so far"
        yield title, _report.printable_lines(text)


def jobs_in(run: WatchedRun, key: int | None) -> list[JobFacts]:
    """Return the jobs that count in a group, or the members of a `First`, or for None, all jobs and members."""
    schedulers = {one.span.parent for one in run.runs.values()}
    groups = {key}
    # Enclosing runs come first.
    for _, one in sorted(run.runs.items()):
        parent = one.span.parent
        if parent not in run.jobs:
            continue
        span = run.jobs[parent][1].span
        if span.parent in groups and (key is None or not span.is_first):
            groups.add(parent)
    jobs: list[JobFacts] = []
    for _, facts in run.jobs.values():
        span = facts.span
        is_group = span.number in schedulers and not span.is_first
        if span.parent in groups and not is_group:
            jobs.append(facts)
    return jobs


def has_words(text: str, words: str) -> bool:
    """Return whether a text contains all words, in any order, in lower or upper case."""
    folded = text.casefold()
    return all(word in folded for word in words.casefold().split())


def states_text(spans: Iterable[Span]) -> str:
    counts = Counter(map(recorded_state, spans))
    found = [state for state in STATE_PRECEDENCE if counts[state]]
    return ", ".join(f"{counts[state]} {state.value}" for state in found)


def _unkept_text(streams: list[str], span: Span, told: Record) -> str:
    """Return a text about the outputs of a running job that the page cannot show."""
    subject = join_names(streams)
    if (
        span.state is JobState.RUNNING
        and told.get("line") is not None
        and not told["output"]
    ):
        # It is a Python function.
        subject = "what it prints"
    if not subject:
        return ""
    verb = "go" if len(streams) > 1 else "goes"
    return f"{subject} {verb} to the terminal or the log of the program"


def _links(run: WatchedRun, keys: Sequence[int | None]) -> list[Any]:
    links: list[Any] = [job_cells(span) for span in run.known_spans(keys[:MAX_LINKS])]
    if len(keys) > MAX_LINKS:
        links.append([None, f"and {len(keys) - MAX_LINKS} more", ""])
    return links


def _job_facts(run: WatchedRun, facts: JobFacts) -> Iterator[tuple[str, str]]:
    span = facts.span
    kind = span.kind
    if span.forever:
        kind += ", forever"
    yield "kind", kind
    if span.critical is not None:
        effect = "ends the run" if span.critical else "is tolerated"
        yield "a failure", effect
    began = span.attempt_started_at
    if span.started_at is not None and began is not None:
        if span.attempts:
            # Two ages: the age of the attempt, and the age of the job.
            yield "first started", run.clock_time(span.started_at)
        yield "started", run.clock_time(began)
        if span.took is not None:
            took = duration_text(span.took)
            if span.finished_at is not None:
                took += f", until {run.clock_time(span.finished_at)}"
            yield "took", took
        elif span.state is JobState.RUNNING:
            yield "has run for", duration_text(run.answer["now"] - began)
        yield "attempts", str(len(span.attempts) + 1)
    for number, ended, error in span.failed_attempts:
        name = f"attempt {number}" if number else "was blocked"
        yield name, f"{error or 'succeeded'}, at {run.clock_time(ended)}"
    if span.restored:
        took = ""
        if span.restored_took is not None:
            took = f"; it took {duration_text(span.restored_took)}"
        yield "restored", f"from the journal{took}"
    if span.rerun_cause is not None:
        yield "runs again", f"because {span.rerun_cause}"
    needs = list[str]()
    for name, need in facts.needs.items():
        form = "g" if isinstance(need, float) else ""
        needs.append(f"{name}={need:{form}}")
    if needs:
        yield "needs", ", ".join(needs)
