"""A monitor's pictures, drawn in a thread of their own: on a terminal, or below a notebook's cell.

In a notebook they are one output, replaced at each update. It uses IPython's own display handles, which need no
widgets, and whose output stays in a saved notebook.
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
from ._display import PATIENCE, Display, Draw, Line, Ticker
from ._fd_capture import FdCapture, open_pipes
from ._output_buffer import OutputBuffer
from ._records import JobRecord
from ._screen import Screen, harmless
from ._stream_proxy import Input, replaced_input

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
"""Words and numbers have the terminal's own colour. Only symbols and bars have others.

No colour has a contrast of 4.5, which text needs, on both white and the dark grounds of terminals. Those of the cube
of 256 colours are the same in all palettes, and these have at least 3.5 on each, more than the 3 that symbols need
(WCAG 2.2, 1.4.3 and 1.4.11).
"""

PLAIN: Final = {name: style.without_color for name, style in STYLES.items()}
"""The styles for NO_COLOR."""


class TerminalDisplay(Display):
    """A live picture on a terminal, drawn in a thread of its own.

    Args:
        stream: the terminal.
        draw: makes a picture for a number of columns and lines.
        interval: the least number of seconds between two pictures.
        child_output: whether output at descriptors 1 and 2 goes above the picture too.
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
        self._file: Final = _own_file(stream)
        self._console: Final = Console(file=self._file, force_terminal=True, force_interactive=True)
        self._screen: Final = Screen(self._file, self._with_style)
        self._around: Final[dict[str, tuple[str, str]]] = {}  # the escape sequences around a text, by style
        self._ticker: Final = Ticker(self._tick, interval, PATIENCE)
        self._above: Final = OutputBuffer(self._ticker.wake, self._tick, tag)
        self._pipes: FdCapture | None = None
        self._takes_descriptors: Final = child_output
        self._input: Input | None = None
        self._pauses = 0  # the number of readers of standard input
        self._lock: Final = threading.RLock()  # held by the thread that draws
        self._owner: Final = os.getpid()
        self._is_lost = False  # the terminal is gone, or the picture could not be made

    def start(self) -> None:
        """Take over the terminal: hide its cursor, and redirect printed lines above the picture."""
        atexit.register(self._leave)
        self._guarded(self._screen.hide_cursor)
        if self._file.isatty() and self._descriptor is not None:
            self._pipes = open_pipes(self._above, self._descriptor, self._file.encoding)
        self._above.replace(self._pipes)
        if self._pipes is not None and self._takes_descriptors:
            self._pipes.replace()
            self._input = replaced_input(self.paused)
        self._ticker.start()

    def wake(self) -> None:
        """Schedule an update."""
        self._ticker.wake()

    def job_finished(self, job: JobRecord) -> None:
        """Show that a job has settled, and its unfinished line."""
        self._above.finish(job.named)
        self.wake()

    def stop(self) -> None:
        """Release the terminal, with the last picture on it."""
        self._ticker.stop()
        self._release()
        self._tick()
        self._leave()
        atexit.unregister(self._leave)

    def _release(self) -> None:
        """Restore the standard streams and descriptors."""
        if self._input is not None:
            self._input.restore()
        self._above.restore()
        pipes, self._pipes = self._pipes, None
        if pipes is not None:
            pipes.restore()

    def _leave(self) -> None:
        """Show the cursor again; called when the interpreter ends, if not before."""
        if self._owner != os.getpid():
            return  # a fork of the program does not own the terminal
        self._release()
        with self._lock:
            self._is_lost = False  # the cursor must be shown even after an error
            self._guarded(self._screen.show_cursor)
            self._guarded(self._write_rest)

    def _write_rest(self) -> None:
        """Write lines that were printed after the last picture."""
        self._file.write("".join(line + "\n" for line in self._above.take()))
        self._file.flush()

    @contextlib.contextmanager
    def paused(self) -> Generator[None]:
        """Hide the picture during a prompt; printed lines are then shown at once."""
        with self._lock:
            self._pauses += 1
            self._guarded(self._ask)
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                self._guarded(self._screen.hide_cursor)
                self._guarded(self._update)

    def _ask(self) -> None:
        self._screen.update([], self._size(), self._lines_above(), end=harmless(self._above.take_begun()))
        self._screen.show_cursor()

    def _tick(self) -> None:
        with self._lock:
            self._guarded(self._update)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Guard an access to the terminal: after an error the display is off, and the run goes on."""
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
        return [harmless(line, has_colours) for line in self._above.take()]

    @property
    def _descriptor(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return self._file.fileno()
        return None

    def _size(self) -> tuple[int, int]:
        """Return the columns and lines of the terminal; the environment takes precedence."""
        if self._descriptor is not None and not {"COLUMNS", "LINES"} <= os.environ.keys():
            with contextlib.suppress(OSError):
                columns, lines = os.get_terminal_size(self._descriptor)
                if columns and lines:
                    return columns, lines
        return shutil.get_terminal_size()  # rich assumes 25 lines, but most terminals have 24

    def _with_style(self, text: str, style: str) -> str:
        """Return a text with its escape sequences."""
        if not text:
            return ""
        found = self._around.get(style)
        if found is None:
            before, _, after = self._rendered(style).partition("\0")
            found = self._around[style] = before, after
        return found[0] + text + found[1]

    def _rendered(self, style: str) -> str:
        if self._console.color_system is None:
            return "\0"
        styles = PLAIN if self._console.no_color else STYLES
        has_cube = self._console.color_system in ("256", "truecolor")
        return styles[style].render("\0", color_system=ColorSystem.EIGHT_BIT if has_cube else ColorSystem.STANDARD)


def _own_file(stream: TextIO) -> TextIO:
    """Return a duplicate file for the terminal: a pipe may replace its descriptor."""
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
"""Seconds between two pictures: each is sent to the browser as a whole."""

FORMAT: Final = '<pre style="white-space:pre;line-height:normal;font-family:monospace">{code}</pre>'


class NotebookDisplay(Display):
    """The output of one cell."""

    def __init__(self, draw: Draw, interval: float) -> None:
        self._display: Final = display()
        self._draw: Final = draw
        self._ticker: Final = Ticker(self._tick, max(interval, INTERVAL), PATIENCE)
        self._lock: Final = threading.Lock()
        self._handle: Any = None
        self._shown: list[Line] = []

    def start(self) -> None:
        """Show the first picture."""
        self._tick()
        self._ticker.start()

    def wake(self) -> None:
        """Schedule an update."""
        self._ticker.wake()

    def stop(self) -> None:
        """Show the last picture."""
        self._ticker.stop()
        self._tick()

    def _tick(self) -> None:
        try:
            with self._lock:
                self._update()
        except Exception as error:
            warn("the monitor could not show a picture in the notebook", error)

    def _update(self) -> None:
        lines = self._draw(COLUMNS, HEIGHT)
        if lines == self._shown:
            return
        self._shown = lines
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
    """Return the function that shows something below the calling cell."""
    from IPython.display import display as show  # type: ignore[import-not-found,unused-ignore]

    return show  # type: ignore[no-any-return,unused-ignore]
