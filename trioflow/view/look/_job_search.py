"""The jobs that a person asks a page for: those in a state, in a box of the graph, of a row, or with some words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..._core.base._states import JobState
from .._state_styles import STATE_PRECEDENCE, recorded_state, state_class
from ..trace._record_builder import JobFacts
from ..trace._spans import Span
from ._console import WatchedRun, failure_groups, jobs_in, name_of, states_text, stopwatch_text
from ._picture import Picture
from ._process_record import Record

MAX_FOUND: Final = 200
ORDER: Final = {state: number for number, state in enumerate(STATE_PRECEDENCE)}


def find_jobs(run: WatchedRun, picture: Picture, which: str, words: str) -> Record:
    """Return the jobs that are meant, as data: by state, those that need attention first.

    Args:
        run: the run.
        picture: its graph.
        which: `state NAME`, `box KEY` for those in the box of the graph that shows this job or group, `failure KEY` for
            all that failed like that job, `wait NAME` for all that wait for the same, `in KEY` for those in a group, or
            "" for all jobs.
        words: what the names must contain, in any order.

    """
    kind, _, value = which.partition(" ")
    counted = run.counted()[1]
    keys: Iterable[int] | None = None
    title = ""
    if kind == "state":
        counted = [facts for facts in counted if recorded_state(facts.span).value == value]
    elif kind == "box":
        keys, title = picture.jobs_of_box(int(value))
    elif kind == "in":
        counted, title = jobs_in(run, int(value)), name_of(run.jobs[int(value)][1].span.path)
    elif kind == "failure":
        group = next((group for group in failure_groups(run) if str(group[0].span.number) == value), [])
        keys = [facts.span.number for facts in group]
        title = group[0].failure.headline if group and group[0].failure else ""
    elif kind == "wait":
        row = next((row for row in run.answer["waiting"] if row[0] == value), ("", (), 0, ""))
        keys, title = row[1], row[3]
    jobs: Iterable[JobFacts] = counted if keys is None else (run.jobs[key][1] for key in keys if key in run.jobs)
    wanted = words.casefold().split()
    spans = [facts.span for facts in jobs if _has_words(facts.span, wanted)]
    spans.sort(key=lambda span: (ORDER[recorded_state(span)], span.number))
    return {
        "title": title,
        "count": len(spans),
        "counts": states_text(spans),
        "jobs": [
            [span.number, name_of(span.path), state_class(state), str(state.value), _time(run, span), _attempt(span)]
            for span, state in ((span, recorded_state(span)) for span in spans[:MAX_FOUND])
        ],
    }


def _has_words(span: Span, wanted: list[str]) -> bool:
    if not wanted:
        return True
    name = span.path.casefold()
    return all(word in name for word in wanted)


def _time(run: WatchedRun, span: Span) -> str:
    if span.state is not JobState.RUNNING:
        return ""
    now = run.answer["now"]
    return stopwatch_text(now - (span.attempt_started_at or now))


def _attempt(span: Span) -> str:
    """Return which attempt a job makes, or waits for, if it is not the first."""
    number = (
        max(len(span.attempts), *(number for number, _, _ in span.failed_attempts), 0) + 1
        if span.failed_attempts
        else 1
    )
    return f"attempt {number}" if number > 1 and not span.state.is_settled else ""
