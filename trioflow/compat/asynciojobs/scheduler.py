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
        super(PureScheduler, self).__init__(**kwds)

    def _trioflow_raises(self) -> bool:
        return bool(self.is_critical())

    def _trioflow_raise(self) -> None:
        if not self._trioflow_raises():
            return
        if self.failed_time_out() is not False:
            raise TimeoutError(f"{self._trioflow_label()!r} {self.why()}")
        culprit = None if self._trioflow_run is None else self._trioflow_run.culprit
        exception = None if culprit is None else culprit.raised_exception()
        if exception is not None:
            raise exception

    def dot_cluster_name(self) -> str:
        """Return the name of its frame in graphs."""
        return f"cluster_{self.repr_id()}"

    def _trioflow_nested(self) -> Scheduler:
        return self

    def _trioflow_is_job_of_a_run(self) -> bool:
        host = self._trioflow.host
        return host is not None and host.is_running()

    def _trioflow_label(self) -> str:
        return shown_label(self) if self.label is not None else type(self).__name__
