"""The seam: all that the engine needs from trio or from asyncio, and which of them is running here.

On trio the engine uses trio itself. On asyncio it spawns native tasks, all in one anyio cancel scope, which keeps
trio's level cancellation at a third of the price of an anyio task group. Each of the two modules is imported
only when it is needed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._interface import Backend as Backend
    from ._interface import Event as Event
    from ._interface import Group as Group
    from ._interface import Scope as Scope

NAMES: Final = ("trio", "asyncio")


def by_name(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        ValueError: there is none of that name.

    """
    if name == "trio":
        from . import _trio

        return _trio.BACKEND
    if name == "asyncio":
        from . import _asyncio

        return _asyncio.BACKEND
    raise ValueError(f"backend={name!r}: choose one of {', '.join(NAMES)}")


def current() -> Backend:
    """Return the backend of the task that calls.

    Raises:
        RuntimeError: no task of trio or asyncio calls.

    """
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return by_name("trio")
    if loop_running() and sys.modules["asyncio"].current_task() is not None:
        return by_name("asyncio")
    raise RuntimeError("this must be awaited in a task of trio or asyncio; from plain code call run()")


def loop_running() -> bool:
    """Tell whether an event loop of trio or asyncio runs in this very thread."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return True
    asyncio: Any = sys.modules.get("asyncio")  # who has not imported it runs no loop; and to import it takes 30 ms
    return asyncio is not None and asyncio._get_running_loop() is not None
