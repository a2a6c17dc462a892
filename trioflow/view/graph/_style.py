"""How jobs look in pictures: the colours of states, and the words in a box. For both dot and Mermaid.

A picture may be printed in grey, so whatever a colour says, something else says too: states have their signs from the
listing, critical jobs `!` and a thick border, forever jobs a dashed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from ..._core.door.reading import AnyJob, BaseScheduler, JobState, is_scheduler, printable
from ..text._symbols import UNICODE
from . import _simplify


class Colours(NamedTuple):
    """The colours of a box, and that of a nested scheduler's frame, from which the jobs inside must stand out."""

    fill: str
    line: str
    text: str
    frame: str


Direction = Literal["TB", "LR"]
"""Top to bottom, or left to right."""

PLAIN: Final = "#1f2933"
COLOURS: Final[Mapping[JobState, Colours]] = {
    JobState.IDLE: Colours("#ffffff", "#52606d", PLAIN, "#f7f8fa"),
    JobState.SCHEDULED: Colours("#fff6d1", "#8a6d00", PLAIN, "#fffcf0"),
    JobState.RUNNING: Colours("#ffd95a", "#8a6d00", PLAIN, "#fff8df"),
    JobState.SUCCEEDED: Colours("#c9e7d2", "#2f7d52", PLAIN, "#f1f9f4"),
    JobState.FAILED: Colours("#b3261e", "#6b130e", "#ffffff", "#fdf0ee"),
    JobState.CANCELLED: Colours("#d5d9de", "#52606d", PLAIN, "#f2f3f5"),
    JobState.BLOCKED: Colours("#f4c7a1", "#9a4a12", PLAIN, "#fdf5ee"),
    JobState.SKIPPED: Colours("#eef0f2", "#9aa5b1", "#616e7c", "#fafbfb"),
}
"""People who cannot see red and green tell them apart by lightness, and by the signs."""
PLAIN_IN_THE_DARK: Final = "#e4e8ed"
IN_THE_DARK: Final[Mapping[JobState, Colours]] = {
    JobState.IDLE: Colours("#242a33", "#9aa5b1", PLAIN_IN_THE_DARK, "#1f242b"),
    JobState.SCHEDULED: Colours("#3a3214", "#d9b93b", PLAIN_IN_THE_DARK, "#26241c"),
    JobState.RUNNING: Colours("#5c4b10", "#ffd95a", PLAIN_IN_THE_DARK, "#2b281c"),
    JobState.SUCCEEDED: Colours("#23573b", "#6fb98c", PLAIN_IN_THE_DARK, "#1c2723"),
    JobState.FAILED: Colours("#e5776a", "#f7b3aa", "#17110e", "#33211f"),
    JobState.CANCELLED: Colours("#39414b", "#9aa5b1", PLAIN_IN_THE_DARK, "#22262c"),
    JobState.BLOCKED: Colours("#5e3a1d", "#dc9a62", PLAIN_IN_THE_DARK, "#2a231d"),
    JobState.SKIPPED: Colours("#20252c", "#6b7683", "#a9b4c0", "#1e2228"),
}
"""The same in a page with a dark scheme. All text has a contrast of 4.5 or more, in both."""

SIGNS: Final[Mapping[JobState, str]] = {
    **UNICODE.states,
    JobState.IDLE: "",
    JobState.SUCCEEDED: "",
}
"""Those of the listing. IDLE and SUCCEEDED need none: their boxes are white, and filled in green."""


class Caption(NamedTuple):
    """The words in a box."""

    label: str
    remarks: list[str]


def state(jobs: list[AnyJob]) -> JobState:
    """Return the state that the box for these jobs shows."""
    return _simplify.shown_state(jobs)


def caption(jobs: list[AnyJob]) -> Caption:
    """Return the words in the box for one job, or for several that are alike."""
    job = jobs[0]
    label = printable(_simplify.common_label(jobs) if len(jobs) > 1 else job.label)
    remarks = [f"× {len(jobs)}", _simplify.state_counts(jobs)] if len(jobs) > 1 else []
    if is_scheduler(job):
        remarks += [_size(job), f"{failures} failed" if (failures := failures_inside(job)) else ""]
    if job.run_if != "settled":
        remarks.append(f"if {job.run_if}")
    critical = UNICODE.critical if job.is_critical() else ""
    return Caption(f"{critical}{SIGNS[state(jobs)]} {label}".lstrip(), list(filter(None, remarks)))


def failures_inside(scheduler: BaseScheduler) -> int:
    """Return how many jobs in it, at any depth, have failed; the scheduler itself may have succeeded."""
    return sum(job.state is JobState.FAILED and not is_scheduler(job) for job in scheduler.iterate_jobs())


def _size(scheduler: BaseScheduler) -> str:
    number = sum(1 for _ in scheduler.iterate_jobs())
    return f"{number} job{'s' * (number != 1)}"
