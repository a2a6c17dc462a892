"""The run of `trioflow batch` after its command line is parsed: arguments, job log, exit code, and the bar."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ... import JobState, JournalError, StopReason
from ...abc import printable, without_middle
from ...batch import BatchError, _batch, _joblog, _sources
from ...batch._options import Options
from ...batch._template import LineTemplate, Strings
from .. import FINE, INTERRUPTED, _outputs
from .._signals import SecondSignal
from . import OTHER_ERROR

if TYPE_CHECKING:
    from ... import LocalNode, SshNode
    from ...batch._records import Records
    from ._progress_bar import ProgressBar

JSON_LINES: Final = ".jsonl"
"""The suffix of a file for results as lines of JSON."""
DEFAULT_WIDTH: Final = 120
"""The width of a line, in columns, where there is no terminal."""
MIN_COMMAND_LENGTH: Final = 20
"""The minimum number of characters for a command."""
BROKEN_PIPE: Final = 141
"""The exit code that a shell reports for a program ended by SIGPIPE."""


def run(options: Options) -> int:
    """Run a batch, or print its command lines, and return the exit code."""
    reading = reading_options(options)
    words, groups = _sources.parse(options.words, options.files, reading)
    with contextlib.closing(open_sources(groups, reading)) as product:
        strings = Strings(resources=options.needs, columns=product.names, argument=options.argument)
        tagstring = "{}" if options.tag else options.tagstring
        with translate_errors():
            template = LineTemplate(words, strings, quotes_words=options.quote)
            tag = None if tagstring is None else strings.name(tagstring)
        if options.dry_run:
            with handle_broken_output():
                for line in _batch.command_lines(template, product, tag):
                    click.echo(line)
            return FINE
        with contextlib.ExitStack() as files:
            joblog: _joblog.Joblog | None = None
            recorded: Records | None = None
            if options.joblog is not None:
                joblog = _joblog.Joblog(options.joblog.removeprefix("+"), append=options.joblog.startswith("+"))
                files.callback(joblog.close)
            if options.results is not None and options.results.endswith(JSON_LINES):
                from ...batch._records import Records  # here, because few batches need it

                recorded = Records(options.results)
                files.callback(recorded.close)
            shown = make_bar(options)
            with translate_errors():
                batch = _batch.Batch(
                    options,
                    template,
                    product,
                    strings,
                    tag=tag,
                    nodes=make_nodes(options.nodes, config=options.ssh_config),
                    joblog=joblog,
                    records=recorded,
                    aside=shown.aside,
                    progress=shown.update,
                )
            began = time.monotonic()
            with shown.shown(batch):
                code = exit_code(batch)
            if code != FINE:
                print_to_stderr(closing_lines(batch, options, time.monotonic() - began))
            return code


@contextlib.contextmanager
def translate_errors() -> Generator[None]:
    """Raise the errors of a block as errors of the command line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.UsageError(printable(str(error))) from None


def make_nodes(nodes: Sequence[str], **options: Any) -> list[SshNode | LocalNode]:
    """Return the distinct nodes that the user named; the options are those of `SshNodes`."""
    if not nodes:
        return []
    from ... import SshNodes  # here, because most batches have no nodes

    with translate_errors():
        return list(dict.fromkeys(node for text in nodes for node in SshNodes(text, **options)))


def reading_options(options: Options) -> _sources.Reading:
    """Return the options for reading arguments from their sources."""
    return _sources.Reading(
        end=options.delimiter or (b"\0" if options.null else b"\n"),
        cuts_words=options.delimiter is not None,
        columns=options.colsep,
        has_header=options.header is not None,
        is_linked=options.link,
        items_per_command=options.items_per_command,
    )


def open_sources(groups: Sequence[_sources.Group], reading: _sources.Reading) -> _sources.Product:
    """Return the arguments."""
    if any(
        source == _sources.LineSource(_sources.STDIN, reading.end) for group in groups for source in group
    ) and os.isatty(0):
        click.echo("trioflow batch: reading arguments from the terminal, one on each line; end with Ctrl-D", err=True)
    return _sources.Product(groups, reading)


def exit_code(batch: _batch.Batch) -> int:
    """Run the batch and return its exit code."""
    with handle_broken_output():
        try:
            code = batch.run(SecondSignal())
        except KeyboardInterrupt:
            return INTERRUPTED
        except JournalError as error:
            raise BatchError(str(error)) from None
        return INTERRUPTED if batch.was_interrupted else code


def closing_lines(batch: _batch.Batch, options: Options, seconds: float) -> Iterator[str]:
    """Yield the closing lines: the number of failures, the first of these, and how much a further batch can skip."""
    tally = batch.tally
    if not (tally.failed or batch.was_interrupted):
        return
    from ...view.monitor._monitor import has_colours  # here, because most batches do not need them
    from ...view.text._symbols import Symbols
    from ...view.text._verdict import Tally, verdict

    symbols = Symbols.for_stream(sys.stderr)
    counts = Tally()
    counts.add(JobState.FAILED, number=tally.failed)
    counts.add(JobState.SUCCEEDED, number=tally.succeeded)
    counts.add(JobState.IDLE, number=max(0, (batch.expected or 0) - counts.jobs))
    stopped = StopReason.INTERRUPTED if batch.was_interrupted else StopReason.COMPLETED
    verdict_line = verdict(stopped, counts, seconds, noun="command").line("batch", symbols)
    yield click.style(verdict_line, fg="red", bold=True) if has_colours(sys.stderr) else verdict_line
    columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else DEFAULT_WIDTH
    for line, reason in batch.failures:
        why = reason.removeprefix(f"{line}: ")
        yield symbols.escape(
            f"  {without_middle(printable(line), max(MIN_COMMAND_LENGTH, columns - len(why) - 5))}: {why}"
        )
    if tally.failed > len(batch.failures):
        yield f"  and {tally.failed - len(batch.failures)} more"
    if options.journal:
        of = "" if batch.expected is None else f" of {counts.jobs}"
        yield f"  again  the same command  ({tally.succeeded}{of} command{'s' * (counts.jobs != 1)} kept)"
    elif batch.was_interrupted:
        yield "  again  the same command  (--journal FILE keeps what succeeds)"


def print_to_stderr(lines: Iterator[str]) -> None:
    """Print lines on the standard error, if there is one."""
    for line in lines if sys.stderr is not None else ():  # pyright: ignore[reportUnnecessaryComparison] - closed
        _outputs.echo(line, err=True)


@contextlib.contextmanager
def handle_broken_output() -> Generator[None]:
    """End the program with the right exit code if our own output breaks in the block."""
    try:
        yield
    except BrokenPipeError:
        _outputs.discard_buffers()
        raise click.exceptions.Exit(BROKEN_PIPE) from None
    except OSError as error:
        _outputs.output_failed(error)
        raise click.exceptions.Exit(OTHER_ERROR) from None


class NoBar:
    """A progress bar that shows nothing."""

    def shown(self, batch: _batch.Batch) -> contextlib.nullcontext[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def aside(self) -> contextlib.nullcontext[bool]:
        """Do nothing."""
        return contextlib.nullcontext(False)

    def update(self) -> None:
        """Show nothing."""


def make_bar(options: Options) -> ProgressBar | NoBar:
    """Return the bar if it is wanted and the terminal can draw it."""
    if not options.bar:
        return NoBar()
    from ...view.monitor._monitor import can_draw  # here, because most batches do not need them
    from ._progress_bar import ProgressBar

    return ProgressBar() if can_draw(sys.stderr) else NoBar()
