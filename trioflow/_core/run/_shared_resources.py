"""Objects that jobs share in an outermost run. They are created on demand, and closed at the end of the run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ..job._outcome import one_line_error

if TYPE_CHECKING:
    from ._run import Run


R = TypeVar("R")


class SharedResources:
    """The objects that the jobs of one outermost run share, including the jobs of nested runs."""

    __slots__ = ("_resources", "_run")

    def __init__(self, run: Run) -> None:
        self._run: Final = run  # the outermost run
        self._resources: Final[dict[Any, Any]] = {}

    def get_or_create(self, key: object, make: Callable[[Run], R]) -> R:
        """Return the object for `key`. The first call creates it by calling `make` with the outermost run."""
        if key not in self._resources:
            self._resources[key] = make(self._run)
        return cast(R, self._resources[key])

    async def close(self, seconds: float | None) -> None:
        """Close all objects that can be closed, in reverse order, within `seconds`; report exceptions and a timeout."""
        run = self._run
        deadline = math.inf if seconds is None else run.clock() + seconds
        if not await run.backend.run_concurrently([self._close_all], deadline):
            run.report(None, f"a shared object of the jobs was not closed within shutdown_timeout={seconds} s")

    async def _close_all(self) -> None:
        async with contextlib.AsyncExitStack() as stack:  # calls all callbacks, even after the deadline
            for resource in self._resources.values():
                if getattr(resource, "close", None) is not None:
                    stack.push_async_callback(self._close_one, resource)
            self._resources.clear()

    async def _close_one(self, resource: Any) -> None:
        try:
            await self._run.backend.call_apart(resource.close)
        except Exception as error:
            self._run.report(None, f"closing a shared object of the jobs raised {one_line_error(error)}", error)
