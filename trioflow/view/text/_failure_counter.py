"""`FailureCounter`: a filter for the log of a server, in which many runs fail alike."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, final

from ..._core.api.views import duration_text, short_repr

MAX_KINDS: Final = 1000
"""The maximum number of kinds of failures that are counted at once; failures of further kinds have a line each."""

MAX_LABELS: Final = 1000
"""The maximum number of labels that are counted at once for one kind."""
MAX_NAMED: Final = 5
"""The maximum number of labels in a line."""


@dataclass(slots=True)
class _CountedKind:
    """The failures of one kind since the first, which was logged, or since their number was logged."""

    message: str  # of the first
    label: str | None  # of the first
    count: int = 0
    labels: Counter[str] = field(default_factory=Counter[str])

    def take_report(self, when: str) -> str:
        """Return a line about the failures that were counted, and count from 0 again."""
        named = [(label, count) for label, count in self.labels.most_common(MAX_NAMED) if count > 1]
        names = ", ".join(f"'{label}' {count}" for label, count in named)
        others = f" ({names})" if any(label != self.label for label, _ in named) else ""
        line = f"{self.count} more{when} like this{others}: {self.message}"
        self.count = 0
        self.labels.clear()
        return line


@final
class FailureCounter(logging.Filter):
    """A filter for the log of trioflow, which counts failures of one kind over all runs of the process.

    For a server, in which each request is a run. The first failure of a kind is logged at once. Similar ones are
    counted, and their number is logged once in each period, with the labels of the jobs that failed most. So are runs
    that a timeout or a signal stops. Lines that only count the failures of a run are left out, and so is the advice to
    call `debrief()`, because the scheduler of a request that has been answered is gone: in its place is the line of the
    user's code that failed. Other lines pass.

    Args:
        period: the seconds between two lines about failures of one kind, more than 0.

    Raises:
        TypeError, ValueError: `period` is not a positive number.

    Example:
        >>> import logging
        >>> counter = FailureCounter()
        >>> logging.getLogger("trioflow").addFilter(counter)
        >>> logging.getLogger("trioflow").removeFilter(counter)

    """

    def __init__(self, period: float = 60.0) -> None:
        super().__init__()
        if isinstance(period, bool) or not isinstance(period, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"FailureCounter({short_repr(period)}): give a number of seconds, such as 60")
        if not 0 < period <= threading.TIMEOUT_MAX:
            raise ValueError(f"FailureCounter({short_repr(period)}): give a number of seconds above 0, such as 60")
        self.period: Final = float(period)
        self._kinds: Final[dict[object, _CountedKind]] = {}
        self._lock: Final = threading.Lock()  # runs may be in several threads
        self._timer: threading.Timer | None = None

    def __repr__(self) -> str:
        """Return the constructor call."""
        return f"FailureCounter({self.period:g})"

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged; count it otherwise."""
        about: object = getattr(record, "about", None)
        kind: object = getattr(record, "kind", None)
        label: str | None = getattr(record, "label", None)
        if about is None:
            return True
        if kind is None:
            return about != "end"
        if isinstance(record.args, tuple) and len(record.args) == 2:
            place: str | None = getattr(record, "place", None)
            record.args = (record.args[0], "" if place is None else f"; it was {place}")  # in place of the advice
        with self._lock:
            counted = self._kinds.get(kind)
            if counted is not None:
                counted.count += getattr(record, "count", 1)
                if label is not None and (label in counted.labels or len(counted.labels) < MAX_LABELS):
                    counted.labels[label] += 1
                return False
            if len(self._kinds) < MAX_KINDS:
                self._kinds[kind] = _CountedKind(record.getMessage(), label)
                self._start_timer()
        return True

    def _start_timer(self) -> None:
        if self._timer is None:
            atexit.register(self.report)
            self._timer = threading.Timer(self.period, self._report_in_time)
            self._timer.daemon = True
            self._timer.start()

    def _report_in_time(self) -> None:
        atexit.unregister(self.report)
        self._log_counts(f" in {duration_text(self.period)}")
        with self._lock:
            self._timer = None
            if self._kinds:
                self._start_timer()

    def report(self) -> None:
        """Log the numbers of the failures that were counted since the last report.

        Python does so when it exits, but not in a process that a signal ends: uvicorn, for example, shuts down at
        SIGTERM, and then raises the signal again. So a server calls this at the end of its lifespan.
        """
        self._log_counts("")

    def _log_counts(self, when: str) -> None:
        lines: list[str] = []
        with self._lock:
            for kind, counted in list(self._kinds.items()):
                if counted.count:
                    lines.append(counted.take_report(when))
                else:
                    del self._kinds[kind]
        for line in lines:
            logging.getLogger("trioflow").warning("%s", line)
