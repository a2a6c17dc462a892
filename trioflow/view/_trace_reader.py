"""From the log of a `Trace` to facts about jobs, sorted by run.

The log is gone through once. Of runs that are under way the jobs themselves are looked at, and of nested schedulers
that never ran the members are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from .._core._crew import UNLIMITED
from .._core._job_set import JobSet
from .._core._jobs import AbstractJob
from .._core._outcomes import Failure
from .._core._states import JobState
from ._trace_log import Beginning, Ending, What, events

if TYPE_CHECKING:
    from .._core._run import Run
    from .._core._scheduler import BaseScheduler


@dataclass(slots=True)
class JobNotes:
    """What the log says of one job in one run."""

    state: JobState
    started_at: float | None = None
    finished_at: float | None = None
    failure: Failure | None = None
    timed_out: bool = False


@dataclass(slots=True, eq=False)
class RunNotes:
    """One run of one scheduler; with no `beginning` for the members of one that never ran."""

    scheduler: BaseScheduler
    outer: RunNotes | None
    number: int
    began: float | None = None
    beginning: Beginning | None = None
    ended: float | None = None
    ending: Ending | None = None
    jobs: dict[AbstractJob[Any], JobNotes] = field(default_factory=dict[AbstractJob[Any], JobNotes])
    added: dict[AbstractJob[Any], float] = field(default_factory=dict[AbstractJob[Any], float])
    ready: dict[AbstractJob[Any], float] = field(default_factory=dict[AbstractJob[Any], float])
    again: dict[AbstractJob[Any], list[float]] = field(default_factory=dict[AbstractJob[Any], list[float]])


def window(run: Run) -> int | None:
    """Return how many jobs may run at once in a run that is about to begin; None for no limit."""
    slots = run.crew.free if run.crew.window is None else run.crew.window.limiter.total_tokens
    return int(slots) if slots < UNLIMITED else None


class Reader:
    """The log, sorted by run."""

    def __init__(self, log: list[Any]) -> None:
        self.runs: Final[list[RunNotes]] = []
        self.incidents: Final[list[tuple[float, RunNotes, AbstractJob[Any] | None, str]]] = []
        self._latest: Final[dict[BaseScheduler, RunNotes]] = {}
        for event in events(log):
            self._read(*event)
        for run in list(self.runs):
            self._look_at_unsettled(run)
        self._add_those_that_never_ran()

    def _read(
        self, what: Any, scheduler: BaseScheduler, job: AbstractJob[Any], at: float, until: float | None, more: Any
    ) -> None:
        if what is What.BEGIN:
            self._begin(scheduler, at, more)
            return
        run = self._latest[scheduler]
        if isinstance(what, JobState):
            run.jobs[job] = JobNotes(what, cast("float | None", at), until, *(more or ()))
        elif what is What.READY:
            run.ready[job] = at
        elif what is What.ATTEMPT:
            run.again.setdefault(job, []).append(at)
        elif what is What.ADDED:
            run.added[job] = at
        elif what is What.INCIDENT:
            self.incidents.append((at, run, job, more[0]))
        else:
            run.ended, run.ending = at, more

    def _begin(self, scheduler: BaseScheduler, at: float, beginning: Beginning) -> None:
        outer = self._latest.get(scheduler._scheduler) if scheduler._scheduler is not None else None
        if outer is not None and outer.ended is not None:
            outer = None
        before = self._latest.get(scheduler)
        number = before.number + 1 if before is not None and before.outer is outer else 1
        run = RunNotes(scheduler, outer, number, at, beginning)
        self._latest[scheduler] = run
        self.runs.append(run)

    def _look_at_unsettled(self, run: RunNotes) -> None:
        """Add the jobs that have not settled, as they were when the run ended, or as they are."""
        members = run.scheduler if run.ending is None else run.ending.unsettled
        for job in members:
            if job not in run.jobs:
                over = run.ending is not None
                run.jobs[job] = JobNotes(JobState.IDLE if over else job._state, None if over else job._started_at)

    def _add_those_that_never_ran(self) -> None:
        ran = {(run.outer, run.scheduler) for run in self.runs}
        for run in self.runs:  # it grows meanwhile
            for job in run.jobs:
                if isinstance(job, JobSet) and (run, job) not in ran:
                    nested = cast("BaseScheduler", job)
                    empty = RunNotes(nested, run, 0, jobs={one: JobNotes(JobState.IDLE) for one in nested})
                    self.runs.append(empty)
