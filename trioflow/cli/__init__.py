"""The command `trioflow`: one file a subcommand, and what they share."""

from __future__ import annotations

import sys
from typing import NoReturn

USAGE = 2


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
