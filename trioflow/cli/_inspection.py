"""The subcommands that show a scenario without running it: list, graph and check."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from .. import AbstractJob, Scheduler
from .._core.base._text_forms import join_names, plural
from ..abc import is_scheduler, paths_of, printable
from ..view._save import GRAPH_SUFFIXES
from ..view.text import _symbols
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._scenario import match_jobs, scenario_command

LIST_EXAMPLES: Final = """\b
Examples:
  trioflow list flow.py
  trioflow list flow.py --paths --only "fetch *"
"""


@click.command(name="list", epilog=LIST_EXAMPLES)
@scenario_command
@click.option(
    "--paths", is_flag=True, help="Print the path of each job instead, for --only."
)
def list_jobs(scheduler: Scheduler, paths: bool) -> None:
    """Print a line for each job, with its number and the numbers of the jobs that it requires.

    Each job comes after its requirements. "!" marks a critical job, "∞" a forever job. Nothing is run.
    """
    symbols = _symbols.Symbols.for_stream(sys.stdout)
    if not paths:
        from ..view.text._listing import Listing

        _outputs.echo(Listing(scheduler, symbols).text())
        return
    job_paths = paths_of(scheduler)
    for job in scheduler.iterate_jobs():
        _outputs.echo(symbols.escape(job_paths[job]))


GRAPH_EXAMPLES: Final = """\b
Examples:
  trioflow graph flow.py -o flow.svg
  trioflow graph flow.py -o flow.png --collapse "*"
"""


@click.command(name="graph", epilog=GRAPH_EXAMPLES)
@scenario_command
@click.option(
    "-o", "--output", metavar="FILE", type=_outputs.OutputFile(*GRAPH_SUFFIXES),
    help="Output file: .svg and .png are pictures, .dot is for Graphviz, .mmd is Mermaid.",
)  # fmt: skip
@click.option(
    "--collapse",
    metavar="PATH",
    multiple=True,
    help="Nested schedulers to draw as single boxes; * means all, and also jobs that are alike.",
)
def draw_graph(
    scheduler: Scheduler, output: Path | None, collapse: tuple[str, ...]
) -> int:
    """Draw the jobs and their requirements.

    Pictures need Graphviz's command dot. Nothing is run.
    """
    from ..view import save
    from ..view.graph import _dot

    if output is None:
        raise click.UsageError(
            "give -o FILE, ending in .svg, .png, .dot or .mmd; `trioflow list` prints jobs as text"
        )
    named = paths_of(scheduler)
    folded = "*" in collapse or [
        *itertools.chain(*(match_jobs(named, pattern) for pattern in collapse))
    ]
    if not _outputs.write_output(
        lambda path: save(scheduler, path, collapse=folded), output
    ):
        return STOPPED_CODE
    if output.suffix.lower() == ".svg":
        width, height = _dot.size_in_points(output.read_text(encoding="utf-8"))
        smaller = '--collapse "*" draws nested schedulers, and jobs that are alike, as single boxes, --only PATH a part'
        if max(width, height) > 3 * _dot.MAX_WIDTH_POINTS:
            _outputs.echo(
                f"{printable(output.name)} has {width:,.0f} x {height:,.0f} pt: {smaller}",
                err=True,
            )
    return SUCCESS_CODE


CHECK_EXAMPLE: Final = """\b
Example:
  trioflow check flow.py --set pages=20
"""


@click.command(name="check", epilog=CHECK_EXAMPLE)
@scenario_command
def check(scheduler: Scheduler) -> int:
    """Find all errors that prevent a run.

    Each line names the job, the problem and the remedy. Nothing is run. The exit code is 1 if anything is found. Notes
    about the effects of failures do not count.
    """
    from .._check import findings, notes
    from ..view.text._verdict import Tally
    from ._run import show_engine_log

    symbols = _symbols.Symbols.for_stream(sys.stdout)
    # The notes below say what the log says before a run.
    with show_engine_log({"files"}):
        all_findings = findings(scheduler)
    paths = paths_of(scheduler)
    for text, jobs in group_findings(all_findings, scheduler):
        first, *other_paths = [paths.get(job, job.label) for job in jobs]
        _outputs.echo(symbols.escape(f"{first}: {text}"))
        if other_paths:
            number = plural(len(other_paths), "more job")
            _outputs.echo(
                symbols.escape(f"  the same for {number}: {join_names(other_paths, 5)}")
            )
    found_notes = [*notes(scheduler, starts=not all_findings)]
    for note in found_notes:
        _outputs.echo(symbols.escape(f"note: {note}"))
    if all_findings:
        number = plural(len(all_findings), "finding")
    elif found_notes:
        number = "nothing else found"
    else:
        number = "nothing found"
    _outputs.echo(
        f"{plural(Tally.for_scheduler(scheduler).job_count, 'job')}: {number}"
    )
    return STOPPED_CODE if all_findings else SUCCESS_CODE


def group_findings(
    findings: Iterable[tuple[AbstractJob[Any], str]], scheduler: Scheduler
) -> list[tuple[str, list[AbstractJob[Any]]]]:
    """Group findings whose texts differ only in the labels of jobs: the first text of each group, and its jobs.

    One mistake is one line, such as that the jobs of a group require those of another.
    """
    jobs = itertools.filterfalse(is_scheduler, scheduler.iterate_jobs())
    quoted = {repr(job.label) for job in jobs}
    groups: dict[str, tuple[str, list[AbstractJob[Any]]]] = {}
    for job, text in findings:
        parts = re.split("('[^']*')", text)
        pattern = "".join("''" if part in quoted else part for part in parts)
        groups.setdefault(pattern, (text, []))[1].append(job)
    return list(groups.values())
