"""What a journal has of the end of its runs: how many jobs came to which state, and what failed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._core.api.journals import JobState, always_runs, beginning, failed_through_member, headline, is_scheduler
from . import _msgspec_json

if TYPE_CHECKING:
    from .._core.api.journals import AbstractJob, BaseScheduler

SUCCEEDED: Final = JobState.SUCCEEDED
MOST: Final = 1000
"""Failures of a run that are kept; all are counted."""
ALWAYS: Final = ""
"""Why a job ran that no journal restores: a scheduler, a service, or one that says so."""
LONGEST: Final = 300
"""Characters of an error."""


class Failed(NamedTuple):
    """A job that ran and failed."""

    path: str
    elapsed: float | None
    why: str | None
    """Why it was not restored; None if the journal did not have it."""
    error: str


class RunSummary(NamedTuple):
    """How a run ended."""

    counts: list[tuple[JobState, bool, int]]
    """States, whether jobs in it are forever jobs, and how many there are."""
    failed: int
    """How many jobs failed, and schedulers by themselves."""
    failures: list[Failed]
    culprit: str | None


class JobTally:
    """The jobs of a run, noted when they are dropped, or at its end."""

    def __init__(self) -> None:
        self._counts: Final[Counter[tuple[str, bool]]] = Counter()
        self._failures: Final[list[Failed]] = []
        self._failed = 0
        self._succeeded = 0  # of those that a journal may restore

    def note(self, job: AbstractJob[Any], why: str | None) -> None:
        """Take in what became of a job; `why` says why it was not restored."""
        state = job.state
        if state is SUCCEEDED and not always_runs(job):  # as mostly: the rest takes five times as long
            self._succeeded += 1
            return
        if not is_scheduler(job):
            self._counts[state.value, job.forever] += 1
        elif failed_through_member(job):
            return
        if state is JobState.FAILED:
            self._failed += 1
            if len(self._failures) < MOST:
                self._failures.append(Failed(_whole(job.path), job.elapsed, why, _whole(_said(job))))

    def text(self, scheduler: BaseScheduler) -> str:
        """Return all of it, to be stored at the end of the run of this scheduler."""
        culprit: AbstractJob[Any] | None = scheduler.culprit
        while is_scheduler(culprit) and culprit.culprit is not None:
            culprit = culprit.culprit
        counts = [(SUCCEEDED.value, False, self._succeeded)]
        counts += [(*key, number) for key, number in self._counts.items()]
        by = None if culprit is None else _whole(culprit.path)
        return _msgspec_json.encode(RunSummary(counts, self._failed, self._failures, by)).decode()  # type: ignore[arg-type]


def read(text: str | None) -> RunSummary | None:
    """Return what `JobTally.text` has made; None if that is not what a journal has there."""
    try:
        counts, failed, failures, culprit = _msgspec_json.decode(text or "")
        return RunSummary(
            [(JobState(state), bool(forever), int(number)) for state, forever, number in counts],
            int(failed),
            [Failed(str(path), seconds and float(seconds), None if why is None else str(why), str(error))
             for path, seconds, why, error in failures],
            culprit and str(culprit),
        )  # fmt: skip
    except Exception:  # the run was killed, or is one of an older trioflow, or the file has been changed by somebody
        return None


def _said(job: AbstractJob[Any]) -> str:
    error = job.raised_exception()
    try:
        return beginning(f"{type(error).__name__}: {headline(str(error))}", LONGEST)
    except Exception:  # from a user's class
        return type(error).__name__


def _whole(text: str) -> str:
    """Return a text that a file can have: of names that are not UTF-8 something cannot be encoded."""
    return text.encode(errors="backslashreplace").decode()
