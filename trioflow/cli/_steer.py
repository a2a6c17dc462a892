"""The subcommand `trioflow steer`: changes the run of a program, by a word for each change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from . import SUCCESS_CODE, _outputs
from ._commands import HelpfulGroup
from ._scenario import CliError

EXAMPLES = """\b
Examples:
  trioflow steer 4242 pause
  trioflow steer 4242 cancel "build/test 7"
  trioflow steer 4242 try-again --reload
  trioflow steer 4242 window 8 --run nightly
  trioflow steer 4242 answer approve yes
"""
TAKES_NEGATIVE = {"ignore_unknown_options": True}
"""-5 is an answer, and a wrong number, not an option."""


def number_or(advice: str) -> Callable[[str], int]:
    """Return a function that reads a number from 1 up, and otherwise gives advice."""

    def parse(value: str) -> int:
        if not value.isdecimal() or not int(value):
            raise click.BadParameter(f"found {value!r}; give {advice}")
        return int(value)

    return parse


def steer(pid: int, word: str, label: str | None, value: object = None) -> int:
    """Say a word to the run of a process, and print what was done."""
    from ..view.look import _client

    with _outputs.errors_as(CliError, _client.NoAnswer):
        _outputs.echo(
            _client.ask(pid, {"do": word, "value": value, "run": label})["done"]
        )
    return SUCCESS_CODE


@click.group(name="steer", cls=HelpfulGroup, epilog=EXAMPLES)
@click.argument(
    "pid",
    metavar="PID",
    type=number_or("the PID of the program, which trioflow look lists"),
)
@click.pass_context
def command(context: click.Context, pid: int) -> None:
    """Change the run of a program: pause it, end it, try its failed jobs again.

    PID is the number of the process, which `trioflow look` lists. PATH names one job in its output, and is no pattern.
    Write -- before a PATH that begins with a dash. The log of the program says who steered.
    """
    context.obj = pid


run_option: Callable[[Any], Any] = click.option(
    "--run",
    "label",
    metavar="LABEL",
    help="The run, if there are several; for window also a path.",
)


def add_plain_word(word: str, help_text: str) -> None:
    """Add the command of a word that needs no more than the run."""

    @command.command(word, help=help_text)
    @run_option
    @click.pass_obj
    def say(pid: int, label: str | None) -> int:
        return steer(pid, word, label)


RELOAD_HELP: Final = """Take the code that was mended in the program's files.

Provisional: a minor release may change it.
"""
add_plain_word("pause", "Start no more jobs until resume; running jobs go on.")
add_plain_word("resume", "Start jobs again.")
add_plain_word("drain", "End the run when the running jobs have ended.")
add_plain_word("reload", RELOAD_HELP)


@command.command(context_settings=TAKES_NEGATIVE)
@click.argument("slots", metavar="N", type=number_or("a whole number from 1 up"))
@run_option
@click.pass_obj
def window(pid: int, slots: int, label: str | None) -> int:
    """Run at most N jobs at once from now on."""
    return steer(pid, "window", label, slots)


@command.command()
@click.argument("path", required=False)
@run_option
@click.pass_obj
def cancel(pid: int, path: str | None, label: str | None) -> int:
    """Cancel the run, or only the job at PATH."""
    return steer(pid, "cancel", label, path)


@command.command()
@click.argument("path", required=False)
@click.option(
    "--reload",
    is_flag=True,
    help="First take the code mended in the program's files (provisional).",
)
@click.option(
    "--cancel",
    is_flag=True,
    help="Cancel what runs with the old result of the job at PATH.",
)
@run_option
@click.pass_obj
def try_again(
    pid: int, path: str | None, reload: bool, cancel: bool, label: str | None
) -> int:
    """Try again all failed jobs, or only the job at PATH.

    If the job at PATH has succeeded, all that has used its result runs again, too. What runs with it has to end first.
    """
    word = "try-again"
    if reload:
        word = "reload and try-again"
    if cancel:
        word += " --cancel"
    return steer(pid, word, label, path)


@command.command(context_settings=TAKES_NEGATIVE)
@click.argument("path")
@click.argument("value")
@run_option
@click.option(
    "--asked",
    type=int,
    metavar="N",
    help="The number of the question, if the job has asked something else before.",
)
@click.pass_obj
def answer(
    pid: int, path: str, value: str, label: str | None, asked: int | None
) -> int:
    """Answer the question of the job at PATH."""
    return steer(pid, "answer", label, (path, value, asked))
