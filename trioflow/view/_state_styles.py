"""The symbols, colours and words for the states of jobs and the causes of waits; all views read these tables.

A new state or cause needs an entry here. Only the style sheets of a report repeat the colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from .._core.api.views import AnyJob, JobState, StopReason, WaitCause


class Badge(NamedTuple):
    """A symbol shown beside that of the state, for a property of the job."""

    symbol: str
    ascii: str
    style: str


CRITICAL: Final = Badge("!", "!", "trouble")
FOREVER: Final = Badge("∞", "8", "forever")


class Colours(NamedTuple):
    """The colours of a job's box, and the background of a nested scheduler's frame, on which boxes must stand out."""

    fill: str
    line: str
    text: str
    frame: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateStyle:
    """The symbols, colours and texts of one state. Its name in all views is the value of the `JobState`."""

    symbol: str
    """The symbol: one column wide, and unique among the states."""
    ascii: str
    """The ASCII character used if the stream's encoding cannot represent the symbols."""
    box_has_symbol: bool = True
    """Whether a box in a graph shows the symbol; otherwise only its fill shows the state."""
    style: str
    """The style in a monitor, a key of `monitor/_terminal.STYLES`. The monitor's bar counts "trouble" as "failed"."""
    light: Colours
    """The colours in graphs on a light background. For the colour-blind, states also differ in lightness or symbol."""
    dark: Colours
    """The colours on a dark background. In both schemes, all text has a contrast of at least 4.5."""
    meaning: str
    """The explanation in a report's glossary, for readers who are not programmers."""
    unfinished: str = ""
    """The explanation, in reports for CI systems, why a job in this final state did not run to its end."""

    @property
    def box_symbol(self) -> str:
        """The symbol shown in a box of a graph, or an empty string."""
        return self.symbol if self.box_has_symbol else ""


INK: Final = "#1f2933"
DARK_INK: Final = "#e4e8ed"

STATE_STYLES: Final[Mapping[JobState, StateStyle]] = {
    JobState.IDLE: StateStyle(
        symbol="·",
        ascii=".",
        box_has_symbol=False,  # the white box is distinctive enough
        style="dim",
        light=Colours("#ffffff", "#52606d", INK, "#f7f8fa"),
        dark=Colours("#242a33", "#9aa5b1", DARK_INK, "#1f242b"),
        meaning="the run ended before its turn came",
        unfinished="never started: the run ended before",
    ),
    JobState.SCHEDULED: StateStyle(
        symbol="◦",
        ascii="w",
        style="dim",
        light=Colours("#fff6d1", "#8a6d00", INK, "#fffcf0"),
        dark=Colours("#3a3214", "#d9b93b", DARK_INK, "#26241c"),
        meaning="it could start, and waits until there is room for it",
        unfinished="never started: the run ended before",
    ),
    JobState.RUNNING: StateStyle(
        symbol="▸",
        ascii=">",
        style="running",
        light=Colours("#ffd95a", "#8a6d00", INK, "#fff8df"),
        dark=Colours("#5c4b10", "#ffd95a", DARK_INK, "#2b281c"),
        meaning="it was under way when this report was written",
    ),
    JobState.SUCCEEDED: StateStyle(
        symbol="✓",
        ascii="+",
        box_has_symbol=False,  # the green box is distinctive enough
        style="done",
        light=Colours("#c9e7d2", "#2f7d52", INK, "#f1f9f4"),
        dark=Colours("#23573b", "#6fb98c", DARK_INK, "#1c2723"),
        meaning="it ran to its end",
    ),
    JobState.FAILED: StateStyle(
        symbol="✗",
        ascii="x",
        style="failed",
        light=Colours("#b3261e", "#6b130e", "#ffffff", "#fdf0ee"),
        dark=Colours("#e5776a", "#f7b3aa", "#17110e", "#33211f"),
        meaning="it raised an error, or took longer than it may",
    ),
    JobState.CANCELLED: StateStyle(
        symbol="⊘",
        ascii="c",
        style="trouble",
        light=Colours("#d5d9de", "#52606d", INK, "#f2f3f5"),
        dark=Colours("#39414b", "#9aa5b1", DARK_INK, "#22262c"),
        meaning="it was ended, or kept from starting, before it was done",
        unfinished="cancelled",
    ),
    JobState.BLOCKED: StateStyle(
        symbol="⊗",
        ascii="b",
        style="trouble",
        light=Colours("#f4c7a1", "#9a4a12", INK, "#fdf5ee"),
        dark=Colours("#5e3a1d", "#dc9a62", DARK_INK, "#2a231d"),
        meaning="it could not run, because a job whose success it needs failed",
        unfinished="not run",
    ),
    JobState.SKIPPED: StateStyle(
        symbol="⤼",
        ascii="s",
        style="dim",
        light=Colours("#eef0f2", "#9aa5b1", "#616e7c", "#fafbfb"),
        dark=Colours("#20252c", "#6b7683", "#a9b4c0", "#1e2228"),
        meaning="it did not have to run",
        unfinished="it did not have to run",
    ),
}
"""The styles in the order of `JobState`."""

