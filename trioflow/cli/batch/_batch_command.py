"""The definition of `trioflow batch`, with the options and exit codes of GNU parallel."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar

import click

from ...abc import printable
from ...batch import BatchError, _batch_pool, _quantities, _sources, _start_conditions
from ...batch._halt_rule import HaltRule
from ...batch._options import Options
from ...batch._template import REPLACEMENT_STRINGS
from .. import _outputs
from . import OTHER_ERROR_CODE

EXIT_CODES_HELP: Final = """\b
Exit codes:
  0      all commands succeeded
  1-100  the number of commands that failed;
         with --halt now,fail=1 or soon,fail=1, the exit code of the first;
         with a percentage in --halt, the percentage that failed
  101    more than 100 commands failed
  130    interrupted: Ctrl-C, SIGTERM, SIGHUP
  141    the reader of the output has exited
  255    the command line is wrong, or the batch could not continue
"""
PARALLEL_OPTION_HINTS: Final = {
    **dict.fromkeys(("--eta", "--progress"), "--bar shows the progress"),
    **dict.fromkeys(("--resume", "--resume-failed", "--retry-failed"), "--journal FILE continues where a batch ended"),
    **dict.fromkeys(("-u", "--ungroup"), "--line-buffer prints each line as it is written"),
    **dict.fromkeys(("-n", "-X", "-m", "--xargs"), "-N gives each command several arguments"),
    "--files": "--results DIR saves what the commands write",
    "--will-cite": "leave it out",
}
"""Maps options of GNU parallel that trioflow lacks to hints on what to use instead."""
T = TypeVar("T")


def option_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Create the type of a click option from a function that parses a value or raises ValueError."""

    def convert(value: str) -> T:
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(printable(str(error))) from None

    return convert


def merge_values(_: click.Context, option: click.Parameter, mappings: Sequence[dict[str, T]]) -> dict[str, T]:
    """Merge the values of a repeatable option, which are mappings, into one mapping.

    Raises:
        BadParameter: a name is in two of the mappings.

    """
    merged: dict[str, T] = {}
    for mapping in mappings:
        for name in mapping:
            if name in merged:
                raise click.BadParameter(f"{name} is given twice: give each name once")
        merged.update(mapping)
    return merged


class InvalidUsage(click.UsageError):
    """An error in the command line of `trioflow batch`."""

    exit_code = OTHER_ERROR_CODE


class BatchAborted(click.ClickException):
    """An error that keeps the batch from starting or continuing."""

    exit_code = OTHER_ERROR_CODE


