"""`trioflow graph`: the scenario as a picture, or as the text of one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import click

from ..abc import paths_of, printable
from . import FINE, STOPPED
from ._completion import file
from ._outputs import output_file, written
from ._part import matching
from ._scenario import Refusal, takes_scenario

EXAMPLES: Final = """\b
Examples:
  trioflow graph flow.py -o flow.svg
  trioflow graph flow.py -o flow.png --bundle --collapse "*"
  trioflow graph flow.py -o flow.json
"""
PICTURES: Final = (".svg", ".png")
GRAPHS: Final = (*PICTURES, ".dot", ".mmd")
"""What the name of a file with a graph may end in."""


@click.command(name="graph", epilog=EXAMPLES)
@takes_scenario
@click.option(
    "-o", "--output", metavar="FILE", type=output_file(*GRAPHS, ".json"), shell_complete=file,
    help="Output file: .svg and .png are pictures, .dot is for Graphviz, .mmd is Mermaid, .json is as with --json.  "
    "[default: print dot text]",
)  # fmt: skip
@click.option(
    "--collapse", metavar="PATH", multiple=True, help="Nested schedulers to draw as single boxes; * means all."
)
@click.option("--bundle", is_flag=True, help="Draw jobs that are alike as one box.")
@click.option(
    "--direction",
    type=click.Choice(["TB", "LR"]),
    help="From top to bottom, or from left to right.  [default: LR above 40 boxes]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the commands as JSON, or write it to the output file; `trioflow run` takes it as FILE.json.",
)
@click.option("--legend", is_flag=True, help="Explain colours, shapes and lines; not in Mermaid.")
def command(scheduler: Any, output: Path | None, collapse: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Draw the jobs and what they require.

    Pictures need Graphviz's command dot. Nothing is run.
    """
    given = {name: value for name, value in options.items() if value}
    if as_json or (output is not None and output.suffix.lower() == ".json"):
        return _write_json(scheduler, output, bool(given or collapse))
    if collapse:
        named = paths_of(scheduler)
        given["collapse"] = [job for pattern in collapse for job in matching(named, pattern)]
    if output is None:
        click.echo(scheduler.graph(**given).source.encode())  # as bytes, because this text is UTF-8 on any terminal
        return FINE
    return FINE if draw(scheduler, output, **given) else STOPPED


def _write_json(scheduler: Any, output: Path | None, has_more: bool) -> int:
    if has_more or (output is not None and output.suffix.lower() != ".json"):
        raise click.UsageError("--json writes the graph as it is: leave out the other options, but for -o FILE.json")
    from . import _graph_errors, _graph_file  # msgspec takes 30 ms

    try:
        text = _graph_file.text(scheduler)
    except _graph_errors.BadGraph as error:
        raise Refusal(printable(str(error))) from None
    if output is None:
        click.echo(text)
        return FINE
    return FINE if written(lambda path: Path(path).write_text(f"{text}\n", encoding="utf-8"), output) else STOPPED


def check_drawable(output: Path | None) -> None:
    """Refuse a picture before the work is done if the program that draws it is missing.

    Raises:
        UsageError: it is.

    """
    if output is not None and output.suffix.lower() in PICTURES and shutil.which("dot") is None:
        raise click.UsageError(
            f"{printable(output.name)}: the program dot of Graphviz, which draws pictures, is not installed: install "
            f"graphviz, or name a file FILE.dot or FILE.mmd"
        )


def draw(scheduler: Any, output: Path, **options: Any) -> bool:
    """Write the graph in the form that the file's name says; return False, and say why, if that cannot be done."""
    export = {
        ".svg": scheduler.export_as_svgfile,
        ".png": scheduler.export_as_pngfile,
        ".dot": scheduler.export_as_dotfile,
        ".mmd": scheduler.export_as_mermaid,
    }[output.suffix.lower()]
    if output.suffix.lower() == ".mmd":
        options.pop("legend", None)
    return written(lambda path: export(path, **options), output)
