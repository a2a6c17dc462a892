"""The command `trioflow`: its subcommands, the words of its command line, and the exit code for each error."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, cast

import click

from .. import _posix as posix
from . import EXIT_CODES, FINE, INTERRUPTED
from ._outputs import output_failed
from ._suggestions import check_command


class CommandLine(NamedTuple):
    """The words behind `trioflow`, and the directory in which they were given; "" if that was removed."""

    words: tuple[str, ...]
    directory: str

    @classmethod
    def capture(cls, words: list[str]) -> CommandLine:
        """Return these words with the current working directory, which the user's file may change later."""
        try:
            return cls(tuple(words), os.getcwd())
        except OSError:  # it was removed
            return cls(tuple(words), "")

    @classmethod
    def current(cls) -> CommandLine:
        """Return the command line of the running command."""
        command_line: CommandLine = click.get_current_context().find_root().obj
        return command_line


COMMANDS: Final = {
    "run": ("._run", "Run the scenario."),
    "list": ("._list", "Print the jobs as a tree."),
    "graph": ("._graph", "Draw the jobs and what they require."),
    "check": ("._check", "Find errors that stop a run, jobs that can never run, and likely mistakes."),
    "simulate": ("._simulate", "Print how long a run would take."),
    "compare": ("._compare", "Print why one run took longer than another."),
    "monitor": ("._monitor", "Show a run from its events."),
    "batch": (".batch._batch_command", "Run COMMAND for each ARGUMENT, several at once."),
    "ssh": ("._ssh", "Run COMMAND on many nodes by ssh."),
    "journal": ("._journal", "Look at a journal, or change it."),
}
"""The subcommands: the module of each, imported when it is called, and its help."""


class CommandGroup(click.Group):
    """The group of subcommands, each in a file of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Save the command line, because the user's file may change the working directory and `sys.argv`."""
        ctx.obj = CommandLine.capture(args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the subcommand; give a hint if the first word is a file."""
        is_file = args[0].partition(":")[0].endswith(".py")
        if args[0] in ("batch", "ssh") and not posix.IS_POSIX:
            raise click.UsageError(f"{args[0]} needs a POSIX system: use `trioflow run` with ThreadJobs", ctx)
        check_command(self, ctx, args[0], f"to run a file, write: trioflow run {args[0]}" if is_file else None)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of --help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module: Any = importlib.import_module(COMMANDS[cmd_name][0], __package__)
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names and their help; click would import all subcommands for that."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in COMMANDS.items()])

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command and exit; click itself would exit with 1 after Ctrl-C."""
        options["standalone_mode"] = False
        run = super().main
        sys.exit(exit_code_of(lambda: run(*args, **options)))


def exit_code_of(call: Callable[[], int | None]) -> int:
    """Return the exit code for a subcommand's result or exception, and report errors on the standard error."""
    try:
        code = call() or FINE
        if sys.stdout is not None:  # None if the caller has closed it
            sys.stdout.flush()
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:  # from our output; input errors are reported by the reader
        return output_failed(error)
    return code


EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py
  trioflow run flow.py:nightly --set pages=20 -j 8
  trioflow batch gzip -k {} ::: *.log
"""


@click.command(
    cls=CommandGroup, epilog=f"{EXAMPLES}\n{EXIT_CODES}", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="trioflow")
def command() -> None:
    """Run the scenario of a Python file, or look at it; or run commands, here and on other machines.

    FILE is a Python file. NAME is a global Scheduler in it, or a function that returns one; --set gives the function's
    parameters. Without NAME, the file's only global Scheduler that is not nested in another is taken. If there are
    several, the one called scenario is taken; if there are none, the function called scenario.
    """
