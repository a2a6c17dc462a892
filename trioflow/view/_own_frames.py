"""Tracebacks as the user's own: without our frames, nor those of what we go through on the way to the user's code."""

from __future__ import annotations

import itertools
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

OURS: Final = f"{Path(__file__).parent.parent}/"
BETWEEN: Final = ("anyio", "click", "outcome", "trio")
"""Packages through which trioflow calls the user's code, or is called."""


def formatted(error: BaseException, frames: TracebackType | None = None) -> str:
    """Return what Python would print of an exception, its causes and groups included, without our frames.

    Args:
        error: the exception.
        frames: its traceback as it was at some time; None for as it is.

    Returns:
        The lines, each with its newline; if no frame is the user's, the message alone.

    """
    told = traceback.TracebackException(type(error), error, frames or error.__traceback__, compact=True)
    libraries = (OURS, *_directories())
    todo = [told]
    while todo:
        one = todo.pop()
        kept = _without_ours(one.stack, libraries)
        one.stack = traceback.StackSummary.from_list(kept) if kept else cast(Any, None)  # None: no heading either
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
        todo += one.exceptions or ()
    return "".join(told.format())


def _directories() -> list[str]:
    loaded = [sys.modules[name].__file__ for name in BETWEEN if name in sys.modules]
    return [f"{Path(file).parent}/" for file in loaded if file is not None]


def _without_ours(stack: traceback.StackSummary, libraries: tuple[str, ...]) -> list[traceback.FrameSummary]:
    """Leave out each run of frames of `libraries` with one of ours among them: others are the user's own doing."""
    kept: list[traceback.FrameSummary] = []
    for library, run in itertools.groupby(stack, lambda frame: frame.filename.startswith(libraries)):
        frames = list(run)
        if not (library and any(frame.filename.startswith(OURS) for frame in frames)):
            kept += frames
    return kept
