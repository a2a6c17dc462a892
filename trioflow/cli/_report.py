"""The subcommand `trioflow report`: makes the report of a run, and the files for CI systems, from its trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._scenario import CliError, InputFile

EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py --trace night.json
  trioflow report night.json -o night.html
  trioflow report night.json --junit night.xml --summary night.md
  trioflow report killed.events -o killed.html
"""


@click.command(name="report", epilog=EXAMPLES)
@click.argument("trace", type=InputFile(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    "report",
    type=_outputs.OutputFile(".html", ".htm", ""),
    metavar="FILE",
    help="Write an HTML report.  [default: TRACE with .html, if no other file is to be written]",
)
@click.option("--junit", type=_outputs.OutputFile(), metavar="FILE", help="Write a test case for each job.")
@click.option("--summary", type=_outputs.OutputFile(), metavar="FILE", help="Write a summary in Markdown.")
def command(trace: Path, report: Path | None, junit: Path | None, summary: Path | None) -> int:
    """Make the report of a run from its trace.

    TRACE is a file written by `trioflow run --trace FILE.json`, or by `--events FILE`, which says what has happened
    even if the run was killed. The program that ran is not needed, and nothing is run.
    """
    from ..view.ci import _junit, _summary, _test_cases
    from ..view.trace import _event_file, _trace_file
    from ..view.trace.report._report import report_html, require_jinja

    if report is None and junit is None and summary is None:
        report = trace.absolute().with_suffix(".html")
    try:
        require_jinja()
        events = _event_file.read_event_lines(trace)
        record = _event_file.record_of_events(events) or _trace_file.read_record(trace)
    except ImportError as error:
        raise CliError(str(error)) from None
    except _trace_file.BadTrace as error:
        raise CliError(str(error)) from None
    if not record.root_runs and (junit or summary):
        raise CliError(f"nothing has run in {str(trace)!r}")
    results: list[bool] = []

    def write(path: Path | None, make_text: Callable[[], str]) -> None:
        if path is not None:
            results.append(
                _outputs.write_output(lambda _: path.write_text(make_text(), "utf-8", "backslashreplace"), path)
            )

    write(report, lambda: report_html(record, Path() if report is None else report.parent))
    write(junit, lambda: "".join(_junit.xml_lines(_test_cases.CiRun(record))))
    write(summary, lambda: "\n".join(_summary.markdown_lines(_test_cases.CiRun(record))) + "\n")
    return SUCCESS_CODE if all(results) else STOPPED_CODE
