"""The subcommand `trioflow run`: runs a scenario, shows the run, and reports its outcome."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import importlib
import io
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, get_args

import click

from .. import Events, JUnit, Scheduler, StopReason, Trace
from .._command_options import option, parse_count, parse_seconds
from .._hints import WRONG_BACKEND_REMEDY
from ..abc import BackendName, printable
from ..view.look._answers import (
    WATCH_INTERVAL,
    announcements,
    answer_thread,
    answering,
    expect_page,
)
from ..view.monitor._monitor import (
    Monitor,
    PrintKeeper,
    build_command_monitor,
    can_move_cursor,
)
from . import (
    EXIT_CODES_HELP,
    FAILURE_CODE,
    INTERRUPTED_CODE,
    STOPPED_CODE,
    SUCCESS_CODE,
    _outputs,
)
from ._declared_options import takes_options
from ._end_of_run import RunSummaryText
from ._scenario import (
    CliError,
    loaded_modules,
    loop_of_program,
    make_window,
    scenario_command,
    translate_errors,
)
from ._signals import ExitOnSecondSignal


def drop_repetitions(
    ctx: click.Context, param: click.Parameter, paths: Sequence[Path]
) -> list[Path]:
    return list(dict.fromkeys(paths))


def parse_timeout(text: str) -> float:
    number = parse_seconds(text)
    if not number > 0:
        raise ValueError(f"{text!r} is not a positive duration")
    return number


def _open_events(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> list[Path | IO[bytes]]:
    """Return the files to write events to.

    For `-`, it is standard output, and all other output is redirected to standard error.
    """
    if ctx.resilient_parsing:
        return []
    files: list[Path | IO[bytes]] = []
    for value in dict.fromkeys(values):
        if value == "-":
            files.append(_redirect_stdout(ctx))
        else:
            files.append(_outputs.OutputFile().convert(value, param, ctx))
    return files


def _redirect_stdout(ctx: click.Context) -> IO[bytes]:
    """Return a stream to standard output, and redirect all other output to standard error until `ctx` is closed."""
    sys.stdout.flush()
    saved_stdout = os.dup(1)
    # So that the output of jobs, commands and this program does not mix with the events.
    os.dup2(2, 1)
    # The path is only the name of the file in messages.
    events = io.FileIO(
        "standard output", "wb", opener=lambda path, flags: os.dup(saved_stdout)
    )

    def restore_stdout() -> None:
        events.close()
        sys.stdout.flush()
        os.dup2(saved_stdout, 1)
        os.close(saved_stdout)

    ctx.call_on_close(restore_stdout)
    return events


EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py
  trioflow run flow.py:nightly --set pages=20 -j 8 --timeout 1h
  trioflow run flow.py --only "fetch *" --trace run.svg --report run.html
  trioflow run flow.py --journal run.db
  trioflow run flow.py --dask tcp://10.0.0.1:8786
"""


