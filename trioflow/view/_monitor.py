"""`Monitor`: what a run does, to look at while it does it."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TextIO, cast, get_args

from .._core import _notebook, _options
from .._core._instruments import Instrument
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from . import _script
from ._monitor_above import is_terminal
from ._monitor_layout import Nested
from ._monitor_lines import Lines
from ._monitor_model import Model
from ._monitor_outlet import Outlet
from ._monitor_view import View
from ._script import Script

MOTIONLESS: Final = ("dumb", "unknown")
"""Kinds of terminals that cannot move their cursor."""

P = ParamSpec("P")


def _never_half(hook: Callable[Concatenate[Monitor, P], None]) -> Callable[Concatenate[Monitor, P], None]:
    """Give the terminal back before a hook raises: its instrument is taken out, and will not be told of the end."""

    @functools.wraps(hook)
    def guarded(self: Monitor, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(self, *args, **kwargs)
        except BaseException:
            self._leave()
            raise

    return cast("Callable[Concatenate[Monitor, P], None]", guarded)


class Monitor(Instrument):
    """Shows a run while it runs: how far it is, which jobs run, which have failed.

    On a terminal it is a picture at the bottom that is kept up to date; what jobs print, and what is logged, goes
    above it. Two lines tell of the whole run: a bar, the time since the start, an estimate of the time that is left,
    and how many jobs are where. Below them each job has its line, in the order of the listing, with its time and the
    symbol that it has there, if they all fit. If not, there are those that run, then those that have failed, then a
    count of the others. Services and other forever jobs come last. When the run has ended, the last picture remains.

    Where the output is no terminal, or one that cannot move its cursor (`TERM=dumb`), it writes lines with the time
    of day: when a job starts and when it ends, or, of more than 200 jobs, each 5 % of the way; and each failure. In a
    notebook it is an output of the cell.

    The estimate is the longest chain of jobs that is left, or all the work that is left, shared out among the slots of
    the window: the larger of the two. It goes by the attribute `expected_duration` of jobs, corrected by what they
    have taken; if none has any, it appears when three jobs have succeeded.

    A monitor watches one run at a time, and the next one afresh. It draws in a thread of its own: a slow terminal
    does not hold up the run, and a job that blocks the event loop does not hold up the clock. An output that breaks
    ends the monitor, not the run.

    Args:
        file: the text stream to show it on; None for what is the standard output when the run begins.
        nested: "open" gives each job in a nested scheduler a line, "folded" only the scheduler itself; "auto" opens
            them if all jobs fit, and folds them otherwise, with the jobs that run below.
        refresh_per_second: how often at most the picture changes, from 0.1 to 60.

    Raises:
        ModuleNotFoundError: rich is missing: `pip install 'trioflow[cli]'`.
        TypeError: `file` is no stream, or a number is none.
        ValueError: something else for `nested`, or a number out of its range.

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

    def __init__(self, *, file: TextIO | None = None, nested: Nested = "auto", refresh_per_second: float = 10) -> None:
        _require_rich()
        if file is not None:
            _script.stream(file, "Monitor()")
        if nested not in get_args(Nested):
            raise ValueError(f"nested={nested!r} of Monitor(): choose one of {', '.join(get_args(Nested))}")
        rate = _options.duration(refresh_per_second, "refresh_per_second", "Monitor()")
        if not 0.1 <= rate <= 60:
            raise ValueError(f"refresh_per_second={refresh_per_second!r} of Monitor(): give a number from 0.1 to 60")
        self._file: Final = file
        self._nested: Final[Nested] = nested
        self._interval: Final = 1 / rate
        self._model: Model | None = None  # there while a run is watched, and so is the outlet
        self._outlet: Outlet | None = None

    def __repr__(self) -> str:
        """Show what it watches."""
        return f"<Monitor of {self._model.root.label!r}>" if self._model is not None else "<Monitor>"

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Begin to show a run, or take note of a nested one."""
        if self._model is not None and scheduler not in self._model.tallies:
            raise RuntimeError(
                f"{self!r} watches one run at a time: give {scheduler.label!r} a Monitor() of its own"
            )  # which the run logs before it takes the monitor out; the other run keeps it
        self._begin(scheduler)

    @_never_half
    def _begin(self, scheduler: BaseScheduler) -> None:
        if self._model is None:
            self._model = Model(scheduler)
            self._outlet = new_outlet(self._model, self._file, self._nested, self._interval)
            self._outlet.start()
        elif scheduler is not self._model.root:
            self._model.begin_nested(scheduler)
            self._told().wake()

    @_never_half
    def job_added(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Count a job more."""
        self._watched().add(scheduler, job)
        self._told().wake()

    @_never_half
    def job_started(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Show that a job runs."""
        self._watched().start(scheduler, job)
        self._told().job_started(job)

    @_never_half
    def job_ready(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Show that a service is ready."""
        self._told().job_ready(job)

    @_never_half
    def job_finished(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Show what has become of a job."""
        self._watched().finish(scheduler, job)
        self._told().job_finished(job)

    @_never_half
    def after_run(self, scheduler: BaseScheduler) -> None:
        """Show how the run has ended."""
        if scheduler is self._watched().root:
            self._watched().end()
            self._leave()

    def _watched(self) -> Model:
        assert self._model is not None
        return self._model

    def _told(self) -> Outlet:
        assert self._outlet is not None
        return self._outlet

    def _leave(self) -> None:
        """Give back what was taken, and be ready for the next run."""
        outlet, self._outlet, self._model = self._outlet, None, None
        if outlet is not None:
            outlet.stop()


def new_outlet(model: Model, file: TextIO | None, nested: Nested, interval: float) -> Outlet:
    """Return the way to show a run that suits where the output goes."""
    # Late, because they need rich.
    from ._monitor_notebook import Output
    from ._monitor_screen import Screen

    stream = sys.stdout if file is None else file
    script = Script(getattr(stream, "encoding", None))
    if file is None and _notebook.in_cell():
        return Output(View(model, Script(), nested).draw, interval)
    if is_terminal(stream) and os.environ.get("TERM", "").lower() not in MOTIONLESS:
        return Screen(stream, View(model, script, nested).draw, interval)
    return Lines(stream, model, script)


def _require_rich() -> None:
    if importlib.util.find_spec("rich") is None:
        raise ModuleNotFoundError(
            "Monitor() needs rich, which is not installed: pip install 'trioflow[cli]'", name="rich"
        )
