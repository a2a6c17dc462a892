"""How jobs look in pictures: colours for states, and the words in a box. For dot and Mermaid alike.

Whatever colour tells, something else tells too, for a picture may be printed in grey: states have their signs of the
listing, critical jobs a thick line, forever jobs a dashed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from .._core import _labels
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from .._core._states import JobState
from . import _bundles
from ._script import UNICODE


class Look(NamedTuple):
    """The colours of a box, and those of the frame around a nested scheduler, whose jobs must stand out from it."""

    fill: str
    line: str
    text: str
    frame: str


Direction = Literal["TB", "LR"]
"""Top to bottom, or left to right."""

PLAIN: Final = "#1f2933"
CRITICAL: Final = "#c5221f"
LOOKS: Final[Mapping[JobState, Look]] = {
    JobState.IDLE: Look("#ffffff", "#52606d", PLAIN, "#f7f8fa"),
    JobState.SCHEDULED: Look("#fff6d1", "#8a6d00", PLAIN, "#fffcf0"),
    JobState.RUNNING: Look("#ffd95a", "#8a6d00", PLAIN, "#fff8df"),
    JobState.SUCCEEDED: Look("#c9e7d2", "#2f7d52", PLAIN, "#f1f9f4"),
    JobState.FAILED: Look("#b3261e", "#6b130e", "#ffffff", "#fdf0ee"),
    JobState.CANCELLED: Look("#d5d9de", "#52606d", PLAIN, "#f2f3f5"),
    JobState.BLOCKED: Look("#f4c7a1", "#9a4a12", PLAIN, "#fdf5ee"),
    JobState.SKIPPED: Look("#eef0f2", "#9aa5b1", "#616e7c", "#fafbfb"),
}
"""Also told apart by those who see no red and green: by lightness, and by the signs."""

SIGNS: Final[Mapping[JobState, str]] = {
    **UNICODE.states,
    JobState.IDLE: "",
    JobState.SUCCEEDED: "",
    JobState.FAILED: UNICODE.marks[JobState.FAILED],
}
"""Those of the listing; none before the run, and none for what went well: a box that is white, or filled, will do."""

KINDS: Final = frozenset({"Service", "ThreadJob", "ExecutorJob", "ProcessJob", "CommandJob", "SshJob", "BaseScheduler"})
"""The names of the classes that are told apart; a picture needs none of them imported."""


class Caption(NamedTuple):
    """The words in a box."""

    label: str
    remarks: list[str]


def kind(job: AbstractJob[Any]) -> str:
    """Return the name of the nearest class of a job, itself or a base, that is told apart; "Job" if none is."""
    names = (base.__name__ for base in type(job).__mro__)
    return next((name for name in names if name in KINDS), "Job")


def state(jobs: list[AbstractJob[Any]]) -> JobState:
    """Return the state that the box for these jobs shows."""
    return _bundles.state(jobs)


def caption(jobs: list[AbstractJob[Any]]) -> Caption:
    """Return what the box for one job, or for several that are alike, says."""
    job = jobs[0]
    label = _labels.printable(_bundles.label(jobs) if len(jobs) > 1 else job.label)
    remarks = [f"× {len(jobs)}", _bundles.counts(jobs)] if len(jobs) > 1 else []
    if isinstance(job, BaseScheduler):
        remarks.append(_size(job))
    if job.run_if != "settled":
        remarks.append(f"if {job.run_if}")
    return Caption(f"{SIGNS[state(jobs)]} {label}".lstrip(), list(filter(None, remarks)))


def _size(scheduler: BaseScheduler) -> str:
    number = sum(1 for _ in scheduler.iterate_jobs())
    return f"{number} job{'s' * (number != 1)}"
