"""`FrameEnds`: chooses anchors, the boxes where the lines to and from the frames of nested schedulers end and begin.

A frame at which lines end has anchors at its top: the boxes of its first rank, or one invisible point above all of
them if there are many. A frame at which lines begin has anchors at its bottom in the same way. An empty frame has one
point for both.
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
    """The position of an invisible point in its frame."""

    TOP = "top"
    BOTTOM = "bottom"
    MIDDLE = "empty"


class Point(NamedTuple):
    """An invisible point in the frame of a scheduler."""

    scheduler: BaseScheduler
    place: PointPlace


Anchor: TypeAlias = AnyJob | Point

MAX_ANCHORS: Final = 4
"""Number of anchors per edge; a point replaces more of them, so a line between two frames becomes at most 16 lines."""


class FrameEdge:
    """The top edges, or the bottom edges, of all frames: the outermost boxes at each edge, and its anchors."""

    def __init__(self, place: PointPlace, members: dict[BaseScheduler, list[AnyJob]], lines: Lines) -> None:
        """Find the anchors of the frames at which lines end (for the top) or begin (for the bottom)."""
        end = 1 if place is PointPlace.TOP else 0
        inner = {ends[end] for ends in lines if ends[0].scheduler is ends[1].scheduler}
        self._place: Final = place
        self._outermost: Final = {
            frame: [job for job in jobs if job not in inner] or jobs[:1] for frame, jobs in members.items()
        }
        self._anchors: Final[dict[AnyJob, list[Anchor]]] = {}
        self._tied: Final[dict[Point, list[Anchor]]] = {}
        for frame in reversed(self._frames_with_anchors({ends[end] for ends in lines})):  # from inside outwards
            self._anchors[frame] = self._find_anchors(frame)

    def anchors_of(self, job: AnyJob) -> list[Anchor]:
        """Return the anchors of a frame, at most MAX_ANCHORS; for a plain job, the job itself."""
        return self._anchors.get(job, [job])

    def points(self, frame: BaseScheduler) -> list[Point]:
        """Return a list with the point that is the anchor of a frame; an empty list if its anchors are boxes."""
        point = Point(frame, self._place)
        return [point] if point in self._tied else []

    def tied(self, point: Point) -> list[Anchor]:
        """Return the boxes that must be below a point at the top, or above a point at the bottom."""
        return self._tied.get(point, [])

    def _frames_with_anchors(self, ends: Iterable[AnyJob]) -> list[BaseScheduler]:
        """Return the frames at which lines end, and the nested frames at the same edge, the outermost first."""
        wanted = set(ends)
        frames: list[BaseScheduler] = []
        for frame, jobs in self._outermost.items():  # from outside inwards
            if frame in wanted:
                frames.append(frame)
                wanted.update(jobs)
        return frames

    def _find_anchors(self, frame: BaseScheduler) -> list[Anchor]:
        anchors = [anchor for job in self._outermost[frame] for anchor in self.anchors_of(job)]
        if not anchors:
            return [Point(frame, PointPlace.MIDDLE)]
        if len(anchors) <= MAX_ANCHORS:
            return anchors
        point = Point(frame, self._place)
        self._tied[point] = anchors
        return [point]


class FrameEnds:
    """The anchors of all frames of a drawing."""

    def __init__(self, drawing: Drawing) -> None:
        """Find the anchors of all frames. O(V + E)."""
        self._members: Final = _members(drawing)
        self._heads: Final = {head for _, head in drawing.lines}
        self._top: Final = FrameEdge(PointPlace.TOP, self._members, drawing.lines)
        self._bottom: Final = FrameEdge(PointPlace.BOTTOM, self._members, drawing.lines)

    def anchors_of_line(self, tail: AnyJob, head: AnyJob) -> tuple[Anchor, Anchor]:
        """Return the two anchors that a visible line connects: the middle ones of its tail and its head."""
        tails, heads = self._bottom.anchors_of(tail), self._top.anchors_of(head)
        return tails[len(tails) // 2], heads[len(heads) // 2]

    def invisible_edges(self, tail: AnyJob, head: AnyJob) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible lines that accompany a line, between all other pairs of anchors."""
        drawn = self.anchors_of_line(tail, head)
        return [
            ends
            for ends in itertools.product(self._bottom.anchors_of(tail), self._top.anchors_of(head))
            if ends != drawn
        ]

    def first(self, frame: BaseScheduler) -> list[AnyJob]:
        """Return the boxes in a frame at which no line ends, so that all of them may be in its first rank."""
        return [job for job in self._members[frame] if job not in self._heads and job not in self._members]

    def points(self, frame: BaseScheduler) -> list[Point]:
        """Return the points in a frame; an empty frame has one, because dot does not draw frames without content."""
        if not self._members[frame]:
            return [Point(frame, PointPlace.MIDDLE)]
        return [*self._top.points(frame), *self._bottom.points(frame)]

    def ties(self, point: Point) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible lines that keep a point above or below the boxes that it replaces."""
        below: list[tuple[Anchor, Anchor]] = [(point, other) for other in self._top.tied(point)]
        above: list[tuple[Anchor, Anchor]] = [(other, point) for other in self._bottom.tied(point)]
        return below + above


def _members(drawing: Drawing) -> dict[BaseScheduler, list[AnyJob]]:
    """Return the jobs drawn directly in each frame; enclosing frames come first."""
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
