"""What a run does with its jobs, recorded in the two functions in which a job settles and is IDLE again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock
from trioflow import JobState
from trioflow._core.job._errors import Failure
from trioflow._core.job._job import AbstractJob
from trioflow._core.run import _reopening, _steps
from trioflow.abc import enclosing_schedulers

REOPENED = "reopened"


class End(NamedTuple):
    """One end of a job, or one reopening, with the facts that a reader can ask the job for."""

    state: str
    attempts: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    outcome: str = ""


def end_of(job: Any, *, has_result: bool = True) -> End:
    """Return the end of a job that has settled, as it is for the reader that asks now."""
    outcome = ""
    if job.state is JobState.SUCCEEDED and has_result:
        outcome = repr(job.result(default=None))
    elif job.raised_exception() is not None:
        outcome = repr(job.raised_exception())
    return End(job.state.name, job.attempts, job.started_at, job.finished_at, outcome)


class Story:
    """The ends and the reopenings of all jobs of one outermost run, in the order in which they happened."""

    def __init__(self) -> None:
        self.order: list[tuple[Any, End]] = []
        self.by_job: dict[Any, list[End]] = {}
        self.around: dict[Any, tuple[Any, ...]] = {}
        """For each job, the schedulers around it when it ended first, the innermost one first."""
        self.paths: dict[Any, str] = {}

    def path(self, job: Any) -> str:
        """Return the path that a job had when it was first asked for: `keep_jobs=False` drops the job later."""
        if job not in self.paths:
            self.paths[job] = job.path
        return self.paths[job]

    def add(self, job: Any, end: End) -> None:
        self.path(job)
        if job not in self.around:
            self.around[job] = tuple(enclosing_schedulers(job))
        self.order.append((job, end))
        self.by_job.setdefault(job, []).append(end)

    def ends(self, job: Any) -> list[End]:
        return [end for end in self.by_job.get(job, ()) if end.state != REOPENED]

    def last(self, job: Any) -> End | None:
        """Return the end of a job that is settled at the end of the run; None if it is IDLE, or was never reached."""
        told = self.by_job.get(job, [])
        return told[-1] if told and told[-1].state != REOPENED else None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        settle, reset, wait_again, story = (
            _steps.settle,
            AbstractJob._reset,
            _reopening.wait_again,
            self,
        )

        def recorded_settle(
            run: Any, job: Any, state: JobState, outcome: Any, now: float
        ) -> None:
            text = ""
            if type(outcome) is Failure and state is not JobState.CANCELLED:
                text = repr(outcome.exception)
            elif state is JobState.SUCCEEDED:
                text = repr(outcome)
            story.add(job, End(state.name, job.attempts, job.started_at, now, text))
            settle(run, job, state, outcome, now)

        def recorded_reset(job: Any) -> None:
            if job._state.is_settled and job in story.by_job:
                story.add(job, End(REOPENED))
            reset(job)

        def recorded_wait_again(run: Any, job: Any) -> None:
            story.add(job, End(REOPENED))
            wait_again(run, job)

        with (
            mock.patch.object(_steps, "settle", recorded_settle),
            mock.patch.object(_reopening, "wait_again", recorded_wait_again),
            mock.patch.object(AbstractJob, "_reset", recorded_reset),
        ):
            yield
