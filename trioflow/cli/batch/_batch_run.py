"""Runs `trioflow batch` after its command line is parsed: opens the sources and logs, and reports failures."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from ... import JournalError, StopReason
from ..._command_options import parse_slots
from ..._core.base._text_forms import fit, join_names
from ...abc import printable
from ...batch import BatchError, _batch, _sources
from ...batch._options import TABLE_SUFFIXES, Options
from ...batch._reporter import CommandFailures, Reporter
from ...batch._template import CommandTemplate, Shell
from ...view.look._answers import answering
from .. import INTERRUPTED_CODE, OTHER_ERROR_CODE, SUCCESS_CODE, _outputs
from .._signals import ExitOnSecondSignal

if TYPE_CHECKING:
    from ... import LocalNode, SshNode
    from ...batch._record_files import OutputDirectory, Record
    from ._progress_bar import ProgressBar

MIN_COMMAND_LENGTH: Final = 20
MAX_SHOWN_KINDS: Final = 10
SIGPIPE_EXIT_CODE: Final = 141
MAX_LINE_SIZE: Final = 120_000
"""`-X` fills a line up to this size, in bytes. Linux takes an argument, such as a shell's line, of 131,071."""


def run(options: Options) -> int:
    words, groups = _sources.parse_sources(
        options.words, options.files, make_reading_rules(options)
    )
    with _outputs.errors_as(click.UsageError, ValueError, OSError):
        shell = ""
        if not options.nodes:
            shell = Shell(os.environ).path
        has_several = (
            options.fills_lines
            or options.colsep is not None
            or (options.items_per_command or 1) > 1
        )
        template = CommandTemplate(
            words, options.needs, repeats_words=options.fills_lines, shell=shell,
            has_several=has_several or sum(map(len, groups)) > 1,
        )  # fmt: skip
    with contextlib.closing(
        open_sources(groups, make_reading_rules(options, template))
    ) as product:
        if options.dry_run:
            with exit_on_broken_output():
                for line in _batch.command_lines(template, product, tags=options.tag):
                    _outputs.echo_data(line)
            return SUCCESS_CODE
        with contextlib.ExitStack() as files:
            records, directory = open_records(options)
            for record in records:
                files.callback(record.close)
            files.callback(show_notice, directory)
            # Without a total, the directory claims the arguments as they are read.
            if directory is not None and product.total is not None:
                for sequence, arguments in enumerate(
                    product.iter_arguments(blocking=True), 1
                ):
                    directory.claim(sequence, arguments or ())
            progress_bar = make_progress_bar(options)
            with _outputs.errors_as(click.UsageError, ValueError, OSError):
                needs_total = progress_bar is not None or (
                    options.halt is not None and options.halt.is_percentage
                )
                total = product.total
                if needs_total:
                    total = product.count_commands()
                reporter = Reporter(
                    options,
                    total,
                    print_guard=progress_bar.hide_for_print
                    if progress_bar
                    else lambda: contextlib.nullcontext(False),
                    records=records,
                    directory=directory,
                    on_progress=progress_bar.update if progress_bar else lambda: None,
                )
                nodes = make_nodes(options.nodes, config=options.ssh_config)
                batch = _batch.Batch(
                    options, template, product, nodes=nodes, reporter=reporter
                )
            with progress_bar.show(batch) if progress_bar else contextlib.nullcontext():
                code = run_batch(batch)
            if code != SUCCESS_CODE:
                for text in summary_lines(batch, options):
                    _outputs.try_echo(text, err=True)
            return code


def show_notice(directory: OutputDirectory | None) -> None:
    if directory is not None:
        text = directory.notice()
        if text:
            _outputs.try_echo(text, err=True)


def open_records(options: Options) -> tuple[list[Record], OutputDirectory | None]:
    """Open the records of a batch, and return the directory of outputs among them, if any."""
    if options.joblog is None and options.results is None:
        return [], None
    joblog = (options.joblog or "").removeprefix("+")
    _outputs.check_files_differ(
        [
            ("--journal", options.journal),
            ("--joblog", joblog),
            ("--results", options.results),
        ]
    )
    # Imported here, because few batches need it.
    from ...batch import _record_files

    records: list[Record] = []
    directory = None
    if options.results is not None and options.results.endswith(TABLE_SUFFIXES):
        row_format: _record_files.RowFormat = _record_files.JsonLinesFormat()
        if options.results.endswith(".csv"):
            row_format = _record_files.CsvFormat()
        records.append(_record_files.RecordFile(options.results, row_format))
    elif options.results is not None:
        with _outputs.errors_as(click.UsageError, ValueError, OSError):
            template = CommandTemplate(
                [options.results], options.needs, is_command=False
            )
            directory = _record_files.OutputDirectory(template)
        records.append(directory)
    if options.joblog is not None:
        append = options.joblog.startswith("+")
        records.append(
            _record_files.RecordFile(
                joblog, _record_files.JoblogFormat(), append=append
            )
        )
    return records, directory


def make_nodes(
    nodes: Sequence[str], *, config: str | None, **options: object
) -> list[SshNode | LocalNode]:
    """Create the nodes that the user named, each once.

    Args:
        nodes: the values of `--sshlogin` or `--hosts`: names, ranges, or files of nodes.
        config: the file of ssh's configuration, or None for the user's.
        **options: the other options of `SshNodes`.

    Raises:
        UsageError: a value is invalid, or a file cannot be read.

    """
    if not nodes:
        return []
    if config not in (None, "none") and not os.path.exists(config):
        raise click.UsageError(f"there is no file {config!r}")
    # Imported here, because most batches have no nodes.
    from ... import SshNodes

    with _outputs.errors_as(click.UsageError, ValueError, OSError):
        found = [SshNodes(text, config=config, **options) for text in nodes]
        return [*dict.fromkeys(itertools.chain(*found))]


