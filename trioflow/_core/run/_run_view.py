"""`RunView`: a read-only view of a run in progress, for views and instruments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from ..base._states import RunPhase, StopReason
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run


@final
class RunView:
    """A read-only view of a run in progress; see `current_run`."""

    __slots__ = ("_run",)

    def __init__(self, run: Any) -> None:  # a `Run`, which is not public
        self._run: Final[Run] = run

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of `job.started_at`: returns the time now, in seconds."""
        return self._run.clock

    @property
    def phase(self) -> RunPhase:
        """Its phase: checking, preparing, running, draining or stopping."""
        return self._run.phase

    @property
    def reason(self) -> StopReason | None:
        """The reason of its stop; None while that is open."""
        return self._run.reason

    @property
    def window(self) -> int | None:
        """The most jobs that its window ever lets run; None for no limit. See also `scheduler.window_size`."""
        return self._run.slots

    @property
    def backend(self) -> str:
        """The name of its backend: "trio" or "asyncio"."""
        return self._run.backend.name

    @property
    def tokens_taken(self) -> int | None:
        """The number of taken tokens of its limiter, by any user; None if its window is not a limiter."""
        limiter: Any = self._run.workers.limiter
        return None if limiter is None else limiter.borrowed_tokens

    @property
    def has_adaptive_window(self) -> bool:
        """Whether the size of its window changes while it runs."""
        return self._run.workers.adapts


def current_run(scheduler: BaseScheduler) -> RunView | None:
    """Return a view of the run in progress of a scheduler; None if it is not running."""
    run = scheduler._run
    return None if run is None else RunView(run)
