"""`FirstRule`: the rule of a `First`, which of its jobs have a turn, and when enough of them have won."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import chain
from typing import Final

from ..admission._resource import TIME_TOLERANCE
from ..base._states import COMPLETED, JobState, RunPhase, StopReason
from ..base._text_forms import duration_text, plural
from ..job import _errors
from ..job._job import AnyJob, RunExtras
from ..run import _steps
from ..run._instruments import Instrument, Part
from ..run._run import Run


class FirstRule(Part, Instrument):
    """The rule of a run of a `First`. It starts the jobs in turns, and stops the run when its result is decided.

    The members compete, except members that another member requires, whose success decides nothing. A member that runs
    only if another member failed competes with it. Each competitor has a turn, in the order of the members, and so have
    the members that it needs:

    ```
    turn opens ──► its jobs start, as any job does ──► stagger seconds after the first start ──► the next turn opens
                                    │                                                                ▲
                                    └──► its competitor has settled without success, or was restored ┘
    ```

    Without a `stagger`, there is a single turn. With an infinite `stagger`, a success opens the next turn, too. With a
    journal, no job starts before all jobs that are ready have been looked up: results that an earlier run has paid for
    decide first, in the order that they were recorded.
    """

    def __init__(self, run: Run, enough: int, stagger: float | None) -> None:
        self._run = run
        self._enough: Final = enough
        self._stagger: Final = stagger
        # For each member, the competitor in whose turn it may start. Empty without a `stagger`.
        self._turns: dict[AnyJob, AnyJob] = {}
        # In the order of their turns.
        self._competitors: dict[AnyJob, None] = {}
        # The competitors whose turns are open, and the last of these.
        self._open_turns = set[AnyJob]()
        self._last_open: AnyJob | None = None
        # The other competitors, if there is a `stagger`.
        self._closed_turns = deque[AnyJob]()
        # The competitors that have not settled.
        self._unsettled: dict[AnyJob, None] = {}
        self._losers: list[AnyJob] = []
        # Competitors that the journal has restored, not yet winners.
        self._restored: list[AnyJob] = []
        # Ready jobs that may not start yet, by the turns that have to open, or by None if they wait for the journal.
        self._held: Final[defaultdict[AnyJob | None, list[AnyJob]]] = defaultdict(list)
        # When the first job of the last open turn started.
        self._turn_started_at: float | None = None
        # The jobs whose results make the result of the `First`.
        self.winners: Final[list[AnyJob]] = []
        self.is_decided = False

    def enter(self, phase: RunPhase) -> None:
        """Count the jobs that succeeded before the `First` was tried again. If that is enough, nothing has to start."""
        if phase is RunPhase.LINKING:
            kept = [
                job
                for job in self._run.members.jobs
                if job._state is JobState.SUCCEEDED
            ]
            self._open_turns.update(kept)
            self.on_added()
            kept = sorted(
                filter(self._competitors.__contains__, kept),
                key=lambda job: job._finished_at or 0.0,
            )
            self.winners.extend(kept[: self._enough])
        elif phase is RunPhase.RUNNING:
            self._add_winners([])

    # ---- the steps of a job

    def job_started(self, scheduler: object, job: AnyJob) -> None:
        """Let the next turn be due in time, if this is the first start in the last open turn."""
        if (
            self._turn_started_at is None
            and job in self._turns
            and self._turns[job] is self._last_open
        ):
            self._turn_started_at = job._started_at
            self._run.wake()

    def settled(self, job: AnyJob) -> None:
        """Decide the result if it no longer depends on other jobs. Open the next turn if nothing is in its way."""
        if self.is_decided or self._run.phase is RunPhase.STOPPING:
            # A timeout or a cancellation has decided.
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

    def may_start(self, job: AnyJob) -> bool:
        """Return whether a ready job may start. Hold it back otherwise."""
        if self._is_open(job) and not self._is_looking_up():
            return True
        self._hold([job])
        return False

    def due_at(self) -> float:
        """Return when the next turn opens because of the time, or infinity if it waits for something else."""
        started_at = self._turn_started_at
        if started_at is None or self._stagger is None:
            return math.inf
        if not self._closed_turns or self._run.phase._is_ending:
            return math.inf
        return started_at + self._stagger

    def act(self) -> None:
        """Let restored jobs win, in the order that they were recorded. Let held jobs start if none has won."""
        if self._restored and not self._is_looking_up():
            restored = sorted(self._restored, key=_recorded_at)
            self._restored = []
            self._add_winners(restored)
        self._release_held()
        if self._run.clock() + TIME_TOLERANCE >= self.due_at():
            self._open_next_turn()
            self._open_due_turns()

    def turn_before(self, job: AnyJob) -> AnyJob | None:
        """Return the competitor after whose failure or start the turn of a job opens, or None if it is open."""
        competitors = list(self._competitors)
        if self._is_open(job):
            return None
        return competitors[competitors.index(self._turns[job]) - 1]

    def explain(self, job: AnyJob) -> str:
        """Explain why a job that has no open requirements is held back."""
        before = self.turn_before(job)
        if before is None:
            return "waits until the journal has been asked about the other jobs"
        assert self._stagger is not None
        turn = f"waits for its turn: until {before.label!r} has"
        if self._stagger == math.inf:
            end = "failed" if self._enough == 1 else "settled"
            return f"{turn} {end}"
        return f"{turn} failed, or {duration_text(self._stagger)} after its start"

    # ---- turns

    def on_added(self) -> None:
        """Find the competitors, at the start and when the graph has changed, and give each member a turn. O(V + E)."""
        members = self._run.members
        requirements = {job: members.all_requirements(job) for job in members.jobs}
        self._competitors = dict.fromkeys(members.competitors(requirements))
        self._closed_turns = deque(
            job for job in self._competitors if job not in self._open_turns
        )
        self._unsettled = dict.fromkeys(
            job for job in self._competitors if not job._state.is_settled
        )
        self._turns = {}
        todo = list[tuple[AnyJob, AnyJob]]()
        if self._stagger is not None:
            todo = [(each, each) for each in reversed(self._competitors)]
        while todo:
            job, competitor = todo.pop()
            if job not in self._turns:
                self._turns[job] = competitor
                todo += [(required, competitor) for required in requirements[job]]
        held = [*chain.from_iterable(self._held.values())]
        self._held.clear()
        self._hold(held)
        self._release_held()
        if self._stagger is not None:
            self._open_due_turns()
            # The next turn may be due in time, and was not if there was none.
            self._run.wake()

    def _is_looking_up(self) -> bool:
        run = self._run
        return run.journal_writer is not None and run.undecided.is_busy

    def _is_open(self, job: AnyJob) -> bool:
        return job not in self._turns or self._turns[job] in self._open_turns

    def _open_due_turns(self) -> None:
        """Open the next turn as long as the last open turn gives no reason to wait.

        There is no reason to wait if its competitor has failed, or has settled without a start, because it was
        restored, blocked, skipped or cancelled. Nor if it has succeeded, is not enough, and no time will come. Nor if a
        job that was added requires it, so that it does not compete any more.
        """
        while self._stagger is not None and self._closed_turns:
            last = self._last_open
            if last is not None and last._state.is_settled:
                has_run = last._state is JobState.SUCCEEDED and not last.restored
                if has_run and self._stagger < math.inf:
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

    def _hold(self, jobs: Iterable[AnyJob]) -> None:
        for job in jobs:
            turn = None
            if not self._is_open(job):
                turn = self._turns[job]
            self._held[turn].append(job)

    def _release_held(self) -> None:
        """Let the held jobs start whose turns are open, unless the journal is still asked about some.

        If the end that opens a turn is being told, they start after it.
        """
        run = self._run
        if not self._held.get(None) or self._is_looking_up():
            return
        if run.ends.depth:
            run.ends.waiting.append(self._release_held)
        else:
            _steps.schedule(run, self._held.pop(None))
            run.crew.ensure_searcher()

    # ---- the result

    def _add_winners(self, jobs: list[AnyJob]) -> None:
        self.winners.extend(jobs[: self._enough - len(self.winners)])
        if len(self.winners) == self._enough and not self.is_decided:
            self._decide(COMPLETED)

    def _stop_if_too_few(self) -> None:
        """Stop the run if the jobs that are left cannot succeed often enough."""
        left = len(self._restored) + len(self._unsettled)
        if len(self.winners) + left >= self._enough:
            return
        run = self._run
        count = len(self._losers)
        total = len(self._competitors)
        if run.phase is RunPhase.DRAINING and any(
            job._state is JobState.CANCELLED for job in self._losers
        ):
            # The drain, not the losers, has kept it from its result.
            return
        needed = "one" if self._enough == 1 else self._enough
        # Cancelled and skipped jobs have no exception of their own: these are those that `result()` raises for them.
        errors = [_errors.no_result_error(job) for job in self._losers]
        exceptions = [
            each for each in errors if _errors.find_interruption(each) is None
        ]
        what = f"{count} of {total} jobs of {run.scheduler.label!r} failed"
        error: BaseException
        if not exceptions:
            error = too_few_jobs_error(run.scheduler, total, self._enough)
        elif all(isinstance(error, _errors.BudgetSpent) for error in errors):
            error = exceptions[0]
        else:
            text = f"{what}, and {needed} had to succeed"
            error = BaseExceptionGroup(text, exceptions)
        run.scheduler._run_error = error
        self._decide(StopReason.CRITICAL)

    def _decide(self, reason: StopReason) -> None:
        """Stop the run. The running jobs decide its result, even if the run drains."""
        self.is_decided = True
        writer = self._run.journal_writer
        if writer is not None:
            if reason is COMPLETED:
                writer.record_winners(self.winners)
            writer.records_results = False
        self._run.fate.forget_drain()
        self._run.stop(reason)


def _recorded_at(job: AnyJob) -> float:
    """Return the time when the result of a restored job was recorded, or infinity if it is unknown."""
    restoration = (job._extras or RunExtras).restoration
    if restoration is None or restoration.settled_at is None:
        return math.inf
    return restoration.settled_at


def too_few_jobs_error(scheduler: AnyJob, number: int, enough: int) -> ValueError:
    """Return the error for a `First` with too few competitors."""
    return ValueError(
        f"{scheduler.label!r} has {plural(number, 'job')} that no other one requires, and could never succeed with "
        f"enough={enough}: add jobs"
    )
