"""The logger of the engine, and the only function that logs."""

from __future__ import annotations

import contextlib


def warn(message: str, exception: BaseException | None = None, *, advice: str = "", about: str | None = None) -> None:
    """Log a warning, with the traceback of `exception` if there is one.

    Args:
        message: what happened.
        exception: what was raised.
        advice: the next call to make, in programs; commands that make it themselves leave it out.
        about: "failure" or "end"; handlers that show all failures, or the end of a run, drop these.

    """
    import logging  # not at the top: it takes 6 ms

    with contextlib.suppress(Exception):  # from the user's handler or filter: no other place is left to report it
        extra = {"about": about}
        logging.getLogger("trioflow").warning("%s%s", message, advice, exc_info=exception, extra=extra)
