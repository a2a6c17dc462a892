"""`Undecided`: the jobs of a run without open requirements that may settle at once, in their order.

Their rule or the journal may settle them, or a part hold them back. Then the jobs that wait for them may settle at
once, and so on: a single failure may block a chain of a million jobs, and a journal restore 100,000 in succession.
Therefore, such jobs are queued, with all jobs behind them, and made ready one by one, without recursion. With a
journal, which may have to read files first, this takes several turns of the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ..base._states import IDLE
from ..job._job import AnyJob
from . import _steps
from ._current import current_worker_var

if TYPE_CHECKING:
    from ._run import Run
    from ._worker import Worker

LOOKUPS_PER_CLOCK_READING: Final = 8
"""The number of jobs to look up between two readings of the clock. A reading takes a tenth of the time of a look-up."""


class Undecided:
    """The queue of these jobs. `work` makes them ready, now, after the end that is told, or in a later turn."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self.jobs: Final[deque[AnyJob]] = deque()
        # Whether `work` goes on: meanwhile, jobs are only added.
        self._is_working = False
        # Whether it goes on, or will be called.
        self.is_busy = False
        # Whether it will be called in the next turn of the loop.
        self.is_deferred = False
        # How many jobs were looked up. Each may have added the next, so that each was alone in the queue.
        self._lookups = 0
        # The first job, and what reads its files before its look-up; and the job whose files have been read.
        self._reading: Any = None
        self._job_with_files: AnyJob | None = None
        # The worker that reads them.
        self._reader: Worker | None = None

    def begin(self, entries: Iterable[AnyJob]) -> None:
        """Make those entry jobs ready that may settle at once."""
        self.jobs.extend(entries)
        if self.jobs and self._run.journal_writer is not None:
            self._defer()
        elif self.jobs or self._run.parts:
            self.work()

    def make_ready(self, job: AnyJob) -> None:
        """Make a job ready that was added, or is tried again: now, or after the jobs that are looked up before it."""
        if self._run.journal_writer is None and not self.is_busy:
            _steps.make_ready(self._run, job)
            return
        self.jobs.append(job)
        if not self._is_working and self._reading is None:
            self.work()

    def work(self) -> None:
        """Make the jobs ready one by one, or the rest of them in the next turn of the loop."""
        run = self._run
        jobs = self.jobs
        self.is_busy = self._is_working = True
        while jobs and not run.phase._is_ending:
            if run.journal_writer is not None:
                self._lookups += 1
                is_read = self._lookups % LOOKUPS_PER_CLOCK_READING == 0
                if is_read and not self._has_time():
                    self._defer()
                    return
                if self._defer_for_files(jobs[0]):
                    return
            # A job that has got a new requirement waits for it.
            _steps.make_ready(run, jobs.popleft())
        jobs.clear()
        self.is_busy = self._is_working = False
        for part in run.parts:
            part.act()

    def _has_time(self) -> bool:
        """Return whether time of this turn is left. The turn begins here if a job that was suspended has just ended."""
        time_slice = self._run.time_slice
        now = self._run.clock()
        if now <= time_slice.ends_at:
            return True
        worker = current_worker_var.get(None)
        if worker is None or worker.task_snapshot is None:
            # A call by the loop, for which a worker has asked that has left.
            return False
        if worker.task_snapshot.is_same_iteration():
            return False
        return time_slice.begin(worker.woken_in_turn, now)

    def _defer_for_files(self, job: AnyJob) -> bool:
        """Defer the look-ups from this job on if its files have to be read first. Return whether they are deferred."""
        if self._job_with_files is job:
            self._job_with_files = None
            return False
        if job._state is not IDLE:
            return False
        read = self._run.journal_writer.files_to_read(job)  # type: ignore[union-attr]
        if read is None:
            return False
        self._reading = job, read
        self.is_deferred = self._is_working = False
        self._reader = self._run.crew.spawn(self)
        return True

    def _defer(self) -> None:
        self.is_busy = self.is_deferred = True
        self._is_working = False
        self._run.wake()

    def resume(self) -> None:
        """Go on in a new turn of the loop."""
        if self.is_deferred:
            self.is_deferred = False
            self.work()

    # ---- the files of the first job, which a worker reads: meanwhile, the run goes on

    async def do_errand(self) -> None:
        """Read the files of the first job. A `restore_if=` may wait for long."""
        run = self._run
        job, read = self._reading
        if run.phase._is_ending or job._state is not IDLE:
            return
        try:
            await run.journal_writer.wait_for(read)  # type: ignore[union-attr]
        except BaseException as error:
            # The run drains, stops or is cancelled.
            if run.backend.split_cancellations(error)[1] is not None:
                raise

    def end_errand(self) -> None:
        """Let the look-ups go on. Without what was to be read, the job runs."""
        self._job_with_files, _ = self._reading
        self._reading = self._reader = None
        self._defer()

    def stop_reading(self, job: AnyJob | None = None) -> None:
        """End the wait for the files of a job, which was cancelled, or of any: the run starts no more jobs."""
        if self._reader is not None and job in (None, self._reading[0]):
            self._reader.cancel_alone()
