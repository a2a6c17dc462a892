"""Objects that jobs share during an outermost run: made on demand, and closed when all jobs have been shut down."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from ..job._outcome import in_one_line

if TYPE_CHECKING:
    from ._run import Run


class SharedResource(Protocol):
    """An object that a run holds for its jobs until it ends."""

    async def close(self) -> None:
        """Release it. The call is shielded, but cancelled after the outermost scheduler's `shutdown_timeout`."""
        ...


R = TypeVar("R", bound=SharedResource)


class SharedResources:
    """The shared objects of one outermost run, including those of nested runs."""

    __slots__ = ("_resources", "_run")

    def __init__(self, run: Run) -> None:
        self._run: Final = run  # the outermost one
        self._resources: Final[dict[Any, SharedResource]] = {}

    def get(self, key: object, make: Callable[[Run], R]) -> R:
        """Return the object that `make(run)` made for the outermost run; it is called only once for a key."""
        if key not in self._resources:
            self._resources[key] = make(self._run)
        return cast(R, self._resources[key])

    async def close(self, seconds: float | None) -> None:
        """Close all objects within `seconds`, in the reverse order of their making; report all faults."""
        run = self._run
        deadline = math.inf if seconds is None else run.clock() + seconds
        if not await run.backend.run_concurrently([partial(self._close_all)], deadline):
            run.report(None, f"a shared object of the jobs was not closed within shutdown_timeout={seconds} s")

    async def _close_all(self) -> None:
        async with contextlib.AsyncExitStack() as stack:  # calls each of them, even after the deadline
            for resource in self._resources.values():
                stack.push_async_callback(self._close_one, resource)
            self._resources.clear()

    async def _close_one(self, resource: SharedResource) -> None:
        try:
            await resource.close()
        except Exception as error:
            self._run.report(None, f"closing a shared object of the jobs raised {in_one_line(error)}", error)
