"""`TraceRecord`: all that a trace shows, the graph included, as data, which can be written to a file and read again.

The critical path of the run is computed from it: see `compute_critical_path`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, Final, NamedTuple, TypeVar, cast

from ..._core.base._states import JobState, StopReason, WaitCause
from ..._core.job._job import AnyJob, Restoration
from ..._core.job._labels import printable, shorten
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._failures import failure_text
from ..._core.words._job_queries import CountKey
from .._state_styles import recorded_state
from ..graph._dot import Direction, Statement
from ..graph._drawing import MAX_READABLE_BOXES, CriticalPath, Drawing, describe
from ..text._failure_text import FailureText
from ..text._verdict import Tally, Verdict, create_verdict, paused_seconds
from ._spans import (
    CommandRecord,
    HostFacts,
    IncidentMark,
    RunSpan,
    Span,
    or_infinity,
    run_indices,
    settled_at,
)

T = TypeVar("T")
MAX_BOXES: Final = 300
"""The maximum number of boxes in a picture. With 1,000 boxes, `dot` would take minutes."""
TOO_MANY_NOTE: Final = "There are too many jobs for a readable graph: draw parts of it with scheduler.graph()."
ALIKE_NOTE: Final = "Each group is one box; jobs or groups that are alike share one."


@dataclass(frozen=True, slots=True)
class GraphDescription:
    """The graph of a scheduler after its run."""

    statements: tuple[Statement, ...] = ()
    """The drawing, or nothing if there are too many boxes."""
    direction: Direction = "TB"
    paths: dict[str, str] | None = None
    """The path of the job of each box or frame, by its name in the statements."""
    notes: tuple[str, ...] = ()


def describe_graph(
    scheduler: BaseScheduler, critical_path: CriticalPath
) -> GraphDescription:
    """Return the graph of a scheduler. With more boxes than can be read, each group, and jobs alike, are one box."""
    drawing = Drawing(scheduler, False, critical_path)
    collapse = drawing.box_count > MAX_READABLE_BOXES
    if collapse:
        drawing = Drawing(scheduler, True, critical_path)
    if drawing.box_count > MAX_BOXES:
        return GraphDescription(notes=(TOO_MANY_NOTE,))
    paths: dict[str, str] = {}
    for job, _ in drawing.drawn_rows():
        number = str(drawing.job_numbers[job])
        paths[number] = printable(shorten(drawing.paths[job]))
    notes = (ALIKE_NOTE,) if collapse else ()
    return GraphDescription(describe(drawing), drawing.direction, paths, notes)


class LiveObjects(NamedTuple):
    """The outermost schedulers of a record, and the job of each span, for pictures of the graph."""

    schedulers: tuple[BaseScheduler, ...] = ()
    jobs: tuple[AnyJob, ...] = ()
    tally: Tally | None = None
    """The scheduler's own counts, because the record lacks jobs."""


def tally_of(spans: Iterable[Span], failed_groups: Iterable[Span]) -> Tally:
    """Return the tally of the jobs with these spans, and of nested schedulers that failed by themselves."""
    tally = Tally()
    counts = Counter[CountKey]()
    for span in spans:
        # As `count_key` for a job.
        counts[recorded_state(span), span.forever, span.critical is False] += 1
        if span.restored or span.rerun_cause is not None:
            restoration = None
            if span.restored:
                restoration = Restoration(span.restored_at, span.restored_took)
            tally.add_journal_facts(restoration, span.rerun_cause)
    for key, number in counts.items():
        tally.add_jobs(*key, number)
    untolerated = [span for span in failed_groups if span.critical is not False]
    tally.failed_groups = len(untolerated)
    return tally


