"""The command line of `trioflow`: the group of all subcommands, and errors about it with their exit codes."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from typing import Any, Final, NamedTuple, NoReturn, cast

import click

from .. import _posix as posix
from .._hints import (
    COMMAND_LINE_HINTS,
    MISSING_OPTION_HINTS,
    OPTION_HINTS_OF_COMMANDS,
    nearest_name,
)
from ..abc import printable
from . import EXIT_CODES_HELP, INTERRUPTED_CODE, SUCCESS_CODE
from ._outputs import report_output_error, show_error


class CommandLine(NamedTuple):
    """The command line of this process.

    Attributes:
        arguments: the words after `trioflow`.
        directory: the working directory at the start, or empty if it has been removed.

    """

    arguments: tuple[str, ...]
    directory: str

    @classmethod
    def capture(cls, arguments: list[str]) -> CommandLine:
        """Save the arguments and the working directory, because the user's file may change the directory."""
        try:
            return cls(tuple(arguments), os.getcwd())
        except OSError:
            # The directory was removed.
            return cls(tuple(arguments), "")

    @classmethod
    def current(cls) -> CommandLine:
        command_line: CommandLine = click.get_current_context().find_root().obj
        return command_line


COMMANDS: Final = {
    "run": ("._run", "command", "Run the scenario."),
    "list": ("._inspection", "list_jobs", "Print a line for each job."),
    "graph": ("._inspection", "draw_graph", "Draw the jobs and their requirements."),
    "check": ("._inspection", "check", "Find all errors that prevent a run."),
    "report": ("._traces", "report_run", "Make the report of a run from its trace."),
    "compare": (
        "._traces",
        "compare_runs",
        "Explain why a run took more or less time than another.",
    ),
    "look": ("._look", "command", "Show what a running program does."),
    "steer": (
        "._steer",
        "command",
        "Change the run of a program: pause it, end it, try its failed jobs again.",
    ),
    "batch": (
        ".batch._batch_command",
        "command",
        "Run COMMAND for each ARGUMENT, several at once.",
    ),
    "ssh": ("._ssh", "command", "Run COMMAND or a script on many nodes by ssh."),
    "journal": ("._journal", "command", "Inspect or edit a journal."),
    "answer": (
        "._answer",
        "command",
        "List the questions of the jobs of a run, or answer one.",
    ),
}
"""The module, which is imported at the call, the function and the help of each subcommand."""


class HelpfulGroup(click.Group):
    """A group of commands. The error about an unknown one names the command that was meant."""

    def find_hint(self, ctx: click.Context, name: str) -> str:
        """Return what an unknown command means that is like none by its name."""
        return ""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        known = self.list_commands(ctx)
        if not (name in known or name.startswith("-") or ctx.resilient_parsing):
            near = nearest_name(name, known)
            if near:
                guess = f"do you mean {near!r}?"
            else:
                guess = f"the commands are {', '.join(known)}"
            raise click.UsageError(
                f"unknown command {printable(name)!r}; {self.find_hint(ctx, name) or guess}",
                ctx,
            )
        return super().resolve_command(ctx, args)


