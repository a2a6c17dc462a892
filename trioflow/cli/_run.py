"""`trioflow run`: the scenario is run, watched, and told of."""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .._core._instruments import Instrument
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from .._core._states import JobState, StopReason
from ..view import _debrief, _script
from . import _file, _outputs
from ._codes import EXIT_CODES, FAILED, FINE, INTERRUPTED, STOPPED
from ._completion import file
from ._scenario import refusing, takes_scenario
from ._signals import SecondSignal


def seconds(text: str) -> float:
    """Return a number of seconds, more than 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not number > 0:
        raise click.BadParameter(f"{text!r} is no positive number of seconds")
    return number


@click.command(name="run", epilog=EXIT_CODES)
@takes_scenario
@click.option("--backend", type=click.Choice(["trio", "asyncio"]), default="trio", show_default=True)
@click.option(
    "--jobs-window",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many jobs may run at once; 0 for no limit.  [default: the scheduler's own]",
)
@click.option(
    "--timeout",
    type=seconds,
    metavar="SECONDS",
    help="After so long everything is cancelled.  [default: the scheduler's own]",
)
@click.option("--critical", is_flag=True, help="The first failure stops the run, unless a job says otherwise.")
@click.option("--monitor/--no-monitor", default=True, show_default=True, help="Watch the jobs while they run.")
@click.option(
    "--trace",
    type=_outputs.output_file(),
    metavar="FILE",
    shell_complete=file,
    help="Write what ran when: a timeline to FILE.svg, a table to FILE.csv, else JSON for Perfetto.",
)
@click.option(
    "--report",
    type=_outputs.output_file(),
    metavar="FILE",
    shell_complete=file,
    help="Write a report to be opened in a browser: HTML.",
)
def command(
    scheduler: BaseScheduler, critical: bool, monitor: bool, trace: Path | None, report: Path | None, **options: Any
) -> int:
    """Run the scenario.

    Ctrl-C, SIGTERM and SIGHUP end it in order; a second one ends it at once. The last line says what became of the
    jobs; if any failed, the standard error has the listing and their tracebacks.
    """
    if critical:
        scheduler.critical_jobs = True
    traced = instrument("Trace") if trace or report else None
    shown = monitors(scheduler) if monitor else []
    watching = [
        SecondSignal(),
        *shown,
        *([traced] if traced else []),
    ]  # the trace last: what the monitor loads is no job
    start = time.monotonic()
    given = {name: value for name, value in options.items() if value is not None}
    try:
        refusing(lambda: scheduler.run(instruments=watching, handle_signals=True, **given))
    except BaseException:
        if scheduler.stop_reason is not StopReason.INTERRUPTED:
            raise
    elapsed = time.monotonic() - start
    code = code_of(scheduler)
    told = tell(scheduler, elapsed, code)
    return code if all((told, *_written(traced, trace, report))) or code == INTERRUPTED else STOPPED


def monitors(scheduler: BaseScheduler) -> list[Any]:
    """Return a monitor for the scheduler, if it has none of its own: two would draw over each other."""
    monitor = instrument("Monitor")
    return [] if any(isinstance(one, type(monitor)) for one in scheduler.instruments) else [monitor]


def instrument(name: str) -> Any:
    """Return a new Monitor or Trace of trioflow.

    Raises:
        Refusal: what it needs is not installed.

    """
    import trioflow

    try:
        made: Instrument = getattr(trioflow, name)()
    except ImportError as error:
        without = "; or run it with --no-monitor" if name == "Monitor" else ""
        raise _file.Refusal(f"{name} needs {error.name or error}: pip install 'trioflow[cli]'{without}") from None
    return made


def code_of(scheduler: BaseScheduler) -> int:
    """Return the exit code for what became of a run."""
    if scheduler.stop_reason is StopReason.COMPLETED:
        return FAILED if any(map(_failed, scheduler.iterate_jobs())) else FINE
    return INTERRUPTED if scheduler.stop_reason in (None, StopReason.INTERRUPTED) else STOPPED


def _failed(job: AbstractJob[Any]) -> bool:
    return job.state in (JobState.FAILED, JobState.BLOCKED)


def tell(scheduler: BaseScheduler, elapsed: float, code: int) -> bool:
    """Print what became of the jobs, details on the standard error; False if that could not be written."""
    if code == FINE:
        return _outputs.said(summary(scheduler, elapsed))
    script = _script.Script(getattr(sys.stderr, "encoding", None))
    return all(
        [
            _outputs.said("", nl=False),  # what jobs have printed stands above it
            _outputs.said(_debrief.debrief(scheduler, script, own_frames=True) + "\n", err=True),
            _outputs.said(summary(scheduler, elapsed)),
        ]
    )


def summary(scheduler: BaseScheduler, elapsed: float) -> str:
    """Return how many jobs have ended how, and how long the run took."""
    jobs = [job for job in scheduler.iterate_jobs() if not isinstance(job, BaseScheduler)]
    ended_with_the_run = [job for job in jobs if job.forever and not _failed(job)]
    count = collections.Counter(job.state for job in jobs if not job.forever or _failed(job))
    states = [f"{count[state]} {state.value}" for state in JobState if count[state]]
    if ended_with_the_run:
        states.append(f"{len(ended_with_the_run)} forever")
    reason = scheduler.stop_reason
    stopped = f"{reason.name} after" if reason not in (None, StopReason.COMPLETED) else "in"
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}: {', '.join(states) or 'nothing to do'}; {stopped} {elapsed:.1f} s"


def _written(traced: Any, trace: Path | None, report: Path | None) -> Iterator[bool]:
    """Write the files that were asked for; tell of each whether it could be."""
    if trace is not None:
        exports = {".svg": traced.export_as_svgfile, ".csv": traced.export_as_csvfile}
        yield _outputs.written(exports.get(trace.suffix.lower(), traced.export_as_json), trace)
    if report is not None:
        yield _outputs.written(traced.export_as_htmlfile, report)
