"""The symbols, colors and words for the states of jobs and the causes of waits. All views read these tables.

A new state or cause needs an entry here. Only the style sheets of a report repeat the colors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from .._core.base._states import (
    MOVED_ON,
    RAN_TO_END,
    JobState,
    ReportedState,
    WaitCause,
)
from .._core.job._job import AnyJob


class Badge(NamedTuple):
    """A symbol for a property of a job, e.g. "critical". It is shown beside the symbol of the job's state."""

    symbol: str
    ascii_symbol: str
    monitor_style: str


CRITICAL_BADGE: Final = Badge("!", "!", "trouble")
FOREVER_BADGE: Final = Badge("∞", "8", "forever")


class BoxColors(NamedTuple):
    """The colors of a job's box, and of the frame around the boxes in a nested scheduler.

    The boxes must stand out against the frame.
    """

    fill: str
    outline: str
    text: str
    frame: str


class StateStyle(NamedTuple):
    """The symbols, colors and texts of a state. All views use the value of the state as its name."""

    symbol: str
    """The symbol, which is one column wide and unique among the states."""
    ascii_symbol: str
    """The ASCII character that is shown instead of `symbol` if the stream's encoding cannot represent all symbols."""
    monitor_style: str
    """The name of the style in a monitor: a key of `STYLES` in `monitor/_terminal`. The progress bar shows states with
    the style "trouble" as failed."""
    colors: BoxColors
    """The colors in graphs. All text has a contrast ratio of 4.5 or more, on white and on black pages. For color-blind
    users, states also differ in lightness or symbol."""
    unfinished_reason: str = ""
    """The reason, shown in reports for CI systems, why a job in this final state did not run to its end."""
    has_box_symbol: bool = True
    """Whether a box in a graph shows the symbol. If not, the fill of the box is distinctive enough: white or green."""

    @property
    def box_symbol(self) -> str:
        """The symbol shown in a box of a graph, or an empty string."""
        return self.symbol if self.has_box_symbol else ""


TEXT_COLOR: Final = "#1f2933"
NEVER_STARTED: Final = "never started: the run ended first"

STATE_STYLES: Final[Mapping[ReportedState, StateStyle]] = {
    JobState.IDLE: StateStyle(
        "·",
        ".",
        "dim",
        BoxColors("#ffffff", "#52606d", TEXT_COLOR, "#f7f8fa"),
        NEVER_STARTED,
        has_box_symbol=False,
    ),
    JobState.SCHEDULED: StateStyle(
        "◦",
        "w",
        "dim",
        BoxColors("#fff6d1", "#8a6d00", TEXT_COLOR, "#fffcf0"),
        NEVER_STARTED,
    ),
    JobState.RUNNING: StateStyle(
        "▸", ">", "running", BoxColors("#ffd95a", "#8a6d00", TEXT_COLOR, "#fff8df")
    ),
    JobState.SUCCEEDED: StateStyle(
        "✓",
        "+",
        "done",
        BoxColors("#c9e7d2", "#2f7d52", TEXT_COLOR, "#f1f9f4"),
        has_box_symbol=False,
    ),
    MOVED_ON: StateStyle(
        "»",
        "m",
        "moved on",
        BoxColors("#ddd3f2", "#5f4b8b", TEXT_COLOR, "#f7f4fc"),
        "moved on after its timeout",
    ),
    JobState.FAILED: StateStyle(
        "✗", "x", "failed", BoxColors("#b3261e", "#c8372d", "#ffffff", "#fdf0ee")
    ),
    JobState.CANCELLED: StateStyle(
        "⊘",
        "c",
        "trouble",
        BoxColors("#d5d9de", "#52606d", TEXT_COLOR, "#f2f3f5"),
        "cancelled",
    ),
    JobState.BLOCKED: StateStyle(
        "⊗",
        "b",
        "trouble",
        BoxColors("#f4c7a1", "#9a4a12", TEXT_COLOR, "#fdf5ee"),
        "not run",
    ),
    JobState.SKIPPED: StateStyle(
        "⤼",
        "s",
        "dim",
        BoxColors("#eef0f2", "#9aa5b1", "#616e7c", "#fafbfb"),
        "it was skipped",
    ),
}
"""The styles in the order of `JobState`, with MOVED_ON after SUCCEEDED."""

