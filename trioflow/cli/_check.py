"""`trioflow check`: errors and likely mistakes in a scenario."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from .. import Scheduler
from ..abc import is_scheduler, paths_of
from ..view.text import _symbols
from ..view.text._verdict import join_names
from . import FINE, STOPPED
from ._scenario import takes_scenario

if TYPE_CHECKING:
    from ..check._findings import Finding

KINDS: Final = """\b
Example:
  trioflow check flow.py --set pages=20

\b
What is found:
  rejected    a run would not start
  never runs  whatever happens, the job will not run
  suspicious  allowed, but probably not what was meant
"""


MAX_NAMED: Final = 5
"""The number of jobs that are named in a line about more of them."""


def group_alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Group findings whose texts differ only in the labels of their jobs."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        text = finding.text.replace(repr(finding.job.label), "''")
        groups.setdefault((finding.kind.value, text), []).append(finding)
    return list(groups.values())


@click.command(name="check", epilog=KINDS)
@takes_scenario
@click.option("--journal", is_flag=True, help="Also find inputs that a journal cannot see.")
def command(scheduler: Scheduler, journal: bool) -> int:
    """Find errors that stop a run, jobs that can never run, and likely mistakes.

    Each line says what is wrong with which job, and what to do. Nothing is run. Exits with 1 if anything is found.
    """
    from ..check._findings import findings  # late, because --help does not need it

    symbols = _symbols.Symbols.for_stream(sys.stdout)
    all_findings = findings(scheduler, journal=journal)
    paths = paths_of(scheduler)
    for alike in group_alike(all_findings):
        first, *others = [paths.get(finding.job, finding.job.label) for finding in alike]
        click.echo(symbols.escape(f"{alike[0].kind.value:<11} {first}: {alike[0].text}"))
        if others:
            jobs = f"{len(others)} more job{'s' * (len(others) != 1)}"
            click.echo(symbols.escape(f"{'':<11} the same of {jobs}: {join_names(others, MAX_NAMED)}"))
    number = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())  # schedulers do not count, as in all views
    jobs = f"{number} job{'s' * (number != 1)}"
    click.echo(
        f"{jobs}: {len(all_findings)} finding{'s' * (len(all_findings) != 1)}"
        if all_findings
        else f"{jobs}: nothing found"
    )
    return STOPPED if all_findings else FINE
