"""`Steering`: the orders from outside of the jobs while an outermost run is in progress, for it and all runs in it.

A pause, another number of slots, a hold and `drain()` change which jobs may start, and nothing else. A pause leaves no
trace: after the last `resume()`, a run goes on as it would have without the pause. The record of changes is bounded,
because a server may adapt its window for a year.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..admission import _line
from ..base._states import CHECKING, DRAINING, RunPhase, StopReason
from ..base._text_forms import clause
from ..job._ancestors import enclosing_schedulers
from ..job._errors import growing_error

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ._run import Run

MAX_RECORDED: Final = 1000
"""How many pauses of a run, and how many of its numbers of slots, are recorded: the last ones."""


GROWING: Final = (RunPhase.ENTERING, RunPhase.RUNNING)
"""The phases in which jobs may be added: as soon as a job may settle, and until the run drains or stops."""


class Pause(NamedTuple):
    """The pause of a run: since when, on the run's clock, and who paused it, or "" for the program itself."""

    since: float
    by: str


class SteeringRecord(NamedTuple):
    """The changes of a run by `pause()` or another `jobs_window`, up to now: the last of each."""

    pauses: Any = ()
    """The start and the end of each pause of the run itself. The end is infinity while a pause goes on."""
    window_sizes: Any = ()
    """Since when the run has had which number of slots, or empty if it has always been the same."""


NOT_STEERED: Final = SteeringRecord()


def _recorded(run: Run) -> SteeringRecord:
    """Return the changes of a run, to which more may be added. Most runs have none."""
    if run.changes is NOT_STEERED:
        run.changes = SteeringRecord(
            deque(maxlen=MAX_RECORDED), deque(maxlen=MAX_RECORDED)
        )
    return run.changes


