"""`trioflow run`: run the scenario, show the run, and report its outcome."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path
from typing import IO, Any, Final, get_args

import click

from .. import Events, JobState, JUnit, Scheduler, StopReason, Summary, Trace
from ..abc import AbstractJob, BackendName, Instrument, printable
from ..batch import _quantities
from ..view.monitor._monitor import build_command_monitor, can_draw
from . import EXIT_CODES, FAILED, FINE, INTERRUPTED, STOPPED, _outputs
from ._end_of_run import EndOfRun
from ._scenario import Refusal, loaded, takes_scenario, translate_errors, window_of_run
from ._signals import SecondSignal
from .batch._batch_command import option_type


def parse_slots(text: str) -> int:
    """Return a number of slots; 0 means no limit.

    Raises:
        ValueError: the text is not such a number.

    """
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is not a number of jobs: give a whole number, or 0 for no limit")
    return int(text)


def parse_timeout(text: str) -> float:
    """Return a duration in seconds, which must be more than 0.

    Raises:
        ValueError: the text is not such a duration.

    """
    number = _quantities.parse_seconds(text)
    if not number > 0:
        raise ValueError(f"{text!r} is not a positive duration")
    return number


def _events(ctx: click.Context, param: click.Parameter, value: str | None) -> str | IO[bytes] | None:
    """Return the target of events; with `-`, redirect all other output to the standard error."""
    if value is None or ctx.resilient_parsing:
        return None
    if value != "-":
        return str(_outputs.OutputFile().convert(value, param, ctx))
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # output of jobs, commands and this program is not an event
    events = os.fdopen(os.dup(kept), "wb", buffering=0)

    def restore_stdout() -> None:
        events.close()
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)

    ctx.call_on_close(restore_stdout)
    return events


CONNECTING: Final = "10s"
"""Seconds in which Dask's scheduler must answer."""
EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py
  trioflow run flow.py:nightly --set pages=20 -j 8 --timeout 1h
  trioflow run flow.py --only "fetch *" --trace run.svg --report run.html
  trioflow run flow.py --journal run.db
  trioflow run flow.py --dask tcp://10.0.0.1:8786
