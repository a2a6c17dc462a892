"""The debrief of a run as text: the verdict, the counts, the failures, the jobs that did not run, and the incidents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final

from ..._core.base import _states, _user_code
from ..._core.base._text_forms import MAX_LISTED_NAMES, clause, plural
from ..._core.job import _errors, _labels
from ..._core.job._job import AnyJob, is_scheduler
from ..._core.run import _journaling, _run
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words import _job_queries
from ..._core.words._job_queries import jobs_cut_off as jobs_cut_off
from . import _failure_text, _listing, _verdict
from ._failure_text import FAILURE_NOUNS, FailedJob, similar_failures
from ._symbols import Symbols, listed_lines
from ._verdict import Tally

OBVIOUS_REASONS: Final = (None, *_journaling.OBVIOUS_REASONS)
"""The values of `reason_not_restored` that the debrief omits because users expect them."""


def debrief_text(
    scheduler: BaseScheduler, symbols: Symbols, listing: bool = False
) -> str:
    """Return the text that `Scheduler.debrief` prints.

    This takes O(V + E + L) time, where L is the total length of the tracebacks.
    """
    debrief = Debrief(scheduler, symbols)
    paragraphs = ["\n".join(debrief.verdict_lines()), *debrief.detail_paragraphs()]
    if listing:
        paragraphs.append(_listing.Listing(scheduler, symbols).text())
    return "\n\n".join(filter(None, paragraphs))


def details_text(scheduler: BaseScheduler, symbols: Symbols) -> str:
    """Return the debrief without the verdict and the counts."""
    return "\n\n".join(filter(None, Debrief(scheduler, symbols).detail_paragraphs()))


def all_incidents(scheduler: BaseScheduler) -> list[_run.Incident]:
    """Return the incidents of the last run of a scheduler, and of those nested in it."""
    incidents = list[_run.Incident]()
    for each in (scheduler, *scheduler.iterate_jobs()):
        if is_scheduler(each):
            incidents += _job_queries.incidents_of(each)
    return incidents


class Debrief:
    """The debrief of a scheduler's last run, in parts. The texts identify jobs by their paths."""

    def __init__(self, scheduler: BaseScheduler, symbols: Symbols) -> None:
        self._scheduler: Final = scheduler
        self._symbols: Final = symbols
        self._jobs: Final = tuple(scheduler.iterate_jobs())
        self._paths: Final[Mapping[AnyJob, str]] = _labels.paths_of(scheduler)

    def _displayed_path(self, job: AnyJob) -> str:
        return self._symbols.escape(_labels.shorten(self._paths.get(job, job.label)))

    def _traceback_text(
        self, error: BaseException, tb: TracebackType | None = None
    ) -> str:
        text = _failure_text.format_traceback(error, tb)
        return f"\n{self._symbols.escape_lines(text)}"

    # ---- the verdict

    def verdict_lines(self) -> Iterator[str]:
        """Yield the lines of the verdict: how and why the run ended, the job that ended it, and the counts."""
        reason = self._scheduler.stop_reason
        if reason is None:
            yield "no run has ended"
        else:
            verdict = _verdict.run_verdict(self._scheduler, reason)
            yield verdict.format_line(self._scheduler.label, self._symbols)
            if reason not in _states.RAN_TO_END:
                yield f"stop reason: {reason.name}"
        chain = _job_queries.culprit_chain(self._scheduler)
        culprits = [
            self._displayed_path(job) + _stop_reason_suffix(job) for job in chain
        ]
        if culprits and reason is not _states.StopReason.FAILED:
            # The failures below are those that count.
            yield f"culprit: {' -> '.join(culprits)}"
        yield Tally.for_scheduler(self._scheduler).describe()

    def detail_paragraphs(self) -> Iterator[str]:
        """Yield the paragraphs below the verdict. Some may be empty."""
        yield from self.failure_paragraphs()
        yield self.not_run_paragraph()
        yield from self.incident_paragraphs()
        yield self.not_restored_paragraph()

    # ---- the failures

    def failure_paragraphs(self) -> Iterator[str]:
        """Yield a paragraph for each group of similar failures, with critical failures first."""
        jobs = _job_queries.jobs_of_run(self._scheduler)
        for group in similar_failures(filter(_job_queries.failed_by_itself, jobs)):
            _, failure = group[0]
            text = self._traceback_text(failure.exception, failure.traceback)
            yield self._failure_title(group) + text

    def _failure_title(self, group: Sequence[FailedJob]) -> str:
        first, failure = group[0]
        noun = FAILURE_NOUNS[_job_queries.criticality(first)]
        remark = clause(" {}", _user_code.wrong_backend_remedy(failure.exception))
        if len(group) == 1:
            return f"{noun} of {self._displayed_path(first)}:{remark}"
        names = [self._displayed_path(job) for job, _ in group]
        messages = [_errors.one_line_error(each.exception) for _, each in group]
        if len(set(messages[:MAX_LISTED_NAMES])) > 1:
            for number, message in enumerate(messages):
                names[number] += f": {self._symbols.escape(message)}"
        title = f"{len(group)} {noun}s of one kind:{remark}"
        return f"{_list_below(title, names)}\nthe first one:"

    def not_run_paragraph(self) -> str:
        """Return a paragraph on the jobs that did not run because of failures, or an empty string if there are none."""
        names = {job: _labels.shorten(path) for job, path in self._paths.items()}
        jobs = _job_queries.jobs_of_run(self._scheduler)
        lines = _verdict.not_run_lines(jobs, names)
        return "\n".join(map(self._symbols.escape, lines))

    # ---- the incidents

    def incident_paragraphs(self) -> Iterator[str]:
        """Yield a paragraph on the steering, and one on each of the first incidents, e.g. in `co_shutdown`."""
        incidents = list[_run.Incident]()
        steering = list[str]()
        for incident in all_incidents(self._scheduler):
            if incident.is_steering:
                steering.append(self._symbols.escape(incident.message))
            else:
                incidents.append(incident)
        if steering:
            yield _list_below("steered:", steering)
        yield from map(self._incident_text, incidents[:MAX_LISTED_NAMES])
        if len(incidents) > MAX_LISTED_NAMES:
            yield f"and {plural(len(incidents) - MAX_LISTED_NAMES, 'more incident')}"

    def _incident_text(self, incident: _run.Incident) -> str:
        title = "incident"
        if incident.job is not None:
            title += f" at {self._displayed_path(incident.job)}"
        text = f"{title}: {self._symbols.escape_lines(incident.message)}"
        if incident.exception is not None:
            text += self._traceback_text(incident.exception)
        return text

    # ---- the journal

    def not_restored_paragraph(self) -> str:
        """Return a paragraph on the jobs that the journal unexpectedly did not restore, with the reason for each.

        Return an empty string if there are no such jobs.
        """
        lines = list[str]()
        for job in self._jobs:
            reason = _job_queries.reason_not_restored(job)
            if reason not in OBVIOUS_REASONS:
                path = self._displayed_path(job)
                lines.append(f"{path}: {self._symbols.escape(reason)}")
        if not lines:
            return ""
        title = f"{plural(len(lines), 'job')} not restored from the journal:"
        return _list_below(title, lines)


def _list_below(title: str, items: Sequence[str]) -> str:
    return "\n  ".join([title, *listed_lines(items)])


def _stop_reason_suffix(job: AnyJob) -> str:
    reason: _states.StopReason | None = job.stop_reason if is_scheduler(job) else None
    return clause(" ({.name})", reason)