PRECEDENCE: Final = (
    JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED, JobState.RUNNING, JobState.SCHEDULED, JobState.IDLE,
    JobState.SUCCEEDED, JobState.SKIPPED,
)  # fmt: skip
"""All states, most important first: a box for several jobs shows the first of their states."""
COUNTING_ORDER: Final = (JobState.SUCCEEDED, *(state for state in PRECEDENCE if state is not JobState.SUCCEEDED))
"""The order of counts, and of the segments of a progress bar: SUCCEEDED, then the others as in `PRECEDENCE`."""
BARS: Final = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.RUNNING)
"""The states of jobs that have started, and so have a bar in a timeline, in the order of its legend."""
NEVER_STARTED: Final = (
    JobState.BLOCKED, JobState.SKIPPED, JobState.CANCELLED, JobState.SCHEDULED, JobState.IDLE,
)  # fmt: skip
"""The states of jobs that never started, in the order in which a timeline lists them below its legend."""


def ended_normally(job: AnyJob) -> bool:
    """Return whether this is a forever job that was cancelled only because its run was complete."""
    if not job.forever or job.state is not JobState.CANCELLED or job.started_at is None:
        return False
    return job.scheduler is not None and job.scheduler.stop_reason is StopReason.COMPLETED


# ---- causes of waits


@dataclass(frozen=True, slots=True)
class CauseWords:
    """The phrases for one cause of waits; `{}` is replaced by the name of the resource."""

    awaited: str
    """The thing waited for, in pictures and tables: "waited for ..."."""
    empty_because: str
    """The reason for an empty slot, in a sentence: "empty because ..."."""
    after_count: str
    """The phrase in a monitor after the number of waiting jobs: "3 for a slot"."""
    title: str
    """The term in a report's glossary."""
    meaning: str
    """The explanation in a report's glossary, for readers who are not programmers."""


CAUSES: Final[Mapping[WaitCause, CauseWords]] = {
    WaitCause.JOBS: CauseWords(
        "jobs", "nothing was ready", "for jobs", "waited for jobs", "what it requires was not done"
    ),
    WaitCause.SLOT: CauseWords(
        "a slot", "a window was full", "for a slot", "waited for a slot", "as many jobs were running as may run at once"
    ),
    WaitCause.TOKEN: CauseWords(
        "a token",
        "the tokens of a limiter were taken",
        "for a token",
        "waited for a token",
        "as many jobs were running as may run at once",
    ),
    WaitCause.RESOURCE: CauseWords(
        "{}",
        "{} ran short",
        "{}",
        "waited for a resource",
        "others used so much of it, such as memory or cards, that too little was left",
    ),
    WaitCause.RATE: CauseWords(
        "rate of {}",
        "the rate of {} was used up",
        "{}",
        "waited for the rate of a resource",
        "only so many may start in a time, and its turn had not come",
    ),
    WaitCause.THROTTLED: CauseWords(
        "throttled by {}",
        "{} throttled",
        "{} throttled",
        "throttled",
        "a job was told to come back later, and all that need the same waited until then",
    ),
    WaitCause.MACHINE: CauseWords(
        "room on the machine",
        "the machine had no room",
        "for room on the machine",
        "waited for room on the machine",
        "there was too little memory, or too much open, for one more command; or all threads of the cluster were busy",
    ),
    WaitCause.LOOP: CauseWords(
        "the loop",
        "the loop was busy",
        "for a slot",  # a job with this cause is about to get one
        "waited for the loop",
        "some job kept the program busy, so that it could not start others",
    ),
}
"""The phrases of each cause, in the order of a report's glossary."""
