"""The subcommand `trioflow check`: finds all errors of a scenario that prevent a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

import click

from .. import AbstractJob, Scheduler
from .._check import findings, notes
from ..abc import join_names, paths_of, plural
from ..view.text import _symbols
from ..view.text._verdict import Tally
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._scenario import scenario_command

EXAMPLE: Final = """\b
Example:
  trioflow check flow.py --set pages=20
"""


@click.command(name="check", epilog=EXAMPLE)
@scenario_command
def command(scheduler: Scheduler) -> int:
    """Find all errors that prevent a run.

    Each line names the job, the problem and the remedy. Nothing is run. The exit code is 1 if anything is found; notes,
    about what failures block, do not count.
    """
    symbols = _symbols.Symbols.for_stream(sys.stdout)
    all_findings = findings(scheduler)
    paths = paths_of(scheduler)
    for text, jobs in group_findings(all_findings):
        first, *other_paths = [paths.get(job, job.label) for job in jobs]
        _outputs.echo(symbols.escape(f"{first}: {text}"))
        if other_paths:
            number = plural(len(other_paths), "more job")
            _outputs.echo(symbols.escape(f"  the same for {number}: {join_names(other_paths, 5)}"))
    for note in notes(scheduler, starts=not all_findings):
        _outputs.echo(symbols.escape(f"note: {note}"))
    number = plural(len(all_findings), "finding") if all_findings else "nothing found"
    _outputs.echo(f"{plural(Tally.for_scheduler(scheduler).job_count, 'job')}: {number}")
    return STOPPED_CODE if all_findings else SUCCESS_CODE


def group_findings(findings: Iterable[tuple[AbstractJob[Any], str]]) -> list[tuple[str, list[AbstractJob[Any]]]]:
    """Group findings whose texts differ only in the labels of jobs: the first text of each group, and its jobs."""
    groups: dict[str, tuple[str, list[AbstractJob[Any]]]] = {}
    for job, text in findings:
        groups.setdefault(text.replace(repr(job.label), "''"), (text, []))[1].append(job)
    return list(groups.values())
