"""The displays that draw pictures in their own thread: `TerminalDisplay`, and `NotebookDisplay` below a cell.

A notebook has one output, which each update replaces. It uses IPython's display handles, which need no widgets, and
whose output remains in a saved notebook.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Generator
from typing import Any, Final, TextIO

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

from ..._core.api.views import AnyJob, warn
from ._display import IDLE_INTERVAL, Display, Draw, Line, Ticker
from ._fd_capture import FdCapture, open_capture
from ._output_buffer import OutputBuffer
from ._records import JobRecord
from ._screen import Screen, strip_controls
from ._stream_proxy import InputProxy, replace_input

STYLES: Final = {
    "": Style(),
    "title": Style(bold=True),
    "figures": Style(),
    "label": Style(),
    "dim": Style(color="color(244)"),
    "running": Style(color="color(100)"),
    "done": Style(color="color(29)"),
    "good": Style(color="color(29)", bold=True),
    "failed": Style(color="color(196)", bold=True),
    "trouble": Style(color="color(166)"),
    "forever": Style(color="color(32)"),
}
"""The styles of symbols and bars; words and numbers have the terminal's default colour.

Text needs a contrast of 4.5, which no colour has on both white and dark backgrounds. Symbols need only 3 (WCAG 2.2,
1.4.3 and 1.4.11). These colours have at least 3.5 on both, and come from the 256-colour cube, which all palettes share.
"""

PLAIN: Final = {name: style.without_color for name, style in STYLES.items()}
"""The styles to use if the environment variable NO_COLOR is set."""


class TerminalDisplay(Display):
    """A live picture at the bottom of a terminal, drawn in its own thread.

    Args:
        stream: the terminal.
        draw: returns a picture for a number of columns and lines.
        interval: the minimum number of seconds between two pictures.
        child_output: whether output to descriptors 1 and 2 appears above the picture, too.
        tag: returns the prefix for lines of a job; None for no prefix.

    """

    def __init__(
        self,
        stream: TextIO,
        draw: Draw,
        interval: float,
        child_output: bool = False,
        tag: Callable[[AnyJob], str] | None = None,
    ) -> None:
        self._draw: Final = draw
        self._file: Final = _duplicate_file(stream)
        self._console: Final = Console(file=self._file, force_terminal=True, force_interactive=True)
        self._screen: Final = Screen(self._file, self._apply_style)
        self._sequences: Final[dict[str, tuple[str, str]]] = {}  # the escape sequences around a text, by style
        self._ticker: Final = Ticker(self._redraw, interval, IDLE_INTERVAL)
        self._buffer: Final = OutputBuffer(self._ticker.wake, self._redraw, tag)
        self._pipes: FdCapture | None = None
        self._takes_descriptors: Final = child_output
        self._input: InputProxy | None = None
        self._pauses = 0  # the number of readers of standard input
        self._lock: Final = threading.RLock()  # held by the thread that draws
        self._owner: Final = os.getpid()
        self._is_lost = False  # whether drawing has failed, or the terminal has been closed

    def start(self) -> None:
        """Hide the cursor, redirect printed lines above the picture, and start to draw."""
        atexit.register(self._close)
        self._guard(self._screen.hide_cursor)
        if self._file.isatty() and self._descriptor is not None:
            self._pipes = open_capture(self._buffer, self._descriptor, self._file.encoding)
        self._buffer.replace(self._pipes)
        if self._pipes is not None and self._takes_descriptors:
            self._pipes.replace()
            self._input = replace_input(self.pause)
        self._ticker.start()

    def wake(self) -> None:
        """Schedule an update."""
        self._ticker.wake()

    def job_finished(self, job: JobRecord) -> None:
        """Print the unfinished line of a settled job, and schedule an update."""
        self._buffer.finish(job.named)
        self.wake()

    def stop(self) -> None:
        """Draw the last picture, and release the terminal."""
        self._ticker.stop()
        self._release()
        self._redraw()
        self._close()
        atexit.unregister(self._close)

    def _release(self) -> None:
        """Restore the standard streams and descriptors."""
        if self._input is not None:
            self._input.restore()
        self._buffer.restore()
        pipes, self._pipes = self._pipes, None
        if pipes is not None:
            pipes.restore()

    def _close(self) -> None:
        """Restore the streams and the cursor; `atexit` calls this if `stop` has not."""
        if self._owner != os.getpid():
            return  # a fork of the program does not own the terminal
        self._release()
        with self._lock:
            self._is_lost = False  # the cursor must be shown even after an error
            self._guard(self._screen.show_cursor)
            self._guard(self._write_rest)

    def _write_rest(self) -> None:
        """Write lines that were printed after the last picture."""
        self._file.write("".join(line + "\n" for line in self._buffer.take()))
        self._file.flush()

    @contextlib.contextmanager
    def pause(self) -> Generator[None]:
        """Hide the picture, so that a prompt can be shown, and show it again afterwards."""
        with self._lock:
            self._pauses += 1
            self._guard(self._show_prompt)
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                self._guard(self._screen.hide_cursor)
                self._guard(self._update)

    def _show_prompt(self) -> None:
        self._screen.update([], self._size(), self._lines_above(), end=strip_controls(self._buffer.take_partial()))
        self._screen.show_cursor()

    def _redraw(self) -> None:
        with self._lock:
            self._guard(self._update)

    def _guard(self, action: Callable[[], None]) -> None:
        """Call a function that writes to the terminal; after an error, the display stops, and the run goes on."""
        if self._is_lost:
            return
        try:
            action()
        except OSError:
            self._is_lost = True
        except Exception as error:
            self._is_lost = True
            if not self._file.closed:
                warn("the monitor could not make a picture and makes no more in this run", error)
        if self._is_lost:
            self._release()

    def _update(self) -> None:
        columns, height = self._size()
        lines = [] if self._pauses else self._draw(columns, max(1, height - 1))
        self._screen.update(lines, (columns, height), self._lines_above())

    def _lines_above(self) -> list[str]:
        has_colours = self._console.color_system is not None and not self._console.no_color
        return [strip_controls(line, has_colours) for line in self._buffer.take()]

    @property
    def _descriptor(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return self._file.fileno()
        return None

    def _size(self) -> tuple[int, int]:
        """Return the columns and lines of the terminal; the variables COLUMNS and LINES take precedence."""
        if self._descriptor is not None and not {"COLUMNS", "LINES"} <= os.environ.keys():
            with contextlib.suppress(OSError):
                columns, lines = os.get_terminal_size(self._descriptor)
                if columns and lines:
                    return columns, lines
        return shutil.get_terminal_size()  # its default of 24 lines is right more often than rich's 25

    def _apply_style(self, text: str, style: str) -> str:
        """Return a text with the escape sequences of a style."""
        if not text:
            return ""
        sequences = self._sequences.get(style)
        if sequences is None:
            before, _, after = self._render_style(style).partition("\0")
            sequences = self._sequences[style] = before, after
        return sequences[0] + text + sequences[1]

    def _render_style(self, style: str) -> str:
        """Return a null character with the escape sequences of a style around it."""
        if self._console.color_system is None:
            return "\0"
        styles = PLAIN if self._console.no_color else STYLES
        has_cube = self._console.color_system in ("256", "truecolor")
        return styles[style].render("\0", color_system=ColorSystem.EIGHT_BIT if has_cube else ColorSystem.STANDARD)


def _duplicate_file(stream: TextIO) -> TextIO:
    """Return a file with a duplicate of the terminal's descriptor, because a pipe may replace the original."""
    if type(stream) is not io.TextIOWrapper:
        return stream
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
        descriptor, encoding = os.dup(stream.fileno()), str(stream.encoding)
        return open(descriptor, "w", encoding=encoding, errors="backslashreplace")
    return stream


