"""The subcommand `trioflow graph`: writes the scenario's graph to a file, as a picture or as source text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from ..abc import paths_of, printable
from ..view import save
from ..view._save import GRAPH_SUFFIXES
from ..view.graph import _render
from . import STOPPED_CODE, SUCCESS_CODE
from ._outputs import OutputFile, echo, write_output
from ._scenario import match_jobs, scenario_command

EXAMPLES: Final = """\b
Examples:
  trioflow graph flow.py -o flow.svg
  trioflow graph flow.py -o flow.png --collapse "*"
"""
VERY_WIDE: Final = 3
"""How many times as wide as a readable picture one is whose width is named."""


@click.command(name="graph", epilog=EXAMPLES)
@scenario_command
@click.option(
    "-o", "--output", metavar="FILE", type=OutputFile(*GRAPH_SUFFIXES),
    help="Output file: .svg and .png are pictures, .dot is for Graphviz, .mmd is Mermaid.",
)  # fmt: skip
@click.option(
    "--collapse", metavar="PATH", multiple=True, help="Nested schedulers to draw as single boxes; * means all."
)
def command(scheduler: Any, output: Path | None, collapse: tuple[str, ...]) -> int:
    """Draw the jobs and their requirements.

    Pictures need Graphviz's command dot. Nothing is run.
    """
    if output is None:
        raise click.UsageError(
            "give -o FILE, ending in .svg, .png, .dot or .mmd; `trioflow list` prints the jobs as text"
        )
    named = paths_of(scheduler)
    folded = [job for pattern in collapse for job in match_jobs(named, pattern)]
    if not write_output(lambda path: save(scheduler, path, collapse=folded), output):
        return STOPPED_CODE
    is_svg = output.suffix.lower() == ".svg"
    width = _render.size_in_points(output.read_text(encoding="utf-8"))[0] if is_svg else 0
    if width > VERY_WIDE * _render.MAX_WIDTH_POINTS:
        smaller = '--collapse "*" draws nested schedulers as single boxes, --only PATH a part'
        echo(f"{printable(output.name)} is {width:,.0f} pt wide: {smaller}", err=True)
    return SUCCESS_CODE
