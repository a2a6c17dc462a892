"""The one place that reports: the logger of the engine and how a message is told."""

from __future__ import annotations

import logging
from typing import Final

logger: Final = logging.getLogger("trioflow")


def warn(message: str, exception: BaseException | None = None) -> None:
    """Report something that the user should look at, with the traceback of `exception` where there is one."""
    logger.warning("%s", message, exc_info=exception)
