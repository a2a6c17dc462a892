"""The subcommand `trioflow look`: shows the state of a running program."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import click

from .._core.base._text_forms import join_names
from ..abc import printable
from . import SUCCESS_CODE, _outputs
from ._scenario import CliError, InputFile

EXAMPLES = """\b
Examples:
  trioflow look
  trioflow look 4242
  trioflow look 4242 --json | jq '.runs[].running[].line.text'
  trioflow look 4242 --web
  trioflow look night.json --web
"""


class ProgramOrTrace(InputFile):
    """The type of an argument for the number of a process, or for a file with a trace."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if value.isdecimal():
            return click.IntRange(min=1).convert(value, param, ctx)
        if not Path(value).exists():
            self.fail(
                f"there is neither a process nor a trace file {value!r}", param, ctx
            )
        return super().convert(value, param, ctx)


@click.command(name="look", epilog=EXAMPLES)
@click.argument(
    "pid", required=False, type=ProgramOrTrace(dir_okay=False, path_type=Path)
)
@click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Write everything as JSON, for programs (provisional).",
)
@click.option(
    "--web",
    "has_page",
    is_flag=True,
    help="Serve a page that moves, with buttons that steer, until Ctrl-C.",
)
@click.option("--run", "label", metavar="LABEL", help="The run, if there are several.")
def command(
    pid: int | Path | None, is_json: bool, has_page: bool, label: str | None
) -> int:
    """Show what a running program does: which jobs run and where, which wait and why, and which failed.

    PID is the number of its process. Without it, the programs that answer are listed. `trioflow run` and `batch`
    answer, and so does each program of the same user on Python 3.14 or newer, if this command runs on the same version.
    Other programs need TRIOFLOW_LOOK=1 in their environment, or call trioflow.look.enable(). Looking changes nothing,
    and works while a job blocks the event loop.

    With --web, PID may also be a file written by `trioflow run --trace FILE.json`, whose run has ended. The
    buttons of the page change the run, as `trioflow steer` does.
    """
    from ..view.look import _client

    if is_json and has_page:
        raise click.UsageError("give only one of --json, --web")
    if pid is None:
        if is_json or has_page:
            raise click.UsageError(
                "give the PID of the program; trioflow look lists those that answer"
            )
        return list_programs()
    with _outputs.errors_as(CliError, _client.NoAnswer):
        if has_page:
            serve_page(pid, label)
            return SUCCESS_CODE
        if isinstance(pid, Path):
            raise click.UsageError(
                f"a trace is shown by --web alone: trioflow look {pid} --web"
            )
        record = _client.ask(pid)
    if label is not None:
        record["runs"] = [run for run in record["runs"] if run["label"] == label]
        if not record["runs"]:
            raise CliError(f"process {pid}: no run {label!r} is in progress")
    if is_json:
        _outputs.echo_data(json.dumps(record, indent=1).encode())
    else:
        columns = None
        height = math.inf
        if sys.stdout.isatty():
            columns, height = shutil.get_terminal_size()
        # The last line is for the prompt.
        for line in _client.text_lines(pid, record, columns, height - 1):
            _outputs.echo(line)
    return SUCCESS_CODE


def list_programs() -> int:
    """Print the programs that answer, with their runs."""
    from ..view.look import _client

    programs = list(_client.answering_programs())
    for number, record in programs:
        labels = join_names([run["label"] for run in record["runs"]], 3) or "no run"
        _outputs.echo(f"{number}  {printable(labels)}: {_client.command_text(record)}")
    if not programs:
        raise CliError(
            "no program that answers runs: start it with trioflow run, or TRIOFLOW_LOOK=1"
        )
    return SUCCESS_CODE


def serve_page(source: int | Path, label: str | None) -> None:
    """Serve the page of a run of a program, or the page of a trace, until Ctrl-C."""
    from ..view.look import _page
    from ..view.trace import _trace_file

    with _outputs.errors_as(CliError, ImportError, _trace_file.BadTrace):
        if isinstance(source, Path):
            page: _page.Page = _page.TracePage(_trace_file.read_record(source))
        else:
            page = _page.Page(source, label)
            page.ask()
    with _page.serving(page) as server, contextlib.suppress(KeyboardInterrupt):
        _outputs.echo_address(server.url)
        _outputs.echo(
            "Ctrl-C ends the page"
            + ("." if isinstance(source, Path) else "; the program goes on.")
        )
        threading.Event().wait()
