"""Helpers for the tests of the monitor: a terminal in memory, and the picture of the moment."""

import contextlib
import io
import math
import threading
from collections.abc import Iterator
from typing import Any
import anyio
import pyte
from trioflow import Job, Monitor, Scheduler
from trioflow.view.monitor._terminal import STYLES, STYLES_WITHOUT_COLOR
from ...conftest import Virtual


class Terminal(io.StringIO):
    """A stream that claims to be a terminal, and the contents of its screen."""

    def __init__(
        self, columns: int = 80, lines: int = 24, encoding: str = "utf-8"
    ) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self.screen.set_mode(
            pyte.modes.LNM
        )  # as a terminal's driver does: a newline begins a line
        self._fed = pyte.Stream(self.screen)
        self._encoding = encoding
        self.writes = 0
        for style in (
            *STYLES.values(),
            *STYLES_WITHOUT_COLOR.values(),
        ):  # rich keeps the codes for the first terminal that it met
            style._ansi = None
        self._lock = threading.RLock()  # a monitor writes in a thread of its own

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        text.encode(self._encoding)
        with self._lock:
            self.writes += 1
            self._fed.feed(text)
            return super().write(text)

    @contextlib.contextmanager
    def standard(self) -> Iterator[None]:
        """Replace standard output and error; pytest sets its own between a fixture and its test."""
        with contextlib.redirect_stdout(self), contextlib.redirect_stderr(self):
            yield

    def shown(self) -> list[str]:
        with self._lock:
            return (
                "\n".join(line.rstrip() for line in self.screen.display)
                .rstrip()
                .splitlines()
            )

    def all_lines(self) -> list[str]:
        """Return the lines that have scrolled off the top of the screen, then those on it."""
        gone = [
            "".join(line[x].data for x in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return gone + self.shown()


class ManualMonitor(Monitor):
    """A monitor that draws only on request: each picture depends on those before, and a thread draws at any moment."""

    def _show_run(self, *args: Any) -> Any:
        run: Any = super()._show_run(*args)
        run.display.wake = lambda: None
        return run


def drawn(monitor: Monitor, columns: int = 80, height: int = 24) -> list[str]:
    """Return what a monitor that watches a run on a terminal would draw at this moment."""
    run: Any = monitor._model
    display = run.display
    with display._lock:  # its thread draws too
        display._draw.__self__._model.estimate._next_at = 0.0  # an estimate of now
        lines = display._draw(columns, height)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def watched(
    *jobs: Any, label: str = "run", **options: Any
) -> tuple[Scheduler, Monitor]:
    monitor = ManualMonitor(file=Terminal())
    return Scheduler(*jobs, label=label, instruments=[monitor], **options), monitor


def look(monitor: Monitor, after: float, **size: int) -> tuple[Job[Any], list[str]]:
    """Return a forever job that draws once, after some seconds, and the list that it fills with lines."""
    lines: list[str] = []

    async def draw() -> None:
        await anyio.sleep(after)
        lines.extend(drawn(monitor, **size))
        await anyio.sleep(math.inf)

    return Job(draw, label="look", forever=True), lines


def pictured(
    virtual: Virtual, scheduler: Scheduler, monitor: Monitor, after: float, **size: int
) -> list[str]:
    """Run a scheduler, and return the lines that its monitor draws after some seconds of the run."""
    eye, lines = look(monitor, after, **size)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    return lines


def jobs_only(lines: list[str]) -> list[str]:
    return [
        line
        for line in lines[2:]
        if not line.endswith("  look") and not line.startswith(" waiting: ")
    ]


async def serve(delay: float = 1, *, task_status: Any) -> None:
    await anyio.sleep(delay)
    task_status.started()
    await anyio.sleep(math.inf)
