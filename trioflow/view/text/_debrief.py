"""`debrief`: the report on a run as text: verdict, counts, grouped failures, incidents and more."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from ..._core.api.views import (
    NOT_KEPT,
    NOT_THERE,
    AnyJob,
    BaseScheduler,
    Failure,
    Incident,
    JobState,
    StopReason,
    failed_through_member,
    failure_of,
    is_scheduler,
    not_restored,
    paths_of,
    shortened,
)
from . import _exception_text, _verdict
from ._listing import Listing
from ._symbols import Symbols
from ._verdict import MAX_NAMES, Tally

T = TypeVar("T")

NOTHING_TO_SAY: Final = (None, NOT_THERE, NOT_KEPT)
"""Obvious reasons why a job was not restored."""
DEEPEST_GROUPS: Final = 50
"""Number of innermost frames compared to decide whether two failures are equal."""


def debrief(scheduler: BaseScheduler, symbols: Symbols, listing: bool = False) -> str:
    """Return the text of `Scheduler.debrief`. O(V + E), plus the length of the tracebacks."""
    told = Debrief(scheduler, symbols)
    sections = ["\n".join(told.verdict()), *told.details(), Listing(scheduler, symbols).text() if listing else ""]
    return "\n\n".join(filter(None, sections))


def details(scheduler: BaseScheduler, symbols: Symbols, failures: bool = True) -> str:
    """Return the parts of `debrief` below the verdict and the counts, with or without the failures."""
    return "\n\n".join(filter(None, Debrief(scheduler, symbols).details(failures)))


class Debrief:
    """The parts of a debrief, each of which names jobs by their paths."""

    def __init__(self, scheduler: BaseScheduler, symbols: Symbols) -> None:
        self._scheduler: Final = scheduler
        self._symbols: Final = symbols
        self._jobs: Final = tuple(scheduler.iterate_jobs())
        self._paths: Final[Mapping[AnyJob, str]] = paths_of(scheduler)

    def _name(self, job: AnyJob) -> str:
        return self._symbols.line(shortened(self._paths.get(job, job.label)))

    # ---- the verdict

    def verdict(self) -> Iterator[str]:
        """Yield the lines of the verdict: how and why the run ended, the job that caused it, and the counts."""
        reason = self._scheduler.stop_reason
        if reason is None:
            yield "no run has ended"
        else:
            yield _verdict.of_run(self._scheduler, reason, None).line(self._scheduler.label, self._symbols)
        if reason is not None and reason is not StopReason.COMPLETED:
            yield f"stop reason: {reason.name}"
        culprits = [self._name(job) + _reason_in_brackets(job) for job in _verdict.culprits(self._scheduler)]
        if culprits:
            yield f"culprit: {' -> '.join(culprits)}"
        yield Tally.of_run(self._scheduler).in_words()

    def details(self, failures: bool = True) -> Iterator[str]:
        """Yield the paragraphs below."""
        yield from self.failures() if failures else ()
        yield self.not_run()
        yield from self.incidents()
        yield self.not_restored()

    # ---- the failures

    def failures(self) -> Iterator[str]:
        """Yield a paragraph for each group of equal failures, critical ones first."""
        failed = [job for job in self._jobs if job.state is JobState.FAILED and not failed_through_member(job)]
        for jobs in grouped((job, job.is_critical(), _outcome(job)) for job in failed):
            failure = _outcome(jobs[0])
            trace = _exception_text.formatted(failure.exception, failure.traceback)
            yield f"{self._title(jobs)}\n{self._symbols.lines(trace)}"

    def _title(self, jobs: Sequence[AnyJob]) -> str:
        what = "critical failure" if jobs[0].is_critical() else "failure"
        if len(jobs) == 1:
            return f"{what} of {self._name(jobs[0])}:"
        shown = jobs[:MAX_NAMES]
        said = [self._symbols.line(_exception_text.headline_of(_outcome(job).exception)) for job in shown]
        names = [self._name(job) for job in shown]
        if len(set(said)) > 1:
            names = [f"{name}: {message}" for name, message in zip(names, said, strict=True)]
        more = [f"and {len(jobs) - len(shown)} more"] if len(jobs) > len(shown) else []
        lines = "\n".join(f"  {line}" for line in [*names, *more])
        return f"{len(jobs)} {what}s of one kind:\n{lines}\nthe first of them:"

    def not_run(self) -> str:
        """Return what did not run because of failures."""
        names = {job: shortened(path) for job, path in self._paths.items()}
        return "\n".join(map(self._symbols.line, _verdict.not_run(self._jobs, names)))

    # ---- the incidents

    def incidents(self) -> Iterator[str]:
        """Yield a paragraph for each incident, such as a `co_shutdown` that raised."""
        for job in (self._scheduler, *self._jobs):
            if is_scheduler(job):
                yield from map(self._incident, job.incidents)

    def _incident(self, incident: Incident) -> str:
        job, message, exception = incident
        where = f"incident at {self._name(job)}:" if job is not None else "incident:"
        trace = "" if exception is None else "\n" + self._symbols.lines(_exception_text.formatted(exception))
        return f"{where} {self._symbols.lines(message)}{trace}"

    # ---- the journal

    def not_restored(self) -> str:
        """Return a paragraph on the jobs that the journal did not restore, with the reasons."""
        reasons = [(job, not_restored(job)) for job in self._jobs]
        told = [f"  {self._name(job)}: {self._symbols.line(why)}" for job, why in reasons if why not in NOTHING_TO_SAY]
        if not told:
            return ""
        more = [f"  and {len(told) - MAX_NAMES} more"] if len(told) > MAX_NAMES else []
        title = f"{len(told)} job{'s' * (len(told) != 1)} not restored from the journal:"
        return "\n".join([title, *told[:MAX_NAMES], *more])


def _reason_in_brackets(job: AnyJob) -> str:
    reason: StopReason | None = job.stop_reason if is_scheduler(job) else None
    return f" ({reason.name})" if reason is not None else ""


def _outcome(job: AnyJob) -> Failure:
    failure = failure_of(job)
    assert failure is not None
    return failure


def grouped(found: Iterable[tuple[T, bool, Failure]]) -> list[list[T]]:
    """Group equal failures: critical ones first, and otherwise in the order of settling.

    Args:
        found: the failed jobs, each with whether it is critical, and its exception.

    """
    groups: dict[Any, list[T]] = {}
    for job, critical, failure in sorted(found, key=lambda each: (not each[1], each[2].number)):
        groups.setdefault((critical, *_kind(failure)), []).append(job)
    return list(groups.values())


def _kind(failure: Failure) -> tuple[Any, ...]:
    """Return the key of equal failures, whose messages may differ.

    The type, the exit code of a command, the place, and the types of causes and members.
    """
    error = failure.exception
    related: list[Any] = [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
    kinds: list[Any] = [type(error) for error in related]  # pyright: ignore[reportUnknownVariableType]
    return type(error), getattr(error, "returncode", None), _places(failure.traceback), *kinds


def _places(frames: TracebackType | None) -> tuple[tuple[str, int], ...]:
    found = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(frames)]
    return tuple(found[-DEEPEST_GROUPS:])