COLUMNS: Final = 100
HEIGHT: Final = 30
INTERVAL: Final = 0.5
"""Minimum number of seconds between two pictures, because each is sent to the browser as a whole."""

FORMAT: Final = '<pre style="white-space:pre;line-height:normal;font-family:monospace">{code}</pre>'


class NotebookDisplay(Display):
    """A live picture as the output of a notebook cell."""

    def __init__(self, draw: Draw, interval: float) -> None:
        self._display: Final = display()
        self._draw: Final = draw
        self._ticker: Final = Ticker(self._redraw, max(interval, INTERVAL), IDLE_INTERVAL)
        self._lock: Final = threading.Lock()
        self._handle: Any = None
        self._displayed_lines: list[Line] = []

    def start(self) -> None:
        """Show the first picture."""
        self._redraw()
        self._ticker.start()

    def wake(self) -> None:
        """Schedule an update."""
        self._ticker.wake()

    def stop(self) -> None:
        """Show the last picture."""
        self._ticker.stop()
        self._redraw()

    def _redraw(self) -> None:
        try:
            with self._lock:
                self._update()
        except Exception as error:
            warn("the monitor could not show a picture in the notebook", error)

    def _update(self) -> None:
        lines = self._draw(COLUMNS, HEIGHT)
        if lines == self._displayed_lines:
            return
        self._displayed_lines = lines
        bundle = {"text/html": _html(lines), "text/plain": _plain(lines)}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _html(lines: list[Line]) -> str:
    console = Console(file=io.StringIO(), record=True, force_jupyter=False, width=COLUMNS, color_system="256")
    for line in lines:
        console.print(Text.assemble(*((text, STYLES[style]) for text, style in line)), no_wrap=True, crop=False)
    return console.export_html(inline_styles=True, code_format=FORMAT)


def _plain(lines: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def display() -> Callable[..., Any]:
    """Return IPython's `display` function."""
    from IPython.display import display as show  # type: ignore[import-not-found,unused-ignore]

    return show  # type: ignore[no-any-return,unused-ignore]
