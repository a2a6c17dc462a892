"""`trioflow check`: all that is wrong, or looks wrong, in a scenario."""

from __future__ import annotations

import sys
from typing import Final

import click

from .. import Scheduler
from ..abc import is_scheduler, paths_of
from ..view.text import _symbols
from . import FINE, STOPPED
from ._scenario import takes_scenario

KINDS: Final = """\b
What is found:
  refused     a run would not start
  never runs  whatever happens, the job will not run
  suspicious  allowed, but hardly what was meant
"""


@click.command(name="check", epilog=KINDS)
@takes_scenario
def command(scheduler: Scheduler) -> int:
    """Find cycles, missing requirements, and jobs that can never run.

    Each line says what is wrong with which job, and what to do. Nothing is run. Exits with 1 if anything is found.
    """
    from ..view.check import _findings  # late, because --help does not need it

    symbols = _symbols.Symbols.of(sys.stdout)
    found = _findings.findings(scheduler)
    paths = paths_of(scheduler)
    for finding in found:
        path = paths.get(finding.job, finding.job.label)
        click.echo(symbols.line(f"{finding.kind.value:<11} {path}: {finding.text}"))
    number = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())  # as all views count
    jobs = f"{number} job{'s' * (number != 1)}"
    click.echo(f"{jobs}: {len(found)} finding{'s' * (len(found) != 1)}" if found else f"{jobs}: nothing found")
    return STOPPED if found else FINE
