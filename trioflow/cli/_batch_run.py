"""What `trioflow batch` does once its command line is read: arguments, job log, bar, and the exit code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Final

import click

from .._core._labels import printable
from ..batch import _batch, _joblog, _sources
from ..batch._quoting import Shell
from ..batch._template import Template
from . import _batch_bar, _outputs
from ._batch import OTHER_ERROR
from ._codes import FINE, INTERRUPTED
from ._signals import SecondSignal

BROKEN_PIPE: Final = 141
"""What a shell reports of a program that SIGPIPE has ended."""


def run(words: Sequence[str], files: Sequence[str], end: bytes, *, dry_run: bool, bar: bool, **options: Any) -> int:
    """Run a batch, or print what it would run, and return the exit code."""
    template, product = described(words, files, end)
    with contextlib.closing(product):
        done = former(**options)
        if dry_run:
            return print_lines(_batch.lines(template, product, done))
        shown = _batch_bar.Bar() if bar and _batch_bar.is_wanted() else _batch_bar.NoBar()
        with shown.shown(), log(**options) as joblog:
            batch = _batch.Batch(
                template,
                product,
                how(**options),
                shell=Shell(os.environ),
                done=done,
                joblog=joblog,
                aside=shown.aside,
                progress=shown.update,
            )
            return exit_code(batch)


def how(**options: Any) -> _batch.Options:
    """Return the options that are the batch's own."""
    names = ("delay", "halt", "tag", "results")
    return _batch.Options(
        slots=options["jobs"],
        timeout=options["timeout"] or None,
        tries=options["retries"],
        in_order=options["keep_order"],
        **{name: options[name] for name in names},
    )


def described(words: Sequence[str], files: Sequence[str], end: bytes) -> tuple[Template, _sources.Product]:
    """Return the command and its arguments."""
    words, groups = _sources.parse(words, files, end)
    try:
        template = Template(words)
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from None
    product = _sources.Product(groups)
    if product.descriptor == 0 and os.isatty(0):
        click.echo("trioflow batch: arguments are read from the terminal, a line each; Ctrl-D ends them", err=True)
    return template, product


def former(joblog: str | None, resume: bool, resume_failed: bool, **_: Any) -> _joblog.Done:
    """Return what need not be run again."""
    if joblog is None or not (resume or resume_failed):
        return _joblog.Done()
    return _joblog.done(joblog.removeprefix("+"), failed_again=resume_failed)


@contextlib.contextmanager
def log(joblog: str | None, resume: bool, resume_failed: bool, **_: Any) -> Generator[_joblog.Joblog | None]:
    """Open the job log for the time of a block, if there is to be one."""
    if joblog is None:
        yield None
        return
    append = resume or resume_failed or joblog.startswith("+")
    with contextlib.closing(_joblog.Joblog(joblog.removeprefix("+"), append=append)) as opened:
        yield opened


def print_lines(lines: Iterable[str]) -> int:
    """Print command lines."""
    with output():
        for line in lines:
            click.echo(os.fsencode(line))
    return FINE


def exit_code(batch: _batch.Batch) -> int:
    """Run the batch and return its exit code."""
    with output():
        try:
            code = batch.run(instruments=[SecondSignal()])
        except KeyboardInterrupt:
            return INTERRUPTED
        return INTERRUPTED if batch.was_interrupted else code


@contextlib.contextmanager
def output() -> Generator[None]:
    """End the program with the right code where our own output takes no more in a block."""
    try:
        yield
    except BrokenPipeError:
        _outputs.silence()
        raise click.exceptions.Exit(BROKEN_PIPE) from None
    except OSError as error:
        _outputs.output_failed(error)
        raise click.exceptions.Exit(OTHER_ERROR) from None
