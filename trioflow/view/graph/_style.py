"""The style of jobs in pictures, for both dot and Mermaid: the colours of states, and the words in a box.

A picture may be printed in grey, so no colour is the only sign of a fact: states have their symbols from the listing,
critical jobs `!` and a thick border, forever jobs a dashed one.
"""

from __future__ import annotations

import collections
from typing import Final, Literal, NamedTuple

from ..._core.api.views import AnyJob, BaseScheduler, JobState, duration_text, is_scheduler, printable
from .._state_styles import CRITICAL, INK, PRECEDENCE, STATE_STYLES, Colours, ended_normally
from ._simplify import DIGITS

Direction = Literal["TB", "LR"]
"""The direction of a graph: top to bottom, or left to right."""

PATH: Final = "#111418"
"""The colour of lines on the critical path, as in a timeline."""
TROUBLE: Final = {
    JobState.FAILED: STATE_STYLES[JobState.FAILED].light.fill,
    JobState.BLOCKED: STATE_STYLES[JobState.BLOCKED].light.line,
}
"""The states of a part that change the look of the whole, the worst first, with the colour of its border."""


class Caption(NamedTuple):
    """The words in a box."""

    label: str
    remarks: list[str]


def state(jobs: list[AnyJob]) -> JobState:
    """Return the state that the box for these jobs shows: the first of theirs in the order of precedence.

    A forever job that ended as meant counts as SUCCEEDED.
    """
    states = {JobState.SUCCEEDED if ended_normally(job) else job.state for job in jobs}
    return next(state for state in PRECEDENCE if state in states)


def caption(jobs: list[AnyJob], is_frame: bool = False) -> Caption:
    """Return the words in the box for a job or a bundle; the words of a frame leave out its members."""
    job = jobs[0]
    label = printable(_common_label(jobs) if len(jobs) > 1 else job.label)
    remarks = [_number(jobs), _state_counts(jobs)] if len(jobs) > 1 else []
    if is_scheduler(job):
        counts = [(sum(number_inside(job, worst) for job in jobs), worst.value) for worst in TROUBLE]
        remarks += ["" if is_frame else _size(job), *(f"{number} {word}" for number, word in counts if number)]
    if job.run_if != "settled":
        remarks.append(f"if {job.run_if}")
    remarks.append(_took(jobs))
    critical = CRITICAL.symbol if job.is_critical() else ""
    return Caption(f"{critical}{STATE_STYLES[state(jobs)].box_symbol} {label}".lstrip(), list(filter(None, remarks)))


def _number(jobs: list[AnyJob]) -> str:
    """Return the number of jobs in a bundle, and whether they are a chain."""
    is_chain = jobs[0] in jobs[1].required
    return f"× {len(jobs)}{', one after the other' * is_chain}"


def _common_label(jobs: list[AnyJob]) -> str:
    """Return the common label of these jobs, with a star for each number in which they differ."""
    first, *others = (DIGITS.split(job.label) for job in jobs)
    same = [len({part, *(other[place] for other in others)}) == 1 for place, part in enumerate(first)]
    return "".join(part if is_same else "*" for part, is_same in zip(first, same, strict=True))


def _state_counts(jobs: list[AnyJob]) -> str:
    """Return how many jobs are in each state; an empty string if all are in the same one."""
    count = collections.Counter(job.state for job in jobs)
    if len(count) == 1:
        return ""
    return ", ".join(f"{count[state]} {state.value}" for state in PRECEDENCE if count[state])


def _took(jobs: list[AnyJob]) -> str:
    """Return the duration of a job in the last run, or the range of a bundle's durations."""
    times = [job.elapsed for job in jobs if job.elapsed is not None and not job.forever]
    shown = dict.fromkeys(duration_text(seconds) for seconds in (min(times), max(times))) if times else {}
    return " to ".join(shown)


def colours(jobs: list[AnyJob]) -> Colours:
    """Return the colours of the box for these jobs: pale, with its border, where a part failed or is blocked."""
    found = STATE_STYLES[state(jobs)].light
    for worst in TROUBLE:
        if all(job.state is worst for job in jobs):
            break
        if any(job.state is worst or number_inside(job, worst) for job in jobs):
            return found._replace(fill=STATE_STYLES[worst].light.frame, line=TROUBLE[worst], text=INK)
    return found


def number_inside(job: AnyJob, state: JobState) -> int:
    """Return the number of jobs in a scheduler, at any depth, that are in a state; it may have succeeded itself."""
    if not is_scheduler(job):
        return 0
    return sum(inner.state is state and not is_scheduler(inner) for inner in job.iterate_jobs())


def _size(scheduler: BaseScheduler) -> str:
    number = sum(1 for _ in scheduler.iterate_jobs())
    return f"{number} job{'s' * (number != 1)}"
