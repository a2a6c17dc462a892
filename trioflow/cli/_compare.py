"""The subcommand `trioflow compare`: explains why one run took longer than another, using the traces of both."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Final

import click

from ..view.text import _symbols
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._scenario import CliError, InputFile

EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py --trace today.json
  trioflow compare yesterday.json today.json
  trioflow compare main.json branch.json --fail-above 10%
"""
EXIT_CODES_HELP: Final = """\b
Exit codes:
  0  success
  1  the second run took longer than --fail-above allows
  2  the command line is wrong, or a file is not a trace
"""


def parse_percentage(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Parse a percentage of at least 0%, and return it as a fraction."""
    if text is None:
        return None
    try:
        number = float(text.removesuffix("%").strip())
    except ValueError:
        number = math.nan
    if not text.endswith("%") or not 0 <= number < math.inf:
        raise click.BadParameter(f"{text!r}: give a percentage of 0% or more, such as 10%")
    return number / 100


TRACE_FILE: Final = InputFile(dir_okay=False, path_type=Path)


@click.command(name="compare", epilog=f"{EXAMPLES}\n{EXIT_CODES_HELP}")
@click.argument("before", type=TRACE_FILE)
@click.argument("after", type=TRACE_FILE)
@click.option(
    "--fail-above",
    metavar="N%",
    callback=parse_percentage,
    help="Exit with 1 if the second run took longer by more than this.",
)
def command(before: Path, after: Path, fail_above: float | None) -> int:
    """Explain why one run took more or less time than another: what changed along their critical paths.

    BEFORE and AFTER are files written by `trioflow run --trace FILE.json`. Jobs are matched by their paths. The
    changes add up to the difference between the two runs. A job that is not on a critical path contributes nothing.
    """
    from ..view.trace import _trace_file
    from ..view.trace.compare import _differences

    try:
        first, second = (_differences.run_times(_trace_file.read_record(path)) for path in (before, after))
    except _trace_file.BadTrace as error:
        raise CliError(str(error)) from None
    compared = _differences.compare(first, second)
    for line in _differences.comparison_lines(compared, _symbols.Symbols.for_stream(sys.stdout)):
        _outputs.echo(line)
    if fail_above is not None and compared.restored_count:
        raise CliError(
            "--fail-above: one of the runs restored jobs from a journal that the other one ran, so their durations do "
            "not compare: give the traces of two runs of the same jobs"
        )
    if fail_above is not None and compared.relative_change > fail_above:
        _outputs.echo(
            f"Error: the second run took {100 * compared.relative_change:.1f} % longer; "
            f"{100 * fail_above:g} % is allowed",
            err=True,
        )
        return STOPPED_CODE
    return SUCCESS_CODE
