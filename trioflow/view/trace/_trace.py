"""`Trace`: an instrument that records the times of all jobs, and its exports."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ..._core.api.views import AbstractJob, AnyJob, BaseScheduler, current_run, file_path, is_scheduler
from .. import _exports
from ._event_recorder import EventKind, Recorder, RunEnd, RunStart
from ._span_builder import TraceRecord, record
from ._spans import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._core.api.views import PolicyName
    from ._shares import PathPart
    from ._time_spent import TimeSpent
    from ._what_if import WhatIf


@final
class Trace(Recorder):
    """Records the times of all jobs, for a picture, a table, a file, or Perfetto.

    It shows the last run of the scheduler that it watches, with nested schedulers and all their attempts; the next run
    starts a new trace. It can be read at any time, even while the run is under way: what has not ended by then has no
    end. To keep several runs, give each a Trace of its own, `run(instruments=[trace])`.

    A job costs 0.4 microseconds, on top of the 1.3 that any instrument costs, and 48 bytes; everything else is
    computed when it is asked for. The jobs stay in memory as long as the Trace does; their results do not.

    Times are seconds on the backend's clock, like `job.started_at`; `wall_offset` converts them to the time of day. A
    timeout with `on_timeout="restart"` leaves no time of its own: restarts belong to their attempt, and only the
    column "timed out" shows them.

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
        self._made: tuple[int, TraceRecord] | None = None  # the record of an ended run, with the length of its log

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Start a new trace, unless another run, nested or concurrent, is under way."""
        self._made = None
        super().before_run(scheduler)

    # ---- reading it

    @property
    def spans(self) -> tuple[Span, ...]:
        """A span for each job and each run of it, in the order in which they started; those never started come last."""
        return self._record().spans

    @property
    def critical_path(self) -> tuple[Span, ...]:
        """The chain of jobs that decided when the run ended, from the first to the last.

        Each began as soon as the one before had settled, because it required it, or because it waited for its slot.
        A nested scheduler in the chain is followed by the chain inside it. Empty if nothing has run.
        """
        record = self._record()
        return tuple(record.spans[link.number] for link in record.chain)

    @property
    def wall_offset(self) -> float:
        """Seconds to add to the times of spans to get the time of day, as in `time.time()`.

        Measured when the run began. 0 if nothing has run.
        """
        return self._record().wall_offset

    def table(self) -> str:
        """Return the spans as aligned lines of text: when each began, how long it waited and took, what became of it.

        Returns:
            A line of headings, then one line for each job and each run of it, without a newline at the end. Times
            count from the beginning of the run. `wait` is the time from the moment when everything it required had
            settled to its start; `*` before a path means that it is on the critical path.

        Example:
            >>> async def step(): ...
            >>> trace = Trace()
            >>> Scheduler(Job(step, label="only"), instruments=[trace]).run()
            True
            >>> trace.table().split()[:8]
            ['path', 'state', 'start', 'wait', 'time', 'attempts', 'lane', 'exception']

        """
        from . import _table

        return _table.text(self._record())

    def time_spent(self) -> TimeSpent:
        """Return the breakdown of the time: the use of the slots, the work of the jobs, and their waits by cause.

        Returns:
            A record that prints as a sentence, with a `table()` by kind of job.

        Example:
            >>> async def train(): await anyio.sleep(0.02)
            >>> trace = Trace()
            >>> jobs = [Job(train, needs={"gpu": 1}) for _ in range(3)]
            >>> Scheduler(*jobs, pool=Pool(gpu=1)).run(instruments=[trace])
            True
            >>> spent = trace.time_spent()
            >>> [*spent.waits], spent.kinds[0].count
            (['gpu'], 3)

        """
        from . import _time_spent

        return _time_spent.time_spent(self._record())

    def what_if(
        self,
        resource: str | None = None,
        *,
        sizes: Sequence[int | None] | None = None,
        policies: Sequence[PolicyName] | None = None,
    ) -> WhatIf:
        """Return how long the run would have taken with more or fewer slots, or of a resource, under other policies.

        The scenario is simulated on a virtual clock, each job for as long as it took in this run. That is right for
        jobs that wait. Jobs that compute would slow each other down, and failures and throttles are not simulated. With
        5,000 jobs, one simulation takes 0.1 to 0.2 s of CPU time, and there are 13 of them if no `sizes` are given.

        Args:
            resource: the name of a resource, of which there is more or less; of a `Rate`, its first key. Default: the
                slots of the window.
            sizes: how many of these, whole numbers, None for no limit of slots. Default: 1, 2, 3, 4, 6, 8, ... up to
                where more cannot gain anything; fewer of these if there are many jobs.
            policies: which ones, for all schedulers. Default: as in the run, "fifo" and "critical-path".

        Returns:
            A record that prints as a sentence, with a `table()`.

        Raises:
            ValueError: no job has run, the run has not ended, there is no such resource, or a size is out of range.
            TypeError: a size is not a whole number.

        Example:
            >>> trace = Trace()
            >>> jobs = [Job(anyio.sleep, 0.05) for _ in range(4)]
            >>> Scheduler(*jobs, jobs_window=1).run(instruments=[trace])
            True
            >>> trace.what_if().best.size
            4

        """
        from ...simulation import _sweep

        return _sweep.of_trace(self._record(), resource, sizes, policies)

    def export_as_csvfile(self, path: str | PathLike[str]) -> None:
        """Write the spans as CSV, in UTF-8: a line of headings, then one line for each job and each run of it.

        Times are seconds since the beginning of the run; `started_wall` is the time of day in UTC, by ISO 8601.
        `required` has the numbers of other lines, separated by blanks, and `parent` the number of the nested scheduler
        that the job is in. Of commands, `returncode` is the exit code, or the negative number of a signal, `user_time`
        and `system_time` are seconds of CPU time, and `max_rss` is the largest memory in bytes.

        Args:
            path: the file, which is replaced.

        Raises:
            OSError: it cannot be written.

        """
        from . import _table

        _exports.write(path, _table.csv_text(self._record()))

    def export_as_json(self, path: str | PathLike[str]) -> None:
        """Write the run in the trace event format, which https://ui.perfetto.dev and chrome://tracing show.

        Each scheduler is a process, its lanes are threads, and its jobs are slices in them, with their details as
        arguments; further attempts are slices inside. Arrows lead from what is required to what requires it, marks
        show incidents and services that became ready, and a counter in each process shows how many of its jobs ran.

        Args:
            path: the file, which is replaced.

        Raises:
            OSError: it cannot be written.

        """
        from . import _trace_events

        _exports.write(path, _trace_events.text(self._record()))

    def export_as_svgfile(self, path: str | PathLike[str], *, width: int = 1200) -> None:
        """Draw the timeline: a bar for each job that started, the critical path, and the use of each resource.

        Above 60 jobs, each row is a slot: colours tell kinds of jobs, narrow neighbours of one kind are one bar,
        hatching says why a slot was empty, and the critical path is a row of words. Otherwise, a nested scheduler is a
        box with its jobs in it, and hatching says what a job waited for. Failures have a star, cancelled jobs are
        hatched, a thin line in a bar marks the start of a further attempt, and a triangle the moment when a service
        became ready. Bars on the critical path have a thick border, and lines lead from one to the next: solid from
        what was required, dotted from the job whose slot was waited for. The states can be told apart in grey and by
        the colour-blind.
        In a browser each bar shows its details when the mouse rests on it.

        Args:
            path: the file, which is replaced.
            width: of the picture, in pixels, 300 or more. The height follows from what there is to show.

        Raises:
            OSError: it cannot be written.
            ValueError: `width` is too small.

        """
        from .timeline import _timeline

        _exports.write(path, _timeline.svg(self._record(), width))

    def export_as_htmlfile(self, path: str | PathLike[str]) -> None:
        """Write a report for a browser: one file, which loads nothing else.

        It has the verdict and the counts; what went wrong, with what that kept from running; what took the time; the
        graph, the timeline, and a table of all jobs that can be sorted and searched. If the graph would have more than
        40 boxes, jobs that are alike are one box, or each nested scheduler. Without `dot` the page
        says how to install it; a graph too large to be read is left out.

        Args:
            path: the file, which is replaced.

        Raises:
            OSError: it cannot be written.

        """
        from .report import _report

        _exports.write(path, _report.html(self._record(), Path(file_path(path, "path", "a Trace")).parent))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show the timeline in a notebook."""
        from .timeline import _timeline

        return {"text/plain": repr(self), **_exports.svg_bundle(_timeline.svg(self._record(), 1000), "a timeline")}

    def _record(self) -> TraceRecord:
        """Return the record so far, as spans; cached for a run that has ended."""
        if self._made is not None and self._made[0] == len(self._log):
            return self._made[1]
        made = record(self._log)
        self._made = None if self._open else (len(self._log), made)
        return made

    def _afterwards(self, scheduler: BaseScheduler) -> TraceRecord:
        """Return a trace of the last run of a scheduler, rebuilt from the attributes of its jobs."""
        nested = [level for level in scheduler.iterate_jobs() if is_scheduler(level) and level.started_at is not None]
        ran: list[BaseScheduler] = [scheduler, *nested]
        for level in ran:
            began = level.started_at or min(
                (job.started_at for job in level if job.started_at is not None), default=0.0
            )
            start = RunStart(self._clock, 0.0, level.window_size, pool=level.pool)
            self._note((EventKind.BEGIN, level, None, began, None, start))
            for job in filter(AbstractJob.is_settled, level):
                self.job_finished(level, job)
        for level in reversed(ran):
            over = max((job.finished_at for job in level if job.finished_at is not None), default=0.0)
            unsettled = tuple(job for job in level if job.finished_at is None)
            self._note((EventKind.END, level, None, over, None, RunEnd(level.stop_reason, level.culprit, unsettled)))
        return self._record()

    def __repr__(self) -> str:
        """Show the number of jobs."""
        number = len(self._record().spans)
        return f"<Trace of {number} job{'s' * (number != 1)}{', running' * bool(self._open)}>"


def critical_path_of(scheduler: BaseScheduler) -> dict[AnyJob, AnyJob | None]:
    """Return the jobs on the critical path of the last run of a scheduler, each with the one before it.

    It needs no trace: it rebuilds one from the attributes of the jobs. Empty before and during a run.
    """
    if scheduler.stop_reason is None or current_run(scheduler) is not None:
        return {}
    return Trace()._afterwards(scheduler).critical_jobs


def path_parts_of(scheduler: BaseScheduler, trace: Trace | None) -> list[PathPart]:
    """Return the parts of the critical path of the last run, the longest first.

    Args:
        scheduler: the scheduler that has run.
        trace: the trace of the run; None to rebuild it from the attributes of the jobs.

    """
    from ._shares import path_parts

    return path_parts(Trace()._afterwards(scheduler) if trace is None else trace._record())
