"""`Scheduler`: a scheduler that is also a job, so that it can be nested."""

from __future__ import annotations

from typing import Any

from .job import AbstractJob, label_text
from .purescheduler import PureScheduler
from .watch import Watch


class Scheduler(PureScheduler, AbstractJob):
    """A scheduler that is also a job, which other jobs may require.

    If it is critical, which is the default, its run does not return False but raises: the exception of the critical
    job that ended the run, or `TimeoutError`.

    Args:
        jobs_or_sequences: see `PureScheduler`.
        jobs_window: see `PureScheduler`.
        timeout: see `PureScheduler`.
        shutdown_timeout: see `PureScheduler`.
        watch: see `PureScheduler`.
        verbose: see `PureScheduler`.
        kwds: the arguments of `AbstractJob`.

    Raises:
        TypeError: an item is neither a job nor a Sequence.

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
        """Return the name of the scheduler's frame in graphs."""
        return f"cluster_{self.repr_id()}"

    def _trioflow_nested(self) -> Scheduler:
        return self

    def _trioflow_is_job_of_a_run(self) -> bool:
        host = self._trioflow.host
        return host is not None and host.is_running()

    def _trioflow_label(self) -> str:
        return label_text(self) if self.label is not None else type(self).__name__
