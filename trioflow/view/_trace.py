"""`Trace`: an instrument that notes what ran when, and its exports."""

from __future__ import annotations

import time
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from .._core._instruments import Instrument
from .._core._outcomes import Failure
from .._core._states import JobState
from . import _trace_record
from ._trace_log import Beginning, Ending, What
from ._trace_reader import window
from ._trace_record import Record
from ._trace_spans import Span

if TYPE_CHECKING:
    from .._core._jobs import AbstractJob
    from .._core._scheduler import BaseScheduler

SUCCEEDED = JobState.SUCCEEDED


@final
class Trace(Instrument):
    """Notes what ran when, for a picture, a table, a file, or Perfetto.

    It shows the last run of the scheduler that it watches, nested ones and all their attempts included: the next run
    begins anew. It may be read at any time, also while the run is under way: what has not ended then has no end. To
    keep several runs, give each a Trace of its own, `run(instruments=[trace])`.

    A job costs 0.3 microseconds, beside the 1.3 that any instrument costs, and 48 bytes; everything else is done when
    it is asked for. The jobs stay in memory as long as the Trace does; their results do not.

    Times are seconds on the backend's clock, in which `job.started_at` is told too; `wall_offset` leads to the time of
    day. A timeout with `on_timeout="restart"` leaves no time of its own: restarts belong to their attempt, and the
    column "timed out" tells of them.

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
        self._log: list[Any] = []
        self._note = self._log.extend
        self._clock = time.monotonic
        self._open: dict[BaseScheduler, None] = {}  # whose runs are under way
        self._made: tuple[int, Record] | None = None  # the last record of an ended run, with the length of its log

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Begin anew, unless this run belongs to one that is under way, or goes beside it."""
        run = scheduler._run
        assert run is not None
        for other in [one for one in self._open if one._run is None]:  # a crash kept it from telling its end
            del self._open[other]
        if not self._open:
            self._log.clear()
            self._made = None
        self._open[scheduler] = None
        self._clock = clock = run.clock
        now = clock()
        beginning = Beginning(clock, time.time() - now, window(run))
        self._note((What.BEGIN, scheduler, None, now, None, beginning))

    def job_added(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Note when: if it requires nothing, it waits for a slot from now on."""
        self._note((What.ADDED, scheduler, job, self._clock(), None, None))

    def job_attempt(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Note when a further attempt begins; the first one begins with the job."""
        facts = job._facts
        if facts is not None and facts.further_attempts:
            self._note((What.ATTEMPT, scheduler, job, self._clock(), None, None))

    def job_ready(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Note when a service became ready."""
        self._note((What.READY, scheduler, job, self._clock(), None, None))

    def job_finished(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Note what became of a job: in a moment a further run may make it forget."""
        state = job._state
        further = None
        if state is not SUCCEEDED or job._facts is not None:
            outcome = job._outcome
            further = (outcome if isinstance(outcome, Failure) else None, job.timed_out)
        self._note((state, scheduler, job, job._started_at, job._finished_at, further))

    def incident(
        self, scheduler: BaseScheduler, job: AbstractJob[Any] | None, message: str, exception: BaseException | None
    ) -> None:
        """Note what belongs to no outcome."""
        self._note((What.INCIDENT, scheduler, job, self._clock(), None, (message, exception)))

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Note why the run ended, and which jobs it never reached."""
        unsettled = tuple(job for job in scheduler._jobs if job._finished_at is None)
        ending = Ending(scheduler.stop_reason, scheduler.culprit, unsettled)
        self._note((What.END, scheduler, None, self._clock(), None, ending))
        self._open.pop(scheduler, None)

    # ---- reading it

    @property
    def spans(self) -> tuple[Span, ...]:
        """One record for each job and run of it, in the order of their starts; those never started come last."""
        return self._record().spans

    @property
    def critical_path(self) -> tuple[Span, ...]:
        """The chain of jobs that decided when the run ended, from the first to the last.

        Each began as soon as the one before had settled: because it required it, or because it waited for its slot.
        Of a nested scheduler in the chain, the chain inside follows it. Empty if nothing has run.
        """
        record = self._record()
        return tuple(record.spans[link.number] for link in record.chain)

    @property
    def wall_offset(self) -> float:
        """Seconds to add to a time of the spans to get the time of day, as `time.time()` tells it.

        Taken when the run began. 0 if nothing has run.
        """
        return self._record().wall_offset

    def table(self) -> str:
        """Return the spans as aligned lines of text: when each began, what it waited and took, what became of it.

        Returns:
            A line of headings, then one line a job and run of it, with no newline at the end. Times count from the
            beginning of the run. `wait` is the time between the moment in which all that it required had settled and
            its start; `*` before a path says that it is on the critical path.

        Example:
            >>> async def step(): ...
            >>> trace = Trace()
            >>> Scheduler(Job(step, label="only"), instruments=[trace]).run()
            True
            >>> trace.table().split()[:8]
            ['path', 'state', 'start', 'wait', 'time', 'attempts', 'lane', 'exception']

        """
        from . import _trace_table

        return _trace_table.text(self._record())

    def export_as_csvfile(self, path: str | PathLike[str]) -> None:
        """Write the spans as CSV, in UTF-8, one line a job and run of it, under a line of headings.

        Times are seconds since the beginning of the run; `started_wall` is the time of day, UTC, by ISO 8601.
        `required` has the numbers of other lines, separated by blanks, and `parent` that of the nested scheduler
        that the job is in.

        Args:
            path: the file, replaced if it is there.

        Raises:
            OSError: it cannot be written.

        """
        from . import _trace_table

        _write(path, _trace_table.csv_text(self._record()))

    def export_as_json(self, path: str | PathLike[str]) -> None:
        """Write the run in the trace event format, which https://ui.perfetto.dev and chrome://tracing show.

        Each scheduler is a process, its lanes are threads, and its jobs are slices there, with their details as
        arguments; further attempts are slices within. Arrows lead from what is required to what requires it, marks
        show incidents and services that became ready, and a counter of each process how many of its jobs ran.

        Args:
            path: the file, replaced if it is there.

        Raises:
            OSError: it cannot be written.

        """
        from . import _trace_json

        _write(path, _trace_json.text(self._record()))

    def export_as_svgfile(self, path: str | PathLike[str], *, width: int = 1200) -> None:
        """Draw the timeline: a bar for each job that started, the critical path, and how full the window was.

        A nested scheduler is a box with its jobs in it. Failures have a star, cancelled jobs are hatched, a thin
        line in a bar is the start of a further attempt, a triangle the moment in which a service became ready; the
        bars on the critical path have a thick border, and lines lead from one to the next: solid from what was
        required, dotted from the one whose slot was waited for. Colours are told apart by the colour-blind, and in
        grey. In a browser each bar tells its details when the mouse rests on it.

        Args:
            path: the file, replaced if it is there.
            width: of the picture, in pixels, 300 or more. The height follows from what there is to show.

        Raises:
            OSError: it cannot be written.
            ValueError: `width` is too small.

        """
        from . import _timeline

        _write(path, _timeline.svg(self._record(), width))

    def export_as_htmlfile(self, path: str | PathLike[str]) -> None:
        """Write a report to be opened in a browser: one file, which loads nothing else.

        It has the counts and the stop reason, the graph, the timeline, a table of all jobs to sort and to search, and
        what failed, with tracebacks. Without the `dot` binary, or for a large scenario, it says so in place of the
        graph.

        Args:
            path: the file, replaced if it is there.

        Raises:
            OSError: it cannot be written.

        """
        from . import _report

        _write(path, _report.html(self._record()))

    def _repr_svg_(self) -> str:
        """Show the timeline in a notebook."""
        from . import _timeline

        return _timeline.svg(self._record(), 1000)

    def _record(self) -> Record:
        """Return what has been noted so far, sorted out; computed once for a run that has ended."""
        if self._made is not None and self._made[0] == len(self._log):
            return self._made[1]
        record = _trace_record.record(self._log)
        self._made = None if self._open else (len(self._log), record)
        return record

    def __repr__(self) -> str:
        """Show how much it has seen."""
        return f"<Trace of {len(self._record().spans)} jobs{', running' * bool(self._open)}>"


def _write(path: str | PathLike[str], text: str) -> None:
    Path(path).write_text(text, encoding="utf-8", newline="")
