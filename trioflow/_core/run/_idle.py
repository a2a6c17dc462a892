"""Progress, and jobs that show no sign of life for longer than their `idle_timeout`.

A sign of life is progress that a job reports, or a piece of what its command writes; for a scheduler, anything that
happens to one of its jobs. Each puts off the end of the call, up to the end that a timeout sets:

```
call begins ──► the end is due after idle_timeout, or timeout ──► it comes: as after any timeout, with the error below
                   ▲ sign of life: due after idle_timeout again
```

Nothing here runs for jobs without an `idle_timeout`, but for what `progress` itself does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from ..job import _errors
from ._observers import Instrument

if TYPE_CHECKING:
    from ..backend import Backend
    from ..job._job import AbstractJob
    from ._run import Run

PROGRESS: Final = "progress"
OF_JOBS: Final = "progress of its jobs"


class Watch:
    """When one call of a job has to end; the job finds it in its facts while the call lasts.

    Args:
        run: the run that the call is in.
        job: the job.
        idle_timeout: seconds without a sign of life.
        timeout: seconds for the whole call, from now; None for no limit.
        missing: what did not come, for the error.
        move: called with the end, and again whenever that has moved; without it, `deadline` is to be asked.
        begins: whether the call is watched from now on; otherwise while it is `counting`.

    """

    __slots__ = ("_clock", "_facts", "_job", "_missing", "_move", "_seconds", "end", "last", "timeout")

    def __init__(
        self,
        run: Run,
        job: AbstractJob[Any],
        idle_timeout: float,
        timeout: float | None,
        missing: str,
        move: Callable[[float], object] | None = None,
        *,
        begins: bool = True,
    ) -> None:
        self._clock: Final = run.clock
        self._job: Final = job
        self._facts: Final = run.facts(job) if job._worker is not None else None  # else another job has called it
        self._seconds: Final = idle_timeout
        self._missing: Final = missing
        self._move: Final = move
        now = run.clock()
        self.timeout: Final = timeout
        self.end: Final = math.inf if timeout is None else now + timeout
        self.last = now if begins else math.inf  # the latest sign of life; infinity while it is not watched

    @property
    def needs_signs(self) -> bool:
        """Whether signs of life put off its end."""
        return self._seconds < math.inf

    @property
    def deadline(self) -> float:
        """When the call has to end, unless there is a sign of life before."""
        return min(self.end, self.last + self._seconds)

    def alive(self) -> None:
        """Record a sign of life."""
        now = self._clock()
        if self.last == math.inf or (self._move is not None and now >= self.deadline):
            return  # it is not watched; or its end has come
        self._set(now)

    @contextlib.contextmanager
    def counting(self) -> Generator[None]:
        """Watch the call for the length of a block only."""
        self._set(self._clock())
        try:
            yield
        finally:
            if self._clock() < self.deadline:
                self._set(math.inf)

    def _set(self, last: float) -> None:
        self.last = last
        if self._move is not None:
            self._move(self.deadline)

    def error(self) -> _errors.JobTimeout:
        """Return what the job fails with after its end: which of the two times was over."""
        if self.end <= self.last + self._seconds:
            assert self.timeout is not None
            return _errors.JobTimeout(self._job, self.timeout)
        return _errors.JobTimeout(self._job, self._seconds, self._missing)

    def __enter__(self) -> Watch:
        """Let signs of life reach it."""
        self._set(self.last)
        if self._facts is not None and self.needs_signs:
            self._facts.watch = self
        return self

    def __exit__(self, *_: object) -> None:
        """Let no more signs of life reach it: the end does not move any more."""
        if self._facts is not None and self._facts.watch is self:
            self._facts.watch = None


class WatchOfJobs(Instrument):
    """Watches a run whose scheduler has an `idle_timeout`: each event of its jobs, at any depth, is a sign of life.

    Events are frequent, so the end is not moved each time: when it comes, it is looked up again.
    """

    _run: Run
    _prevent: Callable[[], None] | None = None

    def __init__(self) -> None:
        """Watch nothing yet."""
        self.watch: Watch | None = None

    def begin(self, run: Run, idle_timeout: float) -> None:
        """Watch the jobs of a run from now on."""
        self._run = run
        self.watch = Watch(run, run.scheduler, idle_timeout, None, OF_JOBS)
        self._prevent = run.group.call_at(self.watch.deadline, self._look)

    def end(self) -> None:
        """Watch no more."""
        if self._prevent is not None:
            self._prevent()
            del self._prevent, self._run  # which refers to this

    def _look(self) -> None:
        assert self.watch is not None
        due = self.watch.deadline
        if due > self._run.clock():
            self._prevent = self._run.group.call_at(due, self._look)
        else:
            self._run.stop_because_idle()

    def _note(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if self.watch is not None:
            self.watch.alive()

    job_added = job_scheduled = job_attempt = job_ready = job_finished = _note


class ReportsOfThreads:
    """Progress that jobs have reported in other threads, until the thread of the run takes it over.

    However often a thread reports, the run is woken once, and takes the latest value.
    """

    __slots__ = ("_call", "_is_due", "_waiting")

    def __init__(self, backend: Backend) -> None:
        self._call: Final = backend.caller()
        self._waiting: Final[dict[AbstractJob[Any], float | None]] = {}
        self._is_due = False

    def add(self, job: AbstractJob[Any], fraction: float | None) -> None:
        """Keep what a job has reported; this is called in its thread."""
        self._waiting[job] = self._waiting.get(job) if fraction is None else fraction
        if not self._is_due:
            self._is_due = True
            self._call(self._take_over)

    def _take_over(self) -> None:
        self._is_due = False  # first: what comes from now on is due again
        while self._waiting:
            job, fraction = self._waiting.popitem()
            if job._worker is not None:  # it has not settled meanwhile
                job._worker.run.note_progress(job, fraction)
