"""The drawing of a scheduler: the boxes, frames and edges of its graph, their captions and colors, for dot and Mermaid.

Each job has a **stand-in**, which is the job that is drawn in its place. Usually, this is the job itself. Otherwise, it
is the folded scheduler that encloses the job, or the first of the jobs that are alike. Edges connect stand-ins:

    jobs ──► rows of the listing ──► stand-ins ──► edges between them

The jobs have the same order and the same numbers as in `Scheduler.list`. All steps take O(V + E) time, and none is
recursive.

Color is never the only mark of a state, because a picture may be printed in black and white. Most states have the
symbols of `Scheduler.list`, critical jobs have `!` and a thick border, and forever jobs have a dashed border.

GitHub and GitLab render Mermaid in README files. An edge in Mermaid can end at a frame, so no anchors are needed.
Mermaid has fewer shapes than dot, so two kinds of jobs with different shapes in dot may look the same there.
"""

from __future__ import annotations

import enum
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..._core.base._states import JobState, ReportedState
from ..._core.base._text_forms import clause, duration_text, fit, join_names, plural
from ..._core.job._ancestors import enclosing_schedulers
from ..._core.job._job import AnyJob, is_scheduler
from ..._core.job._labels import paths_of, printable
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._job_queries import (
    box_of,
    criticality,
    explicit_label,
    failed_through_member,
    first_cause,
    inputs_of,
    reported_state,
    settled_only_for,
)
from .._families import family_from_label, levels_in_groups
from .._state_styles import (
    CRITICAL_BADGE,
    STATE_STYLES,
    TEXT_COLOR,
    BoxColors,
    has_ended_normally,
    state_class,
)
from ..text._listing import (
    BeginRow,
    CycleRow,
    EndRow,
    PlainRow,
    listing_rows,
    number_jobs,
    shown_elapsed,
)
from ..text._selection import JobSelection, select_jobs
from ..text._verdict import root_failure_text
from ._dot import (
    LINE_COLOR,
    NODE_DEFAULTS,
    Direction,
    DotAttributes,
    DotWriter,
    Statement,
    digraph_of,
)

if TYPE_CHECKING:
    from graphviz import Digraph

MAX_READABLE_BOXES: Final = 40
"""The maximum number of boxes in a readable picture. If there are more boxes, `collapse=True` folds families, and the
direction is from left to right, because a picture from top to bottom would be too wide."""


class EdgeKind(enum.Enum):
    """The reason for an edge between two jobs. If there are several, the reason defined first counts."""

    DATA = "the result of the first job is an argument of the second job"
    ORDER = "the second job requires the first job"
    SETTLED = "the second job requires the first job with `settled=True`"


EDGE_KINDS: Final = list(EdgeKind)
DrawnEdges = dict[tuple[AnyJob, AnyJob], EdgeKind]
"""The edges in a drawing, as pairs of tail and head, each with its kind."""
CriticalPath = Mapping[AnyJob, AnyJob | None]
"""The jobs on the critical path of the last run, each with its predecessor on the path, or None for the first job."""


