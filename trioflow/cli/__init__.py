"""The command `trioflow`: modules of subcommands, modules that they share, and the exit codes."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

SUCCESS_CODE: Final = 0
STOPPED_CODE: Final = 1
USAGE_ERROR_CODE: Final = 2
FAILURE_CODE: Final = 3
INTERRUPTED_CODE: Final = 130
"""The code that shells report for a program ended by Ctrl-C. `ExitOnSecondSignal` has the codes of other signals."""
OTHER_ERROR_CODE: Final = 255
"""The exit code of `batch` and `ssh` if they could not run, as in GNU parallel."""

# \b keeps click from wrapping the lines of a paragraph anew:
# https://click.palletsprojects.com/en/8.1.x/documentation/#preventing-rewrapping.
EXIT_CODES_HELP: Final = """\b
Exit codes:
  0    success
  1    the run stopped early: critical failure, timeout, cancel() or drain();
       check found something; an output could not be written
  2    the command line is wrong, the file cannot be loaded,
       or its scenario cannot run
  3    the run completed, but some jobs failed
  130  interrupted by Ctrl-C; by SIGTERM 143, by SIGHUP 129
"""


def _open_closed_streams() -> None:
    """Replace standard streams that were closed before the start: other files would get their numbers.

    `sys.stdin` remains None, by which it can be told from an empty input.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Gets the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", errors="replace", closefd=False)  # noqa: SIM115 - until the end
    sys.stderr = sys.stderr or open(2, "w", errors="replace", closefd=False)  # noqa: SIM115


def main() -> NoReturn:
    """Run the command with the arguments of this process, and exit with the exit code of the command.

    Raises:
        SystemExit: always.

    """
    _open_closed_streams()
    try:
        from ._commands import command
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print(
            "trioflow: the command needs the package click: pip install 'trioflow[cli]'",
            file=sys.stderr,
        )
        sys.exit(USAGE_ERROR_CODE)
    command.main(prog_name="trioflow")
    raise AssertionError("main() of the command exits")