@dataclass(frozen=True)
class TraceRecord:
    """A snapshot of everything that a trace shows. The fields that are dicts are keyed by span number.

    Except for `live`, all of it is data, which `_trace_file` writes and reads.
    """

    spans: tuple[Span, ...] = ()
    runs: tuple[RunSpan, ...] = ()
    """The runs, each after its enclosing run. A nested scheduler that never ran has a `RunSpan` with `run_number` 0."""
    incidents: tuple[IncidentMark, ...] = ()
    wall_offset: float = 0.0
    end_time: float = 0.0
    """The time when the last run ended, or the time of the snapshot if a run is in progress."""
    families: tuple[str, ...] = ()
    """For each span, the family of its job, as derived from the job's label by `family_from_label`."""
    failures: dict[int, FailureText] = field(default_factory=dict[int, FailureText])
    """The failures of jobs, and of schedulers that failed although none of their jobs failed."""
    commands: dict[int, CommandRecord] = field(default_factory=dict[int, CommandRecord])
    printed: dict[int, str] = field(default_factory=dict[int, str])
    """The ends of what jobs have printed, where a monitor has seen it."""
    host: HostFacts = field(default_factory=HostFacts)
    stored_graphs: tuple[GraphDescription, ...] = ()
    """The graphs of the outermost schedulers, if the record was read from a file."""
    live: LiveObjects = field(default_factory=LiveObjects, compare=False)

    @property
    def root_run(self) -> RunSpan | None:
        """The run of the outermost scheduler, or None if nothing has run."""
        return next((run for run in self.runs if run.parent is None), None)

    @property
    def name(self) -> str:
        root = self.root_run
        return "nothing has run" if root is None else root.label

    @cached_property
    def start_time(self) -> float:
        """The time when the first run began."""
        return min(
            (run.started_at for run in self.runs if run.started_at is not None),
            default=0.0,
        )

    @property
    def seconds(self) -> float:
        """How long the runs took together."""
        return self.end_time - self.start_time

    @cached_property
    def scheduler_numbers(self) -> frozenset[int]:
        """The numbers of the spans that are schedulers."""
        return frozenset(run.parent for run in self.runs if run.parent is not None)

    def end_of(self, span: Span) -> float:
        """Return the time when a job settled, or when the record ends if it has not."""
        return self.end_time if span.finished_at is None else span.finished_at

    def is_group(self, number: int) -> bool:
        """Return whether a span belongs to a nested scheduler, but not to a `First`, which is a single job."""
        return number in self.scheduler_numbers and not self.spans[number].is_first

    @property
    def leaf_spans(self) -> Iterator[Span]:
        """The spans of jobs that are not schedulers."""
        return (
            span for span in self.spans if span.number not in self.scheduler_numbers
        )

    @cached_property
    def numbers_in_first(self) -> frozenset[int]:
        """The numbers of the spans of jobs in a nested `First`, at any depth. The `First` counts, and they do not."""
        return self._numbers_inside(lambda group: group.is_first)

    @cached_property
    def numbers_in_tolerated(self) -> frozenset[int]:
        """The numbers of the spans of jobs in a nested scheduler that is tolerated, at any depth."""
        return self._numbers_inside(lambda group: group.critical is False)

    def _numbers_inside(self, is_meant: Callable[[Span], bool]) -> frozenset[int]:
        """Return the numbers of the spans of jobs in the nested schedulers that are meant, at any depth."""
        inside: set[int] = set()
        # Enclosing runs come first.
        for run in self.runs:
            parent = run.parent
            if parent is None:
                continue
            if parent in inside or is_meant(self.spans[parent]):
                inside.update(run.member_numbers)
        return frozenset(inside)

    @cached_property
    def counted_spans(self) -> tuple[Span, ...]:
        """The last span of each job that a `Tally` counts, and of each nested scheduler that failed by itself."""
        last_runs = {(run.parent, run.scheduler_number): run for run in self.runs}
        members: set[int] = set()
        # Enclosing runs come first.
        for run in last_runs.values():
            if run.parent is None or run.parent in members:
                members.update(run.member_numbers)
        groups = set(filter(self.is_group, self.scheduler_numbers))
        counted = members - (groups - self.failures.keys()) - self.numbers_in_first
        return tuple([self.spans[number] for number in sorted(counted)])

    @cached_property
    def counted_numbers(self) -> frozenset[int]:
        return frozenset(span.number for span in self.counted_spans)

    @cached_property
    def tally(self) -> Tally:
        """The number of jobs in each state. If a job ran several times, its last run counts."""
        if self.live.tally is not None:
            return self.live.tally
        groups = [span for span in self.counted_spans if self.is_group(span.number)]
        jobs = [span for span in self.counted_spans if not self.is_group(span.number)]
        return tally_of(jobs, groups)

    @cached_property
    def culprit_numbers(self) -> dict[int | None, int | None]:
        """For the span number of each scheduler, the number of the culprit of its last run."""
        return {run.parent: run.culprit_number for run in self.runs}

    def find_culprit(self, run: RunSpan) -> Span | None:
        """Return the span of the job whose failure stopped a run, at any depth, or None if no job stopped it."""
        number = run.culprit_number
        cause = None
        while number is not None:
            cause = self.find_root_failure(self.spans[number])
            number = None
            if not cause.is_first:
                number = self.culprit_numbers.get(cause.number)
        return cause

    def verdict(self, run: RunSpan, reason: StopReason | None) -> Verdict:
        """Return the verdict on an outermost run.

        Args:
            run: the run.
            reason: the reason why the run ended, or None if it has not ended.

        """
        cause = self.find_culprit(run)
        culprit = None
        if cause is not None and run.culprit_number is not None:
            group = None
            if not cause.critical:
                group = self.spans[run.culprit_number].path
            culprit = failure_text(cause.path, group)
        paused = paused_seconds(run.pauses, self.end_time)
        return create_verdict(reason, self.tally, self.seconds, culprit, paused=paused)

    @cached_property
    def run_indices(self) -> dict[int, int]:
        """For each span number, the index in `runs` of the run that the span belongs to."""
        return run_indices(self.runs)

    def enclosing_spans(self, span: Span) -> Iterator[Span]:
        """Yield the spans of a job's enclosing schedulers, the innermost first."""
        while span.parent is not None:
            span = self.spans[span.parent]
            yield span

    @cached_property
    def critical_path(self) -> dict[int, int | None]:
        """The numbers of the spans on the critical path, in chronological order, each with its predecessor's."""
        return compute_critical_path(self.runs, self.spans)

    @property
    def critical_path_jobs(self) -> dict[AnyJob, AnyJob | None]:
        """The jobs on the critical path, each with its predecessor on the path, in the process that ran."""
        path: dict[AnyJob, AnyJob | None] = {}
        for number, before in self.critical_path.items():
            predecessor = None
            if before is not None:
                predecessor = self.live.jobs[before]
            path[self.live.jobs[number]] = predecessor
        return path

    @cached_property
    def graphs(self) -> tuple[GraphDescription, ...]:
        return self.stored_graphs or tuple(
            describe_graph(scheduler, self.critical_path_jobs)
            for scheduler in self.live.schedulers
        )

    def find_blocked(self, span: Span) -> Span:
        """Return the span of the innermost BLOCKED scheduler around a job, or the span of the job if it was BLOCKED."""
        for outer in (span, *self.enclosing_spans(span)):
            if outer.state is JobState.BLOCKED:
                return outer
        return span

    def find_root_failure(self, span: Span) -> Span:
        """Return the span of the job whose failure blocked the job of `span`, or its own if no other is known."""
        if span.blocked_by is None:
            return span
        return self.spans[span.blocked_by]

    @cached_property
    def derived(self) -> dict[Any, Any]:
        """Values that functions have derived from the record. See `once_for_each_record`."""
        return {}


