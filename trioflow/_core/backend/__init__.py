"""All that the engine needs from trio or asyncio, and which of the two is running here.

On trio the engine uses trio itself. On asyncio it spawns native tasks, all in one anyio cancel scope. That keeps trio's
level cancellation at a third of the cost of an anyio task group. Each of the two modules is imported only when it is
needed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ._interface import WorkerTask as WorkerTask
from ._shared import leaves_of as leaves_of

if TYPE_CHECKING:
    from ._interface import Backend as Backend
    from ._interface import Event as Event
    from ._interface import Group as Group
    from ._interface import Scope as Scope

NAMES: Final = ("trio", "asyncio")


def by_name(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        ValueError: there is no backend with that name.

    """
    if name == "trio":
        from . import _trio

        return _trio.BACKEND
    if name == "asyncio":
        from . import _asyncio

        return _asyncio.BACKEND
    raise ValueError(f"backend={name!r}: choose one of {', '.join(NAMES)}")


def current() -> Backend:
    """Return the backend of the calling task.

    Raises:
        RuntimeError: the call does not come from a task of trio or asyncio.

    """
    trio = _trio_lowlevel()
    if trio is not None and trio.in_trio_task():
        return by_name("trio")
    if loop_running() and sys.modules["asyncio"].current_task() is not None:
        return by_name("asyncio")
    raise RuntimeError("this must be awaited in a task of trio or asyncio; from code that is not async, call run()")


def loop_running() -> bool:
    """Return whether an event loop of trio or asyncio is running in this thread."""
    trio = _trio_lowlevel()
    if trio is not None and trio.in_trio_run():
        return True
    asyncio: Any = sys.modules.get("asyncio")  # not imported here: that takes 30 ms, and then no loop could be running
    running = getattr(asyncio, "_get_running_loop", None)
    return running is not None and running() is not None


def _trio_lowlevel() -> Any:
    """Return `trio.lowlevel`, or None if trio is not imported, or is just being imported by another thread."""
    return getattr(sys.modules.get("trio"), "lowlevel", None)