class CommandGroup(HelpfulGroup):
    """The group of subcommands, which imports the module of a subcommand only when it is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Save the command line, because the user's file may change the working directory and `sys.argv`."""
        ctx.obj = CommandLine.capture(args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] in ("batch", "ssh") and not posix.IS_POSIX:
            raise click.UsageError(
                f"{args[0]} needs a POSIX system: use `trioflow run` with ThreadJobs",
                ctx,
            )
        return super().resolve_command(ctx, args)

    def find_hint(self, ctx: click.Context, name: str) -> str:
        if not name.partition(":")[0].endswith(".py"):
            return ""
        return f"to run a file, write: trioflow run {name}"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[cmd_name]
        return cast(
            "click.Command",
            getattr(importlib.import_module(module, __package__), function),
        )

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the subcommands and their help from `COMMANDS`, because click would import all modules to get it."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, help_line) for name, (_, _, help_line) in COMMANDS.items()]
            )

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command and exit with its code. Overridden because click would exit with 1 after Ctrl-C."""
        options["standalone_mode"] = False
        code: int | None
        try:
            code = super().main(*args, **options)
            sys.stdout.flush()
        except click.ClickException as error:
            if isinstance(error, (click.NoSuchOption, click.BadParameter)):
                error = click.UsageError(option_error_text(error), error.ctx)
            elif isinstance(error, click.UsageError):
                hint = hint_about_extra_word(error)
                if hint:
                    error = click.UsageError(f"{error.message}; {hint}", error.ctx)
            show_error(error)
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED_CODE
        except OSError as error:
            # The error is an output's. Errors of input files are reported where the files are read.
            code = report_output_error(error)
        sys.exit(code or SUCCESS_CODE)


def option_error_text(error: click.NoSuchOption | click.BadParameter) -> str:
    """Return the message of an error about an option, with the option that was meant, as by `-timeout`, or a hint."""
    context = error.ctx
    hint: str | None = None
    options = []
    if context:
        options = context.command.get_params(context)
    flags = set(itertools.chain(*(option.opts for option in options)))
    words = {
        word.partition("=")[0]
        for word in getattr(context and context.find_root().obj, "arguments", ())
    }
    if isinstance(error, click.NoSuchOption):
        wrong = [error.option_name]
    else:
        wrong = getattr(error.param, "opts", [])
    # With a single dash, the letters of its name were taken for options.
    for flag in sorted(flags):
        if (
            flag.startswith("--")
            and flag[1:] in words
            and any(name[1:] in flag[2:] for name in wrong)
        ):
            hint = f"do you mean {flag}?"
    command_name = context.command.name if context else None
    if isinstance(error, click.MissingParameter):
        hint = hint or MISSING_OPTION_HINTS.get(command_name or "")
    if isinstance(error, click.BadParameter):
        if hint is None:
            return error.format_message()
        return f"{error.format_message().removesuffix('.')}; {hint}"
    if hint is None:
        hint = OPTION_HINTS_OF_COMMANDS.get(command_name or "", {}).get(
            error.option_name
        )
    known = COMMAND_LINE_HINTS.get(error.option_name, "")
    if hint is None and known.partition(" ")[0] in flags:
        hint = known
    if hint:
        return f"{error.message.removesuffix('.')}: {hint}"
    return error.format_message()


def hint_about_extra_word(error: click.UsageError) -> str:
    """Return what was meant by a word too many, or "": a file to write, or a port of `--web`."""
    word = error.message.partition("Got unexpected extra argument (")[2].removesuffix(
        ")"
    )
    if not word or error.ctx is None:
        return ""
    command_name = error.ctx.command.name
    if command_name == "graph" and word.endswith((".svg", ".png", ".dot", ".mmd")):
        return f"do you mean -o {word}?"
    if (
        command_name in ("run", "look")
        and word.isdecimal()
        and "--web" in error.ctx.find_root().obj.arguments
    ):
        return "--web chooses the port, and prints the address"
    return ""


EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py
  trioflow run flow.py:nightly --set pages=20 -j 8
  trioflow batch gzip -k {} ::: *.log
"""


@click.command(
    cls=CommandGroup,
    epilog=f"{EXAMPLES}\n{EXIT_CODES_HELP}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="trioflow")
def command() -> None:
    """Run or inspect the scenario in a Python file, or run commands, here and on other machines.

    FILE is a Python file. NAME is a global Scheduler in it, or a function that returns a Scheduler. --set gives the
    function's parameters. Without NAME, trioflow takes the file's only global Scheduler that is not nested in another.
    If there are several, it takes the Scheduler called scenario. If there is none, it takes the function called
    scenario.
    """
