"""Exceptions as one short line each. Nothing here raises, even if an exception's own `__str__` does."""

from __future__ import annotations

from ..._core.door.reading import beginning

LONGEST = 100
"""Characters: together with what precedes it, a line of a wide terminal."""


def exception(error: BaseException, longest: int = LONGEST) -> str:
    """Return the type and the message of `error`, beginning, even if its `__str__` raises."""
    try:
        message = str(error)
    except Exception as broken:
        message = f"<its str() raised {type(broken).__name__}>"
    return beginning(f"{type(error).__name__}: {message}" if message else type(error).__name__, longest)
