"""All that the engine needs from trio or asyncio, and which of the two is running here.

On trio the engine uses trio itself. On asyncio it spawns native tasks, all in one anyio cancel scope. That keeps trio's
level cancellation at a third of the cost of an anyio task group. Each of the two modules is imported only when it is
needed.

Both read and write private parts of the libraries. When one of them is imported, it checks that these parts are there
and behave. If they do not, or if `TRIOFLOW_PLAIN` is set, `plain` takes its place, which uses public names alone.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..base import _log
from ._interface import WorkerTask as WorkerTask
from ._shared import leaves_of as leaves_of
from ._shared import variables_of as variables_of

if TYPE_CHECKING:
    from ._interface import Backend as Backend
    from ._interface import Event as Event
    from ._interface import Group as Group
    from ._interface import Scope as Scope

NAMES: Final = ("trio", "asyncio")
LIBRARIES: Final = {"trio": "trio", "asyncio": "anyio"}
"""Whose private parts each backend uses."""

_loaded: Final[dict[str, Backend]] = {}
_plain_names: Final[set[str]] = set()
_lock: Final = threading.RLock()  # two threads may start a run at the same time


def by_name(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        ValueError: there is no backend with that name.
        ImportError: its library cannot be imported.

    """
    if name not in NAMES:
        raise ValueError(f"backend={name!r}: choose one of {', '.join(NAMES)}")
    return _loaded.get(name) or _load(name)


def take_the_plain_way() -> None:
    """Use no private parts of trio and anyio in this process, from the next run on."""
    _plain_names.update(NAMES)
    _loaded.clear()


def _load(name: str) -> Backend:
    """Import a backend; the plain one, if the private parts that the other needs differ.

    Raises:
        ImportError: the library cannot be imported.

    """
    with _lock:
        try:
            import_module(LIBRARIES[name])
            if name == "trio" and "anyio" in sys.modules:
                import_module(
                    "anyio._backends._trio"
                )  # at its first call anyio does, in a job, while the loop stands still
        except Exception as error:
            raise ImportError(
                f"{LIBRARIES[name]} cannot be imported, so backend={name!r} cannot be used: {error}; "
                f"is a file of yours with the name of a library in the way?"
            ) from error
        if name not in _plain_names:
            try:
                _loaded[name] = import_module(f"._{name}", __name__).BACKEND
            except Exception as difference:
                _plain_names.add(name)
                _log.warn(_plain_way(name, difference))
        if name in _plain_names:
            _loaded[name] = import_module(f".plain._{name}", __name__).BACKEND
        return _loaded[name]


def _plain_way(name: str, difference: Exception) -> str:
    from importlib import metadata  # takes longer to import than the rest of the engine

    library = LIBRARIES[name]
    return (
        f"private parts of {library} {metadata.version(library)} are not as trioflow expects: {difference}; so it does "
        f"without them: it is slower on {name}, but keeps its promises; a newer trioflow may know this {library}"
    )


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
