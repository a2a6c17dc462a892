"""Exceptions and failures as text: on a short line, as a traceback of the user's code, and with their kinds.

No function here raises, even if the `__str__` of an exception does. Tracebacks omit the frames of trioflow, and of
libraries between trioflow and the user's code. The log's debrief, reports, traces and reports for CI read failures as
`FailureText`, which can be written to a file.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from ..._core.backend import LOOP_PACKAGES
from ..._core.base import _user_code
from ..._core.base._text_forms import clause, headline, truncate
from ..._core.job import _errors, _job
from ..._core.words import _job_queries
from ..._core.words._failures import failure_kind

INTERMEDIATE_LIBRARIES: Final = (
    "click",
    "concurrent.futures",
    "dask",
    "distributed",
    *sorted(LOOP_PACKAGES - {"asyncio"}),
)
"""Libraries whose frames may lie between trioflow's frames and the user's code."""
MAX_STORED_LENGTH: Final = 1000


def one_line_text(error: BaseException | None, max_length: int = 100) -> str:
    """Return the type and the message of `error` on one line, truncated to `max_length` characters; "" for None."""
    if error is None:
        return ""
    error, before, after = _user_code.shown_exception(error)
    return _prepend_type(error, before + safe_message(error) + after, max_length)


def first_line_text(error: BaseException) -> str:
    """Return the type of `error`, and the first line of its message without trailing punctuation, truncated."""
    error, before, after = _user_code.shown_exception(error)
    return _prepend_type(error, before + headline(safe_message(error)) + after, 300)


def safe_message(error: BaseException) -> str:
    """Return `str(error)`, or a placeholder if `str` raises."""
    try:
        # Without the methods of a subclass of `str`.
        return str.__str__(str(error))
    except Exception as broken:
        return f"<its str() raised {type(broken).__name__}>"


def _prepend_type(error: BaseException, message: str, max_length: int) -> str:
    text = type(error).__name__
    if message:
        text += f": {message}"
    return truncate(text, max_length)


def format_traceback(error: BaseException, tb: TracebackType | None = None) -> str:
    """Format an exception as Python does, with its causes and group members, but only with frames of the user's code.

    Args:
        error: the exception.
        tb: the traceback to format, or None for the traceback of the exception.

    Returns:
        The text, which ends with a newline. If no frame belongs to the user's code, the text is only the type and
        the message.

    """
    libraries: tuple[str, ...] = (_user_code.PACKAGE_PREFIX,)
    for name in INTERMEDIATE_LIBRARIES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            libraries += (f"{os.path.dirname(file)}/",)
    tb = tb or _user_code.get_traceback(error)
    try:
        return _format_with_related(error, tb, libraries)
    except Exception:
        # From the code of the exception's class, or of the class of a related exception.
        lines = traceback.format_list(_user_frames(tb, libraries))
        if lines:
            lines.insert(0, "Traceback (most recent call last):\n")
        return "".join([*lines, one_line_text(error), "\n"])


def _format_with_related(
    error: BaseException, tb: TracebackType | None, libraries: tuple[str, ...]
) -> str:
    # Without frames, which come from the texts that were loaded.
    root = traceback.TracebackException(type(error), error, tb, limit=0, compact=True)
    todo: list[tuple[traceback.TracebackException, Any, TracebackType | None]] = [
        (root, error, tb)
    ]
    for exception, found, tb in todo:
        frames = _user_frames(tb, libraries)
        # If the stack is None, `format` also omits the line "Traceback (most recent call last):":
        # https://github.com/python/cpython/blob/v3.11.7/Lib/traceback.py#L952.
        if frames:
            exception.stack = traceback.StackSummary.from_list(frames)
        else:
            exception.stack = cast(Any, None)
        related = [
            (exception.__cause__, found.__cause__),
            (exception.__context__, found.__context__),
        ]
        related += zip(
            exception.exceptions or (), getattr(found, "exceptions", ()), strict=False
        )
        for text, each in related:
            if text is not None:
                todo.append((text, each, _user_code.get_traceback(each)))
    return "".join(root.format())


def placeholder_exception(text: str) -> BaseException:
    """Return an exception that views print as `text`, the text of the original exception."""
    name, _, message = text.partition(": ")
    if not re.fullmatch(r"\w+", name):
        name = "Exception"
        message = text
    exception_type: Any = type(name, (Exception,), {})
    arguments = [message] if message else []
    return exception_type(*arguments)  # type: ignore[no-any-return]


def _user_frames(
    tb: TracebackType | None, libraries: tuple[str, ...]
) -> list[traceback.FrameSummary]:
    """Return the frames of the user's code, and of the libraries that the user's code has called.

    Consecutive frames in `libraries` are omitted if any of them belongs to trioflow. Otherwise they are kept, because
    the user's code has called these libraries.
    """
    user_frames: list[traceback.FrameSummary] = []
    for is_library, group in itertools.groupby(
        _extract_frames(tb), lambda frame: frame.filename.startswith(libraries)
    ):
        frames = list(group)
        is_own = (
            frame.filename.startswith(_user_code.PACKAGE_PREFIX) for frame in frames
        )
        if not is_library or not any(is_own):
            user_frames += frames
    return user_frames


def _extract_frames(
    tb: TracebackType | None, limit: int | None = None
) -> list[traceback.FrameSummary]:
    """Return the frames of a traceback, the outermost first, with the lines of the texts that were loaded.

    After a reload, `linecache` has the new lines alone.
    """
    frames = traceback.extract_tb(tb, limit)
    pairs = zip(frames, _user_code.entries(tb), strict=False)
    for number, (frame, entry) in enumerate(pairs):
        code = entry.tb_frame.f_code
        line = _user_code.line_before_reload(code, entry.tb_lineno)
        if line:
            frames[number] = traceback.FrameSummary(
                frame.filename, frame.lineno, frame.name, line=line
            )
    return frames


# ---- failures

JobLike = TypeVar("JobLike")
FailedJob = tuple[_job.AnyJob, _errors.Failure]


@dataclass(frozen=True, slots=True)
class CodeLocation:
    file: str
    line: int
    function: str
    text: str
    """The code in the line, or an empty string if it is unknown."""

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


@dataclass(frozen=True, slots=True)
class FailureText:
    number: int
    """The place of the failure in the order that failures settled."""
    kind: str
    """A text that is equal for failures that differ only in their messages."""
    type_name: str
    headline: str
    """The type, and the first line of the message."""
    message: str
    traceback: str
    """The traceback, without frames of trioflow."""
    location: CodeLocation | None
    """The innermost line of the user's own code, or None if there is none."""


