"""Where the pool reports what nobody gets as an exception: what callbacks raise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

logger: Final = logging.getLogger("trioflow.compat.pyexpool")


def guarded(callback: Callable[[Any], object] | None, owner: Any, what: str) -> Exception | None:
    """Call back with the job or task; what it raises is logged and returned, but for what ends a program."""
    if callback is None:
        return None
    try:
        callback(owner)
    except Exception as error:
        logger.error("%s of %s %r raised %r", what, type(owner).__name__.lower(), owner.name, error, exc_info=error)
        return error
    return None
