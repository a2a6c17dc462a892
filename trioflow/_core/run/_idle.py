"""Progress, and jobs that show no sign of life for longer than their `idle_timeout`.

A sign of life is progress that a job reports, or a piece of what its command writes; for a scheduler, anything that
happens to one of its jobs. Each puts off the end of the call, up to the end that a timeout sets:

```
call begins ──► the end is due after idle_timeout, or timeout ──► it comes: as after any timeout, with the error below
                   ▲ sign of life: due after idle_timeout again
```

While a job holds the loop, or the whole program stands still, nobody takes in the signs of others. So what has been
given before the end is looked for once more when it is due.

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

TURNS: Final = 4
"""How often the loop turns after a deadline before it counts.

In one turn a report of a thread arrives, in two what a process has sent; the output of a node goes through one or two
tasks more.
"""


class Watch:
    """When one call of a job has to end; the job finds it in its facts while the call lasts.

    Args:
        run: the run that the call is in.
        job: the job.
        idle_timeout: seconds without a sign of life.
        timeout: seconds for the whole call, from now; None for no limit. Somebody else ends the call after it.
        missing: what did not come, for the error.
        end_call: called once, when the call has to end for want of a sign of life; without it, `deadline` is to be
            asked.
        begins: whether the call is watched from now on; otherwise while it is `counting`.

    """

    __slots__ = (
        "_clock", "_end_call", "_facts", "_is_over", "_job", "_missing", "_run", "_seconds", "_stop_timer", "_turns",
        "end", "last", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        run: Run,
        job: AbstractJob[Any],
        idle_timeout: float,
        timeout: float | None,
        missing: str,
        end_call: Callable[[], object] | None = None,
        *,
        begins: bool = True,
    ) -> None:
        self._run: Final = run
        self._clock: Final = run.clock
        self._job: Final = job
        self._facts: Final = run.facts(job) if job._worker is not None else None  # else another job has called it
        self._seconds: Final = idle_timeout
        self._missing: Final = missing
        self._end_call: Final = end_call
        self._is_over = False
        self._turns = 0
        self._stop_timer: Callable[[], None] | None = None
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
        if self.last < math.inf:  # otherwise it is not watched
            self._set(self._clock())

    @contextlib.contextmanager
    def counting(self) -> Generator[None]:
        """Watch the call for the length of a block only."""
        self._set(self._clock())
        try:
            yield
        finally:
            if self._end_call is not None or self._clock() < self.deadline:
                self._set(math.inf)

    def _set(self, last: float) -> None:
        if not self._is_over:
            self.last, self._turns = last, 0
            self._set_timer()

    def _set_timer(self) -> None:
        """See to it that `_look` is called at the deadline, or before: signs of life are frequent."""
        due = self.last + self._seconds
        if self._end_call is not None and self._stop_timer is None and due < self.end:
            self._stop_timer = self._run.group.call_at(due, self._look)

    def _look(self) -> None:
        """End the call if its deadline has come, and the loop has turned since then."""
        self._stop_timer = None
        if self.last + self._seconds > self._clock():
            self._set_timer()
        elif self._turns < TURNS:
            self._turns += 1
            self._stop_timer = self._run.group.call_at(self._clock(), self._look)
        else:
            self._is_over = True
            assert self._end_call is not None
            self._end_call()

    def error(self) -> _errors.JobTimeout:
        """Return what the job fails with after its end: which of the two times was over."""
        if not self._is_over and self.end <= self.last + self._seconds:
            assert self.timeout is not None
            return _errors.JobTimeout(self._job, self.timeout)
        return _errors.JobTimeout(self._job, self._seconds, self._missing)

    def stop(self) -> None:
        """Let no more signs of life reach it, and end the call no more."""
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None
        if self._facts is not None and self._facts.watch is self:
            self._facts.watch = None

    def __enter__(self) -> Watch:
        """Let signs of life reach it."""
        self._set_timer()
        if self._facts is not None and self.needs_signs:
            self._facts.watch = self
        return self

    def __exit__(self, *_: object) -> None:
        """Let no more signs of life reach it."""
        self.stop()


class WatchOfJobs(Instrument):
    """Watches a run whose scheduler has an `idle_timeout`: each event of its jobs, at any depth, is a sign of life."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self.watch: Watch | None = None

    def begin(self, run: Run, idle_timeout: float) -> None:
        """Watch the jobs of a run from now on."""
        self.watch = Watch(run, run.scheduler, idle_timeout, None, OF_JOBS, run.stop_because_idle).__enter__()

    def end(self) -> None:
        """Watch no more."""
        if self.watch is not None:
            self.watch.stop()
            self.watch = None  # which refers to the run

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
