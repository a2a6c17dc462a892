"""`FrameEnds`: the boxes at which lines to and from the frames of nested schedulers end and begin.

A frame at which lines end has anchors at its top: its first boxes, or, if there are many, an invisible point above all
of them. A frame at which lines begin has anchors at its bottom in the same way. An empty frame has one point for both.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from ..._core.api.views import AnyJob, BaseScheduler
from ..text._listing import Begin, End
from ._drawing import Drawing, Lines


class PointPlace(enum.Enum):
    """The position of a point in its frame."""

    TOP = "top"
    BOTTOM = "bottom"
    MIDDLE = "empty"


class Point(NamedTuple):
    """An invisible point in a frame."""

    scheduler: BaseScheduler
    place: PointPlace


Anchor: TypeAlias = AnyJob | Point

FEW: Final = 4
"""Number of boxes above which a point replaces them, so that a line between two frames becomes at most 16."""


class FrameEdge:
    """The outermost boxes of each frame at one side, top or bottom, and the anchors made of them."""

    def __init__(self, place: PointPlace, members: dict[BaseScheduler, list[AnyJob]], lines: Lines) -> None:
        """Find the anchors of all frames at which lines end, or begin."""
        end = 1 if place is PointPlace.TOP else 0
        inner = {ends[end] for ends in lines if ends[0].scheduler is ends[1].scheduler}
        self._place: Final = place
        self._outermost: Final = {
            frame: [job for job in jobs if job not in inner] or jobs[:1] for frame, jobs in members.items()
        }
        self._anchors: Final[dict[AnyJob, list[Anchor]]] = {}
        self._tied: Final[dict[Point, list[Anchor]]] = {}
        for frame in reversed(self._needed({ends[end] for ends in lines})):  # from inside outwards
            self._anchors[frame] = self._find_anchors(frame)

    def of(self, job: AnyJob) -> list[Anchor]:
        """Return the anchors of a frame, at most FEW; for a plain job, the job itself."""
        return self._anchors.get(job, [job])

    def point(self, frame: BaseScheduler) -> list[Point]:
        """Return the point that is the frame's anchor, if it has one."""
        point = Point(frame, self._place)
        return [point] if point in self._tied else []

    def tied(self, point: Point) -> list[Anchor]:
        """Return the boxes that a point must be above (at the top) or below (at the bottom)."""
        return self._tied.get(point, [])

    def _needed(self, ends: Iterable[AnyJob]) -> list[BaseScheduler]:
        """Return the frames at which lines end, and those among their outermost members, at any depth."""
        wanted = set(ends)
        needed: list[BaseScheduler] = []
        for frame, jobs in self._outermost.items():  # from outside inwards
            if frame in wanted:
                needed.append(frame)
                wanted.update(jobs)
        return needed

    def _find_anchors(self, frame: BaseScheduler) -> list[Anchor]:
        anchors = [anchor for job in self._outermost[frame] for anchor in self.of(job)]
        if not anchors:
            return [Point(frame, PointPlace.MIDDLE)]
        if len(anchors) <= FEW:
            return anchors
        point = Point(frame, self._place)
        self._tied[point] = anchors
        return [point]


class FrameEnds:
    """The anchors of all frames in a drawing."""

    def __init__(self, drawing: Drawing) -> None:
        """Find the anchors. O(V + E)."""
        self._members: Final = _members(drawing)
        self._heads: Final = {head for _, head in drawing.lines}
        self._top: Final = FrameEdge(PointPlace.TOP, self._members, drawing.lines)
        self._bottom: Final = FrameEdge(PointPlace.BOTTOM, self._members, drawing.lines)

    def of_line(self, tail: AnyJob, head: AnyJob) -> tuple[Anchor, Anchor]:
        """Return the two anchors between which a line is drawn: the middle ones."""
        tails, heads = self._bottom.of(tail), self._top.of(head)
        return tails[len(tails) // 2], heads[len(heads) // 2]

    def invisible_edges(self, tail: AnyJob, head: AnyJob) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible lines beside it, between all the other pairs of anchors."""
        drawn = self.of_line(tail, head)
        return [ends for ends in itertools.product(self._bottom.of(tail), self._top.of(head)) if ends != drawn]

    def first(self, frame: BaseScheduler) -> list[AnyJob]:
        """Return the boxes in a frame at which no line ends, and which may so share a rank."""
        return [job for job in self._members[frame] if job not in self._heads and job not in self._members]

    def points(self, frame: BaseScheduler) -> list[Point]:
        """Return the points in a frame; an empty one always has one, because dot leaves out a frame around nothing."""
        if not self._members[frame]:
            return [Point(frame, PointPlace.MIDDLE)]
        return [*self._top.point(frame), *self._bottom.point(frame)]

    def ties(self, point: Point) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible lines that keep a point in its place."""
        below: list[tuple[Anchor, Anchor]] = [(point, other) for other in self._top.tied(point)]
        above: list[tuple[Anchor, Anchor]] = [(other, point) for other in self._bottom.tied(point)]
        return below + above


def _members(drawing: Drawing) -> dict[BaseScheduler, list[AnyJob]]:
    """Return the direct members of each frame; enclosing frames come first."""
    members: dict[BaseScheduler, list[AnyJob]] = {}
    for item in drawing.items():
        if isinstance(item, End):
            continue
        outer = item.job.scheduler
        if outer in members:
            members[outer].append(item.job)
        if isinstance(item, Begin):
            members[item.job] = []
    return members
