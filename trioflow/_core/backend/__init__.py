"""The interface between the engine and trio or asyncio, and the choice of a backend.

A backend combines an event loop with the isolation of jobs in that loop. On trio, the engine uses trio itself. On
asyncio, it spawns native tasks and cancels them once for each cause, as `asyncio.timeout` and TaskGroup do. The modules
of a backend are imported when the backend is first used.

The loop and direct isolation, which are in one module, use public names only. Fast isolation, in another, reads and
writes private attributes of trio and anyio. On import, it checks that they exist and behave as expected. If a check
fails, direct isolation takes its place. If the environment variable `TRIOFLOW_ISOLATION` names one of the two, nothing
takes its place.

To add a backend NAME:

- add its name to `BackendName`, its library to `BACKEND_LIBRARIES`, and its packages to `LOOP_PACKAGES` in `_shared`;
- write `_NAME.py` and `_fast_NAME.py`;
- detect its running loop in `current_backend` and `loop_running`;
- add a virtual clock to `trioflow.clock`.

Decided in docs/decisions: 01-two-backends, 05-private-parts.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..base import _logger
from ..base._text_forms import is_among, short_repr
from ._interface import BackendName as BackendName
from ._interface import WorkerTask as WorkerTask
from ._shared import LOOP_PACKAGES as LOOP_PACKAGES
from ._shared import SIGNALS as SIGNALS
from ._shared import ReplacedClass
from ._shared import is_in_job_body as is_in_job_body
from ._shared import matches_any as matches_any

if TYPE_CHECKING:
    from ._interface import Backend as Backend
    from ._interface import CapacityLimiter as CapacityLimiter
    from ._interface import Isolation
    from ._interface import Scope as Scope
    from ._interface import TaskEvent as TaskEvent
    from ._interface import WorkerGroup as WorkerGroup

BACKEND_LIBRARIES: Final[dict[str, str]] = {"trio": "trio", "asyncio": "anyio"}
"""For each backend, the library whose private attributes fast isolation uses."""

ISOLATIONS: Final = ("fast", "direct")

# "" for fast isolation, with direct isolation in its place if necessary.
_chosen_isolation = ""


def get_backend(name: str) -> Backend:
    """Return the backend with this name; load it on first use.

    Raises:
        ValueError: there is no backend with that name.
        ImportError: the library of the backend cannot be imported.

    """
    if not is_among(name, tuple(BACKEND_LIBRARIES)):
        raise ValueError(
            f"backend={short_repr(name)}: choose one of {', '.join(BACKEND_LIBRARIES)}"
        )
    return _load(name)


def load_backend(name: BackendName) -> None:
    """Import a backend in advance, so that the first run on it starts some 40 ms earlier.

    Args:
        name: "trio" or "asyncio".

    Raises:
        ValueError: there is no backend with that name.
        ImportError: the library of the backend cannot be imported.

    Example:
        >>> load_backend("asyncio")

    """
    get_backend(name)


def choose_isolation(kind: str) -> None:
    """Choose the isolation of all later runs in this process: "fast", "direct", or "", the default.

    Raises:
        ValueError: it is none of these.

    """
    global _chosen_isolation
    if kind and kind not in ISOLATIONS:
        raise ValueError(
            f"TRIOFLOW_ISOLATION={short_repr(kind)}: choose one of {', '.join(ISOLATIONS)}"
        )
    _chosen_isolation = kind
    _load.cache_clear()


@cache
def _load(name: str) -> Backend:
    """Import a backend, with direct isolation if that is chosen, or if the checks of fast isolation fail.

    Raises:
        ImportError: the library of the backend cannot be imported, or fast isolation is chosen and its checks fail.

    """
    try:
        backend: Backend = import_module(f"._{name}", __name__).LOOP_CLASS()
        if name == "trio" and "anyio" in sys.modules:
            # Now, because anyio would import it later and block the loop:
            # https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_core/_eventloop.py#L210.
            import_module("anyio._backends._trio")
    except Exception as error:
        raise ImportError(
            f"{BACKEND_LIBRARIES[name]} cannot be imported, so backend={name!r} cannot be used: {error}; "
            f"does one of your files shadow a library of the same name?"
        ) from error
    try:
        backend.isolation = _import_isolation(_chosen_isolation or "fast", backend)
    except Exception as mismatch:
        problem = _describe_mismatch(name, mismatch)
        if _chosen_isolation:
            raise ImportError(
                f"TRIOFLOW_ISOLATION={_chosen_isolation}: {problem}"
            ) from mismatch
        _logger.warn(f"{problem}; trioflow runs without them, slower on {name}")
        backend.isolation = _import_isolation("direct", backend)
    return backend


def _import_isolation(kind: str, backend: Backend) -> Isolation:
    module = f"._{backend.name}" if kind == "direct" else f"._fast_{backend.name}"
    isolation: Isolation = import_module(module, __name__).ISOLATION_FACTORY(backend)
    return isolation


def _describe_mismatch(name: str, mismatch: Exception) -> str:
    # Imported late, because this takes longer than importing the rest of the engine.
    from importlib import metadata

    if isinstance(mismatch, ReplacedClass):
        return str(mismatch)
    library = BACKEND_LIBRARIES[name]
    return (
        f"private attributes of {library} {metadata.version(library)}, which a newer trioflow may support, are not as "
        f"trioflow expects: {mismatch}"
    )


def current_backend() -> Backend:
    """Return the backend of the calling task.

    Raises:
        RuntimeError: the call does not come from a task of trio or asyncio.

    """
    trio = _trio_lowlevel()
    if trio is not None and trio.in_trio_task():
        return _load("trio")
    loop = _asyncio_loop()
    if loop is not None and sys.modules["asyncio"].current_task(loop) is not None:
        return _load("asyncio")
    raise RuntimeError(
        "this must be awaited in a trio or asyncio task; from synchronous code, call run()"
    )


def loop_running() -> bool:
    """Return whether an event loop of trio or asyncio is running in this thread."""
    trio = _trio_lowlevel()
    return (trio is not None and trio.in_trio_run()) or _asyncio_loop() is not None


def _asyncio_loop() -> Any:
    # If asyncio has not been imported, no loop of it is running. Importing asyncio here would take 30 ms.
    asyncio: Any = sys.modules.get("asyncio")
    get_running_loop = getattr(asyncio, "_get_running_loop", None)
    if get_running_loop is None:
        return None
    return get_running_loop()


def _trio_lowlevel() -> Any:
    """Return `trio.lowlevel`, or None if trio has not been imported, or if another thread is still importing it."""
    return getattr(sys.modules.get("trio"), "lowlevel", None)
