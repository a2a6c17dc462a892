"""The style of jobs in pictures, for both dot and Mermaid: the colours of states, and the captions of boxes.

A picture may be printed in grey, so colours are never the only sign. States also have their symbols from the listing,
critical jobs have `!` and a thick border, and forever jobs have a dashed border.
"""

from __future__ import annotations

import collections
from typing import Final, Literal, NamedTuple

from ..._core.api.views import AnyJob, BaseScheduler, JobState, duration_text, is_scheduler, printable
from .._state_styles import CRITICAL, INK, PRECEDENCE, STATE_STYLES, Colours, ended_normally
from ._simplify import DIGITS

Direction = Literal["TB", "LR"]
"""The direction of a graph: top to bottom, or left to right."""

CRITICAL_PATH_COLOUR: Final = "#111418"
"""The colour of lines on the critical path, as in a timeline."""
TROUBLE: Final = {
    JobState.FAILED: STATE_STYLES[JobState.FAILED].light.fill,
    JobState.BLOCKED: STATE_STYLES[JobState.BLOCKED].light.line,
}
"""The states of a member that change the border of its bundle or scheduler, the worst first, with its colour."""


class Caption(NamedTuple):
    """The text in a box: the label, and remarks in smaller print."""

    label: str
    remarks: list[str]


def shown_state(jobs: list[AnyJob]) -> JobState:
    """Return the state that the box for these jobs shows: of their states, the first in `PRECEDENCE`.

    A forever job that was cancelled at the end of the run counts as SUCCEEDED.
    """
    states = {JobState.SUCCEEDED if ended_normally(job) else job.state for job in jobs}
    return next(state for state in PRECEDENCE if state in states)


def caption(jobs: list[AnyJob], is_frame: bool = False) -> Caption:
    """Return the caption of the box for a job or a bundle; the caption of a frame omits the number of members."""
    job = jobs[0]
    label = printable(_common_label(jobs) if len(jobs) > 1 else job.label)
    remarks = [_bundle_size(jobs), _state_counts(jobs)] if len(jobs) > 1 else []
    if is_scheduler(job):
        counts = [(sum(count_in_state(job, worst) for job in jobs), worst.value) for worst in TROUBLE]
        remarks += ["" if is_frame else _job_count(job), *(f"{number} {word}" for number, word in counts if number)]
    if job.run_if != "settled":
        remarks.append(f"if {job.run_if}")
    remarks.append(_duration_range(jobs))
    critical = CRITICAL.symbol if job.is_critical() else ""
    return Caption(
        f"{critical}{STATE_STYLES[shown_state(jobs)].box_symbol} {label}".lstrip(), list(filter(None, remarks))
    )


def _bundle_size(jobs: list[AnyJob]) -> str:
    """Return the number of jobs in a bundle as text, which also says if they are a chain."""
    is_chain = jobs[0] in jobs[1].required
    return f"× {len(jobs)}{', one after the other' * is_chain}"


def _common_label(jobs: list[AnyJob]) -> str:
    """Return the common label of jobs whose labels differ only in numbers, with a star for each such number."""
    first, *others = (DIGITS.split(job.label) for job in jobs)
    same = [len({part, *(other[place] for other in others)}) == 1 for place, part in enumerate(first)]
    return "".join(part if is_same else "*" for part, is_same in zip(first, same, strict=True))


def _state_counts(jobs: list[AnyJob]) -> str:
    """Return the number of jobs in each state as text; "" if all jobs are in the same state."""
    count = collections.Counter(job.state for job in jobs)
    if len(count) == 1:
        return ""
    return ", ".join(f"{count[state]} {state.value}" for state in PRECEDENCE if count[state])


def _duration_range(jobs: list[AnyJob]) -> str:
    """Return the duration of a job in the last run as text, or the range of a bundle's durations."""
    times = [job.elapsed for job in jobs if job.elapsed is not None and not job.forever]
    shown = dict.fromkeys(duration_text(seconds) for seconds in (min(times), max(times))) if times else {}
    return " to ".join(shown)


def box_colours(jobs: list[AnyJob]) -> Colours:
    """Return the colours of the box for these jobs; if only a part of them failed or is blocked, the fill is pale."""
    colours = STATE_STYLES[shown_state(jobs)].light
    for worst in TROUBLE:
        if all(job.state is worst for job in jobs):
            break
        if any(job.state is worst or count_in_state(job, worst) for job in jobs):
            return colours._replace(fill=STATE_STYLES[worst].light.frame, line=TROUBLE[worst], text=INK)
    return colours


def count_in_state(job: AnyJob, state: JobState) -> int:
    """Return the number of jobs in a scheduler, at any depth, that are in a state; 0 for a job of another kind."""
    if not is_scheduler(job):
        return 0
    return sum(inner.state is state and not is_scheduler(inner) for inner in job.iterate_jobs())


def _job_count(scheduler: BaseScheduler) -> str:
    number = sum(1 for _ in scheduler.iterate_jobs())
    return f"{number} job{'s' * (number != 1)}"
