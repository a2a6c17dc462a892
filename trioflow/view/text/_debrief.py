"""The debrief of a run as text: the verdict, the counts, the failures, the jobs that did not run, and the incidents."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from ..._core.api.views import (
    NOT_IN_JOURNAL_REASON,
    NOT_SAVED_REASON,
    AnyJob,
    BaseScheduler,
    Failure,
    Incident,
    StopReason,
    failed_by_itself,
    failure_of,
    get_cause,
    get_context,
    get_group_members,
    is_scheduler,
    paths_of,
    reason_not_restored,
    shorten,
)
from . import _exception_text, _verdict
from ._listing import Listing
from ._symbols import Symbols
from ._verdict import MAX_LISTED_NAMES, Tally

JobLike = TypeVar("JobLike")

OBVIOUS_REASONS: Final = (None, NOT_IN_JOURNAL_REASON, NOT_SAVED_REASON)
"""The values of `reason_not_restored` that the debrief omits because users expect them."""
MAX_COMPARED_FRAMES: Final = 50
"""The maximum number of innermost frames that are compared to decide whether two failures are similar."""


def debrief_text(scheduler: BaseScheduler, symbols: Symbols, listing: bool = False) -> str:
    """Return the text that `Scheduler.debrief` prints.

    This takes O(V + E + L) time, where L is the total length of the tracebacks.
    """
    debrief = Debrief(scheduler, symbols)
    listing_text = Listing(scheduler, symbols).text() if listing else ""
    return "\n\n".join(filter(None, ["\n".join(debrief.verdict_lines()), *debrief.detail_paragraphs(), listing_text]))


def details_text(scheduler: BaseScheduler, symbols: Symbols, with_failures: bool = True) -> str:
    """Return the debrief without the verdict and the counts, and without the failures if `with_failures` is False."""
    return "\n\n".join(filter(None, Debrief(scheduler, symbols).detail_paragraphs(with_failures)))


class Debrief:
    """The debrief of a scheduler's last run, in parts. The texts identify jobs by their paths."""

    def __init__(self, scheduler: BaseScheduler, symbols: Symbols) -> None:
        self._scheduler: Final = scheduler
        self._symbols: Final = symbols
        self._jobs: Final = tuple(scheduler.iterate_jobs())
        self._paths: Final[Mapping[AnyJob, str]] = paths_of(scheduler)

    def _displayed_path(self, job: AnyJob) -> str:
        return self._symbols.escape(shorten(self._paths.get(job, job.label)))

    def _traceback_text(self, error: BaseException, tb: TracebackType | None = None) -> str:
        return "\n" + self._symbols.escape_lines(_exception_text.format_traceback(error, tb))

    # ---- the verdict

    def verdict_lines(self) -> Iterator[str]:
        """Yield the lines of the verdict: how and why the run ended, the job that ended it, and the counts."""
        reason = self._scheduler.stop_reason
        if reason is None:
            yield "no run has ended"
        else:
            yield _verdict.run_verdict(self._scheduler, reason, None).format_line(self._scheduler.label, self._symbols)
        if reason is not None and reason is not StopReason.COMPLETED:
            yield f"stop reason: {reason.name}"
        culprits = [
            self._displayed_path(job) + _stop_reason_suffix(job) for job in _verdict.culprit_chain(self._scheduler)
        ]
        if culprits:
            yield f"culprit: {' -> '.join(culprits)}"
        yield Tally.for_scheduler(self._scheduler).describe()

    def detail_paragraphs(self, with_failures: bool = True) -> Iterator[str]:
        """Yield the paragraphs below the verdict. Some may be empty. If `with_failures` is False, omit the failures."""
        yield from self.failure_paragraphs() if with_failures else ()
        yield self.not_run_paragraph()
        yield from self.incident_paragraphs()
        yield self.not_restored_paragraph()

    # ---- the failures

    def failure_paragraphs(self) -> Iterator[str]:
        """Yield a paragraph for each group of similar failures, with critical failures first."""
        failed = filter(failed_by_itself, self._jobs)
        for jobs in group_failures((job, job.is_critical(), _get_failure(job)) for job in failed):
            failure = _get_failure(jobs[0])
            yield self._failure_title(jobs) + self._traceback_text(failure.exception, failure.traceback)

    def _failure_title(self, jobs: Sequence[AnyJob]) -> str:
        noun = "critical failure" if jobs[0].is_critical() else "failure"
        if len(jobs) == 1:
            return f"{noun} of {self._displayed_path(jobs[0])}:"
        listed = jobs[:MAX_LISTED_NAMES]
        messages = [
            self._symbols.escape(_exception_text.first_line_text(_get_failure(job).exception)) for job in listed
        ]
        names = [self._displayed_path(job) for job in listed]
        if len(set(messages)) > 1:
            names = [f"{name}: {message}" for name, message in zip(names, messages, strict=True)]
        more = [f"and {len(jobs) - len(listed)} more"] if len(jobs) > len(listed) else []
        lines = "\n".join(f"  {line}" for line in [*names, *more])
        return f"{len(jobs)} {noun}s of one kind:\n{lines}\nthe first one:"

    def not_run_paragraph(self) -> str:
        """Return a paragraph on the jobs that did not run because of failures; an empty string if there are none."""
        names = {job: shorten(path) for job, path in self._paths.items()}
        return "\n".join(map(self._symbols.escape, _verdict.not_run_lines(self._jobs, names)))

    # ---- the incidents

    def incident_paragraphs(self) -> Iterator[str]:
        """Yield a paragraph for each incident, e.g. for an exception that `co_shutdown` raised."""
        for job in (self._scheduler, *self._jobs):
            if is_scheduler(job):
                yield from map(self._incident_text, job.incidents)

    def _incident_text(self, incident: Incident) -> str:
        job, message, exception = incident
        title = f"incident at {self._displayed_path(job)}:" if job is not None else "incident:"
        traceback_text = "" if exception is None else self._traceback_text(exception)
        return f"{title} {self._symbols.escape_lines(message)}{traceback_text}"

    # ---- the journal

    def not_restored_paragraph(self) -> str:
        """Return a paragraph on the jobs that the journal unexpectedly did not restore, with the reason for each.

        Return an empty string if there are no such jobs.
        """
        reasons = [(self._displayed_path(job), reason_not_restored(job)) for job in self._jobs]
        lines = [
            f"  {name}: {self._symbols.escape(reason)}" for name, reason in reasons if reason not in OBVIOUS_REASONS
        ]
        if not lines:
            return ""
        more = [f"  and {len(lines) - MAX_LISTED_NAMES} more"] if len(lines) > MAX_LISTED_NAMES else []
        title = f"{len(lines)} job{'s' * (len(lines) != 1)} not restored from the journal:"
        return "\n".join([title, *lines[:MAX_LISTED_NAMES], *more])


