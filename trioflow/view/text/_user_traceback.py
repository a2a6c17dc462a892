"""Tracebacks with the user's frames only: without ours, and without those of the libraries that we call in between."""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from types import TracebackType
from typing import Any, Final, cast

from ..._core.api.views import LOOP_PACKAGES

OURS: Final = f"{os.path.dirname(os.path.dirname(os.path.dirname(__file__)))}/"
BETWEEN: Final = ("click", "concurrent.futures", "dask", "distributed", *sorted(LOOP_PACKAGES - {"asyncio"}))
"""Packages through which trioflow calls the user's code, or is called by it."""


def formatted(error: BaseException, frames: TracebackType | None = None) -> str:
    """Return what Python would print of an exception, with its causes and groups, but without our frames.

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


def _directories() -> list[str]:
    loaded = [sys.modules[name].__file__ for name in BETWEEN if name in sys.modules]
    return [f"{os.path.dirname(file)}/" for file in loaded if file is not None]


def _without_ours(stack: traceback.StackSummary, libraries: tuple[str, ...]) -> list[traceback.FrameSummary]:
    """Drop each run of frames of `libraries` that has one of ours in it; in other runs the user calls the library."""
    kept: list[traceback.FrameSummary] = []
    for library, run in itertools.groupby(stack, lambda frame: frame.filename.startswith(libraries)):
        frames = list(run)
        if not (library and any(frame.filename.startswith(OURS) for frame in frames)):
            kept += frames
    return kept
