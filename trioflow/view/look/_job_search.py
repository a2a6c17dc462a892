"""The jobs that a person asks a page for: the jobs in a state, in a box of the graph, of a row, or with some words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..._core.base._states import JobState
from .._state_styles import STATE_PRECEDENCE, recorded_state
from ..text._failure_text import common_headline
from ..trace._record_builder import JobFacts
from ..trace._spans import Span
from . import _picture, _process_record, _run_log
from ._console import (
    WatchedRun,
    failure_groups,
    has_words,
    job_cells,
    jobs_in,
    states_text,
    stopwatch_text,
    waiting_rows,
)

ORDER: Final[dict[Any, int]] = {
    state: number for number, state in enumerate(STATE_PRECEDENCE)
}


def find_jobs(
    run: WatchedRun, picture: _picture.Picture, which: str, words: str
) -> _process_record.Record:
    """Return the jobs that are meant, as data: by state, those that need attention first.

    Args:
        run: the run.
        picture: its graph.
        which: `state NAME`, `box KEY` for those in the box of the graph that shows this job or group, `failure KEY` for
            all that failed like that job, `wait NAME` for all that wait for the same, `log NAME` for all of a line of
            the log, `in KEY` for the jobs in a group or a `First`, or "" for all jobs.
        words: words that the name and the state of a job must contain, in any order.

    """
    keys, title = _find_keys(run, picture, *which.partition(" ")[::2])
    spans = list[Span]()
    for span in run.known_spans(keys):
        if has_words(f"{span.path} {recorded_state(span).value}", words):
            spans.append(span)
    spans.sort(key=lambda span: (ORDER[recorded_state(span)], span.number))
    return {
        "title": title,
        "count": len(spans),
        "counts": states_text(spans),
        "jobs": [_row(run, span) for span in spans[:200]],
    }


def _find_keys(
    run: WatchedRun, picture: _picture.Picture, kind: str, value: str
) -> tuple[Iterable[Any], str]:
    """Return the keys of the jobs that are meant, and the title of their list."""
    if kind == "box":
        return picture.jobs_in_box(int(value))
    keys: list[Any] = []
    title = ""
    if kind == "in":
        keys = _keys_of(jobs_in(run, int(value)))
        title = run.names_of([int(value)])
    elif kind == "failure":
        for group in failure_groups(run.counted()):
            if str(group[0].span.number) == value:
                keys = _keys_of(group)
                title = common_headline(one.failure for one in group)
    elif kind == "wait":
        for name, waiting, text in waiting_rows(run):
            if name == value:
                keys = waiting
                title = text
    elif kind == "log":
        lines = _run_log.group_lines(run, "").get(value, [])
        keys = list(dict.fromkeys(line.key for line in lines))
        if lines:
            title = lines[-1].text
    elif kind == "state":
        for facts in run.counted().jobs:
            if recorded_state(facts.span).value == value:
                keys.append(facts.span.number)
    else:
        keys = _keys_of(jobs_in(run, None))
    return keys, title


def _keys_of(jobs: Iterable[JobFacts]) -> list[int]:
    return [facts.span.number for facts in jobs]


def _row(run: WatchedRun, span: Span) -> list[Any]:
    time = ""
    if span.state is JobState.RUNNING:
        time = stopwatch_text(span, run.answer["now"])
    numbers = [number for number, _, _ in span.failed_attempts]
    failed = max([len(span.attempts), *numbers])
    attempt = ""
    if failed and not span.state.is_settled:
        attempt = f"attempt {failed + 1}"
    return [*job_cells(span), str(recorded_state(span).value), time, attempt]
