"""A monitor's pictures on a terminal, drawn by rich's `Live`."""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment
from rich.style import Style
from rich.text import Text

from ..._core.door.reading import warn
from ..text._symbols import width
from ._display import PATIENCE, Display, Draw, Line, Piece, Ticker
from ._print_above import Above

STYLES: Final = {
    "": Style(),
    "title": Style(bold=True),
    "figures": Style(),
    "label": Style(),
    "dim": Style(color="color(244)"),
    "running": Style(color="color(100)"),
    "done": Style(color="color(29)"),
    "failed": Style(color="color(196)", bold=True),
    "trouble": Style(color="color(166)"),
    "background": Style(color="color(32)"),
}
"""Words and numbers have the terminal's own colour. Only signs and bars have others.

No colour has a contrast of 4.5, which text needs, on both white and the dark grounds of terminals. Those of the cube
of 256 colours are the same in all palettes, and these have at least 3.5 on each, more than the 3 that signs need (WCAG
2.2, 1.4.3 and 1.4.11).
"""

PLAIN: Final = {name: style.without_color for name, style in STYLES.items()}
"""For NO_COLOR."""


class WrittenPicture:
    """Lines that have been cut to the width, with their escape sequences in them.

    Each is passed to rich as one control sequence, which rich leaves alone: taking lines apart and putting them back
    together would take longer than everything else that a picture needs.

    There is one object for a whole run, because rich prints what goes above the picture together with the picture that
    was refreshed last, not with one that it was given since.
    """

    def __init__(self) -> None:
        """Begin with nothing to write."""
        self.lines: list[str] = []

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the lines."""
        for number, line in enumerate(self.lines):
            if number:
                yield Segment.line()
            yield Segment(line, None, [(ControlType.CARRIAGE_RETURN,)])


class MonitorConsole(Console):
    """A console on a terminal. A terminal that is gone is an error like any other, and does not end the program."""

    def on_broken_pipe(self) -> None:
        """Raise the error; rich would end the program."""
        raise BrokenPipeError


class TerminalDisplay(Display):
    """A terminal on which a picture is kept up to date, in a thread of its own.

    Args:
        stream: the terminal.
        draw: makes a picture for so many columns and lines.
        interval: the least number of seconds between two pictures.

    """

    def __init__(self, stream: TextIO, draw: Draw, interval: float) -> None:
        self._draw: Final = draw
        self._console: Final = MonitorConsole(file=stream, force_terminal=True, force_interactive=True)
        self._picture: Final = WrittenPicture()
        self._live: Final = Live(
            self._picture, console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._ticker: Final = Ticker(self._tick, interval, PATIENCE)
        self._above: Final = Above(self._ticker.wake, self._tick)
        self._lock: Final = threading.RLock()  # one draws at a time
        self._shown: list[Line] = []
        self._written: dict[tuple[Piece, ...], str] = {}  # the same lines as they are written
        self._columns = 0
        self._owner: Final = os.getpid()
        self._is_last = False
        self._is_lost = False  # the terminal is gone, or the picture could not be made

    def start(self) -> None:
        """Take over the terminal: hide its cursor, and send what is printed above the picture."""
        atexit.register(self._leave)
        self._guarded(self._live.start)
        self._above.replace()
        self._ticker.start()

    def wake(self) -> None:
        """Draw soon."""
        self._ticker.wake()

    def stop(self) -> None:
        """Release the terminal, with the last picture on it."""
        self._ticker.stop()
        self._above.restore()
        self._is_last = True
        self._tick()
        self._leave()
        atexit.unregister(self._leave)

    def _leave(self) -> None:
        """Show the cursor again; called when the interpreter ends, if not before."""
        if self._owner != os.getpid():
            return  # a fork of the program ends, which does not own the terminal
        self._above.restore()
        with self._lock:
            self._is_lost = False  # the cursor must be shown, whatever has gone wrong before
            self._guarded(self._live.stop)
            self._guarded(self._write_rest)

    def _write_rest(self) -> None:
        """Write what was printed too late to go above a picture."""
        self._console.file.write("".join(line + "\n" for line in self._above.take()))
        self._console.file.flush()

    def _tick(self) -> None:
        with self._lock:
            self._guarded(self._update)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do something with the terminal; if that fails, do nothing more from then on, and let the run go on."""
        if self._is_lost:
            return
        try:
            action()
        except OSError:
            self._is_lost = True
        except Exception as error:
            self._is_lost = True
            if not self._console.file.closed:
                warn("the monitor could not make a picture and makes no more in this run", error)
        if self._is_lost:
            self._above.restore()

    def _update(self) -> None:
        size = self._console.size
        lines = self._draw(size.width, max(1, size.height - 1))
        above = self._above.take()
        if size.width < self._columns:
            self._console.control(_erasing(self._shown, size.width))
        if lines != self._shown or above or size.width != self._columns:
            self._picture.lines = self._as_written(lines)
            if above:
                self._console.print(Text("\n").join(map(Text.from_ansi, above)), soft_wrap=True)
            elif not self._is_last:
                self._live.refresh()
        self._shown, self._columns = lines, size.width

    def _as_written(self, lines: list[Line]) -> list[str]:
        """Return the lines with their escape sequences; unchanged lines are reused."""
        keys = [tuple(line) for line in lines]
        self._written = {key: self._written.get(key) or self._escaped(key) for key in keys}
        return [self._written[key] for key in keys]

    def _escaped(self, line: tuple[Piece, ...]) -> str:
        if self._console.color_system is None:
            return "".join(text for text, _ in line)
        styles = PLAIN if self._console.no_color else STYLES
        has_cube = self._console.color_system in ("256", "truecolor")
        colours = ColorSystem.EIGHT_BIT if has_cube else ColorSystem.STANDARD
        return "".join(styles[style].render(text, color_system=colours) for text, style in line)


def _erasing(lines: list[Line], columns: int) -> Control:
    """Return what erases the lines that a picture takes in addition since its terminal became narrower.

    The terminal has broken the lines that no longer fit, but rich goes up only by as many as it wrote.
    """
    widths = [sum(width(text) for text, _ in line) for line in lines]
    more = sum(max(0, math.ceil(wide / columns) - 1) for wide in widths)
    up = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * more
    return Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up)
