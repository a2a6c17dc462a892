"""`RecordBuilder`: makes a `TraceRecord` of the facts about runs and their jobs, in the process that ran or in another.

`_event_log` collects the facts in the process that runs the jobs. Because they refer to no object of it, another
process can build the same record of them: `_trace_file` writes and reads them.

The builder sorts the jobs of all runs by their starts, numbers them, and completes their spans with lanes and waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..._core.base._states import JobState, WaitCause
from .._families import family_from_label
from ..text._failure_text import FailureText
from ._spans import (
    CommandRecord,
    IncidentMark,
    Interval,
    RunSpan,
    Span,
    assign_lanes,
    or_infinity,
    settled_at,
)
from ._trace_record import TraceRecord
from ._waits import ResolvedNeeds, ResourceUse, WaitAnalysis


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """A resource of a pool, or of a run itself."""

    # Differs for each pool, and for each scheduler with resources of its run.
    owner: int
    name: str
    # None for a rate, which no job holds, and for a `PerKey`.
    total: float | None
    is_per_key: bool = False
    # Of the keys of a `PerKey`.
    key_totals: dict[str, float | None] = field(
        default_factory=dict[str, "float | None"]
    )
    # When too little of a rate was left for a job, or None if jobs may have to wait although enough is free.
    shortages: tuple[Interval, ...] | None = ()


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The facts about a job in a run.

    The span has keys in place of the numbers of jobs: other numbers, each of a job in a run. The builder adds
    `scheduled_at`, `lane` and `waits` to it. Its `attempts` are all but the first, including throttled attempts.
    """

    span: Span
    position: int  # of the job among the jobs of its scheduler, in the order that they were added
    has_own_label: bool = True  # whether the user chose the label
    added_at: float = (
        -math.inf
    )  # the default is for jobs that were added before the run
    needs: dict[str, float | str] = field(default_factory=dict[str, "float | str"])
    run_needs: tuple[
        tuple[ResourceFacts, float], ...
    ] = ()  # for resources that belong to a run and to no pool
    cooldowns: tuple[
        tuple[str, float, float], ...
    ] = ()  # the resource, start and end of those that the job caused
    inner_waits: tuple[tuple[WaitCause, float, float], ...] = ()  # of `WaitAnalysis`
    failure: FailureText | None = None  # of a job that failed by itself
    command: CommandRecord | None = None
    printed: str = ""  # the end of what a job that has settled has printed


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The facts about a run of a scheduler. Its span has keys in place of the numbers of jobs, and no members."""

    span: RunSpan
    resources: tuple[ResourceFacts, ...]
    jobs: tuple[JobFacts, ...]


class RecordBuilder:
    """The builder of a `TraceRecord`, in O(n log n) time for n jobs.

    Args:
        runs: the facts about all runs, each after its enclosing run.

    Attributes:
        jobs: the facts about the jobs, in the order of their spans.

    """

    def __init__(self, runs: Sequence[RunFacts]) -> None:
        self._runs: Final = runs
        self._run_of: Final[dict[int, RunSpan]] = {}  # by key
        for run in runs:
            for facts in run.jobs:
                self._run_of[facts.span.number] = run.span
        self.jobs: Final = _sort_jobs(runs)
        self._numbers: Final = {
            facts.span.number: number for number, facts in enumerate(self.jobs)
        }  # by key

    def build(
        self, incidents: Iterable[IncidentMark], end_time: float, **other_fields: Any
    ) -> TraceRecord:
        """Return the record.

        Args:
            incidents: the incidents of all runs.
            end_time: the time when the last run ended, or the time of the snapshot.
            other_fields: further fields of the record.

        """
        runs = tuple(map(self._complete_run, self._runs))
        spans = tuple(self._complete_spans())
        numbered = [*enumerate(self.jobs)]
        analysis = WaitAnalysis(
            spans,
            runs,
            [self._lifetime(facts, end_time) for facts in self.jobs],
            find_needs(self._runs, self._numbers),
            {number: _clip(facts, end_time) for number, facts in numbered},
        )
        for span in spans:
            # Not shared yet, and `replace` takes forty times as long.
            object.__setattr__(span, "waits", tuple(analysis.find_waits(span)))
        families = [
            family_from_label(facts.span.label, facts.has_own_label)
            for facts in self.jobs
        ]
        failures = {
            n: facts.failure for n, facts in numbered if facts.failure is not None
        }
        commands = {
            n: facts.command for n, facts in numbered if facts.command is not None
        }
        return TraceRecord(
            spans=spans,
            runs=runs,
            families=tuple(families),
            incidents=tuple(incidents),
            end_time=end_time,
            failures=failures,
            commands=commands,
            printed={n: facts.printed for n, facts in numbered if facts.printed},
            **other_fields,
        )

    def _complete_run(self, run: RunFacts) -> RunSpan:
        members = [self._numbers[facts.span.number] for facts in run.jobs]
        return replace(
            run.span,
            parent=self._number(run.span.parent),
            culprit_number=self._number(run.span.culprit_number),
            member_numbers=tuple(sorted(members)),
        )

    def _complete_spans(self) -> Iterator[Span]:
        ready_times = self._find_ready_times()
        lanes: dict[int, int] = {}
        for run in self._runs:
            lanes.update(self._assign_lanes(run, ready_times))
        for number, facts in enumerate(self.jobs):
            span = facts.span
            yield replace(
                span,
                number=number,
                parent=self._number(span.parent),
                required=tuple(map(self._numbers.__getitem__, span.required)),
                blocked_by=self._number(span.blocked_by),
                scheduled_at=ready_times[span.number],
                attempts=tuple(_attempt_starts(span)),
                lane=lanes.get(span.number),
            )

    def _number(self, key: int | None) -> int | None:
        return None if key is None else self._numbers[key]

    def _find_ready_times(self) -> dict[int, float | None]:
        """Return the earliest possible start of each job, which is never later than its actual start, by key.

        This is the latest of three times: when the run began, when the job was added, and when its last requirement
        settled or, for a service, became ready. It is None if the job is IDLE or was SKIPPED, if it was BLOCKED by
        a requirement, or cancelled before its requirements settled, or if the run never began.
        """
        settled_times = {
            facts.span.number: settled_at(facts.span) for facts in self.jobs
        }
        times: dict[int, float | None] = dict.fromkeys(settled_times)
        for facts in self.jobs:
            span = facts.span
            began = self._run_of[span.number].started_at
            if began is None or (
                span.state is JobState.BLOCKED and facts.failure is None
            ):
                continue
            # A job may also have started, and then have skipped itself.
            has_started = span.started_at is not None
            if not has_started and span.state in (JobState.IDLE, JobState.SKIPPED):
                continue
            required = [settled_times[key] for key in span.required]
            ready = max([began, facts.added_at, *required])
            last_settled = max(required, default=began)
            # A requirement that is tried again settles once more, perhaps after the job has started, or has ended.
            if span.started_at is not None:
                times[span.number] = min(ready, span.started_at)
            elif (
                last_settled <= or_infinity(span.finished_at)
                and last_settled < math.inf
            ):
                times[span.number] = ready
        return times

    def _assign_lanes(
        self, run: RunFacts, ready_times: dict[int, float | None]
    ) -> Iterator[tuple[int, int]]:
        """Yield the key and the lane of each job of a run that has started. Jobs without slots get the last lanes."""
        started = [
            facts.span for facts in run.jobs if facts.span.started_at is not None
        ]
        started.sort(key=lambda span: self._numbers[span.number])
        first_lane = 1
        for is_in_slot in (True, False):
            spans = [span for span in started if span.takes_slot is is_in_slot]
            intervals = (
                (span.started_at or 0.0, or_infinity(span.finished_at))
                for span in spans
            )
            ready = (ready_times[span.number] for span in spans)
            rows = list(assign_lanes(intervals, ready))
            for span, row in zip(spans, rows, strict=True):
                yield span.number, first_lane + row
            first_lane += max(rows, default=-1) + 1

    def _lifetime(self, facts: JobFacts, end_time: float) -> Interval:
        """Return the interval when a job could wait or run, in a trace that ends at `end_time`."""
        run = self._run_of[facts.span.number]
        end = next(
            time
            for time in (facts.span.finished_at, run.finished_at, end_time)
            if time is not None
        )
        if run.started_at is None:
            return end, end
        return max(run.started_at, facts.added_at), end


def _sort_jobs(runs: Iterable[RunFacts]) -> list[JobFacts]:
    """Return the jobs of all runs by start, nesting depth and order of addition."""
    depths: dict[int | None, int] = {None: -1}
    entries: list[tuple[float, int, int, int, JobFacts]] = []
    # Enclosing runs come first.
    for run in runs:
        for facts in run.jobs:
            depths[facts.span.number] = depth = depths[run.span.parent] + 1
            started = or_infinity(facts.span.started_at)
            entries.append((started, depth, facts.position, len(entries), facts))
    return [facts for *_, facts in sorted(entries)]


def _attempt_starts(span: Span) -> Iterator[float]:
    """Yield the start of each attempt that was not throttled."""
    if span.started_at is None:
        return
    yield span.started_at
    for time in span.attempts:
        is_throttled = any(began <= time <= ended for began, ended in span.throttled)
        if time >= span.started_at and not is_throttled:
            yield time


def _clip(facts: JobFacts, end_time: float) -> tuple[tuple[Any, float, float], ...]:
    """Return the waits between the first start of a job and its end, in a trace that ends at `end_time`."""
    waits = [wait for wait in facts.inner_waits if wait[1] < end_time]
    return tuple(
        [(cause, since, min(until, end_time)) for cause, since, until in waits]
    )


# ---- the needs


def find_needs(
    runs: Iterable[RunFacts], numbers: Mapping[int, int]
) -> dict[int, ResolvedNeeds]:
    """Return the needs of each span that has any. Also add the cooldowns of throttled keys to their resources.

    The names in a job's needs are looked up as in a run: in the pool of its scheduler, then in the scheduler's own
    needs, which it reserves for its members, then in enclosing schedulers. If several runs share a pool, the resources
    of the pool appear only once.

    Args:
        runs: the runs, each after its enclosing run.
        numbers: the number of the span of each job, by key.

    """
    resources: dict[tuple[int, str], ResourceUse] = {}
    # The resources that each job can name, by its key.
    scopes: dict[int | None, dict[str, ResourceUse]] = {None: {}}
    needs_by_key: dict[int | None, ResolvedNeeds] = {}
    all_needs: dict[int, ResolvedNeeds] = {}
    for run in runs:
        scope = dict(scopes[run.span.parent])
        for resource, amount in needs_by_key.get(run.span.parent, ()):
            if resource.total_amount is not None:
                # The scheduler reserves it for its members.
                name = resource.name
                scope[name] = ResourceUse(name, amount, resource.cooldowns)
        for facts in run.resources:
            scope[facts.name] = _get_or_create(resources, facts)
        for job in run.jobs:
            number = numbers[job.span.number]
            scopes[job.span.number] = scope
            needs = _resolve_needs(scope, job.needs)
            for facts, amount in job.run_needs:
                needs.append((_get_or_create(resources, facts), amount))
            if needs:
                needs_by_key[job.span.number] = all_needs[number] = tuple(needs)
                needed = {resource.name: resource for resource, _ in needs}
                for name, since, until in job.cooldowns:
                    needed[name].cooldowns.append((since, until, number))
    return all_needs


def _get_or_create(
    resources: dict[tuple[int, str], ResourceUse], facts: ResourceFacts
) -> ResourceUse:
    key = facts.owner, facts.name
    if key not in resources:
        uses_by_key: dict[str, ResourceUse] | None = {} if facts.is_per_key else None
        resources[key] = ResourceUse(
            facts.name, facts.total, [], uses_by_key, facts.key_totals, facts.shortages
        )
    return resources[key]


def _resolve_needs(
    scope: Mapping[str, ResourceUse], needs: Mapping[str, float | str]
) -> list[tuple[ResourceUse, float]]:
    """Resolve the names of needs. Names are left out if they are not in `scope`, because the pool has changed."""
    resolved: list[tuple[ResourceUse, float]] = []
    for name, need in needs.items():
        if name not in scope:
            continue
        resource = scope[name]
        amount = 1.0
        if resource.uses_by_key is not None:
            uses = resource.uses_by_key
            key = str(need)
            if key not in uses:
                total = resource.key_totals[key]
                shortages = None if total is None else ()
                uses[key] = ResourceUse(name, total, [], shortages=shortages)
            resource = uses[key]
        elif resource.total_amount is not None and not isinstance(need, str):
            amount = float(need)
        resolved.append((resource, amount))
    return resolved
