"""How `trioflow batch` runs once its command line is read: arguments, job log, exit code, and the bar."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import click

from ... import JournalError
from ...abc import printable
from ...batch import BatchError, _batch, _joblog, _resources, _sources
from ...batch._numbers import slots
from ...batch._quoting import Shell
from ...batch._template import Strings, Template
from .. import FINE, INTERRUPTED, _outputs
from .._signals import SecondSignal
from . import OTHER_ERROR
from ._given import Given

if TYPE_CHECKING:
    from ... import Journal, LocalNode, Pool, SshNode
    from ...abc import Amount
    from ...batch._records import Records
    from ._bar import Bar

RECORDS: Final = ".jsonl"
"""How the name of a file ends that gets results as lines of JSON."""
BROKEN_PIPE: Final = 141
"""What a shell reports for a program ended by SIGPIPE."""


def run(given: Given) -> int:
    """Run a batch, or print what it would run, and return the exit code."""
    reading = how_to_read(given)
    words, groups = _sources.parse(given.words, given.files, reading)
    failed = _joblog.failed(given.joblog.removeprefix("+")) if given.retry_failed and given.joblog else None
    if failed is not None:  # the log has their whole lines
        words, groups, reading = ["{}"], _sources.of_words(list(failed.values())), _sources.Reading()
    with contextlib.closing(opened(groups, reading)) as product:
        strings = Strings(resources=given.needs, columns=product.names, spelled={} if failed else given.spelled)
        template = line_template(words, given, strings)
        tag = name_template("{}" if given.tag else given.tagstring, strings)
        done = former(given)
        if given.dry_run:
            return print_lines(_batch.lines(template, product, done, tag, failed))
        with log(given) as joblog, records(given) as recorded:
            shown = bar(given)
            batch = _batch.Batch(
                template,
                product,
                how(given, strings, tag),
                shell=Shell(os.environ),
                done=done,
                joblog=joblog,
                records=recorded,
                sequences=failed,
                journal=journal(given),
                aside=shown.aside,
                progress=shown.update,
            )
            began = time.monotonic()
            with shown.shown(batch):
                code = exit_code(batch)
            if code != FINE:
                from . import _closing  # here, because most batches do not need it

                _closing.say(_closing.closing(batch, given, time.monotonic() - began))
            return code


def how(given: Given, strings: Strings, tag: Template | None) -> _batch.Options:
    """Return the options of the batch itself."""
    pool, at_once = pool_for(given.needs, given.pool)
    nodes = named(given.nodes, config=given.ssh_config)
    return _batch.Options(
        slots=slots("100%") if given.jobs is None and not nodes else given.jobs,
        nodes=nodes,
        timeout=given.timeout or None,
        idle_timeout=given.idle_timeout or None,
        holds=[hold for hold in (given.memfree, given.load) if hold is not None],
        needs=given.needs,
        pool=pool,
        at_once=at_once,
        tries=given.retries,
        delay=given.delay,
        halt=given.halt,
        nice=given.nice,
        results=results(given, strings),
        columns=strings.columns,
        in_order=given.keep_order,
        passing="through" if given.ungroup else "lines" if given.line_buffer else "whole",
        tag=tag,
        shows_lines=0 if given.verbose else 1 if given.trace else None,
        slot_variable=os.fsencode(given.slot_variable) if given.slot_variable else None,
        reads=[Template([one], strings, is_line=False) for one in given.reads],
        writes=[Template([one], strings, is_line=False) for one in given.writes],
    )


def results(given: Given, strings: Strings) -> Template | str | None:
    """Return where outputs are saved, but for lines of JSON."""
    if given.results is None or given.results.endswith(RECORDS):
        return None
    template = name_template(given.results, strings)
    return template if template is not None and template.has_places else given.results


class NodeOptions(TypedDict, total=False):
    """The options of nodes that a command line may have; see `SshNode`."""

    username: str | None
    identity: str | None
    config: str | None
    gateway: str | None
    accept_new: bool
    connect_timeout: float


def named(nodes: Sequence[str], **options: Unpack[NodeOptions]) -> tuple[SshNode | LocalNode, ...]:
    """Return the nodes that the user named, each once; the options are those of `SshNodes`."""
    if not nodes:
        return ()
    from ... import SshNodes  # here, because most batches have no nodes

    try:
        found = [node for one in nodes for node in SshNodes(one, **options)]
    except (ValueError, OSError) as error:
        raise click.UsageError(printable(str(error))) from None
    return tuple(dict.fromkeys(found))


def pool_for(needs: Mapping[str, Amount], given: Mapping[str, Any]) -> tuple[Pool | None, int | None]:
    """Return the pool for what commands need, and how many of them have it at once."""
    try:
        return _resources.pool_for(needs, given)
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from None


def how_to_read(given: Given) -> _sources.Reading:
    """Return how arguments are made of what stands in the sources."""
    return _sources.Reading(
        end=given.delimiter or (b"\0" if given.null else b"\n"),
        cuts_words=given.delimiter is not None,
        stop=given.end_of_items,
        skips_blank=given.no_run_if_empty,
        columns=given.colsep,
        trim=given.trim or ("n" if given.colsep is None else "lr"),
        has_header=given.header is not None,
        is_linked=given.link,
        is_shuffled=given.shuf,
        at_once=given.at_once,
        words_follow=given.arg_sep,
        files_follow=given.arg_file_sep,
    )


def opened(groups: Sequence[_sources.Group], reading: _sources.Reading) -> _sources.Product:
    """Return the arguments."""
    if any(source == _sources.Lines(_sources.STDIN, reading.end) for group in groups for source in group) and os.isatty(
        0
    ):
        click.echo("trioflow batch: reading arguments from the terminal, one on each line; end with Ctrl-D", err=True)
    return _sources.Product(groups, reading)


def line_template(words: Sequence[str], given: Given, strings: Strings) -> Template:
    """Return the command line."""
    try:
        return Template(
            words, strings, is_line=not given.retry_failed, quotes_words=given.quote and not given.retry_failed
        )
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from None


def name_template(text: str | None, strings: Strings) -> Template | None:
    """Return a text in which arguments are filled in as they are."""
    try:
        return None if text is None else Template([text], strings, is_line=False)
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from None


def former(given: Given) -> _joblog.Done:
    """Return the commands that need not run again."""
    if given.joblog is None or not (given.resume or given.resume_failed):
        return _joblog.Done()
    return _joblog.done(given.joblog.removeprefix("+"), failed_again=given.resume_failed)


@contextlib.contextmanager
def log(given: Given) -> Generator[_joblog.Joblog | None]:
    """Open the job log for a block, if one was asked for."""
    if given.joblog is None:
        yield None
        return
    path = given.joblog.removeprefix("+")
    append = given.resume or given.resume_failed or given.retry_failed or given.joblog.startswith("+")
    with contextlib.closing(_joblog.Joblog(path, append=append, usage=given.joblog_usage)) as opened:
        yield opened


@contextlib.contextmanager
def records(given: Given) -> Generator[Records | None]:
    """Open the file for lines of JSON for a block, if one was asked for."""
    if given.results is None or not given.results.endswith(RECORDS):
        yield None
        return
    from ...batch._records import Records  # here, because few batches need it

    with contextlib.closing(Records(given.results)) as opened:
        yield opened


def journal(given: Given) -> Journal | None:
    """Return the journal, if one was asked for."""
    if given.journal is None:
        return None
    from ... import Journal  # here, because most batches do not need it

    return Journal(given.journal)


def print_lines(lines: Iterable[bytes]) -> int:
    """Print command lines, and return the exit code."""
    with output():
        for line in lines:
            click.echo(line)
    return FINE


def exit_code(batch: _batch.Batch) -> int:
    """Run the batch and return its exit code."""
    with output():
        try:
            code = batch.run(SecondSignal())
        except KeyboardInterrupt:
            return INTERRUPTED
        except JournalError as error:
            raise BatchError(str(error)) from None
        return INTERRUPTED if batch.was_interrupted else code


@contextlib.contextmanager
def output() -> Generator[None]:
    """End the program with the right exit code if our own output breaks in the block."""
    try:
        yield
    except BrokenPipeError:
        _outputs.silence()
        raise click.exceptions.Exit(BROKEN_PIPE) from None
    except OSError as error:
        _outputs.output_failed(error)
        raise click.exceptions.Exit(OTHER_ERROR) from None


class NoBar:
    """In place of a bar, where nothing is shown."""

    def shown(self, batch: _batch.Batch) -> contextlib.nullcontext[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def aside(self) -> contextlib.nullcontext[bool]:
        """Do nothing."""
        return contextlib.nullcontext(False)

    def update(self) -> None:
        """Show nothing."""


def bar(given: Given) -> Bar | NoBar:
    """Return the bar, if one was asked for, and there is a terminal that can draw it."""
    if not given.bar:
        return NoBar()
    from ...view.monitor._monitor import can_draw  # here, because most batches do not need them
    from ._bar import Bar

    return Bar() if can_draw(sys.stderr) else NoBar()