class BatchCommand(click.Command):
    """A click command whose errors all have the exit code 255, which differs from all numbers of failed commands."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the command line; translate errors."""
        with translate_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the batch; translate errors."""
        with translate_usage_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def translate_usage_errors() -> Generator[None]:
    """Translate errors raised in the body of the `with` statement into errors with the exit code of a batch."""
    try:
        yield
    except click.NoSuchOption as error:
        hint = PARALLEL_OPTION_HINTS.get(error.option_name)
        raise InvalidUsage(f"{error.message} {hint}" if hint else error.format_message(), error.ctx) from None
    except click.UsageError as error:
        raise InvalidUsage(error.format_message(), error.ctx) from None
    except BatchError as error:
        raise BatchAborted(printable(str(error))) from None


@click.command(
    name="batch",
    cls=BatchCommand,
    epilog=EXIT_CODES_HELP,
    context_settings={"allow_interspersed_args": False},  # after the first word, options belong to the command
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]... [::: ARGUMENT...]...")
@click.option(
    "-j",
    "-P",
    "--jobs",
    type=option_type(_quantities.parse_slots),
    metavar="N",
    help="Maximum number of commands at once: a number, 0 for no limit, or N%, +N, -N of the CPUs.  [default: 100%]",
)
@click.option(
    "-S",
    "--sshlogin",
    "nodes",
    multiple=True,
    metavar="NODES",
    help="Run the commands on these nodes, up to -j on each.",
)
@click.option("-F", "--ssh-config", type=click.Path(), metavar="FILE", help="Configuration file of ssh, for -S.")
@click.option(
    "--timeout",
    type=option_type(_quantities.parse_time_limit),
    metavar="TIME",
    help="End a command that takes longer.",
)
@click.option("--retries", type=click.IntRange(min=0), default=1, metavar="N", help="Run a command up to N times.")
@click.option(
    "--delay",
    type=option_type(_quantities.parse_seconds),
    default="0",
    metavar="TIME",
    help="Wait this long between two starts.",
)
@click.option(
    "--idle-timeout",
    type=option_type(_quantities.parse_time_limit),
    metavar="TIME",
    help="End a command that writes nothing for this long.",
)
@click.option(
    "--memfree",
    type=option_type(_start_conditions.parse_memfree),
    metavar="SIZE",
    help="Start no command while less memory is free.",
)
@click.option(
    "--load",
    type=option_type(_quantities.parse_load),
    metavar="N",
    help="Start no command while N or more processes run; N as for -j.",
)
@click.option(
    "--nice", type=option_type(_quantities.parse_nice), metavar="N", help="Run the commands at a lower priority."
)
@click.option(
    "--memory-limit",
    type=option_type(_start_conditions.parse_memory_limit),
    metavar="SIZE",
    help="Limit the address space of each process of a command.",
)
@click.option("--pin", is_flag=True, help="Pin the commands of each slot to a CPU.")
@click.option(
    "--needs",
    type=option_type(_batch_pool.parse_needs),
    multiple=True,
    callback=merge_values,
    metavar="NAME=AMOUNT,...",
    help="Resources that each command needs, as in gpu=1,mem=4G; it starts when they are free.",
)
@click.option(
    "--pool",
    type=option_type(_batch_pool.parse_pool),
    multiple=True,
    callback=merge_values,
    metavar="NAME=...,...",
    help="Total resources for --needs, as in gpu=0,1,mem=24G; gpu=0, with a comma is one unit named 0.  "
    "[default: cpu, mem and gpu of this machine]",
)
@click.option(
    "--halt",
    type=option_type(HaltRule.parse),
    metavar="RULE",
    help="When to stop: never, or WHEN,WHY=N or WHEN,WHY=N%, as in now,fail=1. WHEN is now or soon; WHY is fail, "
    "success or done.",
)
@click.option("--joblog", type=click.Path(), metavar="FILE", help="Write a line for each command; +FILE appends.")
@click.option(
    "--journal",
    type=click.Path(),
    metavar="FILE",
    help="Keep commands that succeed, with their output, and do not run them again.",
)
@click.option("--reads", multiple=True, metavar="FILE", help="With --journal: run again if this file has changed.")
@click.option(
    "--writes", multiple=True, metavar="FILE", help="With --journal: run again if this file is missing or has changed."
)
@click.option(
    "--results", metavar="DIR", help="Save outputs in this directory, or in FILE.jsonl, instead of printing them."
)
@click.option("-k", "--keep-order", is_flag=True, help="Print outputs in the order of the arguments.")
@click.option("--line-buffer", is_flag=True, help="Print each line as it is written, not each output as a whole.")
@click.option("--tag", is_flag=True, help="Print the arguments before each line.")
@click.option("--tagstring", metavar="TEXT", help="Print this before each line; {} and so on are replaced.")
@click.option("-v", "verbose", is_flag=True, help="Print each command line before its output.")
@click.option("--bar", is_flag=True, help="Show a progress bar on a terminal.")
@click.option("--dry-run", is_flag=True, help="Print the commands without running them.")
@click.option(
    "-a",
    "--arg-file",
    "files",
    type=click.Path(),
    multiple=True,
    metavar="FILE",
    help="Read arguments from a file; - is stdin.",
)
@click.option("-0", "--null", is_flag=True, help="Lines of files and stdin end with NUL.")
@click.option(
    "-d",
    "--delimiter",
    type=option_type(_sources.parse_delimiter),
    metavar="C",
    help="Arguments end with this, not with a newline.",
)
@click.option(
    "-C",
    "--colsep",
    type=option_type(_sources.parse_column_separator),
    metavar="REGEXP",
    help="Split lines into {1}, {2}, ...",
)
@click.option("--header", type=click.Choice([":"]), metavar=":", help="The first line names the columns: {name}.")
@click.option("-N", "items_per_command", type=click.IntRange(min=0), metavar="N", help="Give each command N arguments.")
@click.option("--link", is_flag=True, help="Pair the sources item by item; repeat short ones.")
@click.option("-q", "--quote", is_flag=True, help="Quote the words of COMMAND for the shell.")
@click.option(
    "-I", "argument", default="{}", metavar="TEXT", help="Replacement string for the argument, instead of {}."
)
def command(**options: Any) -> int:
    """Run COMMAND for each ARGUMENT, several at once.

    Without ::: the arguments are the lines of standard input. Several ::: make all combinations; :::+ is paired
    with the source before it, item by item. :::: and ::::+ take files of arguments.

    \b
    In COMMAND these are replaced:
      REPLACEMENT STRINGS

    Without any of these, the argument comes last. Without COMMAND, the arguments are the commands.

    NODES is a file with one node per line, or names and ranges like node[01-37]; a command whose node cannot be reached
    runs on another one.

    With --journal, a command that has succeeded is not run again by a later batch with the same journal, even if this
    one is killed. Its output is printed again. In the FILE of --reads and --writes, {} and so on are replaced, too.
    """  # noqa: D301 - click needs the character itself
    parsed = Options(**options)
    try:
        parsed.check_conflicts()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if os.environ.get("PARALLEL"):
        warning = (
            "the options in the environment variable PARALLEL are ignored; give those you need on the command line"
        )
        _outputs.echo(f"trioflow batch: {warning}: {printable(os.environ['PARALLEL'])}", err=True)
    from . import _batch_run  # imported here, because --help does not need it

    return _batch_run.run(parsed)


command.help = inspect.cleandoc(command.help or "").replace("REPLACEMENT STRINGS", REPLACEMENT_STRINGS.lstrip())
