"""`Drawing`: the boxes, frames and lines of a graph's picture, independent of the language that draws it.

Each job has a **stand-in**, the job that is drawn in its place: usually itself; or the folded scheduler that it is in;
or the first of the jobs that it is bundled with. Lines join stand-ins:

    jobs ──► rows of the listing ──► stand-ins ──► lines between them ──► bridges over the jobs left out

All of it is O(V + E) and without recursion, like the listing, whose order and numbers it shares.
"""

from __future__ import annotations

import enum
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from ..._core.api.views import AnyJob, BaseScheduler, flag, inputs_of, is_inside, is_scheduler, outwards, paths_of
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
    """The reason for a line between two jobs; of several reasons, the first one."""

    DATA = "the result of one is an argument of the other"
    ORDER = "one requires the other"
    DETOUR = "by way of jobs that are left out"


Lines = dict[tuple[AnyJob, AnyJob], LineKind]


CriticalPath = Mapping[AnyJob, AnyJob | None]
"""The jobs on the critical path of the last run, each with the one before it."""
NO_PATH: Final[CriticalPath] = MappingProxyType({})


class Drawing:
    """The drawing of one scheduler: frames and jobs in the order of the listing, and the lines between them."""

    def __init__(
        self,
        scheduler: BaseScheduler,
        *,
        only: _selection.JobSelection | None = None,
        collapse: _selection.JobSelection | bool = False,
        bundle: bool = False,
        critical_path: CriticalPath = NO_PATH,
    ) -> None:
        """Select what is drawn; `Scheduler.graph` documents the options."""
        self._rows: Final = [row for row in listing_rows(scheduler) if isinstance(row, (Plain, Begin, End))]
        self.numbers: Final = number_jobs(self._rows)
        self._scheduler: Final = scheduler
        self._parts: Final[dict[AnyJob, DrawnAs]] = {}
        self._stand_ins: Final[dict[AnyJob, AnyJob]] = {}
        self._place_all(_chosen_jobs(scheduler, self.numbers, only), _folded(scheduler, self.numbers, collapse))
        self.bundles: Final = self._find_bundles() if flag(bundle, "bundle", "graph()") else {}
        self.critical: Final = {self._stand_ins[job] for job in critical_path if job in self._stand_ins}
        self.critical_lines: Final = {
            (self._stand_ins.get(before), self._stand_ins.get(job)) for job, before in critical_path.items() if before
        }
        self.lines: Final[Lines] = self._find_lines()
        self._bridge()

    def items(self) -> Iterator[Plain | Begin | End]:
        """Yield the rows of the listing that are drawn: a frame begins and ends; a folded scheduler is plain."""
        for row in self._rows:
            part = self.part(row.job)
            if self._stand_ins[row.job] is not row.job or part is DrawnAs.LEFT_OUT:
                continue
            if part is DrawnAs.WHOLE:
                yield row
            elif not isinstance(row, End):
                yield Plain(*row)

    def part(self, job: AnyJob) -> DrawnAs:
        """Return the role of a job."""
        return self._parts.get(job, DrawnAs.OUTSIDE)

    def outside(self) -> list[AnyJob]:
        """Return the ends of lines that are outside the scheduler."""
        ends = dict.fromkeys(job for line in self.lines for job in line)
        return [job for job in ends if self.part(job) is DrawnAs.OUTSIDE]

    def jobs_drawn_as(self, job: AnyJob) -> list[AnyJob]:
        """Return the jobs that a drawn job stands for, itself included."""
        return self.bundles.get(job, [job])

    @functools.cached_property
    def paths(self) -> dict[AnyJob, str]:
        """The path of each job; asking each job for its own would be quadratic."""
        return paths_of(self._scheduler)

    # ---- stand-ins

    def _place_all(self, kept: set[AnyJob] | None, folded: set[AnyJob]) -> None:
        around: AnyJob | None = None  # the folded scheduler that stands for its members
        for row in self._rows:
            if isinstance(row, End):
                around = None if row.job is around else around
                continue
            job = row.job
            self._stand_ins[job] = around or job
            if around is not None:
                continue
            self._parts[job] = _part_of(job, kept, folded)
            if isinstance(row, Begin) and self._parts[job] is not DrawnAs.WHOLE:
                around = job

    def _find_bundles(self) -> dict[AnyJob, list[AnyJob]]:
        drawn = [job for job, part in self._parts.items() if part in (DrawnAs.WHOLE, DrawnAs.FOLDED)]
        folded = {job for job in drawn if self._parts[job] is DrawnAs.FOLDED}
        found = _simplify.Bundler(self._stand_ins, folded).bundles(drawn)
        self._stand_ins.update((job, self._stand_ins[first]) for job, first in self._stand_ins.items())
        return found

    # ---- the lines

    def _find_lines(self) -> Lines:
        found: Lines = {}
        for job in self.numbers:
            inputs = inputs_of(job)
            head = self._stand_ins[job]
            for requirement in job.required:
                tail = self._stand_ins.get(requirement, requirement)
                if tail is head or _is_around(tail, head) or _is_around(head, tail):
                    continue
                if requirement in inputs:
                    found[tail, head] = LineKind.DATA
                else:
                    found.setdefault((tail, head), LineKind.ORDER)
        return found

    def _bridge(self) -> None:
        left_out = [job for job, part in self._parts.items() if part is DrawnAs.LEFT_OUT]
        if left_out:
            for job in _simplify.bridge(self.lines, left_out, LineKind.DETOUR):
                self._parts[job] = DrawnAs.JUNCTION


def _part_of(job: AnyJob, kept: set[AnyJob] | None, folded: set[AnyJob]) -> DrawnAs:
    if kept is not None and job not in kept:
        return DrawnAs.LEFT_OUT
    return DrawnAs.FOLDED if job in folded else DrawnAs.WHOLE


def _is_around(scheduler: AnyJob, job: AnyJob) -> bool:
    """Return whether a scheduler encloses a job; no line can be drawn between the two."""
    return is_scheduler(scheduler) and (job is scheduler or is_inside(job, scheduler))


def _chosen_jobs(
    scheduler: BaseScheduler, jobs: Iterable[AnyJob], only: _selection.JobSelection | None
) -> set[AnyJob] | None:
    """Return the chosen jobs, their members, and their enclosing schedulers; None if all jobs are kept."""
    if only is None:
        return None
    kept = _selection.select_jobs(scheduler, only, "only")
    around: set[AnyJob] = set()
    for job in kept:
        around.update(itertools.takewhile(lambda outer: outer not in around, outwards(job)))
    for job in jobs:  # a scheduler comes before what is in it
        if job.scheduler in kept:
            kept.add(job)
    return kept | around


def _folded(scheduler: BaseScheduler, jobs: Iterable[AnyJob], collapse: _selection.JobSelection | bool) -> set[AnyJob]:
    if isinstance(collapse, bool):
        return {job for job in jobs if collapse and is_scheduler(job)}
    return {job for job in _selection.select_jobs(scheduler, collapse, "collapse") if is_scheduler(job)}