file_option: Final = functools.partial(
    option, multiple=True, callback=drop_repetitions, metavar="FILE"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `trioflow run` that do not select jobs. Each field declares an option, as for `batch`."""

    backend: BackendName | None = option(
        type=click.Choice(get_args(BackendName)),
        help="The event loop.  [default: asyncio if the program's own files import it, and not trio; otherwise trio]",
    )
    jobs_window: int | None = option(
        "-j", "--jobs", parse=parse_count, metavar="N",
        help="Maximum number of jobs to run at once in the whole run: jobs in nested schedulers count, but not these "
        "schedulers, forever jobs and services; 0 for no limit.  [default: the scheduler's own]",
    )  # fmt: skip
    timeout: float | None = option(
        parse=parse_timeout, metavar="TIME",
        help="Cancel everything after this time: seconds, or 1m30s.  [default: the scheduler's own]",
    )  # fmt: skip
    critical: bool = option(
        help="Stop the run at the first failure, except of jobs with critical=False."
    )
    hold: bool = option(
        help="Where the run would end with failures, pause it: `trioflow steer PID try-again` tries them again,"
        " and resume ends the run."
    )
    drain_on_term: bool = option(
        help="On SIGTERM, start no more jobs, and let the running ones finish."
    )
    monitor: bool = option(
        "--monitor/--no-monitor",
        default=True,
        show_default=True,
        help="Show the jobs while they run.",
    )
    web: bool = option(
        help="Serve a page of the run that moves, as `trioflow look PID --web` does, until the run ends."
    )
    tag: bool = option(help="Begin each line that a job prints with the job's label.")
    dask: str | None = option(
        metavar="ADDRESS",
        help="Run the calls of ProcessJobs on the workers of the Dask scheduler at this address.",
    )
    journal: Path | None = option(
        type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
        help="Keep the jobs that succeed in this file, and restore those kept by an earlier run.",
    )  # fmt: skip
    trace: Sequence[Path] = file_option(
        type=_outputs.OutputFile(".json", ".svg", ".csv", ""),
        help="Write when each job ran: FILE.json is for Perfetto, FILE.svg a timeline, FILE.csv a table.",
    )
    report: Sequence[Path] = file_option(
        type=_outputs.OutputFile(".html", ".htm", ""),
        help="Write an HTML report, to be opened in a browser.",
    )
    events: Sequence[Path | IO[bytes]] = file_option(
        type=click.Path(allow_dash=True), callback=_open_events,
        help="Write events as JSON lines; - is standard output, and all other output goes to standard error.",
    )  # fmt: skip
    junit: Sequence[Path] = file_option(
        type=_outputs.OutputFile(),
        help="Write a test case for each job, as JUnit XML for CI systems.",
    )


@click.command(name="run", epilog=f"{EXAMPLES}\n{EXIT_CODES_HELP}")
@scenario_command
@takes_options(RunOptions)
def command(scheduler: Scheduler, options: RunOptions) -> int:
    """Run the scenario in a Python file.

    Ctrl-C, SIGTERM and SIGHUP end the run cleanly. A second signal ends it immediately. At the end, the command prints
    on standard error each kind of failure with a traceback, the verdict, the slowest chain of jobs, the files it has
    written, and how to run again.
    """
    if options.critical:
        scheduler.critical_jobs = True
    if options.hold:
        scheduler.hold = True
    if options.hold and options.critical:
        _outputs.echo(
            "--hold: nothing will be held at a failure at which --critical stops the run",
            err=True,
        )
    journal: Any = options.journal or getattr(
        scheduler.journal, "path", scheduler.journal
    )
    files = RunFiles(options, journal)
    monitors = []
    if options.monitor:
        monitors = make_monitors(scheduler, options.tag)
    if options.tag and not options.monitor:
        raise click.UsageError("--tag needs the monitor: leave out --no-monitor")
    if options.tag and not monitors:
        raise click.UsageError(
            "--tag does not change the scheduler's own Monitor: give that tag=True"
        )
    instruments = [*monitors, *(report for report, _ in files.reports), *files.tracers]
    is_drawing = bool(monitors) and can_move_cursor(sys.stdout)
    has_monitors_streams = (
        options.tag
        or is_drawing
        or any(isinstance(one, Monitor) for one in scheduler.instruments)
    )
    # A trace alone changes no stream: commands would write to a pipe in place of the terminal.
    shows_output = options.web or options.hold or options.report
    if shows_output and not has_monitors_streams:
        instruments.append(PrintKeeper())
    if options.backend:
        backend = options.backend
        file = ""
    else:
        backend, file = loop_of_program()
    given = {"backend": backend, "timeout": options.timeout, "journal": options.journal}
    arguments: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None
    }
    if options.jobs_window is not None:
        arguments["jobs_window"] = make_window(scheduler, options.jobs_window)
    hidden_subjects = {"failure", "end"} if is_drawing else {"end"}

    def drain() -> None:
        # The message on the signal says it.
        hidden_subjects.add("drain")
        scheduler.drain()

    on_signal = ExitOnSecondSignal(drain if options.drain_on_term else None)
    context = contextvars.copy_context()
    reason = ""
    if file:
        reason = f" ({backend} was taken, because {file} imports it)"
    context.run(
        WRONG_BACKEND_REMEDY.set,
        "give --backend {}" + reason.replace("{", "{{").replace("}", "}}"),
    )
    with contextlib.ExitStack() as surroundings:
        if options.dask is not None:
            surroundings.enter_context(run_on_cluster(scheduler, options.dask))
        surroundings.enter_context(show_engine_log(hidden_subjects))
        surroundings.enter_context(answering())
        if options.web:
            surroundings.enter_context(page_of_run())
        try:
            translate_errors(
                scheduler,
                lambda: context.run(
                    scheduler.run,
                    instruments=instruments,
                    handle_signals=on_signal,
                    **arguments,
                ),
            )
        except BaseException:
            # A job has raised it, or Ctrl-C was pressed again. The summary below reports it.
            if scheduler.stop_reason not in (
                StopReason.INTERRUPTED,
                StopReason.DRAINED,
            ):
                raise
    code = exit_code_of_run(scheduler, on_signal.exit_code)
    run_summary = RunSummaryText(scheduler, code, next(iter(files.tracers), None))
    if journal:
        journal = Path(journal)
    succeeded = print_end(
        run_summary, files, journal or None, bool(monitors), is_drawing
    )
    return code if succeeded or code == on_signal.exit_code else STOPPED_CODE


def print_end(
    run_summary: RunSummaryText,
    files: RunFiles,
    journal: Path | None,
    has_monitor: bool,
    has_picture: bool,
) -> bool:
    """Write the files of a run, and print its end. Return whether all could be written and printed.

    Args:
        run_summary: the texts to print.
        files: the files to write.
        journal: the journal of the run.
        has_monitor: whether a monitor has shown the verdict.
        has_picture: whether its last picture is on the terminal.

    """
    details = run_summary.details()
    # Flushes the output of jobs before the summary.
    results = [_outputs.try_echo("", nl=False)]
    if details:
        results.append(_outputs.try_echo(f"\n{details}", err=True))
    written = files.write()
    lines: list[str] = []
    if not has_monitor:
        lines += run_summary.verdict_lines()
    lines += run_summary.footer_lines(written, journal)
    if lines and (has_picture or details):
        lines.insert(0, "")
    results += map(_outputs.try_echo, lines)
    return all(results) and not files.has_failed


class RunFiles:
    """The files that a run writes, and the instruments that record their contents.

    Args:
        options: the options, which name the files.
        journal: the journal of the run, or None if it has none. It may be the scenario's own.

    Raises:
        CliError: a library that an instrument needs is not installed.
        UsageError: two options, or an option and the journal, name one file.

    """

    def __init__(self, options: RunOptions, journal: object) -> None:
        self._options: Final = options
        # Whether a file could not be written.
        self.has_failed = False
        name = "journal= of the scheduler"
        if options.journal:
            name = "--journal"
        places = [(name, journal)]
        for name in ("trace", "report", "events", "junit"):
            places += [(f"--{name}", path) for path in getattr(options, name)]
        _outputs.check_files_differ(places)
        if options.report or options.web:
            from ..view.trace.report._report import require_jinja

            make_instrument("--report" if options.report else "--web", require_jinja)
        self.tracers: Final[list[Trace]] = []
        if options.trace or options.report:
            self.tracers.append(Trace())
        self.reports: Final[list[tuple[Events | JUnit, Path | IO[bytes]]]] = []
        for file in options.events:
            events = make_instrument("Events", functools.partial(Events, file))
            self.reports.append((events, file))
        self.reports.extend((JUnit(path), path) for path in options.junit)

    def write(self) -> list[tuple[str, Path]]:
        """Write the files that are made of the trace, and return each written file with its option."""
        results: list[tuple[str, Path | IO[bytes], bool]] = []
        for kind, write, path in self._trace_exports():
            results.append((kind, path, _outputs.write_output(write, path)))
        for report, file in self.reports:
            name = type(report).__name__.lower()
            results.append((name, file, report.is_written))
        self.has_failed = not all(is_written for _, _, is_written in results)
        return [
            (option, file)
            for option, file, done in results
            if done and isinstance(file, Path) and file.is_file()
        ]

    def _trace_exports(self) -> Iterator[tuple[str, Callable[[str], None], Path]]:
        from ..view._save import save_trace

        for tracer in self.tracers:
            for path in self._options.trace:
                if (suffix := path.suffix.lower()) not in (".svg", ".csv"):
                    suffix = ".json"
                yield "trace", functools.partial(save_trace, tracer, suffix), path
            for path in self._options.report:
                yield "report", functools.partial(save_trace, tracer, ".html"), path


@contextlib.contextmanager
def page_of_run() -> Generator[None]:
    """During the body of the `with` statement, let another process serve a page of the run.

    Print its address when the run begins: a refused run has no page.

    At the end, wait a second at most until browsers that show the page have its end. A large page takes longer: its
    process then goes on for a while.
    """
    key = secrets.token_hex(8)
    words = [
        sys.executable,
        "-P",
        "-c",
        f"from trioflow.view.look import _page; _page.serve_parent('{key}')",
    ]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    expect_page(key)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        with server.stdout:
            if url := server.stdout.readline().decode().rstrip():
                announcements[key] = functools.partial(
                    _outputs.echo_address, url, err=True
                )
        yield
    finally:
        deadline = time.monotonic() + WATCH_INTERVAL
        answer_thread.finish()
        server.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(max(0.0, deadline - time.monotonic()))


def make_monitors(scheduler: Scheduler, tag: bool) -> list[Any]:
    """Return a list with a new monitor, or an empty list if the scheduler has a monitor already.

    Two monitors would overwrite each other.
    """
    monitor = make_instrument("Monitor", functools.partial(build_command_monitor, tag))
    if any(isinstance(one, type(monitor)) for one in scheduler.instruments):
        return []
    return [monitor]


def make_instrument(name: str, make: Callable[[], Any]) -> Any:
    """Create an instrument of trioflow.

    Args:
        name: the name of the instrument's class, for errors.
        make: a function that creates the instrument.

    Raises:
        CliError: a library that the instrument needs is not installed.

    """
    try:
        return make()
    except ImportError as error:
        alternative = "; or use --no-monitor" if name == "Monitor" else ""
        raise CliError(
            f"{name} needs {error.name or error}: pip install 'trioflow[cli]'{alternative}"
        ) from None


def exit_code_of_run(
    scheduler: Scheduler, interrupted_code: int = INTERRUPTED_CODE
) -> int:
    if scheduler.stop_reason is StopReason.COMPLETED:
        return SUCCESS_CODE
    if scheduler.stop_reason is StopReason.FAILED:
        return FAILURE_CODE
    if scheduler.stop_reason in (None, StopReason.INTERRUPTED):
        return interrupted_code
    return STOPPED_CODE


# ---- the engine's log


class EngineLogHandler(logging.Handler):
    """A log handler that prints the engine's records to standard error, except those that the command repeats.

    Args:
        hidden_subjects: the subjects of records to drop, because the command prints them itself: "failure", "drain" or
            "end". It may change.

    """

    def __init__(self, hidden_subjects: Collection[str]) -> None:
        super().__init__(logging.WARNING)
        self._hidden_subjects: Final = hidden_subjects

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, unless its subject is hidden, or the user's code has configured logging in the meantime."""
        subject = getattr(record, "about", None)
        if logging.root.handlers or subject in self._hidden_subjects:
            return
        if isinstance(record.args, tuple) and len(record.args) == 2:
            # Leave out the advice, which is for programs.
            record = logging.makeLogRecord(
                {**record.__dict__, "args": (record.args[0], "")}
            )
        with contextlib.suppress(OSError):
            _outputs.echo(self.format(record), err=True)


@contextlib.contextmanager
def show_engine_log(hidden_subjects: Collection[str]) -> Generator[None]:
    """During the body of the `with` statement, print the engine's log records unless the user configured logging."""
    logger = logging.getLogger("trioflow")
    if logger.hasHandlers():
        yield
        return
    handler = EngineLogHandler(hidden_subjects)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


# ---- --dask


@contextlib.contextmanager
def run_on_cluster(scheduler: Scheduler, address: str) -> Generator[None]:
    """During the body of the `with` statement, let the ProcessJobs of a scheduler run on a Dask cluster.

    Functions of the user's file are pickled by value, because the workers do not have the file.

    Args:
        scheduler: the outermost scheduler.
        address: the address of Dask's scheduler.

    Raises:
        CliError: Dask is not installed, or its scheduler does not answer.

    """
    try:
        cloudpickle: Any = importlib.import_module("cloudpickle")
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise CliError(
            f"--dask needs {error.name}: pip install 'trioflow[dask]'"
        ) from None
    from ..dask import Cluster

    try:
        client = distributed.Client(address, timeout="10s")
    except (OSError, ValueError, TypeError) as error:
        problem = f"no Dask scheduler answers at this address: {error}; `dask scheduler` prints the address"
        raise CliError(printable(f"--dask {address}: {problem}")) from None
    for module in loaded_modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        with client:
            scheduler.processes = Cluster(client)
            yield
    finally:
        for module in loaded_modules:
            cloudpickle.unregister_pickle_by_value(module)
