"""A failure as text: what was raised, where in the user's own code, and which failures are of one kind.

The log's debrief, reports, traces and reports for CI read failures in this form, which can be written to a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from ..._core.api.views import AnyJob, Failure, failure_kind
from . import _exception_text

MAX_HEADLINE_LENGTH: Final = 300

JobLike = TypeVar("JobLike")


@dataclass(frozen=True, slots=True)
class CodeLocation:
    file: str
    line: int
    function: str
    text: str
    """The code in the line, or an empty string if it is unknown."""


@dataclass(frozen=True, slots=True)
class FailureText:
    number: int
    """The place of the failure in the order in which failures settled."""
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


def describe_failure(job: AnyJob, failure: Failure) -> FailureText:
    error = failure.exception
    frame = _exception_text.innermost_own_frame(error, failure.traceback)
    return FailureText(
        failure.number,
        kind_text(job, failure),
        type(error).__qualname__,
        _exception_text.first_line_text(error, MAX_HEADLINE_LENGTH),
        _exception_text.safe_message(error),
        _exception_text.format_traceback(error, failure.traceback),
        None if frame is None else CodeLocation(frame.filename, frame.lineno or 1, frame.name, frame.line or ""),
    )


def group_failures(failures: Iterable[tuple[JobLike, bool, int, str]]) -> list[list[JobLike]]:
    """Group failed jobs whose failures are similar.

    Groups of critical failures come first. Otherwise, groups and jobs are in the order in which the jobs settled.

    Args:
        failures: a tuple for each failed job: the job or its record, whether the job is critical, and the number and
            the kind of its failure, as in a `FailureText`.

    """
    groups: dict[str, list[JobLike]] = {}
    for job, _, _, kind in sorted(failures, key=lambda item: (not item[1], item[2])):
        groups.setdefault(kind, []).append(job)
    return list(groups.values())


def kind_text(job: AnyJob, failure: Failure) -> str:
    """Return a text that is equal for failures of one kind, even if their messages differ."""
    return hashlib.sha256(repr(failure_kind(job, failure)).encode(errors="backslashreplace")).hexdigest()[:16]
