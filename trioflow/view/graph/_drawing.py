"""`Drawing`: the boxes, frames and lines in the picture of a graph, independent of the output language.

Each job has a **stand-in**, the job that is drawn in its place: usually itself, otherwise the folded scheduler that
encloses it, or the first job of its bundle. Lines connect stand-ins:

    jobs ──► rows of the listing ──► stand-ins ──► lines between them ──► bridges over the jobs left out

The order and the numbers of the jobs are those of the listing. All steps are O(V + E), without recursion.
"""

from __future__ import annotations

import enum
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    enclosing_schedulers,
    flag,
    inputs_of,
    is_inside,
    is_scheduler,
    paths_of,
)
from ..text import _selection
from ..text._listing import Begin, End, Plain, listing_rows, number_jobs
from . import _simplify


class DrawnAs(enum.Enum):
    """The role of a job in a drawing."""

    WHOLE = "drawn; a nested scheduler as a frame around its jobs"
    FOLDED = "a nested scheduler drawn as a plain job"
    LEFT_OUT = "not drawn"
    JUNCTION = "left out, except for a point in which lines meet"
    OUTSIDE = "required, but not in this scheduler"


class LineKind(enum.Enum):
    """The reason for a line between two jobs; if there are several reasons, the first of these counts."""

    DATA = "the result of one is an argument of the other"
    ORDER = "one requires the other"
    DETOUR = "one requires the other through jobs that are left out"


Lines = dict[tuple[AnyJob, AnyJob], LineKind]


CriticalPath = Mapping[AnyJob, AnyJob | None]
"""The jobs on the critical path of the last run, each with its predecessor on that path, or None."""
NO_PATH: Final[CriticalPath] = MappingProxyType({})


