"""`trioflow run`: run the scenario, show the run, and report its outcome."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .. import Events, JobState, Journal, Scheduler, StopReason, Trace
from ..abc import BACKEND_NAMES, AbstractJob, Instrument
from ..batch import _numbers
from ..view.monitor._monitor import can_draw, has_colours, monitor_of_command
from ..view.text import _counts, _debrief, _symbols, _verdict
from . import EXIT_CODES, FAILED, FINE, INTERRUPTED, STOPPED, _outputs, _told
from ._completion import file
from ._dask import on_cluster
from ._engine_log import engine_log
from ._graph import GRAPHS, check_drawable, draw
from ._scenario import Refusal, refusing, takes_scenario
from ._signals import SecondSignal
from ._window import SharedWindow
from .batch._options import parsed

if TYPE_CHECKING:
    from .. import TimeSpent


def positive_seconds(text: str) -> float:
    """Return a duration in seconds, which must be more than 0.

    Raises:
        ValueError: the text is not such a duration.

    """
    number = _numbers.seconds(text)
    if not number > 0:
        raise ValueError(f"{text!r} is not a positive duration")
    return number


EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py
  trioflow run flow.py:nightly --set pages=20 -j 8 --timeout 1h
  trioflow run flow.py --only "fetch *" --trace run.svg --report run.html
  trioflow run flow.py --journal run.db
  trioflow run flow.py --dask tcp://10.0.0.1:8786
"""


