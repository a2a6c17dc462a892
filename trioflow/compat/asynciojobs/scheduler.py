"""`Scheduler`: a scheduler that is a job too, so that it can be nested."""

from __future__ import annotations

from typing import Any

from .job import AbstractJob, shown_label
from .purescheduler import PureScheduler
from .watch import Watch


class Scheduler(PureScheduler, AbstractJob):
    """A set of jobs that can be run, and is itself a job that others may require.

    Where it is critical, as by default, an exception is raised in place of False: that of the critical job, or
    `TimeoutError`.

    Args:
        jobs_or_sequences: as `PureScheduler`, and so are the next five.
        jobs_window: see there.
        timeout: see there.
        shutdown_timeout: see there.
        watch: see there.
        verbose: see there.
        kwds: those of `AbstractJob`.

    Raises:
        TypeError: something that is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs import PrintJob, Scheduler
        >>> inner = Scheduler(PrintJob("inside"), label="inner")
        >>> Scheduler(inner, PrintJob("then", required=inner)).run()
        inside
        then
        True

    """

    def __init__(
        self,
        *jobs_or_sequences: Any,
        jobs_window: int | None = None,
        timeout: float | None = None,
        shutdown_timeout: float | None = 1,
        watch: Watch | None = None,
        verbose: bool = False,
        **kwds: Any,
    ) -> None:
        PureScheduler.__init__(
            self,
            *jobs_or_sequences,
            jobs_window=jobs_window,
            timeout=timeout,
            shutdown_timeout=shutdown_timeout,
            watch=watch,
            verbose=verbose,
        )
        AbstractJob.__init__(self, **kwds)

    async def co_run(self) -> bool:
        """Run the jobs in the running event loop, and shut them all down.

        Returns:
            True; if the scheduler is not critical, False after a timeout or the exception of a critical job.

        Raises:
            BaseException: the exception of a critical job.
            TimeoutError: the timeout passed.
            Exception: requirements form a cycle, or lead out of the scheduler.
            ValueError: a coroutine object of a job was awaited already.

        """
        return await super().co_run()

    def _trioflow_end(self, fine: bool) -> bool:
        super()._trioflow_end(fine)
        if not fine and self._trioflow_raises():
            self._trioflow_raise_why()
        return fine

    def _trioflow_raises(self) -> bool:
        return bool(self.is_critical())

    def _trioflow_raise_why(self) -> None:
        if self.failed_time_out() is not False:
            raise TimeoutError(f"{self._trioflow_label()!r} {self.why()}")
        culprit = None if self._trioflow_run is None else self._trioflow_run.culprit
        exception = None if culprit is None else culprit.raised_exception()
        if exception is not None:
            raise exception

    def check_cycles(self) -> bool:
        """Return whether the graph is valid: requirements lead to jobs of the same scheduler, without a cycle."""
        return PureScheduler.check_cycles(self)

    def dot_cluster_name(self) -> str:
        """Return the name of its frame in graphs."""
        return f"cluster_{self.repr_id()}"

    def __repr__(self) -> str:
        return PureScheduler.__repr__(self)

    def _trioflow_nested(self) -> Scheduler:
        return self

    def _trioflow_is_job_of_a_run(self) -> bool:
        host = self._trioflow.host
        return host is not None and host.is_running()

    def _trioflow_label(self) -> str:
        return shown_label(self) if self.label is not None else type(self).__name__
