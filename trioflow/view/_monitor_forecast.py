"""When a run is likely to be over: the estimator, asked now and then about the run that a monitor watches."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any, Final

from .._core import _graph
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from .._core._states import JobState
from ._monitor_estimate import RUNNING, SETTLED, SUCCEEDED, WAITING, Estimator, Level, Progress
from ._monitor_model import Model

INTERVAL: Final = 1.0
SHARE: Final = 500
"""An estimate goes through all jobs that have not settled: the next one waits so many times as long as it took."""


class Forecast:
    """The estimate for one run."""

    def __init__(self, model: Model) -> None:
        self._model: Final = model
        self._estimator: Estimator[AbstractJob[Any]] | None = None
        self._edition = -1
        self._next = -math.inf
        self._last: float | None = None

    def remaining(self) -> float | None:
        """Return how many seconds the run still takes; None if nobody knows."""
        now = time.monotonic()
        if now >= self._next:
            began = time.thread_time()
            with contextlib.suppress(RuntimeError):  # the run has added a requirement meanwhile: then next time
                self._last = self._estimate()
            self._next = now + max(INTERVAL, SHARE * (time.thread_time() - began))
        return self._last

    def _estimate(self) -> float | None:
        edition = self._model.edition
        if self._estimator is None or edition != self._edition:
            self._estimator = Estimator(levels(self._model.root, self._model.slots), expected)
            self._edition = edition
        return self._estimator.remaining(self._progress)

    def _progress(self, job: AbstractJob[Any]) -> Progress:
        started, finished = job._started_at, job._finished_at
        if finished is not None:
            if started is not None and job._state is JobState.SUCCEEDED:
                return SUCCEEDED, finished - started
            return SETTLED, 0.0
        return (WAITING, 0.0) if started is None else (RUNNING, self._model.clock() - started)


def expected(job: AbstractJob[Any]) -> float | None:
    """Return the seconds that a job says it takes, None if it doesn't."""
    seconds = getattr(job, "expected_duration", None)
    return None if seconds is None else float(seconds)


def levels(root: BaseScheduler, slots: float) -> Iterator[Level[AbstractJob[Any]]]:
    """Yield the levels of a scheduler whose run has so many `slots`, with the jobs that do not run for ever."""
    todo = [root]
    while todo:
        scheduler = todo.pop()
        order = _graph.topological_order(list(scheduler._jobs), scheduler._waits_for)
        jobs = [job for job in order if not job._forever]
        nested = [job for job in jobs if isinstance(job, BaseScheduler)]
        own_slots = slots if scheduler is root else _slots(scheduler)
        yield Level(scheduler, jobs, scheduler._waits_for, own_slots, frozenset(nested))
        todo += nested


def _slots(scheduler: BaseScheduler) -> float:
    window = scheduler.jobs_window
    tokens = window if window is None or isinstance(window, int) else window.total_tokens
    return math.inf if tokens is None else max(1, tokens)