@click.command(name="run", epilog=f"{EXAMPLES}\n{EXIT_CODES}")
@takes_scenario
@click.option("--backend", type=click.Choice(BACKEND_NAMES), default="trio", show_default=True)
@click.option(
    "-j",
    "--jobs-window",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many jobs may run at once, with those in nested schedulers that have no window of their own; 0 for no "
    "limit.  [default: the scheduler's own]",
)
@click.option(
    "--timeout",
    type=parsed(positive_seconds),
    metavar="TIME",
    help="Cancel everything after this time: seconds, or 1m30s.  [default: the scheduler's own]",
)
@click.option(
    "--critical", is_flag=True, help="Stop the run at the first failure, except of jobs that say critical=False."
)
@click.option(
    "--drain-on-term", is_flag=True, help="At SIGTERM, start no more jobs, and let those that are running end."
)
@click.option("--monitor/--no-monitor", default=True, show_default=True, help="Watch the jobs while they run.")
@click.option("--tag", is_flag=True, help="Begin each line that a job prints with the label of the job.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    shell_complete=file,
    help="Keep in this file what has succeeded, and restore what an earlier run has kept there.",
)
@click.option(
    "--journal-hash",
    is_flag=True,
    help="With --journal: files count by their contents, not by size and time, which differ in a fresh checkout.",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Have the calls of ProcessJobs made by the workers of the Dask scheduler at this address.",
)
@click.option(
    "--trace",
    type=_outputs.output_file(".json", ".svg", ".csv", ""),
    metavar="FILE",
    shell_complete=file,
    help="Write what ran when: FILE.json is for Perfetto, FILE.svg a timeline, FILE.csv a table.",
)
@click.option(
    "--waits",
    type=_outputs.output_file(".svg", ".txt", "", or_standard_output=True),
    metavar="FILE",
    shell_complete=file,
    help="Write where the time went, work and waits by what was waited for: FILE.svg is a picture, FILE.txt a table by "
    "kind of job, and - prints the table.",
)
@click.option(
    "--graph",
    type=_outputs.output_file(*GRAPHS),
    metavar="FILE",
    shell_complete=file,
    help="Draw the graph after the run, with states, times and the critical path: FILE.svg and .png are pictures, .dot "
    "is for Graphviz, .mmd is Mermaid.",
)
@click.option(
    "--report",
    type=_outputs.output_file(".html", ".htm", ""),
    metavar="FILE",
    shell_complete=file,
    help="Write an HTML report, to be opened in a browser.",
)
@click.option("--live", is_flag=True, help="Keep the report up to date during the run; its page loads itself again.")
@_told.options
def command(
    scheduler: Scheduler,
    jobs_window: int | None,
    critical: bool,
    drain_on_term: bool,
    monitor: bool,
    tag: bool,
    trace: Path | None,
    waits: Path | None,
    graph: Path | None,
    report: Path | None,
    journal: Path | None,
    journal_hash: bool,
    dask: str | None,
    live: bool,
    events: Any,
    junit: Path | None,
    summary: Path | None,
    **options: Any,
) -> int:
    """Run the scenario in a Python file, or the graph of commands in FILE.json.

    Ctrl-C, SIGTERM and SIGHUP end it in order; a second one ends it at once. At the end a line says how it went. If any
    job failed, each kind of failure follows on the standard error, with a traceback.
    """
    if live and (report is None or (report.exists() and not report.is_file())):
        raise click.UsageError("--live keeps a file up to date by renaming: give --report FILE.html with it")
    check_drawable(graph)
    if critical:
        scheduler.critical_jobs = True
    traced = instrument("Trace", Trace) if trace or waits or report else None
    reports = _told.reports(junit, summary)
    told: list[Instrument] = [*reports]
    if events:
        told.append(instrument("Events", functools.partial(Events, events)))
    shown = monitors(scheduler, tag) if monitor else []
    if tag and not shown:
        why = "give its own Monitor tag=True" if monitor else "leave out --no-monitor"
        raise click.UsageError(f"--tag is an option of the monitor of this run: {why}")
    stopwatch = Stopwatch(scheduler)
    # The trace is last, because the time in which the monitor loads its libraries is no part of a job.
    watching = [*shown, *told, stopwatch, *([traced] if traced else [])]
    on_signal = SecondSignal(scheduler.drain if drain_on_term else None)
    options["journal"] = kept_in(journal, journal_hash)
    if jobs_window is not None:
        options["jobs_window"] = SharedWindow(scheduler).of(jobs_window)
    given = {name: value for name, value in options.items() if value is not None}
    is_picture = bool(shown) and can_draw(sys.stdout)
    with (
        on_cluster(scheduler, dask),
        engine_log({"failure", "end"} if is_picture else {"end"}),
        live_report(live, traced, report),
    ):
        try:
            refusing(scheduler, lambda: scheduler.run(instruments=watching, handle_signals=on_signal, **given))
        except BaseException:
            if scheduler.stop_reason not in (StopReason.INTERRUPTED, StopReason.DRAINED):
                raise  # Ctrl-C may have ended a run that was draining
    code = code_of(scheduler)
    written = show_outcome(scheduler, stopwatch.elapsed, code, with_verdict=not shown)
    is_told = all(one.is_written for one in reports)
    is_drawn = graph is None or draw(scheduler, graph, legend=True)
    are_written = (written, is_told, is_drawn, *_written(traced, trace, waits, report))
    return code if all(are_written) or code == INTERRUPTED else STOPPED


def kept_in(path: Path | None, by_contents: bool) -> Any:
    """Return what the run gets as its journal: a path, or a `Journal` if files count by their contents."""
    if not by_contents:
        return path
    if path is None:
        raise click.UsageError("--journal-hash is about a journal: give --journal FILE too")
    try:
        return Journal(path, hash=True)
    except ImportError as error:
        raise Refusal(str(error)) from None


def monitors(scheduler: Scheduler, tag: bool) -> list[Any]:
    """Return a monitor, unless the scheduler has one of its own: two would draw over each other."""
    monitor = instrument("Monitor", functools.partial(monitor_of_command, tag))
    return [] if any(isinstance(one, type(monitor)) for one in scheduler.instruments) else [monitor]


