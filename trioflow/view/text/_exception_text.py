"""Exceptions as text: on one short line, or as a traceback reduced to the user's frames.

No function here raises, even if the `__str__` of an exception does. Left out of tracebacks are trioflow's own frames,
and those of libraries between these and the user's code.
"""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from types import TracebackType
from typing import Any, Final, cast

from ..._core.api.views import LOOP_PACKAGES, PACKAGE_PREFIX, headline, truncate

LIBRARIES_BETWEEN: Final = ("click", "concurrent.futures", "dask", "distributed", *sorted(LOOP_PACKAGES - {"asyncio"}))
"""Libraries whose frames may lie between trioflow's and the user's."""
MAX_LENGTH: Final = 100
"""The default limit in characters: an exception and its prefix fit on one line of a wide terminal."""


def one_line(error: BaseException, max_length: int = MAX_LENGTH) -> str:
    """Return the type and the message of `error`, cut to `max_length` characters."""
    return _with_type(error, safe_message(error), max_length)


def first_line(error: BaseException, max_length: int = MAX_LENGTH) -> str:
    """Return the type of `error` and the first line of its message, without trailing punctuation."""
    return _with_type(error, headline(safe_message(error)), max_length)


def safe_message(error: BaseException) -> str:
    """Return `str(error)`, or a placeholder if that raises."""
    try:
        return str(error)
    except Exception as broken:
        return f"<its str() raised {type(broken).__name__}>"


def _with_type(error: BaseException, message: str, max_length: int) -> str:
    return truncate(f"{type(error).__name__}: {message}" if message else type(error).__name__, max_length)


def format_traceback(error: BaseException, traceback_: TracebackType | None = None) -> str:
    """Format an exception as Python does, with its causes and groups, but with the user's frames only.

    Args:
        error: the exception.
        traceback_: the traceback to show; None for that of the exception.

    Returns:
        The text, which ends with a newline; without any frame of the user's, it is the message alone.

    """
    root = traceback.TracebackException(type(error), error, traceback_ or error.__traceback__, compact=True)
    libraries = (PACKAGE_PREFIX, *_library_directories())
    todo = [root]
    while todo:
        part = todo.pop()
        kept = _user_frames(part.stack, libraries)
        # Without a stack, `format` leaves out the line "Traceback (most recent call last):" as well.
        part.stack = traceback.StackSummary.from_list(kept) if kept else cast(Any, None)
        todo += [other for other in (part.__cause__, part.__context__) if other is not None]
        todo += part.exceptions or ()
    return "".join(root.format())


def innermost_user_frame(
    error: BaseException, traceback_: TracebackType | None = None
) -> traceback.FrameSummary | None:
    """Return the user's frame closest to where the exception was raised; None if no frame is the user's."""
    stack = traceback.extract_tb(traceback_ or error.__traceback__)
    kept = _user_frames(stack, (PACKAGE_PREFIX, *_library_directories()))
    return kept[-1] if kept else None


def _library_directories() -> list[str]:
    loaded = [sys.modules[name].__file__ for name in LIBRARIES_BETWEEN if name in sys.modules]
    return [f"{os.path.dirname(file)}/" for file in loaded if file is not None]


def _user_frames(stack: traceback.StackSummary, libraries: tuple[str, ...]) -> list[traceback.FrameSummary]:
    """Leave out each sequence of frames in `libraries` that includes a frame of trioflow.

    Other sequences are kept, because they result from the user's own call of a library.
    """
    kept: list[traceback.FrameSummary] = []
    for is_library, group in itertools.groupby(stack, lambda frame: frame.filename.startswith(libraries)):
        frames = list(group)
        if not (is_library and any(frame.filename.startswith(PACKAGE_PREFIX) for frame in frames)):
            kept += frames
    return kept
