"""A monitor's pictures below a notebook's cell: one output, replaced at each update.

It uses IPython's own display handles, which need no widgets, and whose output stays in a saved notebook.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ..._core.api.views import warn
from ._display import PATIENCE, Display, Draw, Line, Ticker
from ._terminal import STYLES

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
