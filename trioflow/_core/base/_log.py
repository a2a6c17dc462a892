"""The logger of the engine, and the only function that logs."""

from __future__ import annotations

import contextlib


def warn(message: str, exception: BaseException | None = None, *, advice: str = "", about: str | None = None) -> None:
    """Log something that the user should look at, with the traceback of `exception`, if there is one.

    Args:
        message: what has happened.
        exception: what was raised.
        advice: what to call next, for programs; a command that does it by itself leaves it out.
        about: "failure" or "end", if somebody who shows all failures, or how a run has ended, need not log it.

    """
    import logging  # not at the top: it takes 6 ms

    with contextlib.suppress(Exception):  # raised by the user's handler or filter; nothing is left to report it to
        extra = {"about": about}
        logging.getLogger("trioflow").warning("%s%s", message, advice, exc_info=exception, extra=extra)
