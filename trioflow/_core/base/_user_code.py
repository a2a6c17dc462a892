"""Places in the user's code: not in trioflow, the standard library or an installed package."""

from __future__ import annotations

import functools
import linecache
import os
import sysconfig
from types import TracebackType
from typing import Final

OURS: Final = f"{os.path.dirname(os.path.dirname(os.path.dirname(__file__)))}{os.sep}"


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Return the prefixes of file names outside of the user's code."""
    paths = sysconfig.get_paths()
    folders = (os.path.join(paths[name], "") for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return (OURS, *folders, "<")


def line_at(file: str, number: int) -> str:
    """Return a line of code as text: its file's name, its number, and its code if that can be read."""
    text = linecache.getline(file, number).strip()
    return f"{os.path.basename(file)}:{number}" + (f": {text}" if text else "")


def innermost_line(traceback: TracebackType | None) -> str | None:
    """Return the innermost line of the user's code in a traceback, with its function; None if there is none.

    If a job waits for tasks of its own, this is the line that waits for them.
    """
    innermost = None
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_libraries()):
            innermost = traceback
        traceback = traceback.tb_next
    if innermost is None:
        return None
    code = innermost.tb_frame.f_code
    place, _, text = line_at(code.co_filename, innermost.tb_lineno).partition(": ")
    return f"in {code.co_name} at {place}" + (f" ({text})" if text else "")