def describe_failure(job: _job.AnyJob, failure: _errors.Failure) -> FailureText:
    error = failure.exception
    innermost = _user_code.innermost_own(
        failure.traceback or _user_code.get_traceback(error)
    )
    location = None
    if innermost is not None:
        frame = _extract_frames(innermost, limit=1)[0]
        location = CodeLocation(
            frame.filename, frame.lineno or 1, frame.name, frame.line or ""
        )
    return FailureText(
        failure.number,
        kind_text(job, failure),
        type(error).__qualname__,
        first_line_text(error),
        safe_message(error),
        format_traceback(error, failure.traceback),
        location,
    )


FAILURE_ORDER: Final = True, None, False
"""Whether failures are critical, in the order that all views show them: tolerated ones come last."""
FAILURE_NOUNS: Final = {
    True: "critical failure",
    None: "failure",
    False: "tolerated failure",
}


def group_failures(
    failures: Iterable[tuple[JobLike, bool | None, int, str]],
) -> list[list[JobLike]]:
    """Group failed jobs whose failures are similar, and count alike: critical first, tolerated last.

    Otherwise, groups and jobs are in the order that the jobs settled.

    Args:
        failures: a tuple for each failed job: the job or its record, whether the job is critical, and the number and
            the kind of its failure, as in a `FailureText`.

    """
    groups: dict[tuple[bool | None, str], list[JobLike]] = {}
    in_order = sorted(
        failures, key=lambda item: (FAILURE_ORDER.index(item[1]), item[2])
    )
    for job, critical, _, kind in in_order:
        groups.setdefault((critical, kind), []).append(job)
    return list(groups.values())


def similar_failures(jobs: Iterable[_job.AnyJob]) -> list[list[FailedJob]]:
    """Return the groups of `group_failures` for jobs: each failed one with its failure."""
    failed = list[tuple[FailedJob, bool | None, int, str]]()
    for job in jobs:
        failure = _job_queries.failure_of(job)
        if failure is not None:
            critical = _job_queries.criticality(job)
            kind = kind_text(job, failure)
            failed.append(((job, failure), critical, failure.number, kind))
    return group_failures(failed)


def common_headline(failures: Iterable[FailureText | None]) -> str:
    """Return the headline of similar failures. If others have other headlines, it says that it is of the first."""
    headlines = [failure.headline for failure in failures if failure is not None]
    return clause("the first: ", len({*headlines}) > 1) + "".join(headlines[:1])


def kind_text(job: _job.AnyJob, failure: _errors.Failure) -> str:
    """Return a text that is equal for failures of the same kind, even if their messages differ."""
    kind = repr(failure_kind(job, failure)).encode(errors="backslashreplace")
    return hashlib.sha256(kind).hexdigest()[:16]
