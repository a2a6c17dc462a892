"""The log of a run on its page, newest first.

It is computed from the facts that the page has, those of `Events`: failures, attempts that failed, throttles, timeouts
of jobs that moved on, questions, and incidents. Incidents are acts of steering, holds, and errors outside of the jobs.
Equal lines of several jobs are merged. The start and the success of a job are no news.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from heapq import nlargest
from typing import Any, Final, NamedTuple

from ..._core.base._states import JobState
from ..._core.base._text_forms import clause, duration_text
from ..._core.job._labels import printable
from ..trace._record_builder import JobFacts
from ._console import WatchedRun, has_words
from ._process_record import Record


class Entry(NamedTuple):
    """An event."""

    at: float
    key: int | None
    text: str
    subject: tuple[Any, ...]
    """The CSS class of its sign, and further values that are equal in lines to be merged."""


def log(run: WatchedRun, words: str, count: int = 200) -> Record:
    """Return the newest lines that contain all words, as data, and how many there are.

    A line of several jobs has a list of their keys.

    Args:
        run: the run.
        words: words that the job and the text have to contain, in any order.
        count: the maximum number of lines.

    """
    found = group_lines(run, words)
    newest = nlargest(
        count,
        reversed(found.items()),
        key=lambda group: max(line.at for line in group[1]),
    )
    return {
        "lines": [_row(run, name, lines) for name, lines in newest],
        "count": len(found),
    }


def group_lines(run: WatchedRun, words: str) -> dict[str, list[Entry]]:
    """Return the lines that contain all words, equal lines together, by a name for their common parts."""
    groups: dict[str, list[Entry]] = {}
    for line in _lines(run):
        if not words or has_words(f"{run.names_of([line.key])} {line.text}", words):
            groups.setdefault(" ".join(map(str, line.subject)), []).append(line)
    return groups


def _row(run: WatchedRun, name: str, lines: list[Entry]) -> list[Any]:
    last = max(lines, key=lambda line: line.at)
    keys = list(dict.fromkeys(line.key for line in lines))
    text = last.text
    if any(line.text != text for line in lines):
        # Similar lines need not be equal.
        text = f"the last: {text}"
    return [
        name,
        last.subject[0],
        keys if keys[1:] else last.key,
        run.names_of(keys),
        run.clock_time(last.at),
        text,
    ]


def _lines(run: WatchedRun) -> Iterator[Entry]:
    # Of the attempts of members, by the keys of their groups.
    errors = defaultdict[int | None, list[str]](list)
    for _, facts in run.jobs.values():
        for number, _, error in facts.span.failed_attempts:
            if number and error:
                errors[facts.span.parent].append(error)
    for facts in (*run.replaced, *(facts for _, facts in run.jobs.values())):
        span = facts.span
        ends = facts.failure, span.failed_attempts, span.throttled, span.moved_on
        if any(ends):
            yield from _lines_of_job(facts, tuple(errors[span.number]))
    for (key, _), (at, question) in run.questions.items():
        text = printable(f"asks: {' '.join(question.split())}")
        yield Entry(at, key, text, ("asks", key, at))
    for number, mark in enumerate(run.incidents):
        kind = "steered" if mark.is_steering else "incident"
        job = mark.job_number if mark.job_number in run.jobs else None
        text = printable(mark.message)
        yield Entry(mark.occurred_at, job, text, (kind, number))


ENDS: Final = {
    "": ("succeeded", "succeeded"),
    "JobCancelled": ("cancelled", "was cancelled"),
}
"""For an attempt that did not fail, by the type of its error: the CSS class of its sign, and how it ended."""


def _lines_of_job(facts: JobFacts, told: tuple[str, ...]) -> Iterator[Entry]:
    """Yield the lines of a job. A group has no lines for the failures of members, which have lines of their own."""
    span = facts.span
    failure = facts.failure
    for number, ended, error in span.failed_attempts:
        if number and not error.startswith(told):
            # A job that was blocked has the number 0.
            kind = error.partition(":")[0]
            style, how = ENDS.get(kind, ("retried", f"failed: {error}"))
            text = printable(f"attempt {number} {how}")
            yield Entry(ended, span.number, text, (style, number, kind))
    for began, ended in span.throttled:
        text = f"was throttled after {duration_text(ended - began)}"
        yield Entry(ended, span.number, text, ("retried", "throttled"))
    if span.finished_at is None:
        return
    subject: tuple[Any, ...] = ("moved-on",)
    text = "its timeout ended it, and the run goes on"
    if failure is None:
        if not span.moved_on:
            return
    elif span.state is JobState.BLOCKED:
        subject = "blocked", failure.kind
        text = f"did not run: {failure.headline}"
    else:
        subject = "failed", failure.kind, span.critical
        tolerated = ", which is tolerated" if span.critical is False else ""
        place = clause(" · {}", failure.location)
        text = f"failed{tolerated}: {failure.headline}{place}"
    yield Entry(span.finished_at, span.number, printable(text), subject)
