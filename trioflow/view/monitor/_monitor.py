"""`Monitor`: an instrument that shows a run as it happens.

Decided in docs/decisions: 30-monitor.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Collection
from typing import Final, TextIO, TypeVar, cast

from ..._core.job._job import AnyJob
from ..._core.job._job_options import flag
from ..._core.run._instruments import Instrument
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words import _job_queries
from ..._core.words._run_view import run_times
from ..._hints import import_extra
from ..text import _symbols
from ._log_display import LogDisplay
from ._model import RunModel
from ._output_buffer import FOLDS, PassedOutput, is_terminal, replaceable_streams
from ._picture_renderer import PictureRenderer, attempt_text, name_of
from ._records import Display

DUMB_TERMINALS: Final = ("dumb", "unknown")
"""Values of TERM for terminals that cannot move their cursor."""


Hook = TypeVar("Hook", bound=Callable[..., None])


def _release_output_on_error(hook: Hook) -> Hook:
    """Wrap a hook so that it releases the terminal if it raises, because the run then removes the monitor at once."""

    @functools.wraps(hook)
    def wrapper(self: Monitor, scheduler: BaseScheduler, job: AnyJob) -> None:
        try:
            hook(self, scheduler, job)
        except BaseException:
            self._reset()
            raise

    return cast(Hook, wrapper)


class Monitor(Instrument):
    """An instrument that shows a run live: its progress, the running jobs, and the failures.

    Use it to watch a run on a terminal or in a log.

    On a terminal, the monitor draws a live picture at the bottom. Lines that jobs print or log appear above it. The
    first two lines of the picture show the whole run: a bar, the elapsed time, an estimate of the remaining time, and
    the number of jobs in each state. Below them, each job has a line with its symbol and its time, in the order of the
    listing. If there are too many jobs for the height of the terminal, only running and failed jobs have lines, and
    the others are counted. Services and other forever jobs come last. At the end of the run, the last picture remains.

    If the output is not a terminal, as in a notebook, or is a terminal that cannot move its cursor (`TERM=dumb`), the
    monitor writes log lines with the time of day instead: a line for each start and each end of a job or, if the run
    has more than 200 jobs, a line after every 5 % of the progress.

    The estimate of the remaining time is at least the duration of the longest chain of remaining jobs, and at least the
    total remaining work divided by the number of slots. It uses the jobs' `expected_duration`, corrected by the
    durations measured in this run, or the mean of jobs with similar labels, once three of these have succeeded. While
    it is unknown how long some jobs take, there is no estimate.

    A monitor shows a single run at a time, and can be used for any number of runs in sequence. It draws in its own
    thread, so a slow terminal does not delay the run, and the displayed times advance even while a job blocks the event
    loop. If the output breaks, the monitor stops, and the run goes on.

    Args:
        file: the text stream to write to. By default, it is the value of `sys.stdout` when the run begins.
        tag: whether to prefix each line of output with the label of the job that printed it. This includes the output
            of commands, and of the process of a `ProcessJob`.
        child_output: whether to replace descriptors 1 and 2 by pipes while there is a picture on the terminal, so that
            the output of all child processes appears above it. The child processes then see no terminal. `trioflow
            run` sets this option.

    Raises:
        ModuleNotFoundError: rich is not installed. `pip install 'trioflow[monitor]'` installs it.
        TypeError: an argument has the wrong type.

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
        tag: bool = False,
        child_output: bool = False,
    ) -> None:
        import_extra("rich", "Monitor()", "monitor")
        if file is not None:
            _symbols.output_stream(file, "Monitor()")
        self._file: Final = file
        self._should_tag_lines: Final = flag(tag, "tag", "Monitor()")
        self._should_capture_child_output: Final = flag(
            child_output, "child_output", "Monitor()"
        )
        self._are_failures_shown_elsewhere = False
        self._should_fold = False
        self._shown_subjects: Collection[str] = ()  # in the last run
        # None unless a run is shown.
        self._model: RunModel | None = None

    def __repr__(self) -> str:
        """Show the label of the current run, if there is any."""
        if self._model is None:
            return "<Monitor>"
        return f"<Monitor of {self._model.root.job.label!r}>"

    # ---- hooks

    @property
    def shown_subjects(self) -> Collection[str]:
        """The kinds of records that the monitor shows in place of the log: the end of a run, and failures.

        It shows nothing in place of the log if its output is not where Python prints log records.
        """
        if self._model is None:
            return self._shown_subjects
        return self._model.display.shown_subjects

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Start showing a run, or record that the run of a nested scheduler begins."""
        model = self._model
        if model is not None and scheduler not in model.records:
            # The engine logs this error, and removes the monitor from the second run only.
            raise RuntimeError(
                f"{self!r} watches one run at a time: give {scheduler.label!r} its own Monitor()"
            )
        try:
            if model is None:
                self._show_run(scheduler)
            elif scheduler is not model.root.job:
                model.nested_run_started(scheduler)
        except BaseException:
            self._reset()
            raise

    @_release_output_on_error
    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Add a job to the picture, or to the counts."""
        self._model.job_added(scheduler, job)  # type: ignore[union-attr]

    @_release_output_on_error
    def job_scheduled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a job is ready to start, for the first time or after it was throttled."""
        self._model.job_scheduled(job)  # type: ignore[union-attr]

    @_release_output_on_error
    def job_started(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a job has started."""
        self._model.job_started(job)  # type: ignore[union-attr]

    @_release_output_on_error
    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a retry of a job has begun. Ignore the first attempt."""
        if job.attempts > 1 and self._model is not None:
            record = self._model.records[job]
            reason = _job_queries.last_failure(job)
            word = "retry" if reason else "again"
            self._model.display.tell(word, record, f"{attempt_text(record)}{reason}")

    @_release_output_on_error
    def service_ready(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a service is ready."""
        self._model.display.tell("ready", self._model.records[job])  # type: ignore[union-attr]

    @_release_output_on_error
    def job_settled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show the outcome of a job."""
        self._model.job_settled(scheduler, job)  # type: ignore[union-attr]

    @_release_output_on_error
    def job_reopened(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Show that a job, or a job that blocked it, is tried again. If the run has ended, the next run shows it."""
        if self._model is not None:
            self._model.job_reopened(job)

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record the end of a run. If it was the outermost run, draw the last picture and release the output."""
        model = self._model
        if model is not None and scheduler is model.root.job:
            self._shown_subjects = self.shown_subjects
            self._model = None
            _, ended_at = run_times(scheduler) or (0.0, None)
            if ended_at is None:
                ended_at = model.clock()
            model.run_ended(ended_at)

    # ---- runs

    def _show_run(self, scheduler: BaseScheduler) -> RunModel:
        model = RunModel(scheduler, self._are_failures_shown_elsewhere)
        model.display = self._new_display(model)
        model.display.is_beside_log = self._file is None and are_at_one_place(
            sys.stdout, sys.stderr
        )
        self._model = model
        model.display.start()
        return model

    def _new_display(self, model: RunModel) -> Display:
        """Return a new display, which draws pictures on a terminal, and otherwise writes log lines."""
        stream = sys.stdout if self._file is None else self._file
        symbols = _symbols.Symbols.for_stream(stream)
        get_tag = None
        if self._should_tag_lines:
            get_tag = functools.partial(name_of, model=model, symbols=symbols)
        if can_move_cursor(stream):
            # Imported here, because importing rich takes a long time.
            from ._terminal import TerminalDisplay

            draw = PictureRenderer(model, symbols).draw
            return TerminalDisplay(
                stream, draw, self._should_capture_child_output, get_tag
            )
        fold = None
        if (
            self._should_fold
            and self._file is None
            and are_at_one_place(sys.stdout, sys.stderr)
        ):
            folds = [FOLDS[name] for name in FOLDS if os.environ.get(name) == "true"]
            fold = folds[0] if folds else None
        return LogDisplay(stream, model, symbols, has_colors(stream), get_tag, fold)

    def _reset(self) -> None:
        model = self._model
        self._model = None
        if model is not None:
            model.display.stop()


def can_move_cursor(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that can move its cursor, which drawing a picture requires."""
    return (
        is_terminal(stream) and os.environ.get("TERM", "").lower() not in DUMB_TERMINALS
    )


