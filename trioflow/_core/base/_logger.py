"""The engine's only function that writes to the log."""

from __future__ import annotations

import contextlib


def warn(
    message: str,
    exception: BaseException | None = None,
    *,
    advice: str = "",
    about: str | None = None,
    kind: object = None,
    count: int = 1,
    place: str | None = None,
) -> None:
    """Log a warning, with the traceback of `exception` if there is one.

    Args:
        message: the event to report.
        exception: the exception whose traceback is logged, or None.
        advice: text appended to the message: the call to make next. It is a separate argument of the record, so that
            handlers of the command line can leave it out.
        about: "failure" for the failure of a job, "drain" and "end" for these of a run, "question" for a job that asks,
            stored in the record's attribute `about`. Handlers that report these events in another way drop them.
        kind: a key that is equal for similar failures, and for runs that ended alike; stored in the record.
        count: the number of failures that the message reports; stored in the record.
        place: the line of the user's code in which it failed, if it is known; stored in the record.

    """
    import logging  # not at the top: the import takes 6 ms

    with contextlib.suppress(Exception):  # from the user's handler or filter: it cannot be reported by a log
        extra = {"about": about, "kind": kind, "count": count, "place": place}
        logging.getLogger("trioflow").warning("%s%s", message, advice, exc_info=exception, extra=extra)
