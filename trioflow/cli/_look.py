"""The subcommand `trioflow look`: shows what a program that runs is doing."""

from __future__ import annotations

import json
import shutil
import sys

import click

from . import SUCCESS_CODE, _outputs
from ._scenario import CliError

EXAMPLES = """\b
Examples:
  trioflow look 4242
  trioflow look 4242 --json | jq '.runs[].running[].line.text'
"""


@click.command(name="look", epilog=EXAMPLES)
@click.argument("pid", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON, for programs.")
def command(pid: int, as_json: bool) -> int:
    """Show what a program that runs is doing: what runs, since when and where; what waits, and why; what has failed.

    PID is the number of its process. `trioflow run` answers, and so does each program of the same user on Python 3.14
    or newer, if this command runs on the same version. Other programs need TRIOFLOW_LOOK=1 in their environment, or
    call trioflow.look.enable(). Looking changes nothing, and works while a job blocks the event loop.
    """
    from ..view.look import _client

    try:
        record = _client.ask(pid)
    except _client.NoAnswer as error:
        raise CliError(str(error)) from None
    if as_json:
        _outputs.echo(json.dumps(record, indent=1, ensure_ascii=False))
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in _client.text_lines(pid, record, columns):
            _outputs.echo(line)
    return SUCCESS_CODE