"""


TITLES: Final = {
    **dict.fromkeys(("settings", "only", "starts", "ends"), "Which jobs"),
    **dict.fromkeys(("journal", "trace", "report", "events", "junit", "summary"), "What it writes"),
}
"""The titles of groups of options in the help; the other options are in "How it runs"."""


class RunCommand(click.Command):
    """`trioflow run`, whose help has its options in three groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in three groups: the jobs, the run, the files."""
        groups: dict[str, list[tuple[str, str]]] = {"Which jobs": [], "How it runs": [], "What it writes": []}
        for param in filter(lambda param: isinstance(param, click.Option), self.get_params(ctx)):
            title = TITLES.get(str(param.name), "How it runs")
            if (record := param.get_help_record(ctx)) is not None:
                groups[title].append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


@click.command(name="run", cls=RunCommand, epilog=f"{EXAMPLES}\n{EXIT_CODES}")
@takes_scenario
@click.option("--backend", type=click.Choice(get_args(BackendName)), default="trio", show_default=True)
@click.option(
    "-j",
    "--jobs",
    "jobs_window",
    type=option_type(parse_slots),
    metavar="N",
    help="How many jobs may run at once, those in nested schedulers included; 0 for no limit.  "
    "[default: the scheduler's own]",
)
@click.option(
    "--timeout",
    type=option_type(parse_timeout),
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
    help="Keep the jobs that succeed in this file, and restore those that an earlier run has kept.",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Make the calls of ProcessJobs on the workers of the Dask scheduler at this address.",
)
@click.option(
    "--trace",
    type=_outputs.OutputFile(".json", ".svg", ".csv", ""),
    metavar="FILE",
    help="Write when each job ran: FILE.json is for Perfetto, FILE.svg a timeline, FILE.csv a table.",
)
@click.option(
    "--report",
    type=_outputs.OutputFile(".html", ".htm", ""),
    metavar="FILE",
    help="Write an HTML report, to be opened in a browser.",
)
@click.option(
    "--events",
    type=click.Path(allow_dash=True),
    callback=_events,
    metavar="FILE",
    help="Write events as lines of JSON; - is the standard output, and all else goes to the standard error.",
)
@click.option(
    "--junit",
    type=_outputs.OutputFile(),
    metavar="FILE",
    help="Write a test case for each job, as JUnit XML for CI systems.",
)
@click.option(
    "--summary",
    type=_outputs.OutputFile(),
    metavar="FILE",
    help="Write the verdict, the failures, the graph and the slowest jobs as Markdown.  [default in GitHub's "
    "actions: the summary of the step]",
)
def command(
    scheduler: Scheduler,
    jobs_window: int | None,
    critical: bool,
    drain_on_term: bool,
    monitor: bool,
    tag: bool,
    trace: Path | None,
    report: Path | None,
    journal: Path | None,
    dask: str | None,
    events: Any,
    junit: Path | None,
    summary: Path | None,
    **options: Any,
) -> int:
    """Run the scenario in a Python file, or the graph of commands in FILE.json.

    Ctrl-C, SIGTERM and SIGHUP end it cleanly; a second one ends it at once. At the end it prints each kind of failure
    on the standard error, with a traceback; the verdict; the slowest chain of jobs; the files it has written; and how
    to run again.
    """
    if critical:
        scheduler.critical_jobs = True
    traced = make_instrument("Trace", Trace) if trace or report else None
    for_ci = make_reports(junit, summary)
    reports: list[Instrument] = [*for_ci]
    if events:
        reports.append(make_instrument("Events", functools.partial(Events, events)))
    shown = make_monitors(scheduler, tag) if monitor else []
    if tag and not shown:
        why = "give its own Monitor tag=True" if monitor else "leave out --no-monitor"
        raise click.UsageError(f"--tag is an option of the monitor of this run: {why}")
    stopwatch = Stopwatch(scheduler)
    # The trace is last, because the time in which the monitor loads its libraries is not part of a job.
    watching = [*shown, *reports, stopwatch, *([traced] if traced else [])]
    on_signal = SecondSignal(scheduler.drain if drain_on_term else None)
    options["journal"] = journal
    if jobs_window is not None:
        options["jobs_window"] = window_of_run(scheduler, jobs_window)
    arguments = {name: value for name, value in options.items() if value is not None}
    is_picture = bool(shown) and can_draw(sys.stdout)
    with on_cluster(scheduler, dask), engine_log({"failure", "end"} if is_picture else {"end"}):
        try:
            translate_errors(
                scheduler, lambda: scheduler.run(instruments=watching, handle_signals=on_signal, **arguments)
            )
        except BaseException:
            if scheduler.stop_reason not in (StopReason.INTERRUPTED, StopReason.DRAINED):
                raise  # Ctrl-C may have ended a run that was draining
    code = exit_code_of_run(scheduler)
    end = EndOfRun(scheduler, stopwatch.elapsed, code, traced)
    has_groups = bool(os.environ.get("GITHUB_ACTIONS")) and any(isinstance(view, Summary) for view in for_ci)
    details = end.details(failures=not has_groups)
    is_shown = [_outputs.echo("", nl=False)]  # flush output of jobs, so that it comes first
    is_shown += [_outputs.echo(f"\n{details}", err=True)] if details else []
    is_written = {
        **{option: _outputs.write_output(write, path) for option, write, path in exports(traced, trace, report)},
        **{type(view).__name__.lower(): view.is_written for view in for_ci},
    }
    files = {"trace": trace, "report": report, "events": events_file(events), "junit": junit, "summary": summary}
    there = {option: path for option, path in files.items() if path is not None and is_written.get(option, True)}
    lines = [*(end.verdict() if not shown else end.reminder() if is_picture and details else ())]
    lines += end.lines(there, journal)
    is_shown += map(_outputs.echo, ["", *lines] if lines and (is_picture or details) else lines)
    return code if all((*is_shown, *is_written.values())) or code == INTERRUPTED else STOPPED


def make_reports(junit: Path | None, summary: Path | None) -> list[JUnit | Summary]:
    """Return the instruments for the requested reports; in GitHub Actions, the summary is always among them."""
    result: list[JUnit | Summary] = []
    if junit:
        result.append(JUnit(junit))
    if summary or (os.environ.get("GITHUB_ACTIONS") and os.environ.get("GITHUB_STEP_SUMMARY")):
        result.append(Summary(summary))
    return result


def make_monitors(scheduler: Scheduler, tag: bool) -> list[Any]:
    """Return a monitor, unless the scheduler has one of its own: two would draw over each other."""
    monitor = make_instrument("Monitor", functools.partial(build_command_monitor, tag))
    return [] if any(isinstance(instrument, type(monitor)) for instrument in scheduler.instruments) else [monitor]


def make_instrument(name: str, make: Callable[[], Instrument]) -> Any:
    """Return a new instrument of trioflow, of this name.

    Raises:
        Refusal: a library that it needs is not installed.

    """
    try:
        return make()
    except ImportError as error:
        without = "; or run it with --no-monitor" if name == "Monitor" else ""
        raise Refusal(f"{name} needs {error.name or error}: pip install 'trioflow[cli]'{without}") from None


def exit_code_of_run(scheduler: Scheduler) -> int:
    """Return the exit code for the outcome of a run."""
    if scheduler.stop_reason is StopReason.COMPLETED:
        return FAILED if any(map(_failed, scheduler.iterate_jobs())) else FINE
    return INTERRUPTED if scheduler.stop_reason in (None, StopReason.INTERRUPTED) else STOPPED


def _failed(job: AbstractJob[Any]) -> bool:
    return job.state in (JobState.FAILED, JobState.BLOCKED)


class Stopwatch(Instrument):
    """Measures the run alone, like the monitor and the reports: without imports and without writing the reports."""

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


def exports(traced: Any, trace: Path | None, report: Path | None) -> Iterator[tuple[str, Callable[[str], None], Path]]:
    """Yield the files to be made of the trace: the option, the function that writes it, and the path."""
    if trace is not None:
        by_suffix = {".svg": traced.export_as_svgfile, ".csv": traced.export_as_csvfile}
        yield "trace", by_suffix.get(trace.suffix.lower(), traced.export_as_json), trace
    if report is not None:
        yield "report", traced.export_as_htmlfile, report


def events_file(events: str | IO[bytes] | None) -> Path | None:
    """Return the file that has the events; None if they went elsewhere."""
    path = Path(events).absolute() if isinstance(events, str) else None
    return path if path is not None and path.is_file() else None


# ---- what the engine logs


class EngineLog(logging.Handler):
    """A log handler that replaces Python's last resort, and drops records about what the command prints itself.

    Args:
        hidden_subjects: the subjects that the command prints itself: "failure", "end".

    """

    def __init__(self, hidden_subjects: Collection[str]) -> None:
        super().__init__(logging.WARNING)
        self._hidden_subjects: Final = hidden_subjects

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, unless the user's code has set up logging since."""
        if logging.root.handlers or getattr(record, "about", None) in self._hidden_subjects or sys.stderr is None:
            return
        if isinstance(record.args, tuple) and len(record.args) == 2:
            record = logging.makeLogRecord({**record.__dict__, "args": (record.args[0], "")})
        with contextlib.suppress(OSError):
            print(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def engine_log(hidden_subjects: Collection[str]) -> Generator[None]:
    """Print the engine's log records for a block; if logging is set up, do nothing."""
    logger = logging.getLogger("trioflow")
    if logger.hasHandlers():
        yield
        return
    handler = EngineLog(hidden_subjects)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


# ---- --dask


@contextlib.contextmanager
def on_cluster(scheduler: Scheduler, address: str | None) -> Generator[None]:
    """Run a scheduler's ProcessJobs on a cluster for a block, if there is an address.

    Functions of the user's file are sent by value, because workers do not have the file.

    Raises:
        Refusal: Dask is not installed, or its scheduler does not answer.

    """
    if address is None:
        yield
        return
    try:
        cloudpickle: Any = importlib.import_module("cloudpickle")
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise Refusal(f"--dask needs {error.name}: pip install 'trioflow[dask]'") from None
    from ..dask import Cluster

    try:
        client = distributed.Client(address, timeout=CONNECTING)
    except (OSError, ValueError, TypeError) as error:
        problem = f"no Dask scheduler answers there: {error}; `dask scheduler` prints its address"
        raise Refusal(printable(f"--dask {address}: {problem}")) from None
    for module in loaded:
        cloudpickle.register_pickle_by_value(module)
    try:
        with client:
            scheduler.processes = Cluster(client)
            yield
    finally:
        for module in loaded:
            cloudpickle.unregister_pickle_by_value(module)
