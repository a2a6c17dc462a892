"""What the engine logs while a subcommand runs: on the standard error, unless the user's file has set up logging."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Collection, Generator
from typing import Final


class EngineLog(logging.Handler):
    """In the place of Python's last resort: what a command tells itself, and advice for programs, is left out.

    Args:
        told: what the command tells: "failure", "end".

    """

    def __init__(self, told: Collection[str]) -> None:
        super().__init__(logging.WARNING)
        self._told: Final = told

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, unless the user's own code has set up logging meanwhile, and so has it already."""
        if logging.root.handlers or getattr(record, "about", None) in self._told or sys.stderr is None:
            return
        if isinstance(record.args, tuple) and len(record.args) == 2:
            record = logging.makeLogRecord({**record.__dict__, "args": (record.args[0], "")})
        with contextlib.suppress(OSError):
            print(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def engine_log(told: Collection[str]) -> Generator[None]:
    """Print for a block what the engine logs; if logging has been set up, do nothing."""
    logger = logging.getLogger("trioflow")
    if logger.hasHandlers():
        yield
        return
    handler = EngineLog(told)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
