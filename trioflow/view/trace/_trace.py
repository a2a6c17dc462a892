"""`Trace`: an instrument that records the times of all jobs and exports them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ..._core.base._text_forms import clause, plural
from ..._core.job._job import AnyJob
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._run_view import current_run
from .. import _exports
from . import _spans, _trace_record
from ._event_log import EventRecorder, build_record, record_of_last_run

if TYPE_CHECKING:
    from ._time_spent import CriticalPathPart, TimeSpent


@final
class Trace(EventRecorder):
    """An instrument that records the times of all jobs, and shows them as a picture, a file, or in Perfetto.

    Use it to find out what took the time.

    A trace shows the last run of the scheduler that it watches, including nested schedulers and all attempts of jobs.
    When the scheduler runs again, the new run replaces the old run. A trace can be read at any time. If it is read
    during a run, the running jobs have no end. To keep several runs, pass a new Trace to each of them:
    `run(instruments=[trace])`. `trioflow.view.save(trace, path)` writes it to a file.

    Recording a job takes 48 bytes and 0.4 microseconds, in addition to the 1.3 microseconds that any instrument takes.
    Everything else is computed on demand. The jobs stay in memory as long as the Trace does, but their results do not.

    Times are seconds on the backend's clock, like `job.started_at`. `wall_offset` converts them to the time of day.

    Example:
        >>> async def step(): ...
        >>> trace = Trace()
        >>> first = Job(step, label="first")
        >>> Scheduler(first, Job(step, label="second", required=first), instruments=[trace]).run()
        True
        >>> [(span.path, span.state.name, span.lane) for span in trace.spans]
        [('first', 'SUCCEEDED', 1), ('second', 'SUCCEEDED', 1)]
        >>> [span.path for span in trace.critical_path]
        ['first', 'second']

    """

    def __init__(self) -> None:
        super().__init__()
        # The last record, preceded by the length of the event log that it was built from, or by -1 if it may not be
        # kept.
        self._cached_record = -1, _trace_record.TraceRecord()

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Start a new trace.

        Raises:
            RuntimeError: another run is in progress.

        """
        self._cached_record = -1, _trace_record.TraceRecord()
        super().before_run(scheduler)

    # ---- the facts that the trace shows

    @property
    def spans(self) -> tuple[_spans.Span, ...]:
        """A span for each run of each job, in the order that the jobs started. Unstarted jobs come last."""
        return self._get_record().spans

    @property
    def critical_path(self) -> tuple[_spans.Span, ...]:
        """The chain of jobs that decided when the run ended, from the first job to the last.

        Each job required the previous job in the chain, or waited for a slot or a resource that the previous job
        released. A nested scheduler in the chain is followed by the chain of jobs inside it. If nothing has run, the
        chain is empty.
        """
        record = self._get_record()
        return tuple([record.spans[number] for number in record.critical_path])

    @property
    def wall_offset(self) -> float:
        """The number of seconds to add to a time of a span to get the time of day, as `time.time()` returns it.

        The offset is measured when the run begins. If nothing has run, the offset is 0.
        """
        return self._get_record().wall_offset

    def time_spent(self) -> TimeSpent:
        """Return a breakdown of the run's time: how the slots were used, how long jobs worked, and why they waited.

        Returns:
            A record whose `str()` is a sentence, and whose `families` have the times of similar jobs.

        Example:
            >>> async def train(): await anyio.sleep(0.02)
            >>> trace = Trace()
            >>> jobs = [Job(train, needs={"gpu": 1}) for _ in range(3)]
            >>> Scheduler(*jobs, pool=Pool(gpu=1)).run(instruments=[trace])
            True
            >>> spent = trace.time_spent()
            >>> [*spent.waits], spent.families[0].count
            (['gpu'], 3)

        """
        from . import _time_spent

        return _time_spent.compute_time_spent(self._get_record())

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, str]:
        """Return the timeline for a notebook."""
        from . import _timeline

        picture = _timeline.timeline_svg(self._get_record(), 1000)
        return {"text/plain": repr(self), **_exports.svg_bundle(picture, "a timeline")}

    def _get_record(self) -> _trace_record.TraceRecord:
        """Return the record that is built from the event log. It is cached once the run has ended."""
        length, record = self._cached_record
        if length != len(self._log):
            length = -1
            if not self._running_schedulers:
                length = len(self._log)
            record = build_record(self._log)
            self._cached_record = length, record
        return record

    def __repr__(self) -> str:
        """Return a text that contains the number of spans and says whether a run is in progress."""
        jobs = plural(len(self._get_record().spans), "job")
        return f"<Trace of {jobs}{clause(', running', self._running_schedulers)}>"


def find_critical_path(scheduler: BaseScheduler) -> dict[AnyJob, AnyJob | None]:
    """Return the jobs on the critical path of a scheduler's last run, each with its predecessor on the path.

    No trace of the run is needed, because the jobs have their times. If the scheduler has
    not run or is running, the result is empty.
    """
    if scheduler.stop_reason is None or current_run(scheduler) is not None:
        return {}
    return record_of_last_run(scheduler).critical_path_jobs


def find_critical_path_parts(
    scheduler: BaseScheduler, trace: Trace | None
) -> list[CriticalPathPart]:
    """Return the parts of the critical path of a scheduler's last run, the longest first.

    Args:
        scheduler: the scheduler that has run.
        trace: the trace of the run. If it is None, the times that the jobs have are used.

    """
    from ._time_spent import critical_path_parts

    if trace is None:
        return critical_path_parts(record_of_last_run(scheduler))
    return critical_path_parts(trace._get_record())
