"""`RunView`: a run that is under way, as views and instruments see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from ..base._states import RunPhase, StopReason
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run


@final
class RunView:
    """A run that is under way, to look at; see `current_run`."""

    __slots__ = ("_run",)

    def __init__(self, run: Any) -> None:  # a `Run`, whose type is no part of what users see
        self._run: Final[Run] = run

    @property
    def clock(self) -> Callable[[], float]:
        """Returns the time now, in seconds: on the clock of `job.started_at`."""
        return self._run.clock

    @property
    def phase(self) -> RunPhase:
        """How far it is: being checked, being prepared, running, draining or stopping."""
        return self._run.phase

    @property
    def reason(self) -> StopReason | None:
        """Why it stops; None while it is not yet known how it will end."""
        return self._run.reason

    @property
    def window(self) -> int | None:
        """The most jobs that its window ever lets run at once; None for no limit. Now it is `scheduler.window_size`."""
        return self._run.slots

    @property
    def backend(self) -> str:
        """The name of its backend: "trio" or "asyncio"."""
        return self._run.backend.name

    @property
    def tokens_taken(self) -> int | None:
        """How many tokens of its limiter are taken, by whomever; None if its window is not a limiter."""
        limiter: Any = self._run.workers.limiter
        return None if limiter is None else limiter.borrowed_tokens

    @property
    def has_adaptive_window(self) -> bool:
        """Whether the size of its window changes while it runs."""
        return self._run.workers.adapts


def current_run(scheduler: BaseScheduler) -> RunView | None:
    """Return the run of a scheduler that is under way; None if it is not running."""
    run = scheduler._run
    return None if run is None else RunView(run)
