"""The style of jobs in pictures, for both dot and Mermaid: the colors of states, and the captions of boxes.

Color is never the only mark of a state, because a picture may be printed in black and white. Most states have the
symbols of `Scheduler.list`, critical jobs have `!` and a thick border, and forever jobs have a dashed border.
"""

from __future__ import annotations

import collections
from typing import Final, Literal, NamedTuple

from ..._core.api.views import (
    AnyJob,
    JobState,
    ReportedState,
    duration_text,
    is_scheduler,
    plural,
    printable,
    reported_state,
)
from .._state_styles import (
    CRITICAL_BADGE,
    STATE_PRECEDENCE,
    STATE_STYLES,
    TEXT_COLOR,
    BoxColors,
    has_ended_normally,
)
from ._simplify import DIGITS_PATTERN

Direction = Literal["TB", "LR"]
"""The direction of a graph: top to bottom, or left to right."""

LINE_COLOR: Final = "#757575"
INPUT_COLOR: Final = "#2f74c0"
CRITICAL_PATH_COLOR: Final = "#c2378f"
"""The colors of lines and of text beside boxes, which are readable on white and on black: graphs are transparent."""
IF_SETTLED: Final = "if settled"
"""The remark in the box of a job that runs only if all that it requires succeeded, or at an edge for one of these."""
TROUBLE_BORDER_COLORS: Final = {
    JobState.FAILED: STATE_STYLES[JobState.FAILED].colors.fill,
    JobState.BLOCKED: STATE_STYLES[JobState.BLOCKED].colors.outline,
}
"""The border colors of bundles and schedulers that contain a job in one of these states. The worst state is first."""


class Caption(NamedTuple):
    """The text in a box: the label, and remarks in smaller print."""

    label: str
    remarks: list[str]


def shown_state(jobs: list[AnyJob]) -> ReportedState:
    """Return the state that the box for these jobs shows: the one of their states that is first in `STATE_PRECEDENCE`.

    A forever job that was cancelled at the end of a completed run counts as SUCCEEDED.
    """
    states = {JobState.SUCCEEDED if has_ended_normally(job) else reported_state(job) for job in jobs}
    return next(state for state in STATE_PRECEDENCE if state in states)


def caption(jobs: list[AnyJob], is_frame: bool = False) -> Caption:
    """Return the caption of the box for a job or a bundle. If `is_frame`, the number of members is left out."""
    job = jobs[0]
    label = printable(_common_label(jobs) if len(jobs) > 1 else job.label)
    remarks = [_bundle_size_text(jobs), _state_counts_text(jobs)] if len(jobs) > 1 else []
    if is_scheduler(job):
        counts = [
            (sum(count_members_in_state(job, trouble_state) for job in jobs), trouble_state.value)
            for trouble_state in TROUBLE_BORDER_COLORS
        ]
        remarks += [
            "" if is_frame else plural(sum(1 for _ in job.iterate_jobs()), "job"),
            *(f"{number} {word}" for number, word in counts if number),
        ]
    if job.run_if != "succeeded":
        remarks.append(f"if {job.run_if}")
    remarks.append(_duration_range_text(jobs))
    critical = CRITICAL_BADGE.symbol if job.is_critical() else ""
    return Caption(
        f"{critical}{STATE_STYLES[shown_state(jobs)].box_symbol} {label}".lstrip(), list(filter(None, remarks))
    )


def _bundle_size_text(jobs: list[AnyJob]) -> str:
    """Return the number of jobs in a bundle, e.g. `× 3`, or `× 3, one after the other` for a chain."""
    is_chain = jobs[0] in jobs[1].required
    return f"× {len(jobs)}{', one after the other' * is_chain}"


def _common_label(jobs: list[AnyJob]) -> str:
    """Return the common label of jobs, e.g. `fetch *` for `fetch 1` and `fetch 2`.

    The labels must be equal except for numbers. A star replaces each number that differs.
    """
    columns = zip(*(DIGITS_PATTERN.split(job.label) for job in jobs), strict=True)
    return "".join(tokens[0] if len(set(tokens)) == 1 else "*" for tokens in columns)


def _state_counts_text(jobs: list[AnyJob]) -> str:
    """Return the number of jobs in each state as text, or an empty string if all jobs are in the same state."""
    counts = collections.Counter(map(reported_state, jobs))
    if len(counts) == 1:
        return ""
    return ", ".join(f"{counts[state]} {state.value}" for state in STATE_PRECEDENCE if counts[state])


def _duration_range_text(jobs: list[AnyJob]) -> str:
    """Return the duration of a job, or the range of durations in a bundle, as text. Forever jobs are ignored."""
    durations = [job.elapsed for job in jobs if job.elapsed is not None and not job.forever]
    extremes = (min(durations), max(durations)) if durations else ()
    return " to ".join(dict.fromkeys(map(duration_text, extremes)))


def box_colors(jobs: list[AnyJob]) -> BoxColors:
    """Return the colors of the box for these jobs.

    If only some of the jobs, or only members of theirs, failed or are BLOCKED, the fill is pale.
    """
    colors = STATE_STYLES[shown_state(jobs)].colors
    for trouble_state in TROUBLE_BORDER_COLORS:
        if all(job.state is trouble_state for job in jobs):
            break
        if any(job.state is trouble_state or count_members_in_state(job, trouble_state) for job in jobs):
            return colors._replace(
                fill=STATE_STYLES[trouble_state].colors.frame,
                outline=TROUBLE_BORDER_COLORS[trouble_state],
                text=TEXT_COLOR,
            )
    return colors


def count_members_in_state(job: AnyJob, state: JobState) -> int:
    """Return the number of ordinary jobs in `job`, at any depth, that are in a state; 0 if `job` is not a scheduler."""
    if not is_scheduler(job):
        return 0
    return sum(member.state is state and not is_scheduler(member) for member in job.iterate_jobs())
