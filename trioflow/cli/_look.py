"""The subcommand `trioflow look`: shows the state of a running program, and steers its runs."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import click

from ..abc import join_names, printable
from . import SUCCESS_CODE, _outputs
from ._scenario import CliError, InputFile

EXAMPLES = """\b
Examples:
  trioflow look
  trioflow look 4242
  trioflow look 4242 --json | jq '.runs[].running[].line.text'
  trioflow look 4242 --web
  trioflow look night.json --web
  trioflow look 4242 --pause
  trioflow look 4242 --cancel "build/test 7"
  trioflow look 4242 --retry "build/test 7"
  trioflow look 4242 --retry --reload
  trioflow look 4242 --answer approve yes
"""
WHOLE_RUN = "\0"
"""The value of `--cancel` without a path. It precedes a path with a dash, which click takes for another option."""


class ProgramOrTrace(InputFile):
    """The type of an argument for the number of a process, or for a file with a trace."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value.isdecimal():
            return click.IntRange(min=1).convert(value, param, ctx)
        if not Path(value).exists():
            self.fail(f"there is neither a process nor a trace file {value!r}", param, ctx)
        return super().convert(value, param, ctx)


def parse_slots(value: str) -> int:
    """Return a number of slots. The page refuses a wrong number with the same advice."""
    if not value.isdecimal() or not int(value):
        raise click.BadParameter("give a whole number from 1 up")
    return int(value)


class LookCommand(click.Command):
    """The command, whose `--cancel=-x` and `--retry=-x` name a job: see click's `_get_value_from_state`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = [re.sub("^(--(?:cancel|retry)=)(?=-)", rf"\1{WHOLE_RUN}", word) for word in args]
        return super().parse_args(ctx, args)


@click.command(name="look", cls=LookCommand, epilog=EXAMPLES)
@click.argument("pid", required=False, type=ProgramOrTrace(dir_okay=False, path_type=Path))
@click.option("--json", is_flag=True, help="Write everything as JSON, for programs.")
@click.option("--web", is_flag=True, help="Serve a page that moves, with buttons that steer, until Ctrl-C.")
@click.option("--pause", is_flag=True, help="Start no more jobs until --resume. What runs goes on.")
@click.option("--resume", is_flag=True, help="Start jobs again.")
@click.option("--window", type=parse_slots, metavar="N", help="Run at most N jobs at once from now on.")
@click.option("--drain", is_flag=True, help="End the run when the running jobs have ended.")
@click.option(
    "--cancel", is_flag=False, flag_value=WHOLE_RUN, metavar="[PATH]", help="Cancel the run, or only the job at PATH."
)
@click.option(
    "--retry", is_flag=False, flag_value=WHOLE_RUN, metavar="[PATH]",
    help="Try again all that has failed, with what it has blocked, or only the job at PATH, also if it has succeeded: "
    "then all that has used its result runs again.",
)  # fmt: skip
@click.option("--reload", is_flag=True, help="Take the code that was mended in the program's files, before a --retry.")
@click.option("--answer", nargs=2, metavar="PATH VALUE", help="Answer the question of the job at PATH.")
@click.option("--run", "label", metavar="LABEL", help="The run, if there are several; for --window also a path.")
def command(pid: int | Path | None, label: str | None, **options: object) -> int:
    """Show what a running program does: which jobs run and where, which wait and why, and which failed.

    PID is the number of its process. Without it, the programs that answer are listed. `trioflow run` and `batch`
    answer, and so does each program of the same user on Python 3.14 or newer, if this command runs on the same version.
    Other programs need TRIOFLOW_LOOK=1 in their environment, or call trioflow.look.enable(). Looking changes nothing,
    and works while a job blocks the event loop.

    With --web, PID may also be a file written by `trioflow run --trace FILE.json`, whose run has ended.

    The options from --pause to --answer steer the run instead. The log of the program says who did so.
    """
    from ..view.look import _client

    given = {name: value for name, value in options.items() if value not in (None, False)}
    if len(given) > 1 and {*given} != {"retry", "reload"}:
        raise click.UsageError(f"give only one of {', '.join(f'--{name}' for name in given)}")
    word = " and ".join(sorted(given))
    value = next((each for each in given.values() if each is not True and each != WHOLE_RUN), None)
    if pid is None:
        if given:
            raise click.UsageError("give the PID of the program; trioflow look lists those that answer")
        programs = list(_client.answering_programs())
        for number, record in programs:
            labels = join_names([run["label"] for run in record["runs"]], 3) or "no run"
            _outputs.echo(f"{number}  {printable(labels)}: {_client.command_text(record)}")
        if not programs:
            raise CliError("no program that answers runs: start it with trioflow run, or TRIOFLOW_LOOK=1")
        return SUCCESS_CODE
    try:
        if word == "web":
            serve_page(pid, label)
            return SUCCESS_CODE
        if isinstance(pid, Path):
            raise click.UsageError(f"a trace is shown by --web alone: trioflow look {pid} --web")
        if word not in ("", "json"):
            if isinstance(value, str):
                value = value.removeprefix(WHOLE_RUN)
            _outputs.echo(_client.ask(pid, {"do": word, "value": value, "run": label})["done"])
            return SUCCESS_CODE
        record = _client.ask(pid)
    except _client.NoAnswer as error:
        raise CliError(str(error)) from None
    if label is not None:
        record["runs"] = [run for run in record["runs"] if run["label"] == label]
        if not record["runs"]:
            raise CliError(f"process {pid}: no run {label!r} is in progress")
    if word == "json":
        _outputs.echo_data(json.dumps(record, indent=1).encode())
    else:
        columns, height = shutil.get_terminal_size() if sys.stdout.isatty() else (None, math.inf)
        # The last line is for the prompt.
        for line in _client.text_lines(pid, record, columns, height - 1):
            _outputs.echo(line)
    return SUCCESS_CODE


def serve_page(source: int | Path, label: str | None) -> None:
    """Serve the page of a run of a program, or the page of a trace, until Ctrl-C."""
    from ..view.look import _page
    from ..view.trace import _trace_file

    try:
        if isinstance(source, Path):
            page: _page.Page = _page.TracePage(_trace_file.read_record(source))
        else:
            page = _page.Page(source, label)
            page.ask()
    except (ImportError, _trace_file.BadTrace) as error:
        raise CliError(str(error)) from None
    with _page.serving(page) as server, contextlib.suppress(KeyboardInterrupt):
        _outputs.echo_address(server.url)
        _outputs.echo("Ctrl-C ends the page" + ("." if isinstance(source, Path) else "; the program goes on."))
        threading.Event().wait()
