"""msgspec, or None where it is not installed: `from trioflow import *` works without the extra `journal`."""

from __future__ import annotations

from typing import Final

from .._core.api.journals import JournalError

try:
    import msgspec as msgspec
except ModuleNotFoundError:
    msgspec = None  # type: ignore[assignment]

IS_THERE: Final = msgspec is not None  # pyright: ignore[reportUnnecessaryComparison]


def check_installed() -> None:
    """Raise `JournalError` with the command to install msgspec if it is missing."""
    if not IS_THERE:
        raise JournalError("a journal needs msgspec: pip install 'trioflow[journal]'")
