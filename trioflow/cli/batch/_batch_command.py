"""The definition of `trioflow batch`, with the options and exit codes of GNU parallel."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Generator
from typing import Any, Final

import click

from ...abc import printable
from ...batch import BatchError
from ...batch._options import Options
from ...batch._template import REPLACEMENT_STRINGS
from .. import OTHER_ERROR_CODE, _outputs
from .._commands import option_error_text
from .._declared_options import takes_options

EXIT_CODES_HELP: Final = """\b
Exit codes:
  0      all commands succeeded
  1-100  the number of commands that failed;
         with --halt now,fail=1 or soon,fail=1, the exit code of the first;
         with a percentage in --halt, the percentage that failed
  101    more than 100 commands failed
  129    interrupted by SIGHUP
  130    interrupted by Ctrl-C
  141    the reader of the output has exited
  143    interrupted by SIGTERM
  255    the command line is wrong, or the batch could not continue
"""


class InvalidUsage(click.UsageError):
    exit_code = OTHER_ERROR_CODE


class BatchAborted(click.ClickException):
    exit_code = OTHER_ERROR_CODE


class BatchCommand(click.Command):
    """A click command whose errors all have the exit code 255, which differs from all numbers of failed commands."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with translate_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with translate_usage_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def translate_usage_errors() -> Generator[None]:
    try:
        yield
    except (click.NoSuchOption, click.BadParameter) as error:
        raise InvalidUsage(option_error_text(error), error.ctx) from None
    except click.UsageError as error:
        raise InvalidUsage(error.format_message(), error.ctx) from None
    except BatchError as error:
        raise BatchAborted(printable(str(error))) from None


@click.command(
    name="batch",
    cls=BatchCommand,
    epilog=EXIT_CODES_HELP,
    # After the first word, options belong to the command.
    context_settings={"allow_interspersed_args": False},
)
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[COMMAND]... [::: ARGUMENT...]...",
)
@takes_options(Options)
def command(options: Options) -> int:
    """Run COMMAND for each ARGUMENT, several at once.

    Without ::: the arguments are the lines of standard input. Several ::: make all combinations. :::+ is paired with
    the source before it, item by item. :::: and ::::+ take files of arguments.

    \b
    In COMMAND these are replaced:
      REPLACEMENT STRINGS

    Without any of these, the argument comes last. Without COMMAND, the arguments are the commands.

    NODES is a file with a node per line, or names and ranges like node[01-37]. A command whose node cannot be reached
    runs on another node.

    With --journal, a command that has succeeded is not run again by a later batch with the same journal, even if this
    batch is killed. Its output is printed again, unless it would be appended to a file (>>).
    """  # noqa: D301 - click needs the character itself
    with _outputs.errors_as(click.UsageError, ValueError):
        options.check_conflicts()
    if os.environ.get("PARALLEL"):
        note = "the options in the environment variable PARALLEL are ignored; give those you need on the command line"
        _outputs.echo(
            f"trioflow batch: {note}: {printable(os.environ['PARALLEL'])}", err=True
        )
    # Imported here, because --help does not need it.
    from . import _batch_run

    return _batch_run.run(options)


command.help = inspect.cleandoc(command.help or "").replace(
    "REPLACEMENT STRINGS", REPLACEMENT_STRINGS.lstrip()
)