class Drawing:
    """The drawing of a scheduler: its jobs and frames in the order of the listing, and the edges between them."""

    def __init__(
        self,
        scheduler: BaseScheduler,
        collapse: JobSelection | bool,
        critical_path: CriticalPath,
    ) -> None:
        """Select the edges to draw. `collapse` is documented in `Scheduler.graph`."""
        self._rows: Final[list[PlainRow | BeginRow | EndRow]] = []
        for row in listing_rows(scheduler):
            if not isinstance(row, CycleRow):
                self._rows.append(row)
        self.job_numbers: Final = number_jobs(self._rows)
        self.scheduler: Final = scheduler
        chosen: Iterable[AnyJob] = ()
        if collapse is True:
            chosen = self.job_numbers
        elif collapse is not False:
            chosen = select_jobs(scheduler, collapse)
        self._folded: Final = set(filter(is_scheduler, chosen))
        self._stand_ins: Final = self._find_stand_ins()
        # The family and the number of the jobs or groups that a box stands for, if these are several.
        self._families: Final[dict[AnyJob, tuple[str, int]]] = {}
        if collapse is True:
            for folds_groups in (False, True):
                boxes = {*self._stand_ins.values()}
                if len(boxes) > MAX_READABLE_BOXES:
                    self._fold_alike(folds_groups)
        self.critical_path_jobs: Final = {
            self._stand_ins[job] for job in critical_path if job in self._stand_ins
        }
        box_of_job = self._stand_ins.get
        self.critical_path_edges: Final[set[tuple[AnyJob | None, AnyJob | None]]] = (
            set()
        )
        for job, predecessor in critical_path.items():
            if predecessor is not None:
                self.critical_path_edges.add((box_of_job(predecessor), box_of_job(job)))
        self.edges: Final[DrawnEdges] = self._find_edges()
        self.box_count: Final = sum(
            not isinstance(row, EndRow) for row in self.drawn_rows()
        )  # frames included
        self.direction: Direction = (
            "LR" if self.box_count > MAX_READABLE_BOXES else "TB"
        )

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
        ends = dict.fromkeys(itertools.chain(*self.edges))
        return [job for job in ends if job not in self._stand_ins]

    def names(self, inside: str, outside: str) -> dict[AnyJob, str]:
        """Return a name for each box and frame, in which its number follows one of two words."""
        names = {job: inside + number for job, number in self.job_numbers.items()}
        for number, job in enumerate(self.outside_jobs(), 1):
            names[job] = f"{outside}{number}"
        return names

    def find_members(self) -> dict[AnyJob, list[AnyJob]]:
        """Return the jobs that are drawn directly in each frame, and first, for the whole, those drawn in none.

        Enclosing frames come first. Jobs outside the scheduler are drawn in none.
        """
        members: dict[AnyJob, list[AnyJob]] = {self.scheduler: []}
        for row in self.drawn_rows():
            frame = row.job.scheduler
            if frame in members and not isinstance(row, EndRow):
                members[frame].append(row.job)
            if isinstance(row, BeginRow):
                members[row.job] = []
        members[self.scheduler] += self.outside_jobs()
        return members

    @functools.cached_property
    def paths(self) -> dict[AnyJob, str]:
        """The path of each job. All paths are computed together: reading each `job.path` would take quadratic time."""
        return paths_of(self.scheduler)

    def box_texts(self, job: AnyJob) -> tuple[str, str, tuple[str, ...]]:
        """Return the path of the job of a box, or the family of its jobs, and the texts in the box, as in `caption`."""
        if job not in self._families:
            return self.paths[job], *caption(job)
        family, number = self._families[job]
        return (
            family,
            caption(job, name=family)[0],
            (plural(number, "group" if is_scheduler(job) else "job"),),
        )

    # ---- stand-ins

    def _find_stand_ins(self) -> dict[AnyJob, AnyJob]:
        stand_ins: dict[AnyJob, AnyJob] = {}
        # The folded scheduler that stands in for its members.
        folded: AnyJob | None = None
        for row in self._rows:
            if isinstance(row, EndRow):
                folded = None if row.job is folded else folded
                continue
            stand_ins[row.job] = folded or row.job
            if folded is None and row.job in self._folded:
                folded = row.job
        return stand_ins

    def _fold_alike(self, folds_groups: bool) -> None:
        """Let the first of the jobs or groups on a level whose labels differ in numbers only stand in for all."""
        alike = defaultdict[Any, list[AnyJob]](list)
        levels = levels_in_groups(
            {job: job.scheduler for job in self.job_numbers}, lambda job: job.required
        )
        for job in self.job_numbers:
            if self._stand_ins[job] is job and is_scheduler(job) is folds_groups:
                family = family_from_label(job.label, explicit_label(job) is not None)
                look = (
                    job.scheduler,
                    type(job),
                    shown_state(job),
                    criticality(job),
                    job.forever,
                    job.run_if,
                )
                alike[family, look, levels.get(job)].append(job)
        firsts: dict[AnyJob, AnyJob] = {}
        for (family, *_), jobs in alike.items():
            firsts |= dict.fromkeys(jobs, jobs[0])
            if len(jobs) > 1:
                self._families[jobs[0]] = family, len(jobs)
        self._stand_ins.update(
            {job: firsts.get(box, box) for job, box in self._stand_ins.items()}
        )

    # ---- edges

    def _find_edges(self) -> DrawnEdges:
        """Return the edges between stand-ins. There is no edge if they are the same, or either encloses the other."""
        edges: DrawnEdges = {}
        for job in self.job_numbers:
            inputs = inputs_of(job)
            settled_only = set(settled_only_for(job))
            head = self._stand_ins[job]
            for requirement in job.required:
                tail = self._stand_ins.get(requirement, requirement)
                if (
                    tail is head
                    or _is_or_encloses(tail, head)
                    or _is_or_encloses(head, tail)
                ):
                    continue
                kind = EdgeKind.ORDER
                if requirement in inputs:
                    kind = EdgeKind.DATA
                elif requirement in settled_only:
                    kind = EdgeKind.SETTLED
                kinds = kind, edges.get((tail, head), kind)
                edges[tail, head] = min(kinds, key=EDGE_KINDS.index)
        return edges


