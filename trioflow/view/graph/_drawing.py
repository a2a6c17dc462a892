"""`Drawing`: the boxes, frames and edges in the picture of a graph, their captions and colors, for dot and for Mermaid.

Each job has a **stand-in**, which is the job that is drawn in its place. Usually, this is the job itself. Otherwise, it
is the folded scheduler that encloses the job. Edges connect stand-ins:

    jobs ──► rows of the listing ──► stand-ins ──► edges between them

The jobs have the same order and the same numbers as in `Scheduler.list`. All steps take O(V + E) time, and none is
recursive.

Color is never the only mark of a state, because a picture may be printed in black and white. Most states have the
symbols of `Scheduler.list`, critical jobs have `!` and a thick border, and forever jobs have a dashed border.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from ..._core.base._states import JobState, ReportedState
from ..._core.base._text_forms import duration_text, plural
from ..._core.job._ancestors import is_inside
from ..._core.job._job import AnyJob, is_scheduler
from ..._core.job._labels import paths_of, printable
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._job_queries import criticality, inputs_of, reported_state, settled_only_for
from .._state_styles import CRITICAL_BADGE, STATE_STYLES, TEXT_COLOR, BoxColors, has_ended_normally
from ..text import _selection
from ..text._listing import BeginRow, EndRow, PlainRow, listing_rows, number_jobs, shown_elapsed


class EdgeKind(enum.Enum):
    """The reason for an edge between two jobs. If there are several reasons, the one that is defined first counts."""

    DATA = "the result of the first job is an argument of the second job"
    ORDER = "the second job requires the first job"
    SETTLED = "the second job requires the first job with `settled=True`"


EDGE_KINDS: Final = list(EdgeKind)
DrawnEdges = dict[tuple[AnyJob, AnyJob], EdgeKind]
"""The edges in a drawing, as pairs of tail and head, each with its kind."""
CriticalPath = Mapping[AnyJob, AnyJob | None]
"""The jobs on the critical path of the last run, each with its predecessor on the path, or None for the first job."""


class Drawing:
    """The drawing of one scheduler: its jobs and frames in the order of the listing, and the edges between them."""

    def __init__(
        self, scheduler: BaseScheduler, collapse: _selection.JobSelection | bool, critical_path: CriticalPath
    ) -> None:
        """Select the edges to draw. `collapse` is documented in `Scheduler.graph`."""
        self._rows: Final = [row for row in listing_rows(scheduler) if isinstance(row, (PlainRow, BeginRow, EndRow))]
        self.job_numbers: Final = number_jobs(self._rows)
        self.scheduler: Final = scheduler
        self._folded: Final = _select_folded_schedulers(scheduler, self.job_numbers, collapse)
        self._stand_ins: Final = self._find_stand_ins()
        self.critical_path_jobs: Final = {self._stand_ins[job] for job in critical_path if job in self._stand_ins}
        self.critical_path_edges: Final = {
            (self._stand_ins.get(predecessor), self._stand_ins.get(job))
            for job, predecessor in critical_path.items()
            if predecessor
        }
        self.edges: Final[DrawnEdges] = self._find_edges()

    def drawn_rows(self) -> Iterator[PlainRow | BeginRow | EndRow]:
        """Yield the rows to draw: a `BeginRow` and an `EndRow` for each frame, and a `PlainRow` for each box."""
        for row in self._rows:
            if self._stand_ins[row.job] is not row.job:
                continue
            if row.job not in self._folded:
                yield row
            elif not isinstance(row, EndRow):
                yield PlainRow(*row)

    def outside_jobs(self) -> list[AnyJob]:
        """Return the jobs outside the scheduler that have edges to jobs inside it."""
        ends = dict.fromkeys(job for edge in self.edges for job in edge)
        return [job for job in ends if job not in self._stand_ins]

    def find_members(self) -> dict[AnyJob, list[AnyJob]]:
        """Return the jobs that are drawn directly in each frame, and first, for the whole, those drawn in none.

        Enclosing frames come first. Jobs outside the scheduler are drawn in none.
        """
        members: dict[AnyJob, list[AnyJob]] = {self.scheduler: []}
        for row in self.drawn_rows():
            if (frame := row.job.scheduler) in members and not isinstance(row, EndRow):
                members[frame].append(row.job)
            if isinstance(row, BeginRow):
                members[row.job] = []
        members[self.scheduler] += self.outside_jobs()
        return members

    @functools.cached_property
    def paths(self) -> dict[AnyJob, str]:
        """The path of each job. All paths are computed together: reading each `job.path` would take quadratic time."""
        return paths_of(self.scheduler)

    # ---- stand-ins

    def _find_stand_ins(self) -> dict[AnyJob, AnyJob]:
        stand_ins: dict[AnyJob, AnyJob] = {}
        folded: AnyJob | None = None  # the folded scheduler that stands in for its members
        for row in self._rows:
            if isinstance(row, EndRow):
                folded = None if row.job is folded else folded
                continue
            stand_ins[row.job] = folded or row.job
            if folded is None and row.job in self._folded:
                folded = row.job
        return stand_ins

    # ---- edges

    def _find_edges(self) -> DrawnEdges:
        """Return the edges between stand-ins. There is no edge if they are the same, or if one encloses the other."""
        edges: DrawnEdges = {}
        for job in self.job_numbers:
            inputs = inputs_of(job)
            settled_only = set(settled_only_for(job))
            head = self._stand_ins[job]
            for requirement in job.required:
                tail = self._stand_ins.get(requirement, requirement)
                if tail is head or _is_or_encloses(tail, head) or _is_or_encloses(head, tail):
                    continue
                kind = EdgeKind.SETTLED if requirement in settled_only else EdgeKind.ORDER
                kinds = [EdgeKind.DATA if requirement in inputs else kind, edges.get((tail, head), kind)]
                edges[tail, head] = min(kinds, key=EDGE_KINDS.index)
        return edges


def _is_or_encloses(scheduler: AnyJob, job: AnyJob) -> bool:
    """Return whether `scheduler` is `job` or encloses it. If so, no edge can connect the two."""
    return is_scheduler(scheduler) and (job is scheduler or is_inside(job, scheduler))


def _select_folded_schedulers(
    scheduler: BaseScheduler, jobs: Iterable[AnyJob], collapse: _selection.JobSelection | bool
) -> set[AnyJob]:
    if isinstance(collapse, bool):
        return {job for job in jobs if collapse and is_scheduler(job)}
    return {job for job in _selection.select_jobs(scheduler, collapse, "collapse") if is_scheduler(job)}


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
