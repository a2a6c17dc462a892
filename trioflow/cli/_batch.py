"""`trioflow batch`: one command line, many arguments, with the options and the exit codes of GNU parallel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import click

from .._core._labels import printable
from ..batch import _numbers
from ..batch._errors import BatchError
from ..batch._halt import Halt
from ._completion import file

OTHER_ERROR: Final = 255
"""Anything but failed commands: GNU parallel's."""
CODES: Final = """\b
Exit codes:
  0    all commands have succeeded
  1    so many commands have failed, up to 100; with --halt
  ...  now,fail=1 or soon,fail=1 the exit code of the first of
  100  them, with percents the percentage that has failed
  101  more than 100 commands have failed
  130  interrupted: Ctrl-C, SIGTERM, SIGHUP
  141  nobody reads the output any more
  255  the command line is wrong, or the batch could not go on
"""
T = TypeVar("T")


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return the type of an option whose value is parsed by a function that raises ValueError."""

    def convert(value: str) -> T:
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(printable(str(error))) from None

    return convert


class Wrong(click.UsageError):
    """The command line is wrong."""

    exit_code = OTHER_ERROR


class Impossible(click.ClickException):
    """The batch cannot begin, or not go on."""

    exit_code = OTHER_ERROR


class BatchCommand(click.Command):
    """A command whose errors all have one exit code, which is no number of failures."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the command line."""
        with own_exit_code():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with own_exit_code():
            return super().invoke(ctx)


@contextlib.contextmanager
def own_exit_code() -> Generator[None]:
    """Give the errors that leave a block the exit code for them."""
    try:
        yield
    except click.UsageError as error:
        raise Wrong(error.format_message(), error.ctx) from None
    except BatchError as error:
        raise Impossible(printable(str(error))) from None


@click.command(
    name="batch",
    cls=BatchCommand,
    epilog=CODES,
    context_settings={"allow_interspersed_args": False},  # from the first word on, options are the command's
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]... [::: ARGUMENT...]...")
@click.option(
    "-j",
    "--jobs",
    "-P",
    type=parsed(_numbers.slots),
    default="100%",
    metavar="N",
    help="How many at once: a number, 0 for no limit, or N%, +N, -N of the CPUs.  [default: 100%]",
)
@click.option("--timeout", type=parsed(_numbers.seconds), metavar="TIME", help="End a command that takes longer.")
@click.option("--retries", type=click.IntRange(min=0), default=1, metavar="N", help="Run a command up to N times.")
@click.option("--delay", type=parsed(_numbers.seconds), default="0", metavar="TIME", help="Between two starts.")
@click.option(
    "--halt",
    type=parsed(Halt.parse),
    metavar="RULE",
    help="When to stop: never, or now or soon,fail or success or done=N or N%, as in now,fail=1.",
)
@click.option("--joblog", metavar="FILE", shell_complete=file, help="Write down what has run; +FILE appends.")
@click.option("--resume", is_flag=True, help="Leave out the commands that are in the job log.")
@click.option("--resume-failed", is_flag=True, help="Leave out those of them that have succeeded.")
@click.option("--results", metavar="DIR", help="Save in files what the commands write, in place of printing it.")
@click.option("-k", "--keep-order", is_flag=True, help="Print outputs in the order of the arguments.")
@click.option("--tag", is_flag=True, help="Print the arguments before each line.")
@click.option("--bar", is_flag=True, help="Show how far it is, on a terminal.")
@click.option("--dry-run", is_flag=True, help="Print the commands, and run none.")
@click.option(
    "-a", "--arg-file", "files", multiple=True, metavar="FILE", help="Read arguments from a file, - for stdin."
)
@click.option("-0", "--null", is_flag=True, help="Lines of files, and of stdin, end in NUL.")
def command(
    words: tuple[str, ...], files: tuple[str, ...], null: bool, dry_run: bool, bar: bool, **options: Any
) -> int:
    r"""Run COMMAND for each ARGUMENT, several at once.

    Without ::: the arguments are the lines of the standard input; of several ::: all combinations are taken, and
    :::+ goes with the one before it, item by item; :::: and ::::+ take files of arguments.

    \b
    In COMMAND the argument stands for
      {}    {.} without its extension   {/} its base name
      {//}  its directory               {/.} both: base name without extension
      {1}   that of the first :::       {1.} {1/} {1//} {1/.} likewise
      {#}   the number of the job       {%} the number of its slot
    and without any of these it comes last. Without COMMAND the arguments are the commands.
    """
    if (options["resume"] or options["resume_failed"]) and not options["joblog"]:
        raise click.UsageError("--resume needs --joblog: it says what has run")
    from . import _batch_run  # late: --help does without

    return _batch_run.run(words, files, b"\0" if null else b"\n", dry_run=dry_run, bar=bar, **options)
