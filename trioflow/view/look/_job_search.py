"""The jobs that a person asks a page for: the jobs in a state, in a box of the graph, of a row, or with some words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..._core.base._states import JobState
from .._state_styles import STATE_PRECEDENCE, recorded_state, state_class
from ..text._failure_text import common_headline
from ..trace._spans import Span
from . import _picture, _process_record, _run_log
from ._console import (
    WatchedRun,
    failure_groups,
    has_words,
    jobs_in,
    name_of,
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
    spans = [run.jobs[key][1].span for key in keys if key in run.jobs]
    found = [
        span
        for span in spans
        if has_words(f"{span.path} {recorded_state(span).value}", words)
    ]
    spans = sorted(found, key=lambda span: (ORDER[recorded_state(span)], span.number))
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
    if kind == "in":
        return [facts.span.number for facts in jobs_in(run, int(value))], run.names_of(
            [int(value)]
        )
    if kind == "failure":
        group = next(
            (
                each
                for each in failure_groups(*run.counted()[1:])
                if str(each[0].span.number) == value
            ),
            (),
        )
        return [one.span.number for one in group], common_headline(
            one.failure for one in group
        )
    if kind == "wait":
        return next(
            ((keys, text) for name, keys, text in waiting_rows(run) if name == value),
            ((), ""),
        )
    if kind == "log":
        lines = _run_log.group_lines(run, "").get(value, [])
        return dict.fromkeys(line.key for line in lines), "".join(
            line.text for line in lines[-1:]
        )
    if kind == "state":
        counted = (facts.span for facts in run.counted()[1])
        return [
            span.number for span in counted if recorded_state(span).value == value
        ], ""
    return [facts.span.number for facts in jobs_in(run, None)], ""


def _row(run: WatchedRun, span: Span) -> list[Any]:
    state = recorded_state(span)
    now = run.answer["now"]
    time = ""
    if span.state is JobState.RUNNING:
        time = stopwatch_text(now - (span.attempt_started_at or now))
    failed = max(
        [len(span.attempts), *(number for number, _, _ in span.failed_attempts)]
    )
    attempt = f"attempt {failed + 1}" if failed and not span.state.is_settled else ""
    return [
        span.number,
        name_of(span.path),
        state_class(state),
        str(state.value),
        time,
        attempt,
    ]
