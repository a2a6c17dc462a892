"""Exceptions as text: on one short line, and as tracebacks with the user's frames only.

Nothing here raises, even if an exception's own `__str__` does. Tracebacks have neither our frames nor frames of
libraries that we call in between.
"""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from types import TracebackType
from typing import Any, Final, cast

from ..._core.api.views import LOOP_PACKAGES, OURS, beginning, headline

BETWEEN: Final = ("click", "concurrent.futures", "dask", "distributed", *sorted(LOOP_PACKAGES - {"asyncio"}))
"""Libraries whose frames may stand between trioflow's and the user's."""


LONGEST = 100
"""Characters of an exception: with its prefix, a line of a wide terminal."""


def exception(error: BaseException, longest: int = LONGEST) -> str:
    """Return the type and the beginning of the message of `error`, even if its `__str__` raises."""
    return _with_type(error, message(error), longest)


def headline_of(error: BaseException, longest: int = LONGEST) -> str:
    """Return the type and the first line of the message, without a colon or the like at its end."""
    return _with_type(error, headline(message(error)), longest)


def message(error: BaseException) -> str:
    """Return the message of `error`, or a remark that its `__str__` raised."""
    try:
        return str(error)
    except Exception as broken:
        return f"<its str() raised {type(broken).__name__}>"


def _with_type(error: BaseException, message: str, longest: int) -> str:
    return beginning(f"{type(error).__name__}: {message}" if message else type(error).__name__, longest)


def formatted(error: BaseException, frames: TracebackType | None = None) -> str:
    """Format an exception as Python does, with its causes and groups, but without our frames.

    Args:
        error: the exception.
        frames: the traceback to show; None for the exception's own.

    Returns:
        The lines, each with its newline; if no frame is the user's, only the message.

    """
    whole = traceback.TracebackException(type(error), error, frames or error.__traceback__, compact=True)
    libraries = (OURS, *_directories())
    todo = [whole]
    while todo:
        one = todo.pop()
        kept = _without_ours(one.stack, libraries)
        one.stack = traceback.StackSummary.from_list(kept) if kept else cast(Any, None)  # None: no heading either
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
        todo += one.exceptions or ()
    return "".join(whole.format())


def place(error: BaseException, frames: TracebackType | None = None) -> traceback.FrameSummary | None:
    """Return the innermost frame that is not ours; None if there is none."""
    stack = traceback.extract_tb(frames or error.__traceback__)
    kept = _without_ours(stack, (OURS, *_directories()))
    return kept[-1] if kept else None


def _directories() -> list[str]:
    loaded = [sys.modules[name].__file__ for name in BETWEEN if name in sys.modules]
    return [f"{os.path.dirname(file)}/" for file in loaded if file is not None]


def _without_ours(stack: traceback.StackSummary, libraries: tuple[str, ...]) -> list[traceback.FrameSummary]:
    """Drop each run of frames of `libraries` that includes one of ours; in other runs the user calls the library."""
    kept: list[traceback.FrameSummary] = []
    for library, run in itertools.groupby(stack, lambda frame: frame.filename.startswith(libraries)):
        frames = list(run)
        if not (library and any(frame.filename.startswith(OURS) for frame in frames)):
            kept += frames
    return kept