def once_for_each_record(
    derive: Callable[[TraceRecord], T],
) -> Callable[[TraceRecord], T]:
    """Decorate a function whose result several parts of a report show, so that a record keeps it."""

    @wraps(derive)
    def derive_once(record: TraceRecord) -> T:
        if derive not in record.derived:
            record.derived[derive] = derive(record)
        return cast(T, record.derived[derive])

    return derive_once


# ---- the critical path


def compute_critical_path(
    runs: Iterable[RunSpan], spans: tuple[Span, ...]
) -> dict[int, int | None]:
    """Return the critical path: the chain of jobs that decided when the outermost run ended.

    The number of each span is mapped to that of its predecessor, or to None for the first job of a run.

    The method of Kelley and Walker (Critical-Path Planning and Scheduling, 1959) finds the longest path through a plan.
    Here the plan has been executed and all times are known, so the path is followed backwards from the last job to
    finish: from each job to its predecessor, whose end let it start. The predecessor is the requirement that settled
    last. If the job waited for a slot or a resource, it is the job that released the slot or the resource. The result
    is the critical chain of Goldratt (1997), which treats resources like requirements. For V jobs and E requirements,
    it takes O(V log V + E) time, where the logarithm comes from sorting the ends.

    The path includes jobs of nested runs, and is in the order that the jobs started.
    """
    runs_by_parent: dict[int | None, list[RunSpan]] = {}
    for run in runs:
        runs_by_parent.setdefault(run.parent, []).append(run)
    pending_runs = runs_by_parent.get(None, [])[:1]
    path: dict[int, int | None] = {}
    visited_numbers: set[int] = set()
    while pending_runs:
        span = _find_last_job(pending_runs.pop(), spans)
        # Jobs that took no time may form a cycle. A wait for a resource may lead to a job of another run.
        while span is not None and span.number not in visited_numbers:
            visited_numbers.add(span.number)
            predecessor = _find_predecessor(span, spans)
            if span.started_at is not None:
                path[span.number] = predecessor
                pending_runs += runs_by_parent.get(span.number, [])
            span = None if predecessor is None else spans[predecessor]
    # Spans are in the order of their starts.
    return dict(sorted(path.items()))


