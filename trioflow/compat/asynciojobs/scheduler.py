"""`Scheduler`: a scheduler that is also a job, so that it can be nested."""

from __future__ import annotations

from ._listing import label_text
from .job import AbstractJob
from .purescheduler import PureScheduler


class Scheduler(PureScheduler, AbstractJob):
    """A scheduler that is also a job, which other jobs may require.

    By default, a scheduler is critical. The run of a critical scheduler does not return False, but raises the exception
    of the critical job that ended the run. After a timeout, it raises `TimeoutError`.

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

    def _trioflow_should_raise(self) -> bool:
        return bool(self.is_critical())

    def _trioflow_raise_failure(self) -> None:
        if not self._trioflow_should_raise():
            return
        if self.failed_time_out() is not False:
            raise TimeoutError(f"{self._trioflow_label()!r} {self.why()}")
        culprit = None
        if self._trioflow_run_scheduler is not None:
            culprit = self._trioflow_run_scheduler.culprit
        if culprit is not None:
            exception = culprit.raised_exception()
            if exception is not None:
                raise exception

    def _trioflow_needs_shutdown(self) -> bool:
        is_inherited = (
            getattr(self.co_shutdown, "__func__", None) is PureScheduler.co_shutdown
        )
        return not (is_inherited and self._trioflow_is_shut_down)

    def dot_cluster_name(self) -> str:
        """Return the name of the scheduler's frame in graphs."""
        return f"cluster_{self.repr_id()}"

    def _trioflow_as_scheduler(self) -> Scheduler:
        return self

    def _trioflow_is_running_as_member(self) -> bool:
        adapter = self._trioflow_adapter
        return adapter is not None and adapter.is_running()

    def _trioflow_label(self) -> str:
        if self.label is not None:
            return label_text(self)
        return type(self).__name__
