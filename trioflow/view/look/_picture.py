"""The graph of a run that a page shows: laid out by `dot` when its structure changes, and coloured at each answer.

A box is a job. If these are too many, or the run drops its jobs, a box is a family of jobs, or a group. The form with
the most details that can be read is drawn. If none of the labels could be read, the boxes are squares with tooltips.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ..._core.base._states import JobState
from .._families import family_from_label, fit_name, levels_in_groups
from .._state_styles import (
    STATE_COUNT_ORDER,
    STATE_PRECEDENCE,
    recorded_state,
    state_class,
)
from ..graph import _dot
from ..trace import _trace_record
from ..trace._record_builder import JobFacts
from ._console import WatchedRun, name_of

MAX_LABELS: Final = 60
MAX_EDGES: Final = 3000
PLACE: Final = 450, 310
"""The width and height, in points, of the place for it on the page."""
MIN_SCALES: Final = {True: 0.45, False: 0.4}
"""The smallest scales at which pictures with labels are drawn, which the page shows larger and scrolls, and squares."""
MAX_LABEL: Final = 18
DOT_SECONDS: Final = 20
DIRECTIONS: Final[tuple[_dot.Direction, ...]] = "TB", "LR"
MISSING: Final = "The graph needs Graphviz: apt install graphviz, dnf install graphviz, or brew install graphviz."
TOO_MANY: Final = "There are too many different jobs for a readable graph."
FOLDED: Final = "Each box is a group, or jobs that need not wait for each other, whose labels differ in numbers only."
LABELS: Final[_dot.Defaults] = (
    _dot.GRAPH_DEFAULTS | {"nodesep": "0.18", "ranksep": "0.32", "pad": "0.05"},
    _dot.NODE_DEFAULTS | {"height": "0.28", "margin": "0.1,0.05"},
    _dot.EDGE_DEFAULTS | {"arrowsize": "0.5"},
)
SQUARES: Final[_dot.Defaults] = (
    LABELS[0] | {"nodesep": "0.06", "ranksep": "0.2"},
    LABELS[1] | {"width": "0.2", "height": "0.2", "fixedsize": "true"},
    LABELS[2] | {"arrowsize": "0.3"},
)
SQUARES_RATIO: Final = 0.7
"""`GRID_RATIO` of squares, so that a grid has the form of its place."""


class Family(NamedTuple):
    """The jobs or groups that may share a box: these of one family, on one level."""

    name: str
    is_group: bool
    level: int


Place = tuple[int | Family, ...]
"""A box or a frame: the groups around it, the outermost first, and itself. For each of them, there is its key or, if a
family is together, the family."""


class Placing(NamedTuple):
    """A way to put jobs into boxes.

    Attributes:
        names_jobs: whether each job has its own box. If not, the jobs of a family share a box.
        names_groups: whether each group is by itself. If not, the groups of a family are together.
        frame_depth: how many levels of groups are frames. The groups at the next level are boxes.

    """

    names_jobs: bool
    names_groups: bool
    frame_depth: float


JOBS: Final = Placing(True, True, math.inf)
FAMILIES: Final = Placing(False, False, math.inf)
FORMS: Final = (
    (JOBS, True), (JOBS, False), (Placing(False, True, math.inf), True), (Placing(False, True, 1), True),
    (Placing(False, True, 0), True), (FAMILIES, True), (Placing(False, True, 0), False),
    (Placing(False, False, 0), True),
)  # fmt: skip
"""The forms of a picture, each with whether its boxes have labels. Those with more details come first."""
GROWING_FORMS: Final = [form for form in FORMS if not form[0].names_groups]
"""The forms for a run that drops its jobs: the jobs change each second, the families and groups seldom."""


class Layout:
    """The boxes, frames and edges of a run.

    Attributes:
        placing: how its jobs were put into boxes.
        members: the boxes and frames in each frame, as `DotWriter` takes them.
        edges: the edges.
        titles: the title of each box and frame.
        jobs: the keys of the jobs in each box and frame that count.
        owners: the job or group that each box or frame stands for, or the first of them.

    """

    def __init__(
        self,
        placing: Placing,
        run: WatchedRun,
        counted: Iterable[JobFacts],
        families: dict[int, Family],
    ) -> None:
        self.placing: Final = placing
        self.members: Final[dict[Place, list[Place]]] = {(): []}
        self.titles: Final[dict[Place, str]] = {}
        self.owners: Final[dict[Place, int]] = {}
        places: dict[int | None, Place] = {None: ()}
        for key, (_, facts) in _in_order(run):
            outer = places[facts.span.parent]
            if outer not in self.members:
                # In a `First`, which is a single job, or in a group that is a box.
                places[key] = outer
                continue
            family = families[key]
            is_named = placing.names_groups if family.is_group else placing.names_jobs
            own: int | Family = key if is_named else family
            place = (*outer, own)
            places[key] = place
            title = family.name
            if place not in self.titles:
                if is_named or run.answer["keeps_jobs"]:
                    # The jobs of a run that drops them are no family of one for long.
                    title = facts.span.label
                self.owners[place] = key
                self.members[outer].append(place)
                if family.is_group and len(outer) < placing.frame_depth:
                    self.members[place] = []
            self.titles[place] = name_of(title)
        self.jobs: Final[dict[Place, list[int]]] = {place: [] for place in self.titles}
        for facts in counted:
            place = places[facts.span.number]
            for depth in range(1, len(place) + 1):
                self.jobs[place[:depth]].append(facts.span.number)
        self.edges: Final[dict[tuple[Place, Place], None]] = {}
        for key, (_, facts) in run.jobs.items():
            head = places[key]
            for required in facts.span.required:
                tail = places.get(required, ())
                is_inside = tail == head[: len(tail)] or head == tail[: len(head)]
                if not is_inside:
                    self.edges[tail, head] = None

    def can_be_read(self, has_labels: bool) -> bool:
        box_count = len(self.titles.keys() - self.members.keys())
        max_count = MAX_LABELS if has_labels else _trace_record.MAX_BOXES
        return 1 < box_count <= max_count and len(self.edges) <= MAX_EDGES


def _in_order(run: WatchedRun) -> list[tuple[int, tuple[int, JobFacts]]]:
    """Return the jobs of a run. Those of enclosing groups come first."""
    return sorted(run.jobs.items(), key=lambda item: item[1][0])


class Picture:
    """The graph of a run with a certain structure.

    Attributes:
        plan: the plan of its boxes.
        names: the names of its boxes and frames. There are none if nothing could be read.
        svg: the picture, or "" if there is none.
        number: the number of its layout, or 0 if there is none.
        note: a remark on the picture.

    """

    def __init__(self, run: WatchedRun) -> None:
        self.names: dict[Place, str] = {}
        self.svg = self.note = ""
        self.number = 0
        self._has_labels = False
        self._forms: Final = FORMS if run.answer["keeps_jobs"] else GROWING_FORMS
        counted = run.counted().jobs
        groups = {facts.span.parent for facts in run.runs.values()}
        jobs = {key: job for key, (_, job) in _in_order(run)}
        parents = {key: job.span.parent for key, job in jobs.items()}
        levels = levels_in_groups(parents, lambda key: jobs[key].span.required)
        families = {
            key: Family(
                family_from_label(job.span.label, job.has_own_label),
                key in groups and not job.span.is_first,
                levels.get(key, 0),
            )
            for key, job in jobs.items()
        }
        self._plans: Final = {
            placing: Layout(placing, run, counted, families)
            for placing in dict(self._forms)
        }
        self.plan = self._plans[FAMILIES]

    def take_layout(self, other: Picture) -> bool:
        """Take over the layout of a picture with the same structure. Return whether it has the same."""
        if self._structure() != other._structure():
            return False
        self.names = other.names
        self.svg = other.svg
        self.note = other.note
        self.number = other.number
        self._has_labels = other._has_labels
        self.plan = self._plans[other.plan.placing]
        return True

    def _structure(self) -> list[Any]:
        plans = self._plans.values()
        return [(plan.members.keys(), plan.edges, plan.titles) for plan in plans]

    def draw(self, number: int) -> Picture:
        """Let `dot` lay it out, in the first form that can be read. No other layout may have this number."""
        self.number = number
        try:
            self._draw_best_form()
        except (OSError, RuntimeError, ValueError, ModuleNotFoundError) as error:
            text = str(error)
            self.note = f"No graph: {text[:200].lstrip(': ')}"
            if "dot, which" in text:
                self.note = MISSING
        return self

    def _draw_best_form(self) -> None:
        drawn = list[tuple[float, Layout, dict[Place, str], bool, str]]()
        for placing, has_labels in self._forms:
            plan = self._plans[placing]
            if not plan.can_be_read(has_labels):
                continue
            names = {
                place: f"g{self.number}n{index}"
                for index, place in enumerate(plan.titles)
            }
            # Without edges, a grid reads like a text.
            ways = DIRECTIONS if plan.edges else DIRECTIONS[:1]
            sources = (
                PictureWriter(plan, names, has_labels, way).source() for way in ways
            )
            fitted = _dot.render_to_fit(sources, "", PLACE, DOT_SECONDS)
            margin = fitted.scale - MIN_SCALES[has_labels]
            drawn.append((margin, plan, names, has_labels, fitted.svg))
            if margin >= 0:
                break
        if drawn:
            best = max(drawn, key=lambda layout: layout[0])
            _, self.plan, self.names, self._has_labels, svg = best
            self.svg = _dot.picture_for_page(svg)
            if self.plan.placing is not JOBS:
                self.note = FOLDED
        elif len(self._plans[FAMILIES].titles) > 1:
            self.note = TOO_MANY

    def jobs_in_box(self, key: int) -> tuple[list[int], str]:
        """Return the keys of the jobs in the box that shows a job, or in the frame of a group, and its title."""
        plan = self.plan
        for place in self.names:
            if place in plan.members and plan.owners[place] == key:
                return plan.jobs[place], plan.titles[place]
        for place in self.names:
            if place not in plan.members and key in plan.jobs[place]:
                return plan.jobs[place], plan.titles[place]
        return [], ""

    def states(self, run: WatchedRun) -> dict[str, list[Any]]:
        """Return the look of each box and frame.

        The look is the class, the tooltip, and the job that a click chooses. If the box has a label and may have
        several jobs, the look also has the number of settled jobs, and the class and the number of the jobs in each
        state.
        """
        return {name: self._look(place, run) for place, name in self.names.items()}

    def _look(self, place: Place, run: WatchedRun) -> list[Any]:
        plan = self.plan
        title = plan.titles[place]
        owner = plan.owners[place]
        spans = run.known_spans(plan.jobs[place])
        counts = Counter(map(recorded_state, spans))
        found = [state for state in STATE_PRECEDENCE if counts[state]]
        first = found[0] if found else JobState.IDLE
        if place not in plan.members:
            in_first = (span.number for span in spans if recorded_state(span) is first)
            owner = next(in_first, owner)
            if plan.placing is JOBS:
                return [state_class(first), f"{title}: {first.value}", owner]
        parts = [(state, counts[state]) for state in STATE_COUNT_ORDER if counts[state]]
        words = ", ".join(f"{count} {state.value}" for state, count in parts)
        look: list[Any] = [f"many {state_class(first)}", f"{title}: {words}", owner]
        if self._has_labels:
            settled_count = sum(span.state.is_settled for span in spans)
            look.append(f"{settled_count} of {len(spans)}")
            look.append([[state_class(state), count] for state, count in parts])
        return look


class PictureWriter(_dot.DotWriter[Place]):
    """A writer of a plan. It uses the page's colors."""

    def __init__(
        self,
        plan: Layout,
        names: Mapping[Place, str],
        has_labels: bool,
        direction: _dot.Direction,
    ) -> None:
        ratio = _dot.GRID_RATIO if has_labels else SQUARES_RATIO
        # Frames of groups stand side by side, so each is narrow.
        max_row = 4 if plan.placing.frame_depth == 1 else _dot.MAX_ROW
        super().__init__(
            names,
            plan.members,
            plan.edges,
            direction,
            grid_ratio=ratio,
            max_row=max_row,
            shares_edges=True,
        )
        self._plan = plan
        self._has_labels = has_labels

    def source(self) -> str:
        graph, node, edge = LABELS if self._has_labels else SQUARES
        if not self._plan.edges:
            graph = graph | {"ranksep": graph["nodesep"]}
        return str(
            _dot.digraph_of(
                self.statements(), self.direction, (graph, node, edge)
            ).source
        )

    def box(self, key: Place) -> _dot.Statement:
        name = self.names[key]
        attributes = {"id": name}
        label = ""
        remarks: tuple[str, ...] = ()
        if self._has_labels:
            label = fit_name(self._plan.titles[key], MAX_LABEL)
            if self._plan.placing is not JOBS:
                # With a bar below the text.
                remarks = self._settled_place(key)
                attributes["margin"] = "0.1,0.09"
        return _dot.Statement("node", (name,), attributes, label, remarks)

    def frame(self, key: Place) -> _dot.Statement:
        font_size = "14"
        max_length = MAX_LABEL
        remarks: tuple[str, ...] = ()
        if self._has_labels:
            font_size = "11"
            max_length = 2 * MAX_LABEL
            remarks = self._settled_place(key)
        attributes = {
            "id": self.names[key],
            "style": "rounded",
            "labeljust": "l",
            "margin": "8",
            "fontsize": font_size,
        }
        label = fit_name(self._plan.titles[key], max_length)
        return _dot.Statement(
            "frame", (self.frame_name(key),), attributes, label, remarks
        )

    def _settled_place(self, key: Place) -> tuple[str, ...]:
        """Return the text that makes place for the number of jobs that have settled."""
        count = len(self._plan.jobs[key])
        return (f"{count} of {count}",)
