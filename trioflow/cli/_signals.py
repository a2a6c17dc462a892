"""Handling of signals during a run: the first signal ends the run cleanly, a second signal exits at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from . import INTERRUPTED_CODE

SHOW_CURSOR: Final = b"\x1b[?25h\n"


class ExitOnSecondSignal:
    """The function that subcommands pass as `handle_signals`. It exits at the second signal.

    Attributes:
        exit_code: the exit code of an interrupted command, as shells report it: 128 and the number of the signal.

    Args:
        drain: the function to call at the first SIGTERM, which then does not count as the first signal. None to treat
            SIGTERM like other signals.

    """

    def __init__(self, drain: Callable[[], object] | None = None) -> None:
        self._was_signaled = False
        self._drain = drain
        self.exit_code = INTERRUPTED_CODE

    def __call__(self, signal_number: int) -> Callable[[], object] | None:
        """Handle a signal. Return the function to call instead of ending the run, or None to end the run."""
        if self._was_signaled:
            exit_at_once(128 + signal_number)
        drain = self._drain
        if drain is not None and signal_number == signal.SIGTERM:
            self._drain = None
            _print_to_stderr("SIGTERM: no more jobs start; a second one shuts down")
            return drain
        self._was_signaled = True
        self.exit_code = 128 + signal_number
        _print_to_stderr(
            f"{signal.Signals(signal_number).name}: shutting down; a second one quits at once"
        )
        return None


def _print_to_stderr(text: str) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        # RuntimeError: the signal interrupted another print.
        print(text, file=sys.stderr)


def exit_at_once(exit_code: int) -> None:
    """Exit immediately, without cleanup except showing the terminal's cursor."""
    # While a monitor draws, descriptors 1 and 2 are pipes.
    for descriptor in (1, 2, 0):
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                os.write(descriptor, SHOW_CURSOR)
                break
    os._exit(exit_code)
