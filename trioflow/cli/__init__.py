"""The command `trioflow`: one file for each subcommand, shared parts, and the exit codes."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

FINE: Final = 0
STOPPED: Final = 1
USAGE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130  # what a shell reports for a program ended by Ctrl-C

EXIT_CODES: Final = """\b
Exit codes:
  0    all is fine
  1    the run was stopped: a critical failure, its timeout, cancel(), drain();
       check found something; a run took longer than --fail-above allows;
       an output could not be written
  2    the command line is wrong, the file cannot be loaded,
       or its scenario cannot run
  3    the run went on to its end, but some jobs failed
  130  interrupted: Ctrl-C, SIGTERM, SIGHUP
"""


def main() -> NoReturn:
    """Run the command with the arguments of this process, and exit with its code.

    Raises:
        SystemExit: always.

    """
    try:
        from ._commands import command
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("trioflow: the command needs the package click: pip install 'trioflow[cli]'", file=sys.stderr)
        sys.exit(USAGE)
    command.main(prog_name="trioflow")
    raise AssertionError("main() of the command exits")
