"""The subcommand `trioflow graph`: writes the scenario's graph to a file, as a picture or as source text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from ..abc import paths_of
from ..view import save
from ..view._save import GRAPH_SUFFIXES
from ..view.graph._render import simplification_note
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._outputs import OutputFile, write_output
from ._scenario import scenario_command
from ._subgraph import match_jobs

EXAMPLES: Final = """\b
Examples:
  trioflow graph flow.py -o flow.svg
  trioflow graph flow.py -o flow.png --bundle --collapse "*"
"""


@click.command(name="graph", epilog=EXAMPLES)
@scenario_command
@click.option(
    "-o", "--output", metavar="FILE", type=OutputFile(*GRAPH_SUFFIXES),
    help="Output file: .svg and .png are pictures, .dot is for Graphviz, .mmd is Mermaid.",
)  # fmt: skip
@click.option(
    "--collapse", metavar="PATH", multiple=True, help="Nested schedulers to draw as single boxes; * means all."
)
@click.option(
    "--bundle/--no-bundle",
    default=None,
    help="Draw jobs that are alike as one box, or each as its own.  [default: one box from 2,000 jobs up]",
)
def command(scheduler: Any, output: Path | None, collapse: tuple[str, ...], **options: Any) -> int:
    """Draw the jobs and their requirements.

    Pictures need Graphviz's command dot. Nothing is run.
    """
    if output is None:
        raise click.UsageError(
            "give -o FILE, ending in .svg, .png, .dot or .mmd; `trioflow list` prints the jobs as text"
        )
    arguments = {name: value for name, value in options.items() if value not in (None, ())}
    if collapse:
        named = paths_of(scheduler)
        arguments["collapse"] = [job for pattern in collapse for job in match_jobs(named, pattern)]
    if not write_output(lambda path: save(scheduler, path, **arguments), output):
        return STOPPED_CODE
    if folded := simplification_note(scheduler, arguments):
        _outputs.echo(f"{folded}; --no-bundle draws each job", err=True)
    return SUCCESS_CODE
