"""The log of a run on its page, newest first.

It is computed from the facts that the page has, those of `Events`: failures, attempts that failed, throttles, timeouts
after which a job moved on, and incidents: who steered, holds, and what went wrong beside the jobs. That a job has
started or succeeded is no news.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..._core.base._text_forms import duration_text
from ..._core.job._labels import printable
from ..trace._record_builder import JobFacts
from ._console import WatchedRun, name_of, place_text
from ._process_record import Record

MAX_LINES: Final = 200


class Line(NamedTuple):
    """A line of the log."""

    at: float
    """On the clock of the run."""
    kind: str
    """The CSS class of its sign: "failed", "retried", "moved-on", "incident" or "steered"."""
    key: int | None
    """The job that it leads to."""
    text: str


def log(run: WatchedRun, words: str, count: int = MAX_LINES) -> Record:
    """Return the newest lines in which all words stand, as data, and how many there are.

    Args:
        run: the run.
        words: what the time, the job and the text have to contain, in any order.
        count: the maximum number of lines.

    """
    wanted, names = words.casefold().split(), dict[int | None, str]({None: ""})
    found: list[Line] = []
    for line in _lines(run):
        if line.key not in names and line.key is not None:
            names[line.key] = name_of(run.jobs[line.key][1].span.path)
        text = f"{names[line.key]} {line.text}".casefold() if wanted else ""
        if all(word in text for word in wanted):
            found.append(line)
    newest = heapq.nlargest(count, found, key=lambda line: line.at)
    rows = [
        [f"{line.kind} {line.key} {line.at}", line.kind, line.key, names[line.key], run.clock_time(line.at), line.text]
        for line in newest
    ]
    return {"lines": rows, "count": len(found)}


def _lines(run: WatchedRun) -> Iterator[Line]:
    for _, facts in run.jobs.values():
        if facts.failure is not None or facts.span.failed_attempts or facts.span.throttled or facts.span.moved_on:
            yield from _lines_of_job(facts)
    for mark in run.incidents:
        key = mark.job_number if mark.job_number in run.jobs else None
        yield Line(mark.occurred_at, "steered" if mark.is_steering else "incident", key, printable(mark.message))


def _lines_of_job(facts: JobFacts) -> Iterator[Line]:
    span, failure = facts.span, facts.failure
    for number, ended, error in span.failed_attempts:
        if number:  # otherwise it was blocked, by what has a line of its own
            text = f"attempt {number} failed: {error}" if error else f"attempt {number} succeeded"
            yield Line(ended, "retried", span.number, printable(text))
    for began, ended in span.throttled:
        yield Line(ended, "retried", span.number, f"was throttled after {duration_text(ended - began)}")
    if span.finished_at is None:
        return
    if failure is not None:
        place = place_text(failure)
        tolerated = "failed, which is tolerated: " if span.critical is False else "failed: "
        yield Line(
            span.finished_at, "failed", span.number, printable(tolerated + failure.headline + (place and f" · {place}"))
        )
    elif span.moved_on:
        yield Line(span.finished_at, "moved-on", span.number, "its timeout ended it, and the run goes on")