def instrument(name: str, make: Callable[[], Instrument]) -> Any:
    """Return a new instrument of trioflow, of this name.

    Raises:
        Refusal: what it needs is not installed.

    """
    try:
        return make()
    except ImportError as error:
        without = "; or run it with --no-monitor" if name == "Monitor" else ""
        raise Refusal(f"{name} needs {error.name or error}: pip install 'trioflow[cli]'{without}") from None


def code_of(scheduler: Scheduler) -> int:
    """Return the exit code for the outcome of a run."""
    if scheduler.stop_reason is StopReason.COMPLETED:
        return FAILED if any(map(_failed, scheduler.iterate_jobs())) else FINE
    return INTERRUPTED if scheduler.stop_reason in (None, StopReason.INTERRUPTED) else STOPPED


def _failed(job: AbstractJob[Any]) -> bool:
    return job.state in (JobState.FAILED, JobState.BLOCKED)


class Stopwatch(Instrument):
    """Measures the run alone, as the monitor and reports do: without loading a backend, or writing a last page."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler: Final = scheduler
        self._began = 0.0
        self.elapsed: float | None = None

    def before_run(self, scheduler: Scheduler) -> None:
        """Start, unless a nested run begins."""
        if scheduler is self._scheduler:
            self._began = time.monotonic()

    def after_run(self, scheduler: Scheduler) -> None:
        """Stop."""
        if scheduler is self._scheduler:
            self.elapsed = time.monotonic() - self._began


def show_outcome(scheduler: Scheduler, elapsed: float | None, code: int, with_verdict: bool) -> bool:
    """Print the outcome, with details on the standard error; return False if that could not be written."""
    said = [_outputs.said("", nl=False)]  # flush what jobs have printed, so that it stands above
    if with_verdict:
        said += [_outputs.said(line) for line in summary(scheduler, elapsed)]
    if code != FINE:
        details = _debrief.details(scheduler, _symbols.Symbols.of(sys.stderr))
        said += [_outputs.said(f"\n{details}", err=True)] if details else []
    return all(said)


def summary(scheduler: Scheduler, elapsed: float | None) -> Iterator[str]:
    """Yield a line that says how the run went, and the number of jobs in each state if not all have succeeded."""
    symbols = _symbols.Symbols.of(sys.stdout)
    verdict = _verdict.of_run(scheduler, scheduler.stop_reason or StopReason.INTERRUPTED, elapsed)
    line = verdict.line(scheduler.label, symbols)
    yield click.style(line, fg="green" if verdict.is_good else "red", bold=True) if has_colours(sys.stdout) else line
    counts = _counts.of_jobs(scheduler.iterate_jobs())
    if {",", "("} & {*counts} or not verdict.is_good:
        yield counts


def live_report(live: bool, traced: Any, report: Path | None) -> contextlib.AbstractContextManager[object]:
    """Return what keeps a report up to date around the run; nothing, unless that was asked for."""
    if not live or report is None:
        return contextlib.nullcontext()
    from ..view.trace.report._live import LiveReport

    return LiveReport(traced._record, report)


def _written(traced: Any, trace: Path | None, waits: Path | None, report: Path | None) -> Iterator[bool]:
    """Write the files that were asked for, and yield for each whether it could be written."""
    if trace is not None:
        exports = {".svg": traced.export_as_svgfile, ".csv": traced.export_as_csvfile}
        yield _outputs.written(exports.get(trace.suffix.lower(), traced.export_as_json), trace)
    if waits is not None:
        yield _write_waits(traced.time_spent(), waits)
    if report is not None:
        yield _outputs.written(traced.export_as_htmlfile, report)


def _write_waits(spent: TimeSpent, file: Path) -> bool:
    text = f"{spent}\n\n{spent.table()}\n"
    if file == Path(_outputs.STANDARD_OUTPUT):
        return _outputs.said(f"\n{text}", nl=False)
    is_picture = file.suffix.lower() == ".svg"
    return _outputs.written(
        spent.export_as_svgfile if is_picture else lambda path: Path(path).write_text(text, encoding="utf-8"), file
    )