def are_at_one_place(stream: TextIO, other: TextIO) -> bool:
    """Return whether two streams write to the same file or terminal, or into the cell of a notebook."""
    with contextlib.suppress(Exception):
        # Raised if either is None, closed, or not a file.
        return type(stream).__module__ == "ipykernel.iostream" or os.path.sameopenfile(
            stream.fileno(), other.fileno()
        )
    return False


def has_colors(stream: TextIO | None) -> bool:
    """Return whether text for a stream has colors: by NO_COLOR, else by FORCE_COLOR, else if it can show them."""
    return not os.environ.get("NO_COLOR") and (
        bool(os.environ.get("FORCE_COLOR")) or can_move_cursor(stream)
    )


class PrintKeeper(Instrument):
    """The streams of a run whose monitor replaces none: they pass on the lines of jobs, and views have their end."""

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Replace the streams for an outermost run."""
        if scheduler.scheduler is None:
            self._outputs = [PassedOutput([name]) for name in replaceable_streams()]

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Restore the streams after an outermost run."""
        if scheduler.scheduler is None:
            for output in self._outputs:
                output.restore()


def build_command_monitor(tag: bool) -> Monitor:
    """Return a monitor for `trioflow run`. Its last picture omits the failures, because the command prints them."""
    monitor = Monitor(child_output=True, tag=tag)
    monitor._are_failures_shown_elsewhere = True
    monitor._should_fold = True
    return monitor
