"""The graph of a run that a page shows: its layout by `dot`, made again when its structure changes; CSS has the states.

A box is a job; of many jobs, it is a group; and if these are too many, all jobs of one family in one group. Of more
than a few boxes, no labels could be read: each is a square, and the label a tooltip.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from ..._core.base._reprs import fit
from ..._core.base._states import JobState
from .._families import family_from_label
from .._state_styles import STATE_PRECEDENCE, STATE_STYLES, recorded_state, state_class
from ..graph import _render
from ._console import name_of
from ._watched_run import WatchedRun

MAX_NODES: Final = 300
MAX_LABELS: Final = 60
MAX_EDGES: Final = 3000
PLACE: Final = 450, 310
"""The width and height, in points, of the place for it on the page."""
MIN_SCALE: Final = 0.55
"""The scale from which on labels can be read."""
MAX_ROW: Final = 4
MAX_LABEL: Final = 18
DOT_SECONDS: Final = 20
MISSING: Final = "The graph needs Graphviz: apt install graphviz, dnf install graphviz, or brew install graphviz."
SHOWN_FIRST: Final = (JobState.RUNNING, *STATE_PRECEDENCE)
"""The state that a box for several jobs shows is the first of these that one of them has."""


class Picture:
    """The boxes of a run with a certain structure.

    Attributes:
        nodes: the keys of the jobs of each box.
        svg: the picture; "" if there is none.
        note: what is to be said of it.

    """

    def __init__(self, run: WatchedRun) -> None:
        self.nodes: dict[str, list[int]] = {}
        self.svg, self.note = "", ""
        self._titles: dict[str, str] = {}
        self._is_whole = True
        jobs = {key: facts for key, (_, facts) in run.jobs.items()}
        parents = {facts.span.parent for facts in run.runs.values()}
        outer: dict[int, list[int | None]] = {}  # of each job: the groups around it, the outermost first, and itself
        for key in sorted(jobs, key=lambda key: run.jobs[key][0]):
            parent = jobs[key].span.parent
            outer[key] = [*([] if parent is None else outer[parent]), key]
        counted = {facts.span.number for facts in run.counted_jobs()}
        edges = {(tail, key) for key, facts in jobs.items() for tail in facts.span.required if tail in jobs}
        self._lines: list[str] = []
        self._group_of: dict[str, Any] = {}
        # The jobs of a run that drops them change each second, and their families and groups do not.
        keeps_jobs = run.answer["keeps_jobs"]
        if len(counted) <= MAX_NODES and keeps_jobs:
            leaves = [key for key in jobs if key not in parents]
            self.nodes = {f"n{key}": [key] for key in leaves}
            self._titles = {f"n{key}": name_of(jobs[key].span.label) for key in leaves}
            members: dict[int, list[int]] = {}
            for key in leaves:
                for group in outer[key][:-1]:
                    members.setdefault(group or 0, []).append(key)
            ends = {key: (members[key][0], members[key][-1]) if key in members else (key, key) for key in jobs}
            pairs = [
                (f"n{ends[a][1]}", f"n{ends[b][0]}", a if a in members else "", b if b in members else "")
                for a, b in edges
            ]
            self._clusters(jobs, members, {key: len(path) for key, path in outer.items()})
        else:
            self._is_whole = False
            box_of = {key: f"n{path[0]}" for key, path in outer.items()}
            if len(set(box_of.values())) > MAX_NODES or not keeps_jobs:
                families: dict[str, str] = {}
                for key, path in outer.items():
                    first = jobs[path[0] or 0]
                    family = family_from_label(first.span.label, first.has_own_label)
                    box_of[key] = families.setdefault(family, f"f{len(families)}")
                titles = {box: name_of(family) for family, box in families.items()}
            else:
                titles = {box: name_of(jobs[int(box[1:])].span.label) for box in box_of.values()}
            nodes = self.nodes
            for key, box in box_of.items():
                if key in counted:
                    nodes.setdefault(box, []).append(key)
            self._titles = {box: titles[box] for box in nodes}
            ends_in = ((box_of[a], box_of[b]) for a, b in edges)
            pairs = [(a, b, "", "") for a, b in dict.fromkeys(ends_in) if a != b and a in nodes and b in nodes]
            self.note = "Each box is a group of jobs, or all jobs of one kind." if len(nodes) > 1 else ""
        self._edges = pairs

    def take_layout(self, other: Picture) -> bool:
        """Take over the layout of a picture with the same boxes and edges; return whether it has them."""
        is_same = (self._titles, self._edges, self._lines) == (other._titles, other._edges, other._lines)
        if is_same:
            self.svg, self.note = other.svg, other.note
        return is_same

    def _clusters(self, jobs: dict[int, Any], members: dict[int, list[int]], depths: dict[int, int]) -> None:
        """Write the groups as clusters, each inside the one around it."""
        inner: dict[int | None, list[int]] = {}
        for key in sorted(members, key=depths.__getitem__):
            inner.setdefault(jobs[key].span.parent, []).append(key)

        todo: list[Any] = [(key, True) for key in inner.get(None, ())][::-1]
        while todo:
            key, begins = todo.pop()
            if not begins:
                self._lines.append("}")
                continue
            own = [f"n{job}" for job in members[key] if jobs[job].span.parent == key]
            self._group_of |= dict.fromkeys(own, key)
            label = _quote(fit(name_of(jobs[key].span.label), 2 * MAX_LABEL, keep="ends"))
            self._lines.append(
                f'subgraph "cluster{key}" {{ id="g{key}"; class="group"; label={label}; {"; ".join(own)};'
            )
            todo += [(key, False), *((group, True) for group in inner.get(key, ()))]

    def draw(self) -> Picture:
        """Let `dot` lay it out."""
        if len(self.nodes) < 2:
            return self
        if len(self.nodes) > MAX_NODES or len(self._edges) > MAX_EDGES:
            self.note = "There are too many different jobs for a readable graph."
            return self
        try:
            scale, svg = self._render(has_labels=True) if len(self.nodes) <= MAX_LABELS else (0.0, "")
            self.svg = _render.picture_for_page(svg if scale >= MIN_SCALE else self._render(has_labels=False)[1])
        except (OSError, RuntimeError, ValueError) as error:
            self.note = MISSING if "not installed" in str(error) else f"No graph: {str(error)[:200].lstrip(': ')}"
        return self

    def _render(self, has_labels: bool) -> tuple[float, str]:
        """Return the scale at which a picture fits into its place on the page in the better direction, and the SVG."""
        drawn = list[tuple[float, str]]()
        for direction in ("TB", "LR"):
            svg = _render.render(self._source(has_labels, direction), "svg", "", DOT_SECONDS).decode()
            width, height = map(float, re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
            drawn.append((min(1.0, PLACE[0] / width, PLACE[1] / height), svg))
        return max(drawn)

    def _source(self, has_labels: bool, direction: str) -> str:
        size = "height=0.28, " if has_labels else 'label="", width=0.2, height=0.2, fixedsize=true, '
        gaps = "nodesep=0.18; ranksep=0.32" if has_labels else f"nodesep=0.06; ranksep={0.22 if self._edges else 0.06}"
        yield_lines = [
            f'digraph {{ rankdir={direction}; compound=true; newrank=true; {gaps}; pad=0.05; bgcolor="transparent";',
            'fontname="Helvetica"; fontsize=11;',
            f'node [{size}shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, margin="0.1,0.04"];',
            'edge [arrowsize=0.5, class="edge"];' if has_labels else 'edge [arrowsize=0.3, class="edge"];',
        ]
        for box, title in self._titles.items():
            label = _quote(fit(title, MAX_LABEL, keep="ends")) if has_labels else '""'
            if has_labels and not self._is_whole:  # below it, the page says how many have ended
                label = f'{label[:-1]}\\n{len(self.nodes[box])} of {len(self.nodes[box])}"'
            yield_lines.append(f'{box} [id="{box}", label={label}];')
        yield_lines += self._lines
        return "\n".join([*yield_lines, *self._edge_lines(has_labels, direction), "}"])

    def _edge_lines(self, has_labels: bool, direction: str) -> Iterator[str]:
        """Yield the edges. Boxes with the same ends stand in a grid, whose outer rows alone have the edges of all."""
        into: dict[str, set[Any]] = {}
        out: dict[str, set[Any]] = {}
        for tail, head, *frames in self._edges:
            into.setdefault(head, set()).add((tail, *frames))
            out.setdefault(tail, set()).add((head, *frames))
        alike: dict[Any, list[str]] = {}
        for box in self._titles:
            key = self._group_of.get(box), frozenset(into.get(box, ())), frozenset(out.get(box, ()))
            alike.setdefault(key, []).append(box)
        without_in, without_out = set[str](), set[str]()
        for boxes in alike.values():
            if len(boxes) > MAX_ROW:
                columns = max(3, math.ceil(math.sqrt(len(boxes) / 2.5 if has_labels else len(boxes) * 1.8)))
                step = columns if direction == "TB" else math.ceil(len(boxes) / columns)
                yield from (f"{one} -> {other} [style=invis];" for one, other in zip(boxes, boxes[step:], strict=False))
                without_in.update(boxes[step:])
                without_out.update(boxes[:-step])
        for tail, head, out_of, to in self._edges:
            if tail not in without_out and head not in without_in:
                ends = (f'ltail="cluster{out_of}" ' if out_of else "") + (f'lhead="cluster{to}"' if to else "")
                yield f"{tail} -> {head} [{ends}];"

    def states(self, run: WatchedRun) -> dict[str, list[Any]]:
        """Return the class of each box, what it says, and the job that a click on it chooses."""
        states: dict[str, list[Any]] = {}
        for box, keys in self.nodes.items():
            spans = [run.jobs[key][1].span for key in keys if key in run.jobs]
            found = Counter(map(recorded_state, spans))
            first = next((state for state in SHOWN_FIRST if found[state]), JobState.IDLE)
            key = next((span.number for span in spans if recorded_state(span) is first), keys[0])
            if len(keys) == 1:
                text = f"{self._titles[box]}: {first.value}"
            else:
                words = ", ".join(f"{found[state]} {state.value}" for state in STATE_STYLES if found[state])
                text = f"{self._titles[box]}: {words}"
            settled = sum(span.state.is_settled for span in spans)
            states[box] = [state_class(first), text, key, "" if self._is_whole else f"{settled} of {len(keys)}"]
        return states


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
