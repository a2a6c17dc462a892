"""Choose the anchors of each frame: the boxes to which edges that begin or end at the frame are attached.

A nested scheduler is drawn as a frame, but dot draws edges only between boxes. If edges end at a frame, its anchors are
the boxes of its first rank, or, if there are many such boxes, one invisible point above them. If edges begin at a
frame, its anchors are the boxes of its last rank, or one invisible point below them. An empty frame has a single point.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from ..._core.api.views import AnyJob, BaseScheduler
from ..text._listing import BeginRow, EndRow
from ._drawing import Drawing, DrawnEdges


class PointPosition(enum.Enum):
    TOP = "top"
    BOTTOM = "bottom"
    MIDDLE = "empty"


class InvisiblePoint(NamedTuple):
    scheduler: BaseScheduler
    position: PointPosition


Anchor: TypeAlias = AnyJob | InvisiblePoint

MAX_ANCHORS: Final = 4
"""The maximum number of anchors at a border. If there are more boxes, a single point replaces them.

Thus, an edge between two frames becomes at most 16 edges in dot, all but one of them invisible.
"""


class FrameBorders:
    """The top borders of all frames, or all their bottom borders, each with the boxes next to it and its anchors."""

    def __init__(self, position: PointPosition, members: dict[BaseScheduler, list[AnyJob]], edges: DrawnEdges) -> None:
        """Find the anchors of the frames at which edges end (for top borders) or begin (for bottom borders)."""
        end_index = 1 if position is PointPosition.TOP else 0
        jobs_away_from_border = {ends[end_index] for ends in edges if ends[0].scheduler is ends[1].scheduler}
        self._position: Final = position
        self._jobs_at_border: Final = {
            frame: [job for job in jobs if job not in jobs_away_from_border] or jobs[:1]
            for frame, jobs in members.items()
        }
        self._anchors: Final[dict[AnyJob, list[Anchor]]] = {}
        self._replaced_boxes: Final[dict[InvisiblePoint, list[Anchor]]] = {}
        for frame in reversed(self._frames_with_anchors({ends[end_index] for ends in edges})):  # the innermost first
            self._anchors[frame] = self._find_anchors(frame)

    def get_anchors(self, job: AnyJob) -> list[Anchor]:
        """Return the anchors of a frame, of which there are at most `MAX_ANCHORS`. Any other job is its own anchor."""
        return self._anchors.get(job, [job])

    def find_points(self, frame: BaseScheduler) -> list[InvisiblePoint]:
        """Return, as a list of at most one, the invisible point that replaces the frame's boxes at this border."""
        point = InvisiblePoint(frame, self._position)
        return [point] if point in self._replaced_boxes else []

    def get_replaced_boxes(self, point: InvisiblePoint) -> list[Anchor]:
        """Return the boxes that a point replaces. They belong below a point at the top, and above one at the bottom."""
        return self._replaced_boxes.get(point, [])

    def _frames_with_anchors(self, ends: Iterable[AnyJob]) -> list[BaseScheduler]:
        """Return the frames among `ends`, and the frames in them that touch the same border, the outermost first."""
        wanted_jobs = set(ends)
        frames: list[BaseScheduler] = []
        for frame, jobs in self._jobs_at_border.items():  # the outermost frame first
            if frame in wanted_jobs:
                frames.append(frame)
                wanted_jobs.update(jobs)
        return frames

    def _find_anchors(self, frame: BaseScheduler) -> list[Anchor]:
        anchors = [anchor for job in self._jobs_at_border[frame] for anchor in self.get_anchors(job)]
        if not anchors:
            return [InvisiblePoint(frame, PointPosition.MIDDLE)]
        if len(anchors) <= MAX_ANCHORS:
            return anchors
        point = InvisiblePoint(frame, self._position)
        self._replaced_boxes[point] = anchors
        return [point]


class FrameAnchors:
    def __init__(self, drawing: Drawing) -> None:
        """Find the anchors of all frames, in O(V + E) time for V jobs and E edges."""
        self._members_by_frame: Final = _find_members(drawing)
        self._edges: Final = drawing.edges
        self._heads: Final = {head for _, head in drawing.edges}
        self._top_borders: Final = FrameBorders(PointPosition.TOP, self._members_by_frame, drawing.edges)
        self._bottom_borders: Final = FrameBorders(PointPosition.BOTTOM, self._members_by_frame, drawing.edges)

    def choose_edge_anchors(self, tail: AnyJob, head: AnyJob) -> tuple[Anchor, Anchor]:
        """Return the two anchors that a visible edge connects: the middle anchors of its tail and of its head."""
        tails, heads = self._bottom_borders.get_anchors(tail), self._top_borders.get_anchors(head)
        return tails[len(tails) // 2], heads[len(heads) // 2]

    def invisible_edges(self, tail: AnyJob, head: AnyJob) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible edges that accompany a visible edge. They connect all other pairs of anchors."""
        visible_edge = self.choose_edge_anchors(tail, head)
        return [
            ends
            for ends in itertools.product(self._bottom_borders.get_anchors(tail), self._top_borders.get_anchors(head))
            if ends != visible_edge
        ]

    def first_rank_boxes(self, frame: BaseScheduler) -> list[AnyJob]:
        """Return the boxes in a frame at which no edge ends, because dot may place all of them in the first rank."""
        return [
            job for job in self._members_by_frame[frame] if job not in self._heads and job not in self._members_by_frame
        ]

    def lonely_boxes(self) -> list[list[AnyJob]]:
        """Return the boxes without edges, those of each frame and those outside of all frames."""
        ends = {job for edge in self._edges for job in edge}
        return [
            [job for job in jobs if job not in ends and job not in self._members_by_frame]
            for jobs in self._members_by_frame.values()
        ]

    def find_points(self, frame: BaseScheduler) -> list[InvisiblePoint]:
        """Return the points in a frame. An empty frame has a point, because dot draws no frame without content."""
        if not self._members_by_frame[frame]:
            return [InvisiblePoint(frame, PointPosition.MIDDLE)]
        return [*self._top_borders.find_points(frame), *self._bottom_borders.find_points(frame)]

    def alignment_edges(self, point: InvisiblePoint) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible edges that keep a point above or below the boxes that it replaces."""
        boxes_below: list[tuple[Anchor, Anchor]] = [(point, box) for box in self._top_borders.get_replaced_boxes(point)]
        boxes_above: list[tuple[Anchor, Anchor]] = [
            (box, point) for box in self._bottom_borders.get_replaced_boxes(point)
        ]
        return boxes_below + boxes_above


def _find_members(drawing: Drawing) -> dict[BaseScheduler, list[AnyJob]]:
    """Return the jobs that are drawn directly in each frame, and those in no frame. Enclosing frames come first."""
    members: dict[BaseScheduler, list[AnyJob]] = {drawing.scheduler: []}
    for row in drawing.drawn_rows():
        if isinstance(row, EndRow):
            continue
        enclosing_scheduler = row.job.scheduler
        if enclosing_scheduler in members:
            members[enclosing_scheduler].append(row.job)
        if isinstance(row, BeginRow):
            members[row.job] = []
    return members