def make_reading_rules(
    options: Options, template: CommandTemplate | None = None
) -> _sources.ReadingRules:
    """Return the rules for reading arguments. With `-X`, they need the template that the arguments are to fill."""
    filling = None
    if options.fills_lines and template is not None:

        def measure(arguments: Sequence[str]) -> int:
            return len(os.fsencode(template.fill(arguments, 1, 1)))

        # The line goes to a node in quotes, which may make it longer.
        max_size = MAX_LINE_SIZE // 2 if options.nodes else MAX_LINE_SIZE
        filling = _sources.LineFilling(
            measure, max_size, options.jobs or parse_slots("100%")
        )
    return _sources.ReadingRules(
        delimiter=b"\0" if options.null else b"\n",
        column_pattern=options.colsep,
        items_per_command=options.items_per_command,
        line_filling=filling,
    )


def open_sources(
    groups: Sequence[_sources.SourceGroup], rules: _sources.ReadingRules
) -> _sources.SourceProduct:
    """Open the sources of the arguments. If a source is a terminal, print a prompt."""
    standard_input = _sources.LineSource(_sources.STDIN, rules.delimiter)
    if standard_input in itertools.chain(*groups) and os.isatty(0):
        _outputs.echo(
            "trioflow batch: reading arguments from the terminal, one per line; end with Ctrl-D",
            err=True,
        )
    return _sources.SourceProduct(groups, rules)


def run_batch(batch: _batch.Batch) -> int:
    with exit_on_broken_output():
        on_signal = ExitOnSecondSignal()
        try:
            with answering():
                code = batch.run(on_signal)
        except KeyboardInterrupt:
            return INTERRUPTED_CODE
        except JournalError as error:
            raise BatchError(str(error)) from None
        return on_signal.exit_code if batch.was_interrupted else code


def summary_lines(batch: _batch.Batch, options: Options) -> Iterator[str]:
    """Yield the lines to print if commands failed or the batch was cut short. Otherwise, yield none.

    These are the verdict, a line for each kind of failure, crashes first, and a hint on running the batch again.
    """
    tally = batch.reporter.tally
    if not (tally.failed_count or batch.was_cut_short):
        return
    # Imported here, because most batches do not need it.
    from ...view.monitor._monitor import has_colors
    from ...view.text._symbols import Symbols
    from ...view.text._verdict import Tally, create_verdict, run_seconds

    symbols = Symbols.for_stream(sys.stderr)
    counts = Tally.from_counts(batch.count_commands())
    counts.restored = batch.reporter.restored or counts.restored
    stopped = (batch.was_cut_short and batch.scheduler.stop_reason) or StopReason.FAILED
    verdict = create_verdict(
        stopped, counts, run_seconds(batch.scheduler), noun="command"
    )
    line = verdict.format_line("batch", symbols)
    if has_colors(sys.stderr):
        yield click.style(line, fg="red", bold=True)
    else:
        yield line
    columns = 120
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
    kinds = sorted(
        batch.reporter.failures.values(), key=lambda similar: not similar.is_crash
    )
    for similar in kinds[:MAX_SHOWN_KINDS]:
        yield symbols.escape(f"  {failure_line(similar, columns)}")
    if others := sum(len(similar.lines) for similar in kinds[MAX_SHOWN_KINDS:]):
        yield f"  and {others} more"
    if options.keep == "all":
        kept = batch.reporter.kept_count
    else:
        kept = tally.succeeded_count
    total = None if batch.expected_count is None else counts.job_count
    if batch.was_cut_short or (options.journal and kept != total):
        note = _outputs.kept_note(kept if options.journal else None, total, "command")
        yield f"  to go on, run the same command again {note}"


def failure_line(similar: CommandFailures, columns: int) -> str:
    """Return the line for the failures of a kind: as many commands as fit into the line, and the reason."""
    lines = [printable(line) for line in similar.first_lines]
    reason = similar.reason.removeprefix(f"{similar.first_lines[0]}: ")
    width = max(MIN_COMMAND_LENGTH, columns - len(reason) - 5)
    candidates = [
        join_names(lines, number, len(similar.lines))
        for number in range(len(lines), 0, -1)
    ]
    commands = next((text for text in candidates if len(text) <= width), candidates[-1])
    return f"{fit(commands, width, keep='ends')}: {reason}"


@contextlib.contextmanager
def exit_on_broken_output() -> Generator[None]:
    """Exit with the appropriate code if the body of the `with` statement cannot write the output."""
    try:
        yield
    except OSError as error:
        _outputs.report_output_error(error)
        code = OTHER_ERROR_CODE
        if isinstance(error, BrokenPipeError):
            code = SIGPIPE_EXIT_CODE
        raise click.exceptions.Exit(code) from None


def make_progress_bar(options: Options) -> ProgressBar | None:
    """Return a progress bar, or None without `--bar`, or if the terminal cannot draw it."""
    if not options.bar:
        return None
    # Imported here, because most batches do not need it.
    from ...view.monitor._monitor import can_move_cursor
    from ._progress_bar import ProgressBar

    if not can_move_cursor(sys.stderr):
        return None
    return ProgressBar()