def _is_or_encloses(scheduler: AnyJob, job: AnyJob) -> bool:
    """Return whether `scheduler` is `job` or encloses it. If so, no edge can connect the two."""
    return is_scheduler(scheduler) and (
        job is scheduler or scheduler in enclosing_schedulers(job)
    )


INPUT_COLOR: Final = "#2f74c0"
CRITICAL_PATH_COLOR: Final = "#c2378f"
"""The colors of some edges, which are readable on white and on black, as `LINE_COLOR` is."""
IF_SETTLED: Final = "if settled"
"""The remark in the box of a job that runs only if all its requirements succeeded, or at an edge for any of these."""
TROUBLE_BORDER_COLORS: Final = {
    JobState.FAILED: STATE_STYLES[JobState.FAILED].colors.fill,
    JobState.BLOCKED: STATE_STYLES[JobState.BLOCKED].colors.outline,
}
"""The border colors of schedulers that contain a job in any of these states. The worst state is first."""


def shown_state(job: AnyJob) -> ReportedState:
    """Return the state that the box of a job shows.

    A forever job that was cancelled at the end of a completed run counts as SUCCEEDED, and a group that failed only
    because of a failure outside of it as BLOCKED.
    """
    if has_ended_normally(job):
        return JobState.SUCCEEDED
    is_blocked = failed_through_member(job) and not _is_or_encloses(
        job, first_cause(job)
    )
    if is_blocked:
        return JobState.BLOCKED
    return reported_state(job)


def caption(
    job: AnyJob, is_frame: bool = False, name: str = ""
) -> tuple[str, tuple[str, ...]]:
    """Return the text in the box of a job: a name or its label, and smaller remarks, in a frame without its size."""
    remarks: list[str] = []
    if is_scheduler(job):
        if not is_frame:
            remarks.append(plural(sum(1 for _ in job.iterate_jobs()), "job"))
        for state in TROUBLE_BORDER_COLORS:
            members = members_in_state(job, state)
            if not members:
                continue
            causes = [each.label for each in members]
            if state is JobState.BLOCKED:
                causes = [root_failure_text(each, {}) for each in members]
            # A frame has their boxes in it.
            names = ""
            if not is_frame:
                names = printable(join_names([*dict.fromkeys(causes)], 1))
            remarks.append(f"{len(members)} {state.value}{clause(': {}', names)}")
    if job.run_if != "succeeded":
        remarks.append(f"if {job.run_if}")
    elapsed = shown_elapsed(job)
    if elapsed is not None and not job.forever:
        remarks.append(duration_text(elapsed))
    critical = CRITICAL_BADGE.symbol if criticality(job) else ""
    label = f"{critical}{STATE_STYLES[shown_state(job)].box_symbol} {printable(name or job.label)}"
    return label.lstrip(), tuple(remarks)


