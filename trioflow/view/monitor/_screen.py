"""`Screen`: a picture at the bottom of a terminal, with printed lines above it.

Each update of the picture writes only the lines that have changed. Between updates, the cursor is at the beginning of
the line below the picture, so each line of the picture is a known number of lines above the cursor. When the terminal
has been resized, the picture is erased and written again. `rich.live.Live` would write all lines at each update.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from ._display import StyledLine, line_width

HIDE_CURSOR: Final = "\x1b[?25l"
SHOW_CURSOR: Final = "\x1b[?25h"
SYNCHRONIZED_OUTPUT: Final = "\x1b[?2026h{}\x1b[?2026l"
"""Sequences for synchronized output. Terminals that support them show the text between them in one step."""
ERASE_BELOW: Final = "\x1b[J"
ERASE_LINE: Final = "\x1b[K"
RESET_STYLE: Final = "\x1b[0m"

CONTROL_SEQUENCES: Final = re.compile(
    r"(?P<color>\x1b\[[0-9;:]*m)"
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # other control sequences
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # control strings: titles, links, ...
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


def strip_controls(line: str, keep_colors: bool = True) -> str:
    """Return a line without the control sequences that would move the cursor or change the terminal; tabs are kept.

    Args:
        line: the printed line.
        keep_colors: whether to keep the sequences that set colors. If the line has any, a reset is appended.

    """
    if line.isprintable():
        return line
    stripped = CONTROL_SEQUENCES.sub(lambda match: (match["color"] or "") if keep_colors else "", line)
    return stripped + RESET_STYLE if "\x1b" in stripped else stripped


class Screen:
    """The picture at the bottom of a terminal.

    Args:
        file: the terminal.
        apply_style: a function that takes a text and the name of a style, and returns the text with the escape
            sequences of the style.

    """

    def __init__(self, file: TextIO, apply_style: Callable[[str, str], str]) -> None:
        self._file: Final = file
        self._apply_style: Final = apply_style
        self._picture: list[StyledLine] = []
        self._terminal_size = (0, 0)

    def hide_cursor(self) -> None:
        self._write(HIDE_CURSOR)

    def show_cursor(self) -> None:
        """Show the cursor, which is below the picture."""
        self._write(SHOW_CURSOR)

    def update(
        self,
        picture: list[StyledLine],
        size: tuple[int, int],
        lines_above: list[str] | None = None,
        partial_line: str = "",
    ) -> None:
        """Replace the picture, and write lines above it.

        Args:
            picture: the lines of the new picture, each at most as wide as the terminal.
            size: the columns and lines of the terminal.
            lines_above: the lines to write above the picture.
            partial_line: an incomplete line to write after `lines_above`.

        """
        if lines_above or partial_line or size != self._terminal_size:
            text = "".join(
                [
                    self._erase_sequence(size),
                    *(f"{line}\n" for line in lines_above or ()),
                    partial_line,
                    *self._render_lines(picture),
                ]
            )
        else:
            text = self._change_sequence(picture)
        self._picture, self._terminal_size = picture, size
        if text:
            self._write(SYNCHRONIZED_OUTPUT.format(text))

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _render_lines(self, lines: list[StyledLine]) -> Iterator[str]:
        return (self._render_line(line) + "\n" for line in lines)

    def _render_line(self, line: StyledLine) -> str:
        return "".join(self._apply_style(text, style) for text, style in line)

    def _erase_sequence(self, size: tuple[int, int]) -> str:
        """Return the sequence that erases the picture, and any `^C` that the terminal has echoed below it.

        If the terminal has become narrower, it has wrapped the lines of the picture, so the picture has more lines now.
        """
        columns, height = size
        if not self._picture:
            return ""
        line_count = sum(max(1, math.ceil(line_width(line) / columns)) for line in self._picture)
        up = min(line_count, height - 1)
        return f"\r{_vertical_move_sequence(-up)}{ERASE_BELOW}"

    def _change_sequence(self, new_picture: list[StyledLine]) -> str:
        sequences: list[str] = []
        row = len(self._picture)  # the current row of the cursor
        for number, (old, new) in enumerate(zip(self._picture, new_picture, strict=False)):
            if old != new:
                sequences += [_vertical_move_sequence(number - row), "\r" + ERASE_LINE + self._render_line(new)]
                row = number
        if len(new_picture) != len(self._picture) or sequences:
            common_length = min(len(new_picture), len(self._picture))
            sequences += [_vertical_move_sequence(common_length - row), "\r"]
            if len(new_picture) < len(self._picture):
                sequences.append(ERASE_BELOW)
            sequences += self._render_lines(new_picture[common_length:])
        return "".join(sequences)


def _vertical_move_sequence(lines: int) -> str:
    return f"\x1b[{lines}B" if lines > 0 else f"\x1b[{-lines}A" if lines < 0 else ""