class Drawing:
    """The drawing of one scheduler: its jobs and frames in the order of the listing, and the lines between them."""

    def __init__(
        self,
        scheduler: BaseScheduler,
        *,
        only: _selection.JobSelection | None = None,
        collapse: _selection.JobSelection | bool = False,
        bundle: bool = False,
        critical_path: CriticalPath = NO_PATH,
    ) -> None:
        """Select the jobs and lines to draw; `Scheduler.graph` documents the options."""
        self._rows: Final = [row for row in listing_rows(scheduler) if isinstance(row, (Plain, Begin, End))]
        self.numbers: Final = number_jobs(self._rows)
        self._scheduler: Final = scheduler
        self._roles: Final[dict[AnyJob, DrawnAs]] = {}
        self._stand_ins: Final[dict[AnyJob, AnyJob]] = {}
        self._assign_roles(
            _select_kept(scheduler, self.numbers, only), _select_folded(scheduler, self.numbers, collapse)
        )
        self.bundles: Final = self._find_bundles() if flag(bundle, "bundle", "graph()") else {}
        self.critical: Final = {self._stand_ins[job] for job in critical_path if job in self._stand_ins}
        self.critical_lines: Final = {
            (self._stand_ins.get(before), self._stand_ins.get(job)) for job, before in critical_path.items() if before
        }
        self.lines: Final[Lines] = self._find_lines()
        self._bridge()

    def items(self) -> Iterator[Plain | Begin | End]:
        """Yield the rows of the listing to draw: `Begin` and `End` of each frame, and `Plain` for each box."""
        for row in self._rows:
            role = self.role(row.job)
            if self._stand_ins[row.job] is not row.job or role is DrawnAs.LEFT_OUT:
                continue
            if role is DrawnAs.WHOLE:
                yield row
            elif not isinstance(row, End):
                yield Plain(*row)

    def role(self, job: AnyJob) -> DrawnAs:
        """Return the role of a job in the drawing."""
        return self._roles.get(job, DrawnAs.OUTSIDE)

    def outside_jobs(self) -> list[AnyJob]:
        """Return the jobs outside the scheduler to which lines lead."""
        ends = dict.fromkeys(job for line in self.lines for job in line)
        return [job for job in ends if self.role(job) is DrawnAs.OUTSIDE]

    def jobs_drawn_as(self, job: AnyJob) -> list[AnyJob]:
        """Return the jobs that a drawn job stands for, itself included."""
        return self.bundles.get(job, [job])

    @functools.cached_property
    def paths(self) -> dict[AnyJob, str]:
        """The path of each job; asking each job for its own would be quadratic."""
        return paths_of(self._scheduler)

    # ---- stand-ins

    def _assign_roles(self, kept: set[AnyJob] | None, folded: set[AnyJob]) -> None:
        """Set the role of each job, and its stand-in before bundling."""
        stand_in: AnyJob | None = None  # the folded scheduler that stands for its members
        for row in self._rows:
            if isinstance(row, End):
                stand_in = None if row.job is stand_in else stand_in
                continue
            job = row.job
            self._stand_ins[job] = stand_in or job
            if stand_in is not None:
                continue
            self._roles[job] = _role_of(job, kept, folded)
            if isinstance(row, Begin) and self._roles[job] is not DrawnAs.WHOLE:
                stand_in = job

    def _find_bundles(self) -> dict[AnyJob, list[AnyJob]]:
        drawn = [job for job, role in self._roles.items() if role in (DrawnAs.WHOLE, DrawnAs.FOLDED)]
        folded = {job for job in drawn if self._roles[job] is DrawnAs.FOLDED}
        bundles = _simplify.Bundler(self._stand_ins, folded).bundles(drawn)
        self._stand_ins.update((job, self._stand_ins[first]) for job, first in self._stand_ins.items())
        return bundles

    # ---- the lines

    def _find_lines(self) -> Lines:
        """Return the lines between stand-ins; requirements inside one stand-in have no line."""
        lines: Lines = {}
        for job in self.numbers:
            inputs = inputs_of(job)
            head = self._stand_ins[job]
            for requirement in job.required:
                tail = self._stand_ins.get(requirement, requirement)
                if tail is head or _encloses(tail, head) or _encloses(head, tail):
                    continue
                if requirement in inputs:
                    lines[tail, head] = LineKind.DATA
                else:
                    lines.setdefault((tail, head), LineKind.ORDER)
        return lines

    def _bridge(self) -> None:
        left_out = [job for job, role in self._roles.items() if role is DrawnAs.LEFT_OUT]
        if left_out:
            for job in _simplify.bridge(self.lines, left_out, LineKind.DETOUR):
                self._roles[job] = DrawnAs.JUNCTION


def _role_of(job: AnyJob, kept: set[AnyJob] | None, folded: set[AnyJob]) -> DrawnAs:
    if kept is not None and job not in kept:
        return DrawnAs.LEFT_OUT
    return DrawnAs.FOLDED if job in folded else DrawnAs.WHOLE


def _encloses(scheduler: AnyJob, job: AnyJob) -> bool:
    """Return whether `job` is `scheduler` or is inside it; no line can connect the two."""
    return is_scheduler(scheduler) and (job is scheduler or is_inside(job, scheduler))


def _select_kept(
    scheduler: BaseScheduler, jobs: Iterable[AnyJob], only: _selection.JobSelection | None
) -> set[AnyJob] | None:
    """Return the selected jobs, the jobs nested in them, and their enclosing schedulers; None if all jobs are kept."""
    if only is None:
        return None
    kept = _selection.select_jobs(scheduler, only, "only")
    enclosing: set[AnyJob] = set()
    for job in kept:
        enclosing.update(itertools.takewhile(lambda outer: outer not in enclosing, enclosing_schedulers(job)))
    for job in jobs:  # a scheduler comes before its members
        if job.scheduler in kept:
            kept.add(job)
    return kept | enclosing


def _select_folded(
    scheduler: BaseScheduler, jobs: Iterable[AnyJob], collapse: _selection.JobSelection | bool
) -> set[AnyJob]:
    if isinstance(collapse, bool):
        return {job for job in jobs if collapse and is_scheduler(job)}
    return {job for job in _selection.select_jobs(scheduler, collapse, "collapse") if is_scheduler(job)}
