"""`TerminalDisplay`: the display that draws pictures on a terminal, in a thread, and its `Screen`.

A screen is a picture at the bottom of a terminal, with printed lines above it. Each update of the picture writes only
the lines that have changed. Between updates, the cursor is at the beginning of the line below the picture, so each line
of the picture is a known number of lines above the cursor. When the terminal has been resized, the picture is erased
and written again. `rich.live.Live` would write all lines at each update.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import math
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, Final, TextIO

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from ..._core.base._logger import warn
from ..._core.job._job import AnyJob
from ..text._symbols import Symbols
from ._output_buffer import InputProxy, OutputBuffer, replace_input
from ._records import (
    IDLE_INTERVAL,
    REDRAW_INTERVAL,
    Display,
    DrawFunction,
    JobRecord,
    StyledLine,
    Ticker,
    line_width,
)

HIDE_CURSOR: Final = "\x1b[?25l"
SHOW_CURSOR: Final = "\x1b[?25h"
SYNCHRONIZED_OUTPUT: Final = "\x1b[?2026h{}\x1b[?2026l"
"""Sequences for synchronized output. Terminals that support them show the text between them in a single step."""
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
    """Return a line without the control sequences that would move the cursor or change the terminal. Tabs are kept.

    Args:
        line: the printed line.
        keep_colors: whether to keep the sequences that set colors. If the line has any, a reset is appended.

    """
    if line.isprintable():
        return line
    stripped = CONTROL_SEQUENCES.sub(r"\g<color>" if keep_colors else "", line)
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
            above = "".join(f"{line}\n" for line in lines_above or ())
            erased = self._erase_sequence(size)
            text = f"{erased}{above}{partial_line}{self._render_lines(picture)}"
        else:
            text = self._change_sequence(picture)
        self._picture = picture
        self._terminal_size = size
        if text:
            self.write(SYNCHRONIZED_OUTPUT.format(text))

    def write(self, text: str) -> None:
        self._file.write(Symbols.for_stream(self._file).encodable(text))
        self._file.flush()

    def _render_lines(self, lines: list[StyledLine]) -> str:
        return "".join(self._render_line(line) + "\n" for line in lines)

    def _render_line(self, line: StyledLine) -> str:
        return "".join(self._apply_style(text, style) for text, style in line)

    def _erase_sequence(self, size: tuple[int, int]) -> str:
        """Return the sequence that erases the picture, and any `^C` that the terminal has echoed below it.

        If the terminal has become narrower, it has wrapped the lines of the picture, so the picture has more lines now.
        """
        columns, height = size
        if not self._picture:
            return ""
        rows = [math.ceil(line_width(line) / columns) or 1 for line in self._picture]
        return f"\r{_vertical_move_sequence(-min(sum(rows), height - 1))}{ERASE_BELOW}"

    def _change_sequence(self, new_picture: list[StyledLine]) -> str:
        sequences: list[str] = []
        # The current row of the cursor.
        row = len(self._picture)
        pairs = zip(self._picture, new_picture, strict=False)
        for number, (old, new) in enumerate(pairs):
            if old != new:
                sequences.append(_vertical_move_sequence(number - row))
                sequences.append(f"\r{ERASE_LINE}{self._render_line(new)}")
                row = number
        if len(new_picture) != len(self._picture) or sequences:
            common_length = min(len(new_picture), len(self._picture))
            sequences += [_vertical_move_sequence(common_length - row), "\r"]
            if len(new_picture) < len(self._picture):
                sequences.append(ERASE_BELOW)
            sequences.append(self._render_lines(new_picture[common_length:]))
        return "".join(sequences)


def _vertical_move_sequence(lines: int) -> str:
    direction = "B" if lines > 0 else "A"
    if not lines:
        return ""
    return f"\x1b[{abs(lines)}{direction}"


STYLES: Final = {
    "": Style(),
    "title": Style(bold=True),
    "figures": Style(),
    "label": Style(),
    "dim": Style(color="color(244)"),
    "running": Style(color="color(100)"),
    "done": Style(color="color(29)"),
    "good": Style(color="color(29)", bold=True),
    "moved on": Style(color="color(97)"),
    "failed": Style(color="color(196)", bold=True),
    "trouble": Style(color="color(166)"),
    "forever": Style(color="color(32)"),
}
"""The styles of symbols and bars. Words and numbers have the terminal's default color. Text needs a contrast of 4.5,
which no color has on both white and dark backgrounds. Symbols need only a contrast of 3 (WCAG 2.2, 1.4.3 and 1.4.11).
These colors have a contrast of at least 3.5 on both backgrounds. They come from the 256-color cube, which is the same
in all palettes."""

STYLES_WITHOUT_COLOR: Final = {
    name: style.without_color for name, style in STYLES.items()
}


class TerminalDisplay(Display):
    """A display that draws a live picture at the bottom of a terminal, in a thread.

    Args:
        stream: the terminal.
        draw: a function that returns a picture for a number of columns and lines.
        should_capture_child_output: whether output to descriptors 1 and 2, e.g. of child processes, appears above the
            picture.
        get_tag: a function that returns the tag before each line of a job, or None for no tags.

    """

    def __init__(
        self,
        stream: TextIO,
        draw: DrawFunction,
        should_capture_child_output: bool = False,
        get_tag: Callable[[AnyJob], str] | None = None,
    ) -> None:
        self._draw: Final = draw
        self._file: Final = _duplicate_file(stream)
        self._rich_console: Final = Console(
            file=self._file, force_terminal=True, force_interactive=True
        )
        self._screen: Final = Screen(self._file, self._apply_style)
        has_256_colors = self._rich_console.color_system in ("256", "truecolor")
        self._color_system: Final = (
            ColorSystem.EIGHT_BIT if has_256_colors else ColorSystem.STANDARD
        )
        self._ticker: Final = Ticker(self._redraw, REDRAW_INTERVAL, IDLE_INTERVAL)
        self._buffer: Final = OutputBuffer(self._ticker.wake, self._redraw, get_tag)
        self._should_capture_child_output: Final = should_capture_child_output
        self._input_proxy: InputProxy | None = None
        # The number of `pause` contexts entered. While it is not 0, the picture is hidden.
        self._pause_count = 0
        # Held while drawing.
        self._lock: Final = threading.RLock()
        self._owner_pid: Final = os.getpid()
        # Whether drawing has failed, e.g. because the terminal was closed.
        self._has_failed = False

    def start(self) -> None:
        """Hide the cursor, replace the standard streams, and start drawing."""
        atexit.register(self._release_terminal)
        self._call_safely(lambda: self._screen.write(HIDE_CURSOR))
        if self._file.isatty():
            self._buffer.open_capture(self._file)
        self._buffer.replace_terminal_streams()
        if self._buffer.fd_capture is not None and self._should_capture_child_output:
            self._buffer.fd_capture.replace_descriptors()
            self._input_proxy = replace_input(self.pause)
        self._handle_stop_key(signal.SIG_DFL, self._stop_program)
        self._ticker.start()

    def _handle_stop_key(self, current: object, handler: Any) -> None:
        """Replace the handler for Ctrl-Z, unless it is not `current`, such as a handler of the program."""
        is_main = threading.current_thread() is threading.main_thread()
        if sys.platform == "win32" or not is_main:
            return
        if signal.getsignal(signal.SIGTSTP) == current:
            signal.signal(signal.SIGTSTP, handler)

    def _stop_program(self, number: int, _: object) -> None:
        """Stop this program, as Ctrl-Z does, with the cursor shown and no picture. Draw it again afterwards."""
        with self.pause():
            # Of a run that has begun since, it is that run's, which calls this one.
            handler = signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, handler)

    def wake(self) -> None:
        self._ticker.wake()

    def job_settled(self, job: JobRecord) -> None:
        """Print the incomplete line of a settled job, and schedule an update."""
        self._buffer.finish_partial_lines(job.job)
        self.wake()

    def stop(self) -> None:
        """Draw the last picture, and release the terminal."""
        self._ticker.stop()
        self._restore_streams()
        self._redraw()
        self._release_terminal()
        atexit.unregister(self._release_terminal)

    def _restore_streams(self) -> None:
        if self._input_proxy is not None:
            self._input_proxy.restore()
        self._buffer.restore_streams()

    def _release_terminal(self) -> None:
        """Restore the streams and the cursor. If `stop` was not called, `atexit` calls this method."""
        if self._owner_pid != os.getpid():
            # This process is a fork, which must not change the terminal.
            return
        self._restore_streams()
        self._handle_stop_key(self._stop_program, signal.SIG_DFL)
        with self._lock:
            # So that the cursor is shown even after an error.
            self._has_failed = False
            self._call_safely(lambda: self._screen.write(SHOW_CURSOR))
            self._call_safely(lambda: self._buffer.write_lines(self._file))

    @contextlib.contextmanager
    def pause(self) -> Generator[None]:
        """Hide the picture inside the `with` block, so that a prompt can be shown."""
        with self._lock:
            self._pause_count += 1
            self._call_safely(self._show_prompt)
        try:
            yield
        finally:
            with self._lock:
                self._pause_count -= 1
                self._call_safely(lambda: self._screen.write(HIDE_CURSOR))
                self._call_safely(self._draw_picture)

    def _show_prompt(self) -> None:
        lines = self._take_lines_above()
        prompt = strip_controls(self._buffer.take_partial_line())
        self._screen.update([], self._terminal_size(), lines, prompt)
        # Below the picture.
        self._screen.write(SHOW_CURSOR)

    def _redraw(self) -> None:
        with self._lock:
            self._call_safely(self._draw_picture)

    def _call_safely(self, action: Callable[[], None]) -> None:
        """Call a function that writes to the terminal. If it raises, stop the display, and let the run go on."""
        if self._has_failed:
            return
        try:
            action()
        except Exception as error:
            self._has_failed = True
            if not (isinstance(error, OSError) or self._file.closed):
                warn(
                    "the monitor could not draw a picture, and draws no more in this run",
                    error,
                )
            self._restore_streams()

    def _draw_picture(self) -> None:
        columns, height = self._terminal_size()
        lines = []
        if not self._pause_count:
            lines = self._draw(columns, max(1, height - 1))
        self._screen.update(lines, (columns, height), self._take_lines_above())

    def _take_lines_above(self) -> list[str]:
        console = self._rich_console
        has_colors = console.color_system is not None and not console.no_color
        return [strip_controls(line, has_colors) for line in self._buffer.take_lines()]

    def _terminal_size(self) -> tuple[int, int]:
        """Return the columns and lines of the terminal. If COLUMNS and LINES are both set, they take precedence."""
        if not {"COLUMNS", "LINES"} <= os.environ.keys():
            with contextlib.suppress(OSError, ValueError):
                # Raised if the file has no descriptor.
                columns, lines = os.get_terminal_size(self._file.fileno())
                if columns and lines:
                    return columns, lines
        # If the size is unknown, it returns 24 lines, while rich would return 25.
        return shutil.get_terminal_size()

    def _apply_style(self, text: str, style: str) -> str:
        if not text or self._rich_console.color_system is None:
            return text
        styles = STYLES_WITHOUT_COLOR if self._rich_console.no_color else STYLES
        return styles[style].render(text, color_system=self._color_system)


def render_style(text: str, style: str) -> str:
    return STYLES[style].render(text, color_system=ColorSystem.EIGHT_BIT)


def _duplicate_file(stream: TextIO) -> TextIO:
    """Return a file with a duplicate of the terminal's descriptor, because a pipe may replace the original descriptor.

    If `stream` is not a plain text file, or has no descriptor, return `stream`.
    """
    if type(stream) is not io.TextIOWrapper:
        return stream
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
        return open(
            os.dup(stream.fileno()),
            "w",
            encoding=str(stream.encoding),
            errors="backslashreplace",
        )
    return stream
