"""`trioflow list`: one line for each job."""

from __future__ import annotations

import sys
from typing import Final

import click

from .. import Scheduler
from ..abc import paths_of
from ..view.text import _symbols
from ._scenario import takes_scenario

EXAMPLES: Final = """\b
Examples:
  trioflow list flow.py
  trioflow list flow.py --paths --from "fetch *"
"""


@click.command(name="list", epilog=EXAMPLES)
@takes_scenario
@click.option(
    "--paths", is_flag=True, help="Print the path of each job instead, as --only, --from and --until take it."
)
@click.option("--legend", is_flag=True, help="Explain the signs below the list.")
def command(scheduler: Scheduler, paths: bool, legend: bool) -> None:
    """Print one line for each job: number, symbols, kind, label, requirements.

    Nothing is run.
    """
    if paths and legend:
        raise click.UsageError("--legend explains the signs of the list, and --paths prints none")
    if not paths:
        scheduler.list(legend=legend)
        return
    symbols = _symbols.Symbols.of(sys.stdout)
    found = paths_of(scheduler)
    for job in scheduler.iterate_jobs():
        click.echo(symbols.line(found[job]))