def _find_last_job(run: RunSpan, spans: tuple[Span, ...]) -> Span | None:
    """Return the last job to finish. If a job stopped the run, only that job and later clean-up jobs are considered.

    A job that waits to run again has not finished, but others have decided when the run ended.
    """
    members = (spans[number] for number in run.member_numbers)
    candidates = [
        span
        for span in members
        if span.started_at is not None
        and span.state is not JobState.IDLE
        and not span.forever
    ]
    if run.culprit_number is not None and run.stop_reason is not StopReason.FAILED:
        culprit = spans[run.culprit_number]
        stopped_at = or_infinity(culprit.finished_at)
        # Only clean-up jobs start after their run was stopped.
        candidates = [
            span
            for span in candidates
            if or_infinity(span.started_at) >= stopped_at
            and or_infinity(span.finished_at) > stopped_at
        ] or [culprit]
    if run.parent is not None and spans[run.parent].is_first:
        # The others were cancelled as these decided.
        candidates = [
            span for span in candidates if span.state is not JobState.CANCELLED
        ] or candidates
    return max(
        candidates,
        key=lambda span: (or_infinity(span.finished_at), -span.number),
        default=None,
    )


def _find_predecessor(span: Span, spans: tuple[Span, ...]) -> int | None:
    """Return the number of the job whose end let the job of `span` start, or None if it did not wait for another."""
    for wait in reversed(span.waits):
        # If the job itself was throttled, `released_by` may be its own number, which is no predecessor.
        if (
            wait.cause is not WaitCause.JOBS
            and wait.released_by is not None
            and wait.released_by < span.number
        ):
            return wait.released_by
    ends = [(settled_at(spans[number]), number) for number in span.required]
    settled = [end for end in ends if end[0] < math.inf]
    _, number = max(settled, default=(0.0, None))
    return number
