"""The subcommand `trioflow report`: makes the report of a run, and its JUnit file, from its trace."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from .. import _posix as posix
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._scenario import CliError, InputFile

EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py --trace night.json
  trioflow report night.json -o night.html
  trioflow report night.json --junit night.xml
"""
file_option: Final = functools.partial(click.option, type=_outputs.OutputFile(), multiple=True, metavar="FILE")


@click.command(name="report", epilog=EXAMPLES)
@click.argument("trace", type=InputFile(dir_okay=False, path_type=Path))
@file_option(
    *("-o", "--output", "report"),
    type=_outputs.OutputFile(".html", ".htm", ""),
    help="Write an HTML report.  [default: TRACE with .html, if no other file is to be written]",
)
@file_option("--junit", help="Write a test case for each job.")
def command(trace: Path, report: Sequence[Path], junit: Sequence[Path]) -> int:
    """Make the report of a run from its trace.

    TRACE is a file written by `trioflow run --trace FILE.json`. The program that ran is not needed, and nothing is run.
    """
    from ..view import _junit
    from ..view.trace import _trace_file
    from ..view.trace.report._report import report_html, require_jinja

    if not (report or junit):
        report = [default := trace.absolute().with_suffix(".html")]
        with contextlib.suppress(FileNotFoundError):  # whoever has sent the trace may have sent a link, too
            status = default.lstat()
            is_others = posix.IS_POSIX and status.st_uid != posix.geteuid()
            if what := posix.describe_irregularity(status) or ("the file of another user" if is_others else ""):
                raise CliError(f"{str(default)!r} is {what}: give -o FILE")
    try:
        require_jinja()
        record = _trace_file.read_record(trace)
    except (ImportError, _trace_file.BadTrace) as error:
        raise CliError(str(error)) from None
    if not record.root_runs and junit:
        raise CliError(f"nothing has run in {str(trace)!r}")
    results: list[bool] = []

    def write(path: Path, make_text: Callable[[Path], str]) -> None:
        results.append(
            _outputs.write_output(lambda _: path.write_text(make_text(path), "utf-8", "backslashreplace"), path)
        )

    for path in report:
        write(path, lambda path: report_html(record, path.parent))
    for path in junit:
        write(path, lambda _: "".join(_junit.xml_lines(record)))
    return SUCCESS_CODE if all(results) else STOPPED_CODE
