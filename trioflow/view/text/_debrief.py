"""The debrief of a run as text: verdict, counts, grouped failures, jobs that did not run, and incidents."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from ..._core.api.views import (
    NOT_IN_JOURNAL,
    NOT_SAVED,
    AnyJob,
    BaseScheduler,
    Failure,
    Incident,
    JobState,
    StopReason,
    failed_through_member,
    failure_of,
    is_scheduler,
    paths_of,
    reason_not_restored,
    shorten,
)
from . import _exception_text, _verdict
from ._listing import Listing
from ._symbols import Symbols
from ._verdict import MAX_NAMES, Tally

T = TypeVar("T")

OBVIOUS_REASONS: Final = (None, NOT_IN_JOURNAL, NOT_SAVED)
"""Values of `reason_not_restored` that need no mention."""
MAX_COMPARED_FRAMES: Final = 50
"""The number of innermost frames compared to decide whether two failures are of one kind."""


def debrief(scheduler: BaseScheduler, symbols: Symbols, listing: bool = False) -> str:
    """Return the text that `Scheduler.debrief` prints. O(V + E), plus the length of the tracebacks."""
    parts = Debrief(scheduler, symbols)
    last = Listing(scheduler, symbols).text() if listing else ""
    return "\n\n".join(filter(None, ["\n".join(parts.verdict_lines()), *parts.details(), last]))


def details(scheduler: BaseScheduler, symbols: Symbols, failures: bool = True) -> str:
    """Return the debrief without the verdict and the counts, and unless `failures` is true, without the failures."""
    return "\n\n".join(filter(None, Debrief(scheduler, symbols).details(failures)))


class Debrief:
    """The parts of one debrief; jobs are named by their paths."""

    def __init__(self, scheduler: BaseScheduler, symbols: Symbols) -> None:
        self._scheduler: Final = scheduler
        self._symbols: Final = symbols
        self._jobs: Final = tuple(scheduler.iterate_jobs())
        self._paths: Final[Mapping[AnyJob, str]] = paths_of(scheduler)

    def _name(self, job: AnyJob) -> str:
        return self._symbols.escape(shorten(self._paths.get(job, job.label)))

    def _traceback(self, error: BaseException, traceback_: TracebackType | None = None) -> str:
        return "\n" + self._symbols.escape_lines(_exception_text.format_traceback(error, traceback_))

    # ---- the verdict

    def verdict_lines(self) -> Iterator[str]:
        """Yield the lines of the verdict: how and why the run ended, the job that caused it, and the counts."""
        reason = self._scheduler.stop_reason
        if reason is None:
            yield "no run has ended"
        else:
            yield _verdict.run_verdict(self._scheduler, reason, None).line(self._scheduler.label, self._symbols)
        if reason is not None and reason is not StopReason.COMPLETED:
            yield f"stop reason: {reason.name}"
        culprits = [self._name(job) + _stop_reason_suffix(job) for job in _verdict.culprits(self._scheduler)]
        if culprits:
            yield f"culprit: {' -> '.join(culprits)}"
        yield Tally.for_scheduler(self._scheduler).in_words()

    def details(self, failures: bool = True) -> Iterator[str]:
        """Yield the paragraphs below the verdict, some of which may be empty."""
        yield from self.failures() if failures else ()
        yield self.not_run()
        yield from self.incidents()
        yield self.not_restored()

    # ---- the failures

    def failures(self) -> Iterator[str]:
        """Yield a paragraph for each group of similar failures, critical ones first."""
        failed = [job for job in self._jobs if job.state is JobState.FAILED and not failed_through_member(job)]
        for jobs in group_failures((job, job.is_critical(), _failure(job)) for job in failed):
            failure = _failure(jobs[0])
            yield self._title(jobs) + self._traceback(failure.exception, failure.traceback)

    def _title(self, jobs: Sequence[AnyJob]) -> str:
        noun = "critical failure" if jobs[0].is_critical() else "failure"
        if len(jobs) == 1:
            return f"{noun} of {self._name(jobs[0])}:"
        shown = jobs[:MAX_NAMES]
        messages = [self._symbols.escape(_exception_text.first_line(_failure(job).exception)) for job in shown]
        names = [self._name(job) for job in shown]
        if len(set(messages)) > 1:
            names = [f"{name}: {message}" for name, message in zip(names, messages, strict=True)]
        more = [f"and {len(jobs) - len(shown)} more"] if len(jobs) > len(shown) else []
        lines = "\n".join(f"  {line}" for line in [*names, *more])
        return f"{len(jobs)} {noun}s of one kind:\n{lines}\nthe first of them:"

    def not_run(self) -> str:
        """Return a paragraph on the jobs that failures kept from running, or an empty string."""
        names = {job: shorten(path) for job, path in self._paths.items()}
        return "\n".join(map(self._symbols.escape, _verdict.not_run_lines(self._jobs, names)))

    # ---- the incidents

    def incidents(self) -> Iterator[str]:
        """Yield a paragraph for each incident, such as a `co_shutdown` that raised."""
        for job in (self._scheduler, *self._jobs):
            if is_scheduler(job):
                yield from map(self._incident, job.incidents)

    def _incident(self, incident: Incident) -> str:
        job, message, exception = incident
        where = f"incident at {self._name(job)}:" if job is not None else "incident:"
        frames = "" if exception is None else self._traceback(exception)
        return f"{where} {self._symbols.escape_lines(message)}{frames}"

    # ---- the journal

    def not_restored(self) -> str:
        """Return a paragraph on the jobs that the journal did not restore and why, or an empty string."""
        reasons = [(self._name(job), reason_not_restored(job)) for job in self._jobs]
        lines = [f"  {name}: {self._symbols.escape(why)}" for name, why in reasons if why not in OBVIOUS_REASONS]
        if not lines:
            return ""
        more = [f"  and {len(lines) - MAX_NAMES} more"] if len(lines) > MAX_NAMES else []
        title = f"{len(lines)} job{'s' * (len(lines) != 1)} not restored from the journal:"
        return "\n".join([title, *lines[:MAX_NAMES], *more])


def _stop_reason_suffix(job: AnyJob) -> str:
    reason: StopReason | None = job.stop_reason if is_scheduler(job) else None
    return f" ({reason.name})" if reason is not None else ""


def _failure(job: AnyJob) -> Failure:
    failure = failure_of(job)
    assert failure is not None
    return failure


def group_failures(failures: Iterable[tuple[T, bool, Failure]]) -> list[list[T]]:
    """Group similar failures: critical ones first, then in the order in which the jobs settled.

    Args:
        failures: for each failed job: the job or its record, whether it is critical, and its failure.

    """
    groups: dict[Any, list[T]] = {}
    for job, critical, failure in sorted(failures, key=lambda each: (not each[1], each[2].number)):
        groups.setdefault((critical, *_equality_key(failure)), []).append(job)
    return list(groups.values())


def _equality_key(failure: Failure) -> tuple[Any, ...]:
    """Return a key that is equal for similar failures, whatever their messages.

    It consists of the type of the exception, the exit code of a command, the place where the exception was raised, and
    the types of its causes and, in a group, of its members.
    """
    error = failure.exception
    related: list[Any] = [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
    kinds: list[Any] = [type(error) for error in related]  # pyright: ignore[reportUnknownVariableType]
    return type(error), getattr(error, "returncode", None), _frame_positions(failure.traceback), *kinds


def _frame_positions(frames: TracebackType | None) -> tuple[tuple[str, int], ...]:
    positions = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(frames)]
    return tuple(positions[-MAX_COMPARED_FRAMES:])