def _stop_reason_suffix(job: AnyJob) -> str:
    reason: StopReason | None = job.stop_reason if is_scheduler(job) else None
    return f" ({reason.name})" if reason is not None else ""


def _get_failure(job: AnyJob) -> Failure:
    failure = failure_of(job)
    assert failure is not None
    return failure


def group_failures(failures: Iterable[tuple[JobLike, bool, Failure]]) -> list[list[JobLike]]:
    """Group failed jobs whose failures are similar.

    Groups of critical failures come first. Otherwise, groups and jobs are in the order in which the jobs settled.

    Args:
        failures: a tuple for each failed job: the job or its record, whether the job is critical, and its failure.

    """
    groups: dict[Any, list[JobLike]] = {}
    for job, is_critical, failure in sorted(failures, key=lambda item: (not item[1], item[2].number)):
        groups.setdefault((is_critical, *_similarity_key(failure)), []).append(job)
    return list(groups.values())


def _similarity_key(failure: Failure) -> tuple[Any, ...]:
    """Return a key that is equal for similar failures, even if their messages differ.

    The key consists of the exception's type, the exit code of a command, the positions of the innermost frames, and the
    types of the exception's cause and context. For an exception group, it also has the types of the group's members.
    """
    error = failure.exception
    types = [type(related) for related in (get_cause(error), get_context(error), *get_group_members(error))]
    return type(error), _exit_code(error), _frame_positions(failure.traceback), *types


def _exit_code(error: BaseException) -> int | None:
    """Return the exit code of a failed command; None for other exceptions."""
    try:
        code = getattr(error, "returncode", None)
    except Exception:  # from the code of the exception's class
        return None
    return code if type(code) is int else None


def _frame_positions(tb: TracebackType | None) -> tuple[tuple[str, int], ...]:
    """Return the file name and the line number of each of the innermost frames."""
    positions = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(tb)]
    return tuple(positions[-MAX_COMPARED_FRAMES:])
