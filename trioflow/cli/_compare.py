"""The subcommand `trioflow compare`: explains why one run took longer than another, using the traces of both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from ..view.text import _symbols
from . import SUCCESS_CODE, _outputs
from ._scenario import CliError, InputFile

EXAMPLES: Final = """\b
Examples:
  trioflow run flow.py --trace today.json
  trioflow compare yesterday.json today.json
"""
TRACE_FILE: Final = InputFile(dir_okay=False, path_type=Path)


@click.command(name="compare", epilog=EXAMPLES)
@click.argument("before", type=TRACE_FILE)
@click.argument("after", type=TRACE_FILE)
def command(before: Path, after: Path) -> int:
    """Explain why one run took more or less time than another: what changed along their critical paths.

    BEFORE and AFTER are files written by `trioflow run --trace FILE.json`. Jobs are matched by their paths. The
    changes add up to the difference between the two runs. A job that is not on a critical path contributes nothing.
    """
    from ..view.trace import _compare, _trace_file

    try:
        first, second = (_compare.run_times(_trace_file.read_record(path)) for path in (before, after))
    except _trace_file.BadTrace as error:
        raise CliError(str(error)) from None
    compared = _compare.compare(first, second)
    for line in _compare.comparison_lines(compared, _symbols.Symbols.for_stream(sys.stdout)):
        _outputs.echo(line)
    return SUCCESS_CODE