def box_colors(job: AnyJob) -> BoxColors:
    """Return the colors of the box for a job. If only members of it failed or are BLOCKED, the fill is pale.

    Of a scheduler that succeeded, all failures were tolerated or awaited: it is shown as succeeded.
    """
    colors = STATE_STYLES[shown_state(job)].colors
    for trouble_state in TROUBLE_BORDER_COLORS:
        if job.state in (trouble_state, JobState.SUCCEEDED):
            break
        if members_in_state(job, trouble_state):
            return colors._replace(
                fill=STATE_STYLES[trouble_state].colors.frame,
                outline=TROUBLE_BORDER_COLORS[trouble_state],
                text=TEXT_COLOR,
            )
    return colors


def members_in_state(job: AnyJob, state: JobState) -> list[AnyJob]:
    """Return the ordinary jobs in `job`, at any depth, that are in a state, or none if `job` is no scheduler."""
    if not is_scheduler(job):
        return []
    return [
        member
        for member in job.iterate_jobs()
        if member.state is state and not is_scheduler(member)
    ]


# ---- the graph in both languages


def graph(
    scheduler: BaseScheduler,
    critical_path: CriticalPath,
    collapse: JobSelection | bool = False,
) -> Digraph:
    """Return the `graphviz.Digraph` for `Scheduler.graph`.

    Args:
        scheduler: the scheduler to draw.
        critical_path: the critical path of its last run.
        collapse: the argument of `Scheduler.graph`.

    """
    drawing = Drawing(scheduler, collapse, critical_path)
    return digraph_of(describe(drawing), drawing.direction)


def mermaid(
    scheduler: BaseScheduler,
    critical_path: CriticalPath,
    collapse: JobSelection | bool = False,
) -> str:
    """Return the text of a Mermaid flowchart. `critical_path` is the critical path of the last run."""
    drawing = Drawing(scheduler, collapse, critical_path)
    return "\n".join(
        [f"flowchart {drawing.direction}", *MermaidWriter(drawing).lines(), ""]
    )


# ---- statements for `dot`


def describe(drawing: Drawing) -> tuple[Statement, ...]:
    """Return a drawing as data."""
    return tuple(JobWriter(drawing).statements())


class JobWriter(DotWriter[AnyJob]):
    """A writer of the jobs of a drawing, with their states."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__(
            drawing.names("", "?"),
            drawing.find_members(),
            drawing.edges,
            drawing.direction,
        )
        self._drawing: Final = drawing

    def box(self, key: AnyJob) -> Statement:
        if key not in self._drawing.job_numbers:
            label = printable(f"? {key.label}")
            return Statement(
                "node",
                (self.names[key],),
                OUTSIDE_BOX,
                label,
                tooltip=tooltip_text(key, key.path),
            )
        attributes = job_attributes(key)
        if key in self._drawing.critical_path_jobs:
            attributes["peripheries"] = "2"
            if attributes.get("shape") == "cylinder":
                # The upper edge of its inner border would cross the label.
                attributes |= {"margin": "0.14,0.12", "labelloc": "b"}
        path, label, remarks = self._drawing.box_texts(key)
        return Statement(
            "node",
            (self.names[key],),
            attributes,
            label,
            remarks,
            tooltip_text(key, path),
        )

    def frame(self, key: AnyJob) -> Statement:
        label, remarks = caption(key, is_frame=True)
        attributes = {
            **FRAME_DEFAULTS,
            "fillcolor": STATE_STYLES[shown_state(key)].colors.frame,
            "color": box_colors(key).outline,
            # Otherwise a frame inherits the width of the enclosing frame's border.
            "penwidth": "1",
            **_mark_attributes(key, FRAME_DEFAULTS),
        }
        tooltip = tooltip_text(key, self._drawing.paths[key])
        return Statement(
            "frame", (self.frame_name(key),), attributes, label, remarks, tooltip
        )

    def edge(self, tail: AnyJob, head: AnyJob) -> tuple[DotAttributes, str | None]:
        kind = self._drawing.edges[tail, head]
        attributes = dict(EDGE_ATTRIBUTES[kind])
        if head.run_if == "failed":
            attributes["style"] = "dashed"
        if (tail, head) in self._drawing.critical_path_edges:
            attributes |= {"color": CRITICAL_PATH_COLOR, "penwidth": "2.4"}
        label = None
        if kind is EdgeKind.SETTLED:
            label = IF_SETTLED
        return attributes, label


EDGE_ATTRIBUTES: Final[Mapping[EdgeKind, DotAttributes]] = {
    EdgeKind.ORDER: {},
    EdgeKind.DATA: {
        "color": INPUT_COLOR,
        "penwidth": "1.8",
        "dir": "both",
        "arrowtail": "dot",
    },
    EdgeKind.SETTLED: {"fontsize": "9"},
}
OUTSIDE_BOX: Final[DotAttributes] = {
    "style": "rounded,filled,dotted",
    "fillcolor": "white",
    "color": LINE_COLOR,
    "fontcolor": "#616e7c",
}
MAX_PATH_LENGTH: Final = 1000
"""The maximum length of a path in a tooltip. A longer path loses its beginning. With a thousand levels of nesting,
complete paths would make up most of the file."""


def job_attributes(job: AnyJob) -> DotAttributes:
    """Return the attributes of a job's box that differ from `NODE_DEFAULTS`: its class defines the shape."""
    box = box_of(job)
    shape = {
        "shape": box.shape,
        "style": NODE_DEFAULTS["style"] if box.rounded else "filled",
    }
    shape = {
        name: value for name, value in shape.items() if value != NODE_DEFAULTS[name]
    }
    colors = box_colors(job)
    look = {"fillcolor": colors.fill, "color": colors.outline, "fontcolor": colors.text}
    return {**look, **shape, **_mark_attributes(job, shape)}


