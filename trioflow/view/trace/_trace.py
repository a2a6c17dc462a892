"""`Trace`: an instrument that records the times of all jobs, and exports them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ..._core.api.views import AbstractJob, AnyJob, BaseScheduler, current_run, file_path, is_scheduler
from .. import _exports
from ._event_recorder import EventKind, Recorder, RunEnd, RunStart
from ._span_builder import TraceRecord, build_record
from ._spans import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._core.api.views import PolicyName
    from ._shares import PathPart
    from ._time_spent import TimeSpent
    from ._what_if import WhatIf


@final
class Trace(Recorder):
    """An instrument that records the times of all jobs, and shows them as a picture, a table, a file, or in Perfetto.

    A trace has the last run of the scheduler that it watches, with nested schedulers and all their attempts; the next
    run starts a new trace. It can be read at any time, even during the run: jobs that still run have no end then. To
    keep several runs, give each its own Trace, `run(instruments=[trace])`.

    A job costs 0.4 microseconds, on top of the 1.3 that any instrument costs, and 48 bytes; everything else is
    computed on demand. The jobs stay in memory as long as the Trace does; their results do not.

    Times are seconds on the backend's clock, like `job.started_at`; `wall_offset` converts them to the time of day. A
    restart by `on_timeout="restart"` is not recorded separately: it belongs to its attempt, and only `span.timed_out`
    shows that there was one.

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
        self._cached: tuple[int, TraceRecord] | None = None  # the record of an ended run, and the length of its log

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Start a new trace, unless another run, nested or concurrent, is under way."""
        self._cached = None
        super().before_run(scheduler)

    # ---- reading it

    @property
    def spans(self) -> tuple[Span, ...]:
        """A span for each run of each job, in the order of their starts; jobs that never started come last."""
        return self._get_record().spans

    @property
    def critical_path(self) -> tuple[Span, ...]:
        """The chain of jobs that decided when the run ended, from the first to the last; empty if nothing has run.

        Each job started when the one before it had settled, because it required that job, or waited for its slot or for
        a resource. After a nested scheduler comes the chain of jobs inside it.
        """
        record = self._get_record()
        return tuple(record.spans[link.number] for link in record.chain)

    @property
    def wall_offset(self) -> float:
        """The seconds to add to the times of spans to get the time of day, as by `time.time()`.

        They are measured when the run begins, and 0 if nothing has run.
        """
        return self._get_record().wall_offset

    def table(self) -> str:
        """Return the spans as a table in plain text: the start, wait, duration and outcome of each.

        Returns:
            A line of headings, then one line for each run of each job, without a newline at the end. Times count from
            the beginning of the run. `wait` is the time from the moment when all requirements of the job had settled to
            its start; `*` before a path means that the job is on the critical path.

        Example:
            >>> async def step(): ...
            >>> trace = Trace()
            >>> Scheduler(Job(step, label="only"), instruments=[trace]).run()
            True
            >>> trace.table().split()[:8]
            ['path', 'state', 'start', 'wait', 'time', 'attempts', 'lane', 'exception']

        """
        from . import _table

        return _table.table_text(self._get_record())

    def time_spent(self) -> TimeSpent:
        """Return a breakdown of the run's time: how the slots were used, how long jobs worked, and why they waited.

        Returns:
            A record whose `str()` is a sentence, and whose `table()` has a line for each kind of job.

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

        return _time_spent.time_spent(self._get_record())

    def what_if(
        self,
        resource: str | None = None,
        *,
        sizes: Sequence[int | None] | None = None,
        policies: Sequence[PolicyName] | None = None,
    ) -> WhatIf:
        """Simulate how long the run would have taken with other numbers of slots, or of a resource, and other policies.

        The scenario runs on a virtual clock, and each job takes as long as it did in this run. That is realistic for
        jobs that wait; jobs that compute would slow each other down. Failures and throttles are not simulated. With
        5,000 jobs, one simulation takes 0.1 to 0.2 s of CPU time, and without `sizes` there are 13 of them.

        Args:
            resource: the name of the resource whose amount varies; for a `Rate`, its first key. Default: the slots of
                the window.
            sizes: the numbers of slots, or amounts, to simulate, whole numbers; None means no limit of slots. Default:
                1, 2, 3, 4, 6, 8, ... up to where more cannot gain anything; fewer sizes if there are many jobs.
            policies: the policies to simulate, each for all schedulers. Default: that of the run, "fifo" and
                "critical-path".

        Returns:
            A record whose `str()` is a sentence, with a `table()`.

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

        return _sweep.simulate_trace(self._get_record(), resource, sizes, policies)

    def export_as_csvfile(self, path: str | PathLike[str]) -> None:
        """Write the spans as CSV, in UTF-8: a line of headings, then one line for each run of each job.

        Times are seconds since the beginning of the run; `started_wall` is the time of day in UTC, in ISO 8601.
        `required` has the numbers of the required spans, separated by blanks, and `parent` the number of the nested
        scheduler that contains the job. For commands, `returncode` is the exit code, or the negative number of a
        signal, `user_time` and `system_time` are seconds of CPU time, and `max_rss` is the peak memory in bytes.

        Args:
            path: the file, which is replaced.

        Raises:
            OSError: the file cannot be written.

        """
        from . import _table

        _exports.write_atomically(path, _table.csv_text(self._get_record()))

    def export_as_json(self, path: str | PathLike[str]) -> None:
        """Write the run in the trace event format, for https://ui.perfetto.dev and chrome://tracing.

        Each scheduler is a process, its lanes are threads, and its jobs are slices in these threads, with their details
        as arguments; if a job had several attempts, each is a slice inside that of the job. Arrows lead from
        requirements to the jobs that require them, marks show incidents and the moments when services became ready, and
        a counter in each process shows the number of running jobs.

        Args:
            path: the file, which is replaced.

        Raises:
            OSError: the file cannot be written.

        """
        from . import _trace_events

        _exports.write_atomically(path, _trace_events.json_text(self._get_record()))

    def export_as_svgfile(self, path: str | PathLike[str], *, width: int = 1200) -> None:
        """Draw the timeline: a bar for each job that started, the critical path, and the use of each resource.

        With up to 60 jobs, a nested scheduler is a box around its jobs, and hatching shows what a job waited for.
        Failed jobs have a cross, cancelled jobs are hatched, a thin line in a bar marks the start of a further attempt,
        and a triangle the moment when a service became ready. Bars on the critical path have a thick border, and a line
        leads from each to the next: solid from a requirement, dotted from a job that released a slot or a resource.

        With more than 60 jobs, each row is a slot: colours distinguish kinds of jobs, narrow neighbours of one kind
        share a bar, hatching shows why a slot was empty, and the critical path is a row of labelled boxes.

        The states can be distinguished in greyscale and by the colour-blind. In a browser, each bar has a tooltip with
        its details.

        Args:
            path: the file, which is replaced.
            width: the width of the picture in pixels, 300 or more. The height depends on the number of rows.

        Raises:
            OSError: the file cannot be written.
            ValueError: `width` is out of range.

        """
        from .timeline import _timeline

        _exports.write_atomically(path, _timeline.timeline_svg(self._get_record(), width))

    def export_as_htmlfile(self, path: str | PathLike[str]) -> None:
        """Write a report as one HTML file, which loads no other.

        The report has the verdict and the counts, the failures with the jobs that they kept from running, what took the
        time, the graph, the timeline, and a table of all jobs that can be sorted and searched. If the graph would have
        more than 40 boxes, similar jobs share a box, or each nested scheduler is one. Without `dot`, the page says how
        to install it; a graph too large to be read is left out.

        Args:
            path: the file, which is replaced.

        Raises:
            OSError: the file cannot be written.

        """
        from .report import _report

        _exports.write_atomically(
            path, _report.report_html(self._get_record(), Path(file_path(path, "path", "a Trace")).parent)
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the timeline for a notebook."""
        from .timeline import _timeline

        return {
            "text/plain": repr(self),
            **_exports.svg_bundle(_timeline.timeline_svg(self._get_record(), 1000), "a timeline"),
        }

    def _get_record(self) -> TraceRecord:
        """Return the record of the log so far; that of a run that has ended is built once."""
        if self._cached is not None and self._cached[0] == len(self._log):
            return self._cached[1]
        record = build_record(self._log)
        self._cached = None if self._running else (len(self._log), record)
        return record

    def _rebuild(self, scheduler: BaseScheduler) -> TraceRecord:
        """Return a record of the last run of a scheduler, rebuilt from the attributes of its jobs."""
        nested = [job for job in scheduler.iterate_jobs() if is_scheduler(job) and job.started_at is not None]
        ran: list[BaseScheduler] = [scheduler, *nested]
        for each in ran:
            began = each.started_at or min((job.started_at for job in each if job.started_at is not None), default=0.0)
            start = RunStart(self._clock, 0.0, each.window_size, pool=each.pool)
            self._append((EventKind.BEGIN, each, None, began, None, start))
            for job in filter(AbstractJob.is_settled, each):
                self.job_finished(each, job)
        for each in reversed(ran):
            ended = max((job.finished_at for job in each if job.finished_at is not None), default=0.0)
            unsettled = tuple(job for job in each if job.finished_at is None)
            self._append((EventKind.END, each, None, ended, None, RunEnd(each.stop_reason, each.culprit, unsettled)))
        return self._get_record()

    def __repr__(self) -> str:
        """Return the number of jobs, and whether a run is in progress."""
        number = len(self._get_record().spans)
        return f"<Trace of {number} job{'s' * (number != 1)}{', running' * bool(self._running)}>"


def find_critical_path(scheduler: BaseScheduler) -> dict[AnyJob, AnyJob | None]:
    """Return the jobs on the critical path of a scheduler's last run, each with its predecessor on the path.

    No trace of the run is needed: its record is rebuilt from the attributes of the jobs. Before and during a run, the
    result is empty.
    """
    if scheduler.stop_reason is None or current_run(scheduler) is not None:
        return {}
    return Trace()._rebuild(scheduler).critical_jobs


def find_path_parts(scheduler: BaseScheduler, trace: Trace | None) -> list[PathPart]:
    """Return the parts of the critical path of a scheduler's last run, the longest first.

    Args:
        scheduler: the scheduler that has run.
        trace: the trace of the run; None to rebuild its record from the attributes of the jobs.

    """
    from ._shares import path_parts

    return path_parts(Trace()._rebuild(scheduler) if trace is None else trace._get_record())
