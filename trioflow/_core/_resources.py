"""What jobs share for the time of an outermost run: made on first need, closed when all its jobs are shut down."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from ._run import Run


class Resource(Protocol):
    """Something that a run holds for its jobs until it ends."""

    async def close(self) -> None:
        """Release it; shielded, and cut when the outermost scheduler's `shutdown_timeout` has passed."""
        ...


R = TypeVar("R", bound=Resource)


def shared(run: Run, kind: Callable[[Run], R]) -> R:
    """Return what `kind` has made for the outermost run that `run` is part of; it is called at the first need."""
    while run.outer_worker is not None:
        run = run.outer_worker.run
    if kind not in run.resources:
        run.resources[kind] = kind(run)
    return cast(R, run.resources[kind])


async def close(run: Run, seconds: float | None) -> None:
    """Close all that the run holds, what was made last first; report what goes wrong."""
    deadline = math.inf if seconds is None else run.clock() + seconds
    if not await run.backend.together([partial(_close_all, run)], deadline):
        run.report(None, f"what jobs shared was not closed within shutdown_timeout={seconds} s")


async def _close_all(run: Run) -> None:
    async with contextlib.AsyncExitStack() as stack:  # each has its turn, also when the time is over
        for resource in run.resources.values():
            stack.push_async_callback(_close_one, run, resource)
        run.resources.clear()


async def _close_one(run: Run, resource: Resource) -> None:
    try:
        await resource.close()
    except Exception as error:
        run.report(None, f"closing what jobs shared raised {error!r}", error)
