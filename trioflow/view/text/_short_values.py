"""Exceptions as one short line each. Nothing here raises, even if an exception's own `__str__` does."""

from __future__ import annotations

from ..._core.api.views import beginning, headline

LONGEST = 100
"""Characters: together with what precedes it, a line of a wide terminal."""


def exception(error: BaseException, longest: int = LONGEST) -> str:
    """Return the type and the message of `error`, beginning, even if its `__str__` raises."""
    return _with_type(error, message(error), longest)


def headline_of(error: BaseException, longest: int = LONGEST) -> str:
    """Return the same, but of the message only the first line, without what announces the others."""
    return _with_type(error, headline(message(error)), longest)


def message(error: BaseException) -> str:
    """Return the message of `error`, or that its `__str__` raised."""
    try:
        return str(error)
    except Exception as broken:
        return f"<its str() raised {type(broken).__name__}>"


def _with_type(error: BaseException, message: str, longest: int) -> str:
    return beginning(f"{type(error).__name__}: {message}" if message else type(error).__name__, longest)
