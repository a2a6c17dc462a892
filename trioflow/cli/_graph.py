"""`trioflow graph`: the scenario as a picture, or as the text of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ._codes import FINE, STOPPED
from ._completion import file
from ._outputs import output_file, written
from ._scenario import takes_scenario


@click.command(name="graph")
@takes_scenario
@click.option(
    "-o", "--output", metavar="FILE", type=output_file(".svg", ".png", ".dot", ".mmd"),
    shell_complete=file,
    help="Where to: .svg and .png are pictures, .dot is for Graphviz, .mmd is Mermaid.  [default: dot text, printed]",
)  # fmt: skip
def command(scheduler: Any, output: Path | None) -> int:
    """Draw the jobs and what they require.

    Pictures need the command dot of Graphviz. Nothing is run.
    """
    if output is None:
        click.echo(scheduler.graph().source)
        return FINE
    export = {
        ".svg": scheduler.export_as_svgfile,
        ".png": scheduler.export_as_pngfile,
        ".dot": scheduler.export_as_dotfile,
        ".mmd": scheduler.export_as_mermaid,
    }[output.suffix.lower()]
    return FINE if written(export, output) else STOPPED
