"""The subcommands that explain past runs by their traces: report and compare."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from .. import _posix as posix
from ..view.text import _symbols
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._scenario import CliError, InputFile

TRACE_FILE: Final = InputFile(dir_okay=False, path_type=Path)
REPORT_EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py --trace night.json
  trioflow report night.json -o night.html
  trioflow report night.json --junit night.xml
"""
file_option: Final = functools.partial(
    click.option, type=_outputs.OutputFile(), multiple=True, metavar="FILE"
)


@click.command(name="report", epilog=REPORT_EXAMPLES)
@click.argument("trace", type=TRACE_FILE)
@file_option(
    *("-o", "--output", "report"),
    type=_outputs.OutputFile(".html", ".htm", ""),
    help="Write an HTML report.  [default: TRACE with .html, if no other file is to be written]",
)
@file_option("--junit", help="Write a test case for each job.")
def report_run(trace: Path, report: Sequence[Path], junit: Sequence[Path]) -> int:
    """Make the report of a run from its trace.

    TRACE is a file written by `trioflow run --trace FILE.json`. The program that ran is not needed, and nothing is run.
    """
    from ..view import _junit
    from ..view.trace import _trace_file
    from ..view.trace.report._report import report_html, require_jinja

    if not (report or junit):
        default = trace.absolute().with_suffix(".html")
        report = [default]
        with contextlib.suppress(FileNotFoundError):
            # Whoever has sent the trace may have sent a link, too.
            status = default.lstat()
            what = posix.describe_irregularity(status)
            if what is None and posix.IS_POSIX and status.st_uid != posix.geteuid():
                what = "the file of another user"
            if what is not None:
                raise CliError(f"{str(default)!r} is {what}: give -o FILE")
    places = [("TRACE", trace)]
    places += [("--output", path) for path in report]
    places += [("--junit", path) for path in junit]
    _outputs.check_files_differ(places)
    with _outputs.errors_as(CliError, ImportError, _trace_file.BadTrace):
        require_jinja()
        record = _trace_file.read_record(trace)
    if record.root_run is None and junit:
        raise CliError(f"nothing has run in {str(trace)!r}")
    texts = [
        (path, functools.partial(report_html, record, path.parent)) for path in report
    ]
    texts += [(path, functools.partial(_junit.xml_text, record)) for path in junit]

    def write(path: Path, make_text: Callable[[], str]) -> bool:
        return _outputs.write_output(
            lambda _: path.write_text(make_text(), "utf-8", "backslashreplace"), path
        )

    results = [write(*text) for text in texts]
    return SUCCESS_CODE if all(results) else STOPPED_CODE


COMPARE_EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py --trace today.json
  trioflow compare yesterday.json today.json
"""


@click.command(name="compare", epilog=COMPARE_EXAMPLES)
@click.argument("before", type=TRACE_FILE)
@click.argument("after", type=TRACE_FILE)
def compare_runs(before: Path, after: Path) -> int:
    """Explain why a run took more or less time than another: the changes along their critical paths.

    Provisional: a minor release may change it.

    BEFORE and AFTER are files written by `trioflow run --trace FILE.json`. Jobs are matched by their paths. The
    changes add up to the difference between the two runs. A job that is not on a critical path contributes nothing.
    """
    from ..view.trace import _compare, _trace_file

    with _outputs.errors_as(CliError, _trace_file.BadTrace):
        first, second = (
            _compare.run_times(_trace_file.read_record(path))
            for path in (before, after)
        )
    for line in _compare.comparison_lines(
        _compare.compare(first, second), _symbols.Symbols.for_stream(sys.stdout)
    ):
        _outputs.echo(line)
    return SUCCESS_CODE
