"""`-j N`: as many jobs at once in the whole run, as people know it from make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..abc import is_scheduler

if TYPE_CHECKING:
    import anyio

    from .. import Scheduler


class SharedWindow:
    """The window of a scheduler and of all in it that have none of their own, where they have one in common.

    Forever jobs take no slot of the window around them, and so a nested scheduler that is one does not share it.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._sharing: Final[list[Any]] = []
        levels: list[Any] = [scheduler]
        for level in levels:
            nested = [job for job in level if is_scheduler(job) and not job.forever]
            self._sharing.extend(job for job in nested if job.jobs_window is None)
            levels += nested

    def of(self, slots: int | None) -> int | anyio.CapacityLimiter | None:
        """Return the window of the outermost scheduler, in place of its own; the others in it have it from now on."""
        window = self._limiter(slots) if slots and self._sharing else None
        for nested in self._sharing:
            nested.jobs_window = window
        return window or slots

    def _limiter(self, slots: int) -> anyio.CapacityLimiter:
        import anyio  # late, because --help does not need it

        return anyio.CapacityLimiter(slots)
