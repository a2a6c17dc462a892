"""`Undecided`: the jobs of a run without open requirements that may settle at once, in their order.

Their rule or the journal may settle them, or a part hold them back. Then the jobs that wait for them may settle at
once, and so on: a single failure may block a chain of a million jobs, and a journal restore 100,000 in succession.
Therefore, such jobs are queued, with all jobs behind them, and made ready one by one, without recursion. With a
journal, this takes several turns of the loop: it may have to read files first, or to ask a `restore_if=`, which workers
do for several jobs at once.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from ..base._states import IDLE
from ..job._job import AnyJob
from . import _steps
from ._current import current_worker_var

if TYPE_CHECKING:
    from ._run import Run
    from ._worker import Worker

LOOKUPS_PER_CLOCK_READING: Final = 8
"""The number of jobs to look up between two readings of the clock. A reading takes a tenth of the time of a look-up."""
MAX_READS: Final = 8
"""The number of jobs in the queue, from the first on, whose files are read at once."""


class Undecided:
    """The queue of these jobs. `work` makes them ready, now, after the end that is told, or in a later turn."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self.jobs: Final[deque[AnyJob]] = deque()
        # Whether `work` goes on: meanwhile, jobs are only added.
        self._is_working = False
        # Whether it goes on, or `resume` will call it: between two turns of the loop, the latter.
        self.is_busy = False
        # How many jobs were looked up. Each may have added the next, so that each was alone in the queue.
        self._lookups = 0
        # The jobs whose files are read before their look-ups, each by a worker, and those whose files have been read.
        self._readers: Final[dict[AnyJob, Worker]] = {}
        self._have_read: Final[set[AnyJob]] = set()

    def begin(self, entries: Iterable[AnyJob]) -> None:
        """Make those entry jobs ready that may settle at once."""
        self.jobs.extend(entries)
        if self.jobs and self._run.journal_writer is not None:
            self.is_busy = True
            self._run.wake()
        elif self.jobs or self._run.parts:
            self.work()

    def make_ready(self, job: AnyJob) -> None:
        """Make a job ready that was added, or is tried again: now, or after the jobs that are looked up before it."""
        if self._run.journal_writer is None and not self.is_busy:
            _steps.make_ready(self._run, job)
            return
        self.jobs.append(job)
        if not self._is_working:
            self.work()

    def work(self) -> None:
        """Make the jobs ready one by one, or the rest of them in a later turn of the loop."""
        run = self._run
        jobs = self.jobs
        self.is_busy = self._is_working = True
        while jobs and not run.phase._is_ending:
            if run.journal_writer is not None and self._must_wait(jobs[0]):
                self._is_working = False
                return
            # A job that has got a new requirement waits for it.
            _steps.make_ready(run, jobs.popleft())
        jobs.clear()
        self.is_busy = self._is_working = False
        for part in run.parts:
            part.act()

    def may_resume(self) -> bool:
        """Return whether the run has to call `resume`: jobs are left, and the first waits for no files."""
        return self.is_busy and not self._is_being_read(self.jobs[0])

    def resume(self) -> None:
        """Go on in a new turn of the loop."""
        if self.may_resume():
            self.work()

    def _has_time(self) -> bool:
        """Return whether time of this turn is left. The turn begins here if a job that was suspended has just ended."""
        time_slice = self._run.time_slice
        now = self._run.clock()
        if now <= time_slice.ends_at:
            return True
        worker = current_worker_var.get(None)
        # The loop may call, for which a worker has asked that has left.
        return (
            worker is not None
            and worker.task_snapshot is not None
            and time_slice.is_left(worker, now)
        )

    def _must_wait(self, job: AnyJob) -> bool:
        """Return whether the first job waits for the next turn of the loop, or until its files have been read."""
        self._lookups += 1
        is_read = self._lookups % LOOKUPS_PER_CLOCK_READING == 0
        if is_read and not self._has_time():
            self._run.wake()
            return True
        return self._waits_for_files(job)

    # ---- the files of the first jobs, which workers read: meanwhile, the run goes on

    def _waits_for_files(self, job: AnyJob) -> bool:
        """Return whether the first job waits for its files. If so, let those of the jobs behind it be read, too."""
        if job in self._have_read:
            self._have_read.remove(job)
            return False
        if job not in self._readers:
            self._read(job)
        if not self._is_being_read(job):
            return False
        for other in itertools.islice(self.jobs, 1, MAX_READS):
            if other not in self._readers and other not in self._have_read:
                self._read(other)
        return True

    def _read(self, job: AnyJob) -> None:
        """Let a worker read the files of a job, if some have to be read first."""
        run = self._run
        if job._state is IDLE:
            read = run.journal_writer.files_to_read(job)  # type: ignore[union-attr]
            if read is not None:
                self._readers[job] = run.crew.spawn(Reading(run, job, read))

    def _is_being_read(self, job: AnyJob) -> bool:
        """Return whether the files of a job are being read, and it was not cancelled meanwhile."""
        return job in self._readers and job._state is IDLE

    def end_reading(self, job: AnyJob) -> None:
        """Let the look-ups go on. Without what was to be read, the job runs."""
        self._readers.pop(job, None)
        if job._state is IDLE:
            self._have_read.add(job)
        self._run.wake()

    def stop_reading(self, job: AnyJob | None = None) -> None:
        """End the wait for the files of a job, which was cancelled, or of any: the run starts no more jobs."""
        for each, worker in [*self._readers.items()]:
            if job in (None, each):
                worker.cancel_alone()


class Reading:
    """The errand of a worker that reads the files of a job. A `restore_if=` may wait for long."""

    def __init__(
        self, run: Run, job: AnyJob, read: Callable[[], Awaitable[None]]
    ) -> None:
        self._run: Final = run
        self.job: Final = job
        self._read: Final = read

    async def do_errand(self) -> None:
        run = self._run
        if run.phase._is_ending or self.job._state is not IDLE:
            return
        try:
            await run.journal_writer.wait_for(self._read)  # type: ignore[union-attr]
        except BaseException as error:
            # The run drains, stops or is cancelled.
            if run.backend.split_cancellations(error)[1] is not None:
                raise

    def end_errand(self) -> None:
        self._run.undecided.end_reading(self.job)