class Steering:
    """The pauses and the hold of an outermost run, which all runs in it share. Each of them has its own record.

    It is made with the run, not at first use, because another thread may be the first to use it. Any thread may use
    `call`, `current_pause` and the checks. The others belong to the thread of the run.
    """

    def __init__(self) -> None:
        # The pauses of all schedulers in the run, whatever their phase.
        self.pauses: Final[dict[AnyJob, Pause]] = {}
        # By scheduler, the jobs that were cancelled before a run has linked its jobs: the run begins with that.
        self.cancelled_early: Final[dict[AnyJob, list[AnyJob]]] = {}
        # The time since when the outermost run is held, because failures count: see `Hold`.
        self.hold: Pause | None = None

    # ---- who may call

    def check_thread(self, run: Run, call_text: str) -> None:
        """Reject a call from another thread.

        Args:
            run: the run that is to change.
            call_text: the call, for the error message.

        Raises:
            RuntimeError: the call comes from another thread.

        """
        if threading.get_ident() != run.thread_id:
            raise RuntimeError(
                f"{call_text}: {run.scheduler.label!r} runs in another thread; call it there, for instance through "
                f"trio.from_thread.run_sync or loop.call_soon_threadsafe"
            )

    def check_growing(self, run: Run, call_text: str) -> None:
        """Reject a change of the scenario from another thread, or outside of the phases `GROWING`.

        Raises:
            RuntimeError: the call comes from another thread.
            RuntimeError: the run has not linked its jobs yet, or is draining or stopping.

        """
        self.check_thread(run, call_text)
        if run.phase not in GROWING or run.stop_if_over():
            state = "has not started yet"
            if run.fate.reason is not None and run.phase._is_ending:
                state = f"{run.phase.value} ({run.fate.reason.value}{clause(': {.label!r}', run.fate.culprit)})"
            raise growing_error(
                f"{call_text}: {run.scheduler.label!r} {state}; add jobs before a run or while it runs"
            )

    def call(self, run: Run, function: Callable[[], None]) -> None:
        """Call a function that ends, pauses or resumes a run, or ends a job, from any thread.

        If another thread than the run's asks, the loop makes the call in its next turn, unless the run has ended.
        """

        def call_unless_ended() -> None:
            if run.scheduler._run is run:
                function()

        if threading.get_ident() == run.thread_id:
            function()
        else:
            run.call_in_loop(call_unless_ended)

    # ---- pauses

    def set_pause(
        self, run: Run, scheduler: AnyJob, is_paused: bool, by: str = ""
    ) -> None:
        """Let no jobs of a scheduler start, nor of the schedulers in it, or let them start again. Running jobs go on.

        Each run of the scheduler takes the pause: the run in progress, and runs that have not begun. A run that is
        ending takes only the end of a pause.

        Args:
            run: the run of the scheduler, or the innermost run around it, if it is not running now.
            scheduler: the scheduler.
            is_paused: False ends the scheduler's own pause.
            by: who asks, in words for views and the log, or "" for the program itself.

        """
        takes_it = scheduler is run.scheduler and not run.phase._is_ending
        if is_paused is (scheduler in self.pauses):
            if takes_it and not is_paused:
                for part in run.parts:
                    part.on_resumed()
            return
        if is_paused:
            self.pauses[scheduler] = Pause(run.clock(), by)
        else:
            del self.pauses[scheduler]
        # While the run ends, its forever jobs may have runs inside: these take no pause, but resume.
        resumes_inner = scheduler is run.scheduler and not is_paused
        if not (takes_it or resumes_inner):
            return
        self._record_pause(run)
        # Enclosing runs come first.
        for each in run.with_nested():
            self._take_pause(each)
        if not is_paused:
            _line.ask_in_order(run.with_nested())
            for each in run.with_nested():
                each.line.use_fifo_again()
        self._let_search(run)

    def begin(self, run: Run) -> None:
        """Let a run begin in the pauses that are in force."""
        self._take_pause(run)
        self._record_pause(run)

    def _take_pause(self, run: Run) -> None:
        """Let a run be paused if its scheduler or an enclosing scheduler is."""
        is_paused_around = (
            run.outer_worker is not None and run.outer_worker.crew.line.is_paused
        )
        run.line.set_paused(is_paused_around or run.scheduler in self.pauses)

    def set_hold(self, run: Run, is_held: bool) -> None:
        """Let the outermost run be held or not, which only the record and the views ask: nothing is left to start."""
        self.hold = None
        if is_held:
            self.hold = Pause(run.clock(), "hold=True")
        self._record_pause(run)

    def current_pause(self, run: Run) -> Pause | None:
        """Return the pause of a run, or else of the innermost paused run around it. Any thread may ask."""
        if run.phase._is_ending:
            return None
        if run.line.is_paused:
            for level in (run.scheduler, *enclosing_schedulers(run.scheduler)):
                pause = self.pauses.get(level)
                if pause is not None:
                    return pause
        return self.hold if run.outer_worker is None else None

    # ---- the number of slots

    def set_window(self, run: Run, size: int) -> None:
        """Give a run another number of slots, at once."""
        if size != run.line.size:
            self.resize(run, size)
            self._let_search(run)

    def resize(self, run: Run, size: int) -> None:
        """Give a run another number of slots, in the step of a job that leaves: its worker then admits others."""
        # A run that is still CHECKING begins with this number, and has had no other.
        if run.phase is not CHECKING:
            sizes = _recorded(run).window_sizes
            if not sizes:
                sizes.append((run.began_at, run.line.size))
            sizes.append((run.clock(), size))
        run.line.resize(size)

    def _let_search(self, run: Run) -> None:
        for each in run.with_nested():
            run.ends.follow(each.crew.ensure_searcher)
            run.standstill.suspect(each)

    # ---- drain

    def drain(self, run: Run) -> None:
        """Start no more jobs, in a run and those nested in it, and end it when the running jobs have ended."""
        drained: dict[Run, None] = {}
        run.fate.no_more_attempts = True
        if run.phase._is_ending:
            # Its forever jobs and clean-up jobs may have runs inside, which go on.
            return
        for each in run.with_nested():
            outer = each.outer_worker
            if each is not run and (outer is None or outer.run not in drained):
                # It is inside one that ends, so it goes on for as long as that lets it.
                continue
            if each.phase is RunPhase.RUNNING and not each.stop_if_over():
                each.fate.give(StopReason.DRAINED)
                each.phase = DRAINING
                drained[each] = None
            elif not each.phase._is_ending:
                # There are no running jobs to wait for.
                each.stop(StopReason.DRAINED)
        for each in drained:
            each.undecided.stop_reading()
            each.cancel_scheduled()
            each.scheduler._notify_unreached()
            each.wake()

    def _record_pause(self, run: Run) -> None:
        """Record that a run begins or ceases to be paused by itself, or held."""
        is_open = run.scheduler in self.pauses or (
            self.hold is not None and run.outer_worker is None
        )
        pauses = _recorded(run).pauses
        now = run.clock()
        if is_open is not (bool(pauses) and pauses[-1][1] == math.inf):
            if is_open:
                pauses.append((now, math.inf))
            else:
                pauses[-1] = (pauses[-1][0], now)
