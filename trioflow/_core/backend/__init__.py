"""The interface between the engine and trio or asyncio, and the choice of a backend.

A backend combines an event loop, from the package `loop`, with the isolation of jobs in that loop, from the package
`isolation`. On trio, the engine uses trio itself. On asyncio, it spawns native tasks in one anyio cancel scope: this
provides trio's level cancellation at a third of the cost of an anyio task group. A backend's modules are imported when
it is first used.

Fast isolation reads and writes private attributes of trio and anyio. On import, it checks that they exist and behave as
expected. If a check fails, or if the environment variable `TRIOFLOW_PLAIN` is set, plain isolation replaces it, which
uses public names only.

To add a backend NAME:

- add its name to `BackendName`, its library to `LIBRARIES`, and its packages to `LOOP_PACKAGES`;
- write `loop/_NAME.py`, `isolation/_plain_NAME.py` and `isolation/_fast_NAME.py`;
- detect its running loop in `current` and `loop_running`;
- add a virtual clock to `trioflow.clock`.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..base import _logger
from ..base._reprs import is_among, short_repr
from ._interface import BACKEND_NAMES as BACKEND_NAMES
from ._interface import BackendName as BackendName
from ._interface import WorkerTask as WorkerTask
from ._shared import leaf_exceptions as leaf_exceptions
from ._shared import variables_of as variables_of

if TYPE_CHECKING:
    from ._interface import Backend as Backend
    from ._interface import CapacityLimiter as CapacityLimiter
    from ._interface import Scope as Scope
    from ._interface import TaskEvent as TaskEvent
    from ._interface import WorkerGroup as WorkerGroup

LIBRARIES: Final[dict[str, str]] = {"trio": "trio", "asyncio": "anyio"}
"""The library of each backend whose private attributes fast isolation uses."""

LOOP_PACKAGES: Final = frozenset({"trio", "outcome", "asyncio", "anyio"})
"""The packages of the event loops and their dependencies, which contain no user code."""

_loaded: Final[dict[str, Backend]] = {}
_plain_backends: Final[set[str]] = set()
_lock: Final = threading.RLock()  # two threads may start a run at the same time


def get_backend(name: str) -> Backend:
    """Return the backend with this name; load it on first use.

    Raises:
        ValueError: there is no backend with that name.
        ImportError: its library cannot be imported.

    """
    if not is_among(name, tuple(LIBRARIES)):
        raise ValueError(f"backend={short_repr(name)}: choose one of {', '.join(LIBRARIES)}")
    return _loaded.get(name) or _load(name)


def load_backend(name: BackendName) -> None:
    """Import a backend in advance, which saves the first run on it some 40 ms.

    Args:
        name: "trio" or "asyncio".

    Raises:
        ValueError: there is no backend of that name.
        ImportError: its library cannot be imported.

    Example:
        >>> load_backend("asyncio")

    """
    get_backend(name)


def use_plain_isolation() -> None:
    """Use plain isolation for all later runs in this process: no private attributes of trio and anyio."""
    _plain_backends.update(LIBRARIES)
    _loaded.clear()


def _load(name: str) -> Backend:
    """Import and cache a backend, with plain isolation if the checks of fast isolation fail.

    Raises:
        ImportError: the library cannot be imported.

    """
    with _lock:
        try:
            backend: Backend = import_module(f".loop._{name}", __name__).LOOP()
            if name == "trio" and "anyio" in sys.modules:  # else anyio would import it later, and stall the loop
                import_module("anyio._backends._trio")
        except Exception as error:
            raise ImportError(
                f"{LIBRARIES[name]} cannot be imported, so backend={name!r} cannot be used: {error}; "
                f"does a file of yours hide a library of the same name?"
            ) from error
        if name not in _plain_backends:
            try:
                backend.isolation = import_module(f".isolation._fast_{name}", __name__).ISOLATION(backend)
            except Exception as difference:
                _plain_backends.add(name)
                _logger.warn(_mismatch_warning(name, difference))
        if name in _plain_backends:
            backend.isolation = import_module(f".isolation._plain_{name}", __name__).ISOLATION(backend)
        _loaded[name] = backend
        return backend


def _mismatch_warning(name: str, difference: Exception) -> str:
    from importlib import metadata  # imported late: this takes longer than importing the rest of the engine

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
        return _loaded.get("trio") or _load("trio")
    loop = _asyncio_loop()
    if loop is not None and sys.modules["asyncio"].current_task(loop) is not None:
        return _loaded.get("asyncio") or _load("asyncio")
    raise RuntimeError("this must be awaited in a task of trio or asyncio; from code that is not async, call run()")


def loop_running() -> bool:
    """Return whether an event loop of trio or asyncio is running in this thread."""
    trio = _trio_lowlevel()
    return (trio is not None and trio.in_trio_run()) or _asyncio_loop() is not None


def _asyncio_loop() -> Any:
    """Return the asyncio event loop that is running in this thread, or None."""
    asyncio: Any = sys.modules.get("asyncio")  # without an import, which takes 30 ms, no loop can be running
    running = getattr(asyncio, "_get_running_loop", None)
    return None if running is None else running()


def _trio_lowlevel() -> Any:
    """Return `trio.lowlevel`, or None if trio has not been imported, or another thread is still importing it."""
    return getattr(sys.modules.get("trio"), "lowlevel", None)
