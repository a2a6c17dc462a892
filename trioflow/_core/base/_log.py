"""The logger of the engine, and the only function that logs."""

from __future__ import annotations

import contextlib


def warn(message: str, exception: BaseException | None = None) -> None:
    """Log something that the user should look at, with the traceback of `exception`, if there is one."""
    import logging  # not at the top: it takes 6 ms

    with contextlib.suppress(Exception):  # raised by the user's handler or filter; nothing is left to report it to
        logging.getLogger("trioflow").warning("%s", message, exc_info=exception)
