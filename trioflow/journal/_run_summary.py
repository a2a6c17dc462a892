"""The summary of a run in a journal: the number of jobs by state, and the failures."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import Any, Final, NamedTuple

from .._core.base._states import JobState, ReportedState, parse_reported_state
from .._core.base._text_forms import headline, truncate
from .._core.job._job import AbstractJob
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.words import _failures, _job_queries
from ._serialization import escape_surrogates, msgspec

SUCCEEDED_STATE: Final = JobState.SUCCEEDED
MAX_FAILURES: Final = 1000
MAX_CAUSES: Final = 1000
ALWAYS_RUNS_REASON: Final = ""
"""The reason recorded for a job that is never restored: a scheduler, a service, a job with `save=None`, or a job whose
fingerprint cannot be computed."""


class FailedJob(NamedTuple):
    path: str
    took: float | None
    why: str | None
    """The reason why the job was not restored, or `ALWAYS_RUNS_REASON`. None if the journal had no record of it."""
    error: str
    tolerated: bool = False


class RunSummary(NamedTuple):
    counts: list[tuple[Any, bool, bool, int]]
    """Each `ReportedState`, or its value in the file, whether these jobs are forever, and tolerated, and the count."""
    failures: list[FailedJob]
    culprit: str | None
    """The failure that stopped the run, in the words of the verdict, or None if no job stopped it."""
    reruns: tuple[tuple[str, int], ...] = ()
    """The number of jobs that ran again though the journal had them, by the first change that was the cause."""
    failed_groups: int = 0
    restored: tuple[int, float, float | None, float | None] | None = None
    """How many jobs were restored, how long they had taken, and when the first and the last of them had settled."""


class JobTally:
    """The numbers of a run's jobs by outcome, and their failures.

    A job is added when its scheduler drops it. The remaining jobs are added at the end of the run.
    """

    def __init__(self) -> None:
        self._counts: Final[Counter[tuple[str, bool, bool]]] = Counter()
        # With their places in all views.
        self._failures: Final[list[tuple[tuple[bool, bool, int], FailedJob]]] = []
        self._reruns: Final[Counter[str]] = Counter()
        self._restored: tuple[int, float, float | None, float | None] = (
            0,
            0.0,
            None,
            None,
        )
        self._failed_groups = 0
        # The number of successful jobs that may be restored.
        self._succeeded_count = 0

    def add_outcome(
        self, job: AbstractJob[Any], state: ReportedState, why: str | None
    ) -> None:
        """Count the outcome of a job, and store its failure.

        Args:
            job: the job.
            state: the state that it counts as.
            why: the reason why the job was not restored, as in `FailedJob`.

        """
        cause = _job_queries.rerun_cause(job)
        if cause is not None:
            self._reruns[cause] += 1
        restoration = _job_queries.restoration_of(job)
        if restoration is not None and _job_queries.is_one_job(job):
            number, seconds, first, last = self._restored
            seconds += restoration.took or 0.0
            settled = restoration.settled_at
            if settled is not None:
                first = min(first or settled, settled)
                last = max(last or settled, settled)
            self._restored = (number + 1, seconds, first, last)
        # This common case takes a fifth of the time of the code below.
        if state is SUCCEEDED_STATE and not _job_queries.always_runs(job):
            self._succeeded_count += 1
            return
        if _job_queries.is_one_job(job):
            self._counts[state.value, *_job_queries.count_key(job)[1:]] += 1
        elif not _job_queries.is_failed_group(job):
            return
        elif _job_queries.criticality(job) is not False:
            self._failed_groups += 1
        if job.state is JobState.FAILED and len(self._failures) < MAX_FAILURES:
            critical = _job_queries.criticality(job)
            failure = _job_queries.failure_of(job)
            number = 0
            if failure is not None:
                number = failure.number
            place = (critical is False, critical is None, number)
            path = escape_surrogates(job.path)
            error = escape_surrogates(_error_text(job))
            failed = FailedJob(path, job.took, why, error, critical is False)
            self._failures.append((place, failed))

    def to_json(self, scheduler: BaseScheduler) -> str:
        culprit = escape_surrogates(_failures.culprit_text(scheduler) or "") or None
        counts = [(SUCCEEDED_STATE.value, False, False, self._succeeded_count)]
        counts += [(*key, number) for key, number in self._counts.items()]
        failures = [failure for _, failure in sorted(self._failures, key=itemgetter(0))]
        reruns = tuple(
            (escape_surrogates(cause), number)
            for cause, number in self._reruns.most_common(MAX_CAUSES)
        )
        summary = RunSummary(
            counts, failures, culprit, reruns, self._failed_groups, self._restored
        )
        return msgspec.json.encode(summary).decode()


def parse_summary(text: str | None) -> RunSummary | None:
    """Parse the text that `JobTally.to_json` returned. Return None if the text is missing or invalid."""
    try:
        summary = msgspec.json.decode(text or "", type=RunSummary)
        return summary._replace(
            counts=[
                (parse_reported_state(count[0]), *count[1:]) for count in summary.counts
            ]
        )
    except Exception:
        # The run was killed, or another program changed it.
        return None


def _error_text(job: AbstractJob[Any]) -> str:
    error = job.raised_exception()
    try:
        return truncate(f"{type(error).__name__}: {headline(str(error))}", 300)
    except Exception:
        # Raised by a user-defined exception class.
        return type(error).__name__