FRAME_DEFAULTS: Final[DotAttributes] = {
    "style": "rounded,filled",
    "labeljust": "l",
    "margin": "10",
    "fontcolor": TEXT_COLOR,
}


def _mark_attributes(job: AnyJob, shape: DotAttributes) -> DotAttributes:
    """Return the attributes that mark critical and forever jobs. `shape` contains the attributes of the job's shape."""
    marks: DotAttributes = {}
    if criticality(job):
        marks["penwidth"] = "2.6"
    if job.forever:
        marks["style"] = f"{shape.get('style', NODE_DEFAULTS['style'])},dashed"
    return marks


def tooltip_text(job: AnyJob, path: str) -> str:
    """Return the text of a tooltip: class, path and state."""
    return f"{type(job).__name__}: {fit(path, MAX_PATH_LENGTH, 'end')} ({shown_state(job).value})"


# ---- Mermaid

ARROWS: Final[Mapping[EdgeKind, str]] = {
    EdgeKind.ORDER: "-->",
    EdgeKind.DATA: "==>",
    EdgeKind.SETTLED: "-->",
}
UNSAFE_CHARACTERS: Final = re.compile(r"[!-'*+;-@\[-`{-~]|[-.)](?= )")
"""The characters to escape: most ASCII punctuation, and a `-`, `.` or `)` before a space. With a space after it, any of
these three may begin a Markdown list, e.g. `1. `, which Mermaid rejects in a label."""
INDENT: Final = "  "


