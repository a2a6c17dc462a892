"""The engine's only function that writes to the log."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Final

from ._user_code import get_traceback, innermost_own

UNKNOWN_PLACE: Final[tuple[str, int, str | None]] = "(unknown file)", 0, None
"""The values of `logging` itself for a missing file, line and function."""


class _Voice(threading.local):
    """Whether the engine speaks in this thread: what handlers write then is not printed by the job that runs."""

    speaks = False


voice: Final = _Voice()


def warn(
    message: str,
    exception: BaseException | None = None,
    *,
    advice: str = "",
    about: str | None = None,
    kind: object = None,
    count: int = 1,
    place: str | None = None,
    traceback: TracebackType | None = None,
    is_shown: bool = False,
) -> None:
    """Log a warning, with the traceback of `exception`, if any.

    Args:
        message: the event to report.
        exception: the exception whose traceback is logged, or None.
        advice: text appended to the message: the call to make next. It is a separate argument of the record, so that
            handlers of the command line can leave it out.
        about: "failure" for the failure of a job, "drain" and "end" for these of a run, "question" for a job that asks,
            stored in the record's attribute `about`. Handlers that report these events in another way drop them.
        kind: a key that is equal for similar failures, and for runs that ended alike. It is stored in the record.
        count: the number of failures that the message reports. It is stored in the record.
        place: the line of the user's code that failed, if it is known. It is stored in the record.
        traceback: the traceback of a failure, or None for the traceback of `exception`. The record is at its innermost
            line of the user's code, or at no line, but not at a line of trioflow.
        is_shown: whether an instrument shows this on the terminal, so that it is not printed if logging is not
            configured.

    """
    # Not at the top: the import takes 6 ms.
    import logging

    with contextlib.suppress(Exception):
        # From the user's handler or filter: it cannot be reported by a log.
        extra = {"about": about, "kind": kind, "count": count, "place": place}
        logger = logging.getLogger("trioflow")
        exception_info = None
        if exception is not None:
            traceback = traceback or get_traceback(exception)
            exception_info = type(exception), exception, get_traceback(exception)
        file, line, function = UNKNOWN_PLACE
        if (own := innermost_own(traceback)) is not None:
            code = own.tb_frame.f_code
            file = code.co_filename
            line = own.tb_lineno
            function = code.co_name
        if logger.isEnabledFor(logging.WARNING) and (
            logger.hasHandlers() or not is_shown
        ):
            origin = (logger.name, logging.WARNING, file, line)
            record = logger.makeRecord(
                *origin, "%s%s", (message, advice), exception_info, function, extra
            )
            voice.speaks = True
            try:
                logger.handle(record)
            finally:
                voice.speaks = False