STATE_PRECEDENCE: Final = (
    JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED, JobState.RUNNING, JobState.SCHEDULED, JobState.IDLE,
    MOVED_ON, JobState.SUCCEEDED, JobState.SKIPPED,
)  # fmt: skip
"""All states, most important first: the order of the settled jobs in the header of a monitor."""
STATE_COUNT_ORDER: Final = (
    JobState.SUCCEEDED,
    MOVED_ON,
    *(
        state
        for state in STATE_PRECEDENCE
        if state not in (JobState.SUCCEEDED, MOVED_ON)
    ),
)
"""The order of the numbers of jobs in views: SUCCEEDED and MOVED_ON, then the other states by precedence."""
NEVER_STARTED_STATES: Final = (
    JobState.BLOCKED, JobState.SKIPPED, JobState.CANCELLED, JobState.SCHEDULED, JobState.IDLE,
)  # fmt: skip
"""The states that a job that never started can have, in the order that a timeline lists them below its legend."""


class StateRecord(Protocol):
    """The attributes of a span, or of another record of a job, that decide which state it shows."""

    @property
    def state(self) -> JobState: ...
    @property
    def moved_on(self) -> bool: ...


def recorded_state(record: StateRecord) -> ReportedState:
    """Return the state that a record shows, as `reported_state` does for a job."""
    return MOVED_ON if record.moved_on else record.state


def state_class(state: ReportedState) -> str:
    return str(state.value).replace(" ", "-")


def has_ended_normally(job: AnyJob) -> bool:
    """Return whether a job is a forever job that had started, and was cancelled only because its run was complete."""
    if not job.forever or job.state is not JobState.CANCELLED or job.started_at is None:
        return False
    return job.scheduler is not None and job.scheduler.stop_reason in RAN_TO_END


# ---- causes of waits


class CauseWords(NamedTuple):
    """The phrases for a cause of waits. In a phrase, `{}` stands for the name of the resource."""

    awaited_phrase: str
    """The phrase in pictures and tables that completes "waited for ..."."""
    empty_reason: str
    """The reason why a slot was empty. It completes the sentence "empty because ..."."""
    monitor_phrase: str
    """The phrase in a monitor after the number of waiting jobs, e.g. "for a slot" in "3 for a slot"."""


CAUSE_WORDS: Final[Mapping[WaitCause, CauseWords]] = {
    WaitCause.JOBS: CauseWords("jobs", "nothing was ready", "for jobs"),
    WaitCause.SLOT: CauseWords("a slot", "a window was full", "for a slot"),
    WaitCause.TOKEN: CauseWords(
        "a token", "the tokens of a limiter were taken", "for a token"
    ),
    WaitCause.RESOURCE: CauseWords("{}", "{} ran short", "for {}"),
    WaitCause.RATE: CauseWords("rate of {}", "the rate of {} was used up", "for {}"),
    WaitCause.PAUSE: CauseWords("a resume", "the run was paused", "for a resume"),
    WaitCause.RETRY: CauseWords(
        "a retry", "failed attempts were to be repeated", "for a retry"
    ),
    WaitCause.HELD: CauseWords(
        "another try", "what had failed was not tried again yet", "for another try"
    ),
    WaitCause.THROTTLED: CauseWords(
        "the throttle of {}", "{} throttled", "{} throttled"
    ),
    WaitCause.MACHINE: CauseWords(
        "room on the machine",
        "the machine or the cluster had no room",
        "for room on the machine",
    ),
    WaitCause.LOADING: CauseWords(
        "imports and files",
        "code was imported, or files were read",
        "for imports and files",
    ),
    # A job that waits for the event loop is about to get a slot.
    WaitCause.LOOP: CauseWords(
        "the event loop", "the event loop was busy", "for a slot"
    ),
}