class MermaidWriter:
    """A writer that converts a drawing to the lines of a Mermaid flowchart."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing: Final = drawing
        self._node_names: Final = drawing.names("n", "outside")
        # An empty scheduler is drawn as a box.
        self._framed_schedulers: Final = {
            row.job.scheduler for row in drawing.drawn_rows()
        }
        self._style_lines: Final[list[str]] = []

    def lines(self) -> Iterator[str]:
        """Yield the flowchart line by line: classes, boxes and frames, the arrows between them, and further styles."""
        yield from self._class_lines()
        yield from self._box_lines()
        for job in self._drawing.outside_jobs():
            yield f"{INDENT}{self._node_names[job]}({quote_lines(printable(f'? {job.label}'))})"
            self._add_style(job, "stroke-dasharray:2 3")
        for number, ((tail, head), kind) in enumerate(self._drawing.edges.items()):
            yield f"{INDENT}{self._node_names[tail]} {self._arrow_syntax(head, kind)} {self._node_names[head]}"
            if (tail, head) in self._drawing.critical_path_edges:
                self._style_lines.append(
                    f"{INDENT}linkStyle {number} stroke:{CRITICAL_PATH_COLOR},stroke-width:4px"
                )
        yield from self._style_lines

    def _class_lines(self) -> Iterator[str]:
        """Yield the definitions of the style classes, one for each state that a box or a frame shows."""
        jobs = {row.job for row in self._drawing.drawn_rows()}
        box_states = {*map(shown_state, jobs - self._framed_schedulers)}
        frame_states = {*map(shown_state, jobs & self._framed_schedulers)}
        for state in STATE_STYLES:
            fill, outline, text, frame = STATE_STYLES[state].colors
            if state in box_states:
                yield f"{INDENT}classDef {state_class(state)} fill:{fill},stroke:{outline},color:{text}"
            if state in frame_states:
                colors = f"fill:{frame},stroke:{outline},color:{TEXT_COLOR}"
                yield f"{INDENT}classDef {state_class(state)}Frame {colors}"

    def _box_lines(self) -> Iterator[str]:
        depth = 1
        for row in self._drawing.drawn_rows():
            if isinstance(row, PlainRow) or row.job not in self._framed_schedulers:
                if not isinstance(row, EndRow):
                    yield f"{INDENT * depth}{self._box_line(row.job)}"
            elif isinstance(row, BeginRow):
                yield from self._frame_lines(row.job, INDENT * depth)
                depth += 1
            else:
                depth -= 1
                yield f"{INDENT * depth}end"

    def _frame_lines(self, scheduler: BaseScheduler, indent: str) -> Iterator[str]:
        state = shown_state(scheduler)
        label, remarks = caption(scheduler, is_frame=True)
        yield f"{indent}subgraph {self._node_names[scheduler]}[{quote_lines(label, *remarks)}]"
        yield f"{indent}{INDENT}direction {self._drawing.direction}"
        self._add_marks(scheduler)
        self._style_lines.append(
            f"{INDENT}class {self._node_names[scheduler]} {state_class(state)}Frame"
        )
        if (outline := box_colors(scheduler).outline) != STATE_STYLES[
            state
        ].colors.outline:
            self._add_style(scheduler, f"stroke:{outline}")

    def _box_line(self, job: AnyJob) -> str:
        state = shown_state(job)
        opening, closing = box_of(job).brackets
        _, label, remarks = self._drawing.box_texts(job)
        self._add_marks(job)
        fill, outline, text, _ = box_colors(job)
        if fill != STATE_STYLES[state].colors.fill:
            # Some of its jobs have failed or are blocked.
            self._add_style(job, f"fill:{fill},stroke:{outline},color:{text}")
        return f"{self._node_names[job]}{opening}{quote_lines(label, *remarks)}{closing}:::{state_class(state)}"

    def _arrow_syntax(self, head: AnyJob, kind: EdgeKind) -> str:
        arrow = "-.->" if head.run_if == "failed" else ARROWS[kind]
        return f"{arrow}|{IF_SETTLED}|" if kind is EdgeKind.SETTLED else arrow

    def _add_marks(self, job: AnyJob) -> None:
        if criticality(job):
            self._add_style(job, "stroke-width:3px")
        if job.forever:
            self._add_style(job, "stroke-dasharray:5 4")

    def _add_style(self, job: AnyJob, style: str) -> None:
        self._style_lines.append(f"{INDENT}style {self._node_names[job]} {style}")


def quote_lines(*lines: str) -> str:
    """Return lines as a quoted Mermaid string, with entities, HTML, Markdown and quotes escaped."""
    text = "<br/>".join(
        UNSAFE_CHARACTERS.sub(lambda match: f"#{ord(match[0])};", line)
        for line in lines
    )
    return f'"{text or " "}"'
