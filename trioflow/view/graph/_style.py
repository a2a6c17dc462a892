"""The style of jobs in pictures, for both dot and Mermaid: the colors of states, and the captions of boxes.

Color is never the only mark of a state, because a picture may be printed in black and white. Most states have the
symbols of `Scheduler.list`, critical jobs have `!` and a thick border, and forever jobs have a dashed border.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from ..._core.base._states import JobState, ReportedState
from ..._core.base._text_forms import duration_text, plural
from ..._core.job._job import AnyJob, is_scheduler
from ..._core.job._labels import printable
from ..._core.words._job_queries import criticality, reported_state
from .._state_styles import CRITICAL_BADGE, STATE_STYLES, TEXT_COLOR, BoxColors, has_ended_normally
from ..text._listing import shown_elapsed

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
"""The border colors of schedulers that contain a job in one of these states. The worst state is first."""


class Caption(NamedTuple):
    """The text in a box: the label, and remarks in smaller print."""

    label: str
    remarks: list[str]


def shown_state(job: AnyJob) -> ReportedState:
    """Return the state that the box of a job shows.

    A forever job that was cancelled at the end of a completed run counts as SUCCEEDED.
    """
    return JobState.SUCCEEDED if has_ended_normally(job) else reported_state(job)


def caption(job: AnyJob, is_frame: bool = False) -> Caption:
    """Return the caption of the box for a job. If `is_frame`, the number of members is left out."""
    remarks: list[str] = []
    if is_scheduler(job):
        counts = [(count_members_in_state(job, state), state.value) for state in TROUBLE_BORDER_COLORS]
        remarks += [
            "" if is_frame else plural(sum(1 for _ in job.iterate_jobs()), "job"),
            *(f"{number} {word}" for number, word in counts if number),
        ]
    if job.run_if != "succeeded":
        remarks.append(f"if {job.run_if}")
    if (elapsed := shown_elapsed(job)) is not None and not job.forever:
        remarks.append(duration_text(elapsed))
    critical = CRITICAL_BADGE.symbol if criticality(job) else ""
    label = f"{critical}{STATE_STYLES[shown_state(job)].box_symbol} {printable(job.label)}"
    return Caption(label.lstrip(), list(filter(None, remarks)))


def box_colors(job: AnyJob) -> BoxColors:
    """Return the colors of the box for a job. If only members of it failed or are BLOCKED, the fill is pale.

    Of a scheduler that succeeded, all failures were tolerated or awaited: it is shown as succeeded.
    """
    colors = STATE_STYLES[shown_state(job)].colors
    for trouble_state in TROUBLE_BORDER_COLORS:
        if job.state in (trouble_state, JobState.SUCCEEDED):
            break
        if count_members_in_state(job, trouble_state):
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
