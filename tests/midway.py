"""What a view answers while the run changes before any of the lines that the view executes, as in another thread."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
import trioflow

T = TypeVar("T")
PACKAGE = str(Path(trioflow.__file__).parent)


def ask_midway(
    number: int, ask: Callable[[], T], change: Callable[[], object], room: str = ""
) -> tuple[T, bool]:
    """Ask, and call `change` before the line of this number. Return the answer, and whether there was such a line.

    The lines are those of the package, or of a room in it."""
    lines = itertools.count()
    has_changed = False

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal has_changed
        if not frame.f_code.co_filename.startswith(PACKAGE + room):
            return None
        if event == "line" and next(lines) == number:
            sys.settrace(None)
            has_changed = True
            change()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return ask(), has_changed
    finally:
        sys.settrace(before)


def answers_midway(
    prepare: Callable[[], tuple[Callable[[], T], Callable[[], object]]],
) -> Iterator[T]:
    """Yield the answer for each line that asking executes: before that line, something has changed.

    Each time, `prepare` returns what asks, and what changes, of new objects."""
    for number in itertools.count():
        answer, has_changed = ask_midway(number, *prepare())
        yield answer
        if not has_changed:
            return
