"""The subcommand `trioflow list`: prints the listing of the jobs, or their paths."""

from __future__ import annotations

import sys
from typing import Final

import click

from .. import Scheduler
from ..abc import paths_of
from ..view.text._listing import Listing
from ..view.text._symbols import Symbols
from . import _outputs
from ._scenario import scenario_command

EXAMPLES: Final = """\b
Examples:
  trioflow list flow.py
  trioflow list flow.py --paths --only "fetch *"
"""


@click.command(name="list", epilog=EXAMPLES)
@scenario_command
@click.option("--paths", is_flag=True, help="Print the path of each job instead, for --only.")
def command(scheduler: Scheduler, paths: bool) -> None:
    """Print a line for each job, with its number and the numbers of the jobs that it requires.

    Each job comes after what it requires. "!" marks a critical job, "∞" a forever job. Nothing is run.
    """
    symbols = Symbols.for_stream(sys.stdout)
    if not paths:
        _outputs.echo(Listing(scheduler, symbols).text())
        return
    job_paths = paths_of(scheduler)
    for job in scheduler.iterate_jobs():
        _outputs.echo(symbols.escape(job_paths[job]))
