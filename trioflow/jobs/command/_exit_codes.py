"""The option `check=` of every job that runs a command: which exit codes count as success."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any, Final

from ...abc import shown_value
from ..posix._processes import describe_exit

CheckOption = bool | Iterable[int | str]
"""The type of `check=`: True (only exit code 0), False (any exit), or exit codes and names of signals."""
ZERO_ONLY: Final = frozenset([0])
MAX_EXIT_CODE: Final = 255
SIGNAL_OFFSET: Final = 128
"""If a signal ends a command, a shell reports this number plus the number of the signal as the exit code."""


def parse_check(check: CheckOption, subject: str) -> frozenset[int] | None:
    """Return the exit codes that count as success, with signals as negative numbers, or None if all count as success.

    Raises:
        TypeError, ValueError: `check` is neither a bool nor a list, the list is empty, or an element of the list is
            neither an exit code nor a signal.

    """
    if isinstance(check, bool):
        return ZERO_ONLY if check else None
    if isinstance(check, (str, bytes)) or not isinstance(check, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"check={shown_value(check, subject)} of {subject}: "
            f"give True, False, or a list of exit codes and signals, such as [0, 4, 'TERM']"
        )
    codes = frozenset(_parse_exit_code(code, subject) for code in check)
    if not codes:
        raise ValueError(f"check=[] of {subject}: no exit code would count as success; to accept all, give False")
    return codes


def describe_failure(success_codes: frozenset[int] | None, returncode: int) -> str | None:
    """Return a description of a command's failure, or None if its exit code counts as success.

    A signal is equivalent to the exit code with which a shell reports it: 128 plus the signal's number.
    """
    if success_codes is None or returncode in success_codes:
        return None
    # For example, -15 and 143 are equivalent: each is 128 minus the other.
    if not 0 <= returncode <= SIGNAL_OFFSET and SIGNAL_OFFSET - returncode in success_codes:
        return None
    return describe_exit(returncode) if returncode else "exit code 0, which is not in check="


def _parse_exit_code(value: Any, subject: str) -> int:
    if isinstance(value, signal.Signals):
        return -value
    if isinstance(value, str):
        name = value.upper()
        try:
            return -signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        except KeyError:
            raise ValueError(
                f"check of {subject}: unknown signal {shown_value(value, subject)}; give a name such as 'TERM'"
            ) from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"check of {subject}: found {shown_value(value, subject)} in the list; give exit codes and signal names"
        )
    if not -signal.NSIG < value <= MAX_EXIT_CODE:
        raise ValueError(f"check of {subject}: {value} is not an exit code; give a number from 0 to {MAX_EXIT_CODE}")
    return value
