"""`Screen`: a picture at the bottom of a terminal, of which each update writes only the changes, and lines above it.

Between updates, the cursor is at the beginning of the line below the picture, so each line of the picture is a known
number of lines above it. When the terminal has been resized, the picture is erased and written again.

Rich's `Live` writes all lines of a picture at each update, 1 to 2.5 kB ten times a second; this writes a tenth of that.
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
SYNCHRONIZED: Final = "\x1b[?2026h{}\x1b[?2026l"
"""Synchronized output: a terminal that supports it shows the enclosed text in one step; others ignore the sequences."""
ERASE_BELOW: Final = "\x1b[J"
ERASE_LINE: Final = "\x1b[K"
PLAIN: Final = "\x1b[0m"

GAP: Final = 6
"""The number of unchanged columns that are written between two changes: a cursor movement takes as many bytes."""

CONTROLS: Final = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # other control sequences
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # control strings: titles, links, ...
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


def strip_controls(line: str, colours: bool = True) -> str:
    """Strip control sequences that would move the cursor or change the terminal; keep tabs.

    Args:
        line: the printed line.
        colours: whether to keep colours, too; the line then ends with a reset.

    """
    if line.isprintable():
        return line
    stripped = CONTROLS.sub(lambda match: (match["colour"] or "") if colours else "", line)
    return stripped + PLAIN if "\x1b" in stripped else stripped


class Screen:
    """The picture on a terminal, and the sequences that update it.

    Args:
        file: the terminal.
        render: returns a text with the escape sequences of a style, given the text and the name of the style.

    """

    def __init__(self, file: TextIO, render: Callable[[str, str], str]) -> None:
        self._file: Final = file
        self._render: Final = render
        self._lines: list[Line] = []
        self._size = (0, 0)

    def hide_cursor(self) -> None:
        """Hide the cursor while pictures are drawn."""
        self._write(HIDE_CURSOR)

    def show_cursor(self) -> None:
        """Show the cursor, which is below the picture."""
        self._write(SHOW_CURSOR)

    def update(self, lines: list[Line], size: tuple[int, int], above: list[str] | None = None, end: str = "") -> None:
        """Replace the picture, and write lines above it.

        Args:
            lines: the new picture; each line is at most as wide as the terminal.
            size: the columns and lines of the terminal.
            above: the lines to write above the picture.
            end: an unfinished line to write after `above`.

        """
        if above or end or size != self._size:
            text = "".join(
                [self._erase_sequence(size), *(f"{line}\n" for line in above or ()), end, *self._render_lines(lines)]
            )
        else:
            text = self._change_sequence(lines)
        self._lines, self._size = lines, size
        if text:
            self._write(SYNCHRONIZED.format(text))

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _render_lines(self, lines: list[Line]) -> Iterator[str]:
        return (self._render_line(line) + "\n" for line in lines)

    def _render_line(self, line: Line) -> str:
        return "".join(self._render(text, style) for text, style in line)

    def _erase_sequence(self, size: tuple[int, int]) -> str:
        """Return the sequence that erases the picture, and also an echoed `^C` below it.

        A terminal that has become narrower has wrapped the lines of the picture, so they take more lines now.
        """
        columns, height = size
        if not self._lines:
            return ""
        taken = sum(max(1, math.ceil(_line_width(line) / columns)) for line in self._lines)
        up = min(taken, height - 1)
        return f"\r{_move_vertically(-up)}{ERASE_BELOW}"

    def _change_sequence(self, lines: list[Line]) -> str:
        """Return the sequence that turns the current picture into the new one."""
        sequences: list[str] = []
        row = len(self._lines)  # the row of the cursor
        for number, (old, new) in enumerate(zip(self._lines, lines, strict=False)):
            if old != new:
                sequences += [_move_vertically(number - row), self._line_change_sequence(old, new)]
                row = number
        if len(lines) != len(self._lines) or sequences:
            both = min(len(lines), len(self._lines))
            sequences += [_move_vertically(both - row), "\r"]
            if len(lines) < len(self._lines):
                sequences.append(ERASE_BELOW)
            sequences += self._render_lines(lines[both:])
        return "".join(sequences)

    def _line_change_sequence(self, old: Line, new: Line) -> str:
        """Return the sequence that turns one line into another, for a cursor on that line."""
        before, after = _cells(old), _cells(new)
        if before is None or after is None:
            return "\r" + ERASE_LINE + self._render_line(new)
        sequences: list[str] = []
        for start, end in _changed_spans(before, after):
            sequences.append(f"\x1b[{start + 1}G")
            for style, cells in itertools.groupby(after[start:end], lambda cell: cell[1]):
                sequences.append(self._render("".join(text for text, _ in cells), style))
        if len(before) > len(after):
            sequences += [f"\x1b[{len(after) + 1}G", ERASE_LINE]
        return "".join(sequences)


def _line_width(line: Line) -> int:
    return sum(width(text) for text, _ in line)


def _cells(line: Line) -> list[tuple[str, str]] | None:
    """Return the character and style of each column.

    Return None if a character is not one column wide, because terminals differ in the width of such characters.
    """
    if not all(text.isascii() or all(map(_is_one_column, text)) for text, _ in line):
        return None
    return [(character, style) for text, style in line for character in text]


@functools.lru_cache(1024)
def _is_one_column(character: str) -> bool:
    return width(character) == 1


def _changed_spans(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of columns that must be written, each as its start and its end."""
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


def _move_vertically(lines: int) -> str:
    """Return the sequence that moves the cursor down by this many lines; up if negative."""
    return f"\x1b[{lines}B" if lines > 0 else f"\x1b[{-lines}A" if lines < 0 else ""
