"""The rule of a `First`: when each of its jobs may start, and when the run has its result.

The members compete, except those that another member requires, whose success decides nothing; a member that runs only
if another one failed competes with it. Each competitor has a turn, in the order of the members, and so have the
members that it needs:

```
turn opens ──► its jobs start, as any job does ──► stagger seconds after the first start ──► the next turn opens
                                │                                                                ▲
                                └──► its competitor has settled without success, or was restored ┘
```

Without a `stagger`, there is one turn; with an infinite one, a success opens the next, too. With a journal, no job
starts before all jobs that are ready have been looked up: what an earlier run has paid for decides first, in the order
in which it was recorded.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any, Final

from ..admission._resource import TIME_TOLERANCE
from ..base._states import COMPLETED, LINKING, JobState, RunPhase, StopReason
from ..base._text_forms import duration_text, plural
from ..job._errors import BudgetSpent
from ..job._job import AbstractJob
from ..job._outcome import no_result_error
from ..run._instruments import Instrument, Part
from ..run._run import Run


class FirstRule(Part, Instrument):
    """The rule of one run of a `First`, which starts its jobs in turns, and stops it when its result is decided."""

    def __init__(self, run: Run, enough: int, stagger: float | None) -> None:
        self._run = run
        self._enough: Final = enough
        self._stagger: Final = stagger
        # For each member, the competitor in whose turn it may start. Empty without a `stagger`.
        self._turns: dict[AbstractJob[Any], AbstractJob[Any]] = {}
        self._competitors: dict[AbstractJob[Any], None] = {}  # in the order of their turns
        self._open_turns: set[AbstractJob[Any]] = set()  # the competitors whose turns are open
        self._last_open: AbstractJob[Any] | None = None  # the last of these
        self._closed_turns: deque[AbstractJob[Any]] = deque()  # the other competitors, if there is a `stagger`
        self._unsettled: dict[AbstractJob[Any], None] = {}  # the competitors that have not settled
        self._losers: list[AbstractJob[Any]] = []
        self._restored: list[AbstractJob[Any]] = []  # competitors that the journal has restored, not yet winners
        # Ready jobs that may not start yet, by the turns that have to open; those that wait for the journal by None.
        self._held: Final[defaultdict[AbstractJob[Any] | None, list[AbstractJob[Any]]]] = defaultdict(list)
        self._turn_started_at: float | None = None  # when the first job of the last open turn started
        self.winners: Final[list[AbstractJob[Any]]] = []
        self.is_decided = False

    def enter(self, phase: RunPhase) -> None:
        if phase is LINKING:
            self.on_added()

    # ---- the steps of a job

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        """Let the next turn be due in time, if this is the first start in the last one that is open."""
        if self._turn_started_at is None and job in self._turns and self._turns[job] is self._last_open:
            self._turn_started_at = job._started_at
            self._run.wake()

    def settled(self, job: AbstractJob[Any]) -> None:
        """Decide the result if it no longer depends on other jobs; open the next turn if nothing is in its way."""
        self._run.time_slice.call_due()  # a turn that comes in this instant, whichever the loop tells first
        if self.is_decided or self._run.phase is RunPhase.STOPPING:  # a timeout or a cancellation has decided
            return
        if job in self._unsettled:
            del self._unsettled[job]
            if job._state is not JobState.SUCCEEDED:
                self._losers.append(job)
            elif job.restored and self._is_looking_up():
                self._restored.append(job)
            else:
                self._add_winners([job])
            if not self.is_decided:
                self._stop_if_too_few()
        if not self.is_decided:
            self._open_due_turns()

    # ---- questions of the run

    def may_start(self, job: AbstractJob[Any]) -> bool:
        """Return whether a ready job may start; hold it back otherwise."""
        if self._is_open(job) and not self._is_looking_up():
            return True
        self._hold([job])
        return False

    def due_at(self) -> float:
        """Return when the next turn opens because of the time; infinity if it waits for something else."""
        started_at = self._turn_started_at
        if started_at is None or self._stagger is None or not self._closed_turns or self._run.is_draining_or_stopping:
            return math.inf
        return started_at + self._stagger

    def turn(self) -> None:
        """Let restored jobs win, in the order in which they were recorded; let held jobs start if none has won."""
        if self._restored and not self._is_looking_up():
            restored, self._restored = sorted(self._restored, key=_recorded_at), []
            self._add_winners(restored)
        self._release_held()
        if self._run.clock() + TIME_TOLERANCE >= self.due_at():
            self._open_next_turn()
            self._open_due_turns()

    def turn_before(self, job: AbstractJob[Any]) -> AbstractJob[Any] | None:
        """Return the competitor after whose failure or start the turn of a job opens; None if it is open."""
        competitors = list(self._competitors)
        return None if self._is_open(job) else competitors[competitors.index(self._turns[job]) - 1]

    def explain(self, job: AbstractJob[Any]) -> str:
        """Explain why a job that has no open requirements is held back."""
        before = self.turn_before(job)
        if before is None:
            return "waits until the journal has been asked about the other jobs"
        assert self._stagger is not None
        turn = f"waits for its turn: until {before.label!r} has"
        if self._stagger == math.inf:
            return f"{turn} {'failed' if self._enough == 1 else 'settled'}"
        return f"{turn} failed, or {duration_text(self._stagger)} after its start"

    # ---- turns

    def on_added(self) -> None:
        """Find the competitors, at the start and when jobs were added, and assign a turn to each member. O(V + E)."""
        members = self._run.members
        requirements = {job: members.all_requirements(job) for job in members.jobs}
        self._competitors = dict.fromkeys(members.competitors(requirements))
        self._closed_turns = deque(job for job in self._competitors if job not in self._open_turns)
        known = {*self._losers, *self._restored, *self.winners}
        self._unsettled = dict.fromkeys(job for job in self._competitors if job not in known)
        self._turns = {}
        for competitor in self._competitors if self._stagger is not None else ():
            todo = [competitor]
            while todo:
                job = todo.pop()
                if job not in self._turns:
                    self._turns[job] = competitor
                    todo += requirements[job]
        held = [job for jobs in self._held.values() for job in jobs]
        self._held.clear()
        self._hold(held)
        self._release_held()
        if self._stagger is not None:
            self._open_due_turns()
            self._run.wake()  # the next turn may be due in time, and was not if there was none

    def _is_looking_up(self) -> bool:
        run = self._run
        return run.journal_writer is not None and run.requirement_counts.counting_down

    def _is_open(self, job: AbstractJob[Any]) -> bool:
        return job not in self._turns or self._turns[job] in self._open_turns

    def _open_due_turns(self) -> None:
        """Open the next turn as long as the last open one gives no reason to wait.

        There is none if its competitor has failed; if it has settled without a start, because it was restored, blocked,
        skipped or cancelled; if it has succeeded, is not enough, and no time will come; and if a job that was added
        requires it, so that it does not compete any more.
        """
        while self._stagger is not None and self._closed_turns:
            last = self._last_open
            if last is not None and last._state.is_settled:
                if last._state is JobState.SUCCEEDED and not last.restored and self._stagger < math.inf:
                    return
            elif last in self._competitors:
                return
            self._open_next_turn()

    def _open_next_turn(self) -> None:
        self._last_open = self._closed_turns.popleft()
        self._open_turns.add(self._last_open)
        self._turn_started_at = None
        self._hold(self._held.pop(self._last_open, ()))
        self._release_held()

    def _hold(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        for job in jobs:
            self._held[None if self._is_open(job) else self._turns[job]].append(job)

    def _release_held(self) -> None:
        """Let the held jobs start whose turns are open, unless the journal is still asked about some."""
        if not self._is_looking_up():
            self._run.schedule(self._held.pop(None, ()))

    # ---- the result

    def _add_winners(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        for job in jobs:
            if len(self.winners) < self._enough:
                self.winners.append(job)
        if len(self.winners) == self._enough and not self.is_decided:
            self._decide(COMPLETED)

    def _stop_if_too_few(self) -> None:
        """Stop the run if the jobs that are left cannot succeed often enough."""
        if len(self.winners) + len(self._restored) + len(self._unsettled) >= self._enough:
            return
        run, count, total = self._run, len(self._losers), len(self._competitors)
        if run.phase is RunPhase.DRAINING and any(job._state is JobState.CANCELLED for job in self._losers):
            return  # the drain, not the losers, has kept it from its result
        needed = f"{self._enough} had to succeed" if self._enough > 1 else "one had to succeed"
        # Cancelled and skipped jobs have no exception of their own: these are those that `result()` raises for them.
        errors = [no_result_error(job) for job in self._losers]
        exceptions = [error for error in errors if isinstance(error, Exception)]
        message = f"{count} of {total} jobs of {run.scheduler.label!r} failed, and {needed}"
        error: Exception
        if not exceptions:
            error = too_few_jobs_error(run.scheduler, total, self._enough)
        elif all(isinstance(error, BudgetSpent) for error in errors):
            error = exceptions[0]
        else:
            error = ExceptionGroup(message, exceptions)
        run.scheduler._run_error = error
        self._decide(StopReason.CRITICAL)

    def _decide(self, reason: StopReason) -> None:
        """Stop the run with its result, which is that of the running jobs, even if the run drains."""
        self.is_decided = True
        writer = self._run.journal_writer
        if writer is not None:
            if reason is COMPLETED:
                writer.record_winners(self.winners)
            writer.records_results = False
        self._run.give_reason(None, instead_of=StopReason.DRAINED)
        self._run.stop(reason)


def winners_of(run: Run) -> list[AbstractJob[Any]]:
    """Return the jobs whose results are that of the `First` which has run."""
    rule = run.part(FirstRule)
    assert rule is not None
    return rule.winners


def _recorded_at(job: AbstractJob[Any]) -> float:
    """Return the time at which the result of a restored job was recorded; infinity if it is unknown."""
    restoration = None if job._extras is None else job._extras.restoration
    return math.inf if restoration is None or restoration.settled_at is None else restoration.settled_at


def too_few_jobs_error(scheduler: AbstractJob[Any], number: int, enough: int) -> ValueError:
    """Return the error for a `First` with too few competitors."""
    return ValueError(
        f"{scheduler.label!r} has {plural(number, 'job')} that no other one requires, and could never succeed with "
        f"enough={enough}: add jobs"
    )
