"""The package msgspec. It is None if msgspec is not installed, because `trioflow` must be importable without it."""

from __future__ import annotations

from typing import Final

from .._core.api.journals import JournalError

try:
    import msgspec as msgspec
except ModuleNotFoundError:
    msgspec = None  # type: ignore[assignment]

IS_INSTALLED: Final = msgspec is not None  # pyright: ignore[reportUnnecessaryComparison]


def check_installed() -> None:
    """Check that msgspec is installed.

    Raises:
        JournalError: msgspec is missing. The message has the command to install it.

    """
    if not IS_INSTALLED:
        raise JournalError("a journal needs msgspec: pip install 'trioflow[journal]'")
