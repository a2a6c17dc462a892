"""The subcommand `trioflow check`: finds errors and likely mistakes in a scenario."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from .. import Scheduler
from ..abc import join_names, paths_of, plural
from ..view.text import _symbols
from ..view.text._verdict import Tally
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._scenario import scenario_command

if TYPE_CHECKING:
    from ..check._findings import Finding

HELP_EPILOG: Final = """\b
Example:
  trioflow check flow.py --set pages=20

\b
Findings:
  rejected    a run would not start
  never runs  whatever happens, the job will not run
  suspicious  allowed, but probably not what was meant
"""


MAX_NAMED_JOBS: Final = 5


def group_findings(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Group findings whose texts differ only in the labels of their jobs."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        text = finding.text.replace(repr(finding.job.label), "''")
        groups.setdefault((finding.severity.value, text), []).append(finding)
    return list(groups.values())


@click.command(name="check", epilog=HELP_EPILOG)
@scenario_command
@click.option("--journal", is_flag=True, help="Also find inputs that a journal cannot see.")
def command(scheduler: Scheduler, journal: bool) -> int:
    """Find errors that prevent a run, jobs that can never run, and likely mistakes.

    Each line names the job, the problem and the remedy. Nothing is run. The exit code is 1 if anything is found.
    """
    from ..check._findings import findings  # imported here, because --help does not need it

    symbols = _symbols.Symbols.for_stream(sys.stdout)
    all_findings = findings(scheduler, journal=journal)
    paths = paths_of(scheduler)
    for group in group_findings(all_findings):
        first, *other_paths = [paths.get(finding.job, finding.job.label) for finding in group]
        _outputs.echo(symbols.escape(f"{group[0].severity.value:<11} {first}: {group[0].text}"))
        if other_paths:
            count_text = plural(len(other_paths), "more job")
            _outputs.echo(
                symbols.escape(f"{'':<11} the same for {count_text}: {join_names(other_paths, MAX_NAMED_JOBS)}")
            )
    count_text = plural(Tally.for_scheduler(scheduler).job_count, "job")
    _outputs.echo(f"{count_text}: {plural(len(all_findings), 'finding') if all_findings else 'nothing found'}")
    return STOPPED_CODE if all_findings else SUCCESS_CODE
