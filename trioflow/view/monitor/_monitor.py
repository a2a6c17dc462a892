"""`Monitor`: an instrument that shows a run as it happens."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Final, TextIO, TypeVar, cast

from ..._core.api.views import AnyJob, BaseScheduler, Instrument, duration, flag, in_notebook_cell, short_repr
from ..text import _symbols
from ._display import Display
from ._live import LiveSource
from ._log_display import LogDisplay
from ._model import Model
from ._records import SchedulerRecord, Source
from ._row_selection import full_name
from ._stream_proxy import is_terminal
from ._styled_lines import Pictures

MOTIONLESS: Final = ("dumb", "unknown")
"""Values of TERM for terminals that cannot move their cursor."""


Hook = TypeVar("Hook", bound=Callable[..., None])


def _releases_output(hook: Hook) -> Hook:
    """Wrap a hook to release the terminal if it raises, because the run then removes the monitor at once."""

    @functools.wraps(hook)
    def guarded(self: Monitor, scheduler: BaseScheduler, job: AnyJob) -> None:
        try:
            hook(self, scheduler, job)
        except BaseException:
            self._reset()
            raise

    return cast(Hook, guarded)


class Monitor(Instrument):
    """An instrument that shows a run live: its progress, the running jobs, and the failures.

    On a terminal, the monitor draws a live picture at the bottom; lines that jobs print or log appear above it. The
    first two lines of the picture show the whole run: a bar, the elapsed time, an estimate of the remaining time, and
    the number of jobs in each state. Below them, each job has a line with its symbol and its time, in the order of the
    listing. If there are too many jobs for the height of the terminal, only running and failed jobs have lines, and
    the others are counted. Services and other forever jobs come last. At the end of the run, the last picture remains.

    If the output is not a terminal, or is a terminal that cannot move its cursor (`TERM=dumb`), the monitor writes
    lines with the time of day instead: for each failure, and when a job starts or ends. With more than 200 jobs, it
    writes the progress of the run at every 5 % instead of each start and end. In a notebook, the picture is an output
    of the cell.

    The estimate is at least the longest chain of remaining jobs, and at least the total remaining work divided by the
    slots of the window. It uses the jobs' `expected_duration`, corrected by the measured durations of this run. If no
    job has an expected duration, the estimate appears when three jobs have succeeded.

    A monitor shows one run at a time, and can be used for any number of runs in sequence. It draws in its own thread:
    a slow terminal does not delay the run, and the displayed times advance even if a job blocks the event loop. If the
    output breaks, the monitor stops, and the run goes on.

    Args:
        file: the text stream to write to; None for the value of `sys.stdout` when the run begins.
        refresh_per_second: how often the picture may change, from 0.1 to 60.
        tag: whether to prefix each line that a job prints with its label, including the output of its command, or of
            the process of a `ProcessJob`.
        child_output: whether to replace descriptors 1 and 2 by pipes while there is a picture on the terminal, so that
            the output of all child processes appears above it. The child processes then see no terminal. `trioflow
            run` sets this.

    Raises:
        ModuleNotFoundError: rich is missing: `pip install 'trioflow[monitor]'`.
        TypeError: `file` is not a stream, or a number is of another type.
        ValueError: a number is out of range.

    Example:
        >>> import io
        >>> async def work():
        ...     return "done"
        >>> log = io.StringIO()
        >>> Scheduler(Job(work), label="example", instruments=[Monitor(file=log)]).run()
        True
        >>> log.getvalue().splitlines()[0].partition(" ")[2]
        'example: 1 job'

    """

    def __init__(
        self,
        *,
        file: TextIO | None = None,
        refresh_per_second: float = 10,
        tag: bool = False,
        child_output: bool = False,
    ) -> None:
        _require_rich()
        if file is not None:
            _symbols.output_stream(file, "Monitor()")
        rate = duration(refresh_per_second, "refresh_per_second", "Monitor()")
        if not 0.1 <= rate <= 60:
            raise ValueError(
                f"refresh_per_second={short_repr(refresh_per_second)} of Monitor(): give a number from 0.1 to 60"
            )
        self._file: Final = file
        self._interval: Final = 1 / rate
        self._tag: Final = flag(tag, "tag", "Monitor()")
        self._child_output: Final = flag(child_output, "child_output", "Monitor()")
        self._failures_shown_elsewhere = False
        self._run: Model | None = None  # present while a run is shown
        self._live: LiveSource | None = None  # present while a run in this process is shown

    def __repr__(self) -> str:
        """Show the label of the current run, if there is one."""
        return f"<Monitor of {self._run.label!r}>" if self._run is not None else "<Monitor>"

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Start to show a run, or record that a nested one begins."""
        if self._live is not None and scheduler not in self._live.records:
            raise RuntimeError(
                f"{self!r} watches one run at a time: give {scheduler.label!r} a Monitor() of its own"
            )  # the engine logs this error and removes the monitor from this run; the other run keeps it
        try:
            if self._live is None:
                self._live = LiveSource(scheduler)
                model = self._watch(self._live.root, self._live)
                model.began = model.clock()  # loading the libraries of the display is not part of the run
            else:
                self._begin_nested(self._live, self._live.scheduler(scheduler))
        except BaseException:
            self._reset()
            raise

    def _begin_nested(self, live: LiveSource, record: SchedulerRecord) -> None:
        run = self._current_model()
        if record is not live.root and not (run.tallies[record].is_fresh and live.is_filled(record)):
            live.fill(record)
            run.begin_nested(record)

    @_releases_output
    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Count one more job."""
        assert self._live is not None
        self._current_model().add(self._live.add(scheduler, job))

    @_releases_output
    def job_scheduled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a job is ready to start, for the first time or again after a throttle."""
        needs = job.needs
        self._run.schedule(self._live.records[job], str(needs) if needs else "")  # type: ignore[union-attr]

    @_releases_output
    def job_started(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a job runs."""
        self._run.start(self._live.records[job], job.started_at)  # type: ignore[union-attr]

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a further attempt begins."""
        if job.attempts > 1:
            self._show_attempt(scheduler, job)

    @_releases_output
    def _show_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        assert self._live is not None
        record = self._live.records[job]
        self._live.update(record)
        self._current_model().start_attempt(record, job.attempts)

    @_releases_output
    def job_ready(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a service is ready."""
        assert self._live is not None
        self._current_model().mark_ready(self._live.records[job])

    @_releases_output
    def job_finished(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show the outcome of a job."""
        self._run.finish(*self._live.settle(scheduler, job))  # type: ignore[union-attr]

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Show the end of the run."""
        assert self._live is not None
        if self._live.end(scheduler) is self._live.root:
            run = self._current_model()
            self._run = self._live = None
            run.end()

    # ---- runs

    def _watch(self, root: SchedulerRecord, source: Source) -> Model:
        """Start to show a run."""
        model = Model(root, source, self._failures_shown_elsewhere)
        model.display = self._new_display(model)
        self._run = model
        model.display.start()
        return model

    def _current_model(self) -> Model:
        assert self._run is not None
        return self._run

    def _new_display(self, model: Model) -> Display:
        """Return the display that suits the output."""
        # A local import, because rich takes long to import.
        from ._terminal import NotebookDisplay, TerminalDisplay

        stream = sys.stdout if self._file is None else self._file
        symbols = _symbols.Symbols.for_stream(stream)
        if self._file is None and in_notebook_cell():
            return NotebookDisplay(Pictures(model, _symbols.Symbols()).draw, self._interval)
        tag = functools.partial(self._format_tag, symbols) if self._tag else None
        if can_draw(stream):
            draw = Pictures(model, symbols).draw
            return TerminalDisplay(stream, draw, self._interval, self._child_output, tag)
        return LogDisplay(stream, model, symbols, tag)

    def _format_tag(self, symbols: _symbols.Symbols, job: AnyJob) -> str:
        """Return the prefix of each line that a job prints."""
        record = None if self._live is None else self._live.records.get(job)
        return f"{symbols.escape(job.label) if record is None else full_name(record, symbols)}: "

    def _reset(self) -> None:
        """Release the output, and reset for the next run."""
        run, self._run, self._live = self._run, None, None
        if run is not None:
            run.display.stop()


def can_draw(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that can move its cursor, as a picture requires."""
    return is_terminal(stream) and os.environ.get("TERM", "").lower() not in MOTIONLESS


def has_colours(stream: TextIO | None) -> bool:
    """Return whether a stream shows colours, and the user has not disabled them by NO_COLOR."""
    return can_draw(stream) and not os.environ.get("NO_COLOR")


def build_command_monitor(tag: bool) -> Monitor:
    """Return a monitor for `trioflow run`, without failures, which the command itself prints."""
    monitor = Monitor(child_output=True, tag=tag)
    monitor._failures_shown_elsewhere = True
    return monitor


def _require_rich() -> None:
    if importlib.util.find_spec("rich") is None:
        raise ModuleNotFoundError(
            "Monitor() needs rich, which is not installed: pip install 'trioflow[monitor]'", name="rich"
        )
