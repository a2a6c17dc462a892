"""`trioflow list`: the jobs, one line each."""

from __future__ import annotations

import sys
from typing import cast

import click

from .._core import _labels
from .._core._scheduler import BaseScheduler
from .._scheduler import Scheduler
from ..view import _script
from ._scenario import takes_scenario


@click.command(name="list")
@takes_scenario
@click.option("--paths", is_flag=True, help="The path of each job instead, by which --only and its like name it.")
def command(scheduler: BaseScheduler, paths: bool) -> None:
    """Print one line a job: number, symbols, kind, label, requirements.

    Nothing is run.
    """
    if not paths:
        cast(Scheduler, scheduler).list()
        return
    script = _script.Script(getattr(sys.stdout, "encoding", None))
    found = _labels.paths(scheduler)
    for job in scheduler.iterate_jobs():
        click.echo(script.line(found[job]))
