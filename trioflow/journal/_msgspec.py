"""The package `msgspec`, or None if it is not installed: `trioflow` must be importable without it."""

from __future__ import annotations

from typing import Final

from .._core.job._errors import JournalError

try:
    import msgspec as msgspec
except ModuleNotFoundError:
    msgspec = None  # type: ignore[assignment]

IS_INSTALLED: Final = msgspec is not None  # pyright: ignore[reportUnnecessaryComparison]


def check_installed() -> None:
    if not IS_INSTALLED:
        raise JournalError("a journal needs msgspec: pip install 'trioflow[journal]'")
