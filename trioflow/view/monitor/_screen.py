"""A picture at the bottom of a terminal, updated by its changes only, and lines above it.

The cursor rests at the beginning of the line below the picture, so each line is a known number of lines up. When the
terminal has been resized, the picture is erased and written anew.

Rich's `Live` writes all lines of a picture again and again, 1 to 2.5 kB ten times a second; here it is a tenth of that.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from ..text._symbols import width
from ._display import Line

HIDE_CURSOR: Final = "\x1b[?25l"
SHOW_CURSOR: Final = "\x1b[?25h"
TOGETHER: Final = "\x1b[?2026h{}\x1b[?2026l"
"""Synchronized output: terminals that support it show the enclosed text at once, and others ignore it."""
ERASE_BELOW: Final = "\x1b[J"
ERASE_LINE: Final = "\x1b[K"
PLAIN: Final = "\x1b[0m"

GAP: Final = 6
"""Unchanged columns that are written again, because a cursor movement would take as many bytes."""

CONTROLS: Final = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # other control sequences
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # strings for the terminal: titles, links, ...
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


def harmless(line: str, colours: bool = True) -> str:
    """Strip control characters that would move the cursor or change the terminal; tabs stay.

    Args:
        line: the printed line.
        colours: whether colour sequences stay, too; the line then ends with a reset.

    """
    if line.isprintable():
        return line
    shown = CONTROLS.sub(lambda found: (found["colour"] or "") if colours else "", line)
    return shown + PLAIN if "\x1b" in shown else shown


class Screen:
    """The current picture on a terminal.

    Args:
        file: the terminal.
        painted: returns a text with the escape sequences of a style.

    """

    def __init__(self, file: TextIO, painted: Callable[[str, str], str]) -> None:
        self._file: Final = file
        self._painted: Final = painted
        self._lines: list[Line] = []
        self._size = (0, 0)

    def hide_cursor(self) -> None:
        """Hide the cursor while pictures are drawn."""
        self._write(HIDE_CURSOR)

    def show_cursor(self) -> None:
        """Show the cursor again; it is below the picture."""
        self._write(SHOW_CURSOR)

    def update(self, lines: list[Line], size: tuple[int, int], above: list[str] | None = None, end: str = "") -> None:
        """Replace the picture, and write lines above it.

        Args:
            lines: each is at most as wide as the terminal.
            size: the columns and lines of the terminal.
            above: whole lines.
            end: an unfinished line after them.

        """
        if above or end or size != self._size:
            text = "".join([self._erased(size), *(f"{line}\n" for line in above or ()), end, *self._whole(lines)])
        else:
            text = self._changes(lines)
        self._lines, self._size = lines, size
        if text:
            self._write(TOGETHER.format(text))

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _whole(self, lines: list[Line]) -> Iterator[str]:
        return (self._line(line) + "\n" for line in lines)

    def _line(self, line: Line) -> str:
        return "".join(self._painted(text, style) for text, style in line)

    def _erased(self, size: tuple[int, int]) -> str:
        """Return the sequence that erases the picture, and an echoed `^C` below it.

        A terminal that has become narrower has wrapped the lines of the picture.
        """
        columns, height = size
        if not self._lines:
            return ""
        taken = sum(max(1, math.ceil(_width(line) / columns)) for line in self._lines)
        up = min(taken, height - 1)
        return f"\r{_vertically(-up)}{ERASE_BELOW}"

    def _changes(self, lines: list[Line]) -> str:
        """Return the sequence that turns the shown picture into the new one."""
        written: list[str] = []
        row = len(self._lines)  # where the cursor is
        for number, (old, new) in enumerate(zip(self._lines, lines, strict=False)):
            if old != new:
                written += [_vertically(number - row), self._line_changes(old, new)]
                row = number
        if len(lines) != len(self._lines) or written:
            both = min(len(lines), len(self._lines))
            written += [_vertically(both - row), "\r"]
            if len(lines) < len(self._lines):
                written.append(ERASE_BELOW)
            written += self._whole(lines[both:])
        return "".join(written)

    def _line_changes(self, old: Line, new: Line) -> str:
        before, after = _cells(old), _cells(new)
        if before is None or after is None:
            return "\r" + ERASE_LINE + self._line(new)
        written: list[str] = []
        for start, end in _spans(before, after):
            written.append(f"\x1b[{start + 1}G")
            for style, cells in itertools.groupby(after[start:end], lambda cell: cell[1]):
                written.append(self._painted("".join(text for text, _ in cells), style))
        if len(before) > len(after):
            written += [f"\x1b[{len(after) + 1}G", ERASE_LINE]
        return "".join(written)


def _width(line: Line) -> int:
    return sum(width(text) for text, _ in line)


def _cells(line: Line) -> list[tuple[str, str]] | None:
    """Return the character and style of each column; None if a character is not one column wide: terminals differ."""
    if not all(text.isascii() or all(map(_is_one_column, text)) for text, _ in line):
        return None
    return [(character, style) for text, style in line for character in text]


@functools.lru_cache(1024)
def _is_one_column(character: str) -> bool:
    return width(character) == 1


def _spans(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of columns to write."""
    start = end = -1
    for column, cell in enumerate(after):
        if column < len(before) and before[column] == cell:
            continue
        if start >= 0 and column - end > GAP:
            yield start, end
            start = -1
        if start < 0:
            start = column
        end = column + 1
    if start >= 0:
        yield start, end


def _vertically(lines: int) -> str:
    """Return the sequence that moves the cursor down by this many lines; up if negative."""
    return f"\x1b[{lines}B" if lines > 0 else f"\x1b[{-lines}A" if lines < 0 else ""
