"""`LiveReport`: a report that is kept up to date while a run is under way, in a thread of its own.

The file is written beside and renamed, so whoever opens it finds a whole page. The page loads itself again; what it
says when nothing new comes is in `report.js`. The thread keeps to a share of a CPU: a page that takes longer to make is
made less often, and so is the graph, which is drawn by another program.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ...._core.door.reading import warn
from ...graph._drawing import CriticalPath
from .. import _file
from .._record import TraceRecord
from . import _graph, _report

INTERVAL: Final = 2.0
"""Seconds between two pages, at least."""
PAGES: Final = 0.015
"""The share of a CPU that the pages may take, without their graphs."""
GRAPHS: Final = 0.005
"""The share for graphs. With 14 to 100 jobs `dot` takes 40 ms, so they are drawn every 8 s."""
FIRST: Final = 0.2
"""Seconds until the first page."""


class LiveReport:
    """Keeps a report up to date during a `with` block, around the run that a trace watches.

    Args:
        record: returns what the trace has recorded; called in another thread than the run's.
        path: the file.

    """

    def __init__(self, record: Callable[[], TraceRecord], path: Path) -> None:
        self._record: Final = record
        self._path: Final = path
        self._graph: Final = SparingGraph()
        self._ended: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._work, name="trioflow report", daemon=True)
        self._is_failing = False

    def __enter__(self) -> LiveReport:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End the thread; if the run has broken off, leave a page that does not wait for another."""
        self._ended.set()
        self._thread.join()
        record = self._record()
        if exception[0] is not None and record.runs:
            with contextlib.suppress(Exception):  # nothing may hide what has broken it off
                _file.write(self._path, _report.html(record, self._path.parent))

    # ---- the thread

    def _work(self) -> None:
        pages, pause, every = 0, FIRST, INTERVAL
        while not self._ended.wait(pause):
            began = time.thread_time()
            record = self._record()
            if not record.runs:
                continue
            self._write(record, every)
            pages, pause = pages + 1, every
            if pages > 1:  # the first is no measure: most of its time is loading what makes pages
                every = max(INTERVAL, (time.thread_time() - began) / PAGES)

    def _write(self, record: TraceRecord, every: float) -> None:
        """Write a page; whatever is in the way of that must not be in the way of the run."""
        try:
            live = _report.Live(every, time.time(), self._graph.section)
            _file.write(self._path, _report.html(record, self._path.parent, live))
        except OSError as error:
            if not self._is_failing:
                why = error.strerror or error
                warn(f"the report {str(self._path)!r} cannot be brought up to date: {why}; the run goes on")
            self._is_failing = True
        except RuntimeError:
            pass  # jobs were added while it was made: the next page has them
        else:
            self._is_failing = False


class SparingGraph:
    """The graph of a live report: drawn again when something has happened, and the share of a CPU allows it."""

    def __init__(self) -> None:
        self._drawn: Final[dict[Any, tuple[float, float, str]]] = {}  # when, the seconds it took, and the picture

    def section(self, scheduler: Any, path: CriticalPath) -> str:
        """Return the graph of a scheduler, perhaps as it was some time ago."""
        began = time.monotonic()
        at, took, drawn = self._drawn.get(scheduler, (began, 0.0, ""))
        if drawn and began - at < took / GRAPHS:
            return _graph.note(f"The graph is drawn less often than the rest: it is {began - at:.0f} s older.") + drawn
        drawn = _graph.section(scheduler, path)
        self._drawn[scheduler] = began, time.monotonic() - began, drawn
        return drawn
