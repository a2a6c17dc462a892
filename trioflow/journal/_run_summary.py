"""The summary of a run in a journal: the number of jobs by state, and the failures."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._core.api.journals import JobState, always_runs, failed_through_member, headline, is_scheduler, truncate
from ._msgspec import msgspec

if TYPE_CHECKING:
    from .._core.api.journals import AbstractJob, BaseScheduler

SUCCEEDED: Final = JobState.SUCCEEDED
MAX_FAILURES: Final = 1000
"""The limit of failures kept for a run; all are counted."""
ALWAYS: Final = ""
"""The reason to run a job that is never restored: a scheduler, a service, or a job with that option."""
MAX_ERROR_LENGTH: Final = 300
"""The limit of an error's text, in characters."""


class Failed(NamedTuple):
    """A job that ran and failed."""

    path: str
    elapsed: float | None
    why: str | None
    """Why it was not restored; None if the journal did not have it."""
    error: str


class RunSummary(NamedTuple):
    """The end of a run."""

    counts: list[tuple[JobState, bool, int]]
    """Triples: a state, whether its jobs are forever jobs, and their number."""
    failed: int
    """The number of failed jobs, and of schedulers that failed by themselves."""
    failures: list[Failed]
    culprit: str | None


class JobTally:
    """Counts and failures of a run's jobs, recorded when they are dropped, or at the end."""

    def __init__(self) -> None:
        self._counts: Final[Counter[tuple[str, bool]]] = Counter()
        self._failures: Final[list[Failed]] = []
        self._failed = 0
        self._succeeded = 0  # the number of successes that a journal may restore

    def note(self, job: AbstractJob[Any], why: str | None) -> None:
        """Record the outcome of a job; `why` is the reason that it was not restored."""
        state = job.state
        if state is SUCCEEDED and not always_runs(job):  # the common case; the rest takes five times as long
            self._succeeded += 1
            return
        if not is_scheduler(job):
            self._counts[state.value, job.forever] += 1
        elif failed_through_member(job):
            return
        if state is JobState.FAILED:
            self._failed += 1
            if len(self._failures) < MAX_FAILURES:
                self._failures.append(
                    Failed(_escape_surrogates(job.path), job.elapsed, why, _escape_surrogates(_error_text(job)))
                )

    def text(self, scheduler: BaseScheduler) -> str:
        """Return the summary as JSON, to be stored at the end of the run of `scheduler`."""
        culprit: AbstractJob[Any] | None = scheduler.culprit
        while is_scheduler(culprit) and culprit.culprit is not None:
            culprit = culprit.culprit
        counts = [(SUCCEEDED.value, False, self._succeeded)]
        counts += [(*key, number) for key, number in self._counts.items()]
        by = None if culprit is None else _escape_surrogates(culprit.path)
        return msgspec.json.encode(RunSummary(counts, self._failed, self._failures, by)).decode()  # type: ignore[arg-type]


def read(text: str | None) -> RunSummary | None:
    """Parse the text of `JobTally.text`; return None if it is missing or invalid."""
    try:
        counts, failed, failures, culprit = msgspec.json.decode(text or "")
        return RunSummary(
            [(JobState(state), bool(forever), int(number)) for state, forever, number in counts],
            int(failed),
            [Failed(str(path), seconds and float(seconds), None if why is None else str(why), str(error))
             for path, seconds, why, error in failures],
            culprit and str(culprit),
        )  # fmt: skip
    except Exception:  # a killed run, an older trioflow, or a file changed from outside
        return None


def _error_text(job: AbstractJob[Any]) -> str:
    error = job.raised_exception()
    try:
        return truncate(f"{type(error).__name__}: {headline(str(error))}", MAX_ERROR_LENGTH)
    except Exception:  # from a user's class
        return type(error).__name__


def _escape_surrogates(text: str) -> str:
    """Escape the surrogates of names that are not UTF-8, which cannot be encoded."""
    return text.encode(errors="backslashreplace").decode()
