"""Independent sections of a report: families of jobs, facts about the run, and the graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from ...graph import _render
from .. import _time_spent
from .._record import GraphDescription, TraceRecord
from .._spans import RunSpan

# ---- families of jobs


def families_table(record: TraceRecord) -> dict[str, Any] | None:
    """Return the headings and rows of the table of families, or None if no two jobs are of the same family."""
    time_spent = _time_spent.compute_time_spent(record)
    if all(family.count == 1 for family in time_spent.families):
        return None
    headings, cells = _time_spent.format_columns(time_spent.families[: _time_spent.MAX_FAMILIES])
    columns = _time_spent.HEADINGS[1:-1]
    return {
        "headings": list(zip(_time_spent.HEADINGS, headings, strict=True)),
        "rows": [
            (family, list(zip(columns, (family.count, *times), strict=True)), waits)
            for family, (times, waits) in zip(time_spent.families, cells, strict=False)
        ],
        "unlisted": len(time_spent.families) - _time_spent.MAX_FAMILIES,
    }


def slots_sentence(record: TraceRecord) -> str:
    sentence = str(_time_spent.compute_time_spent(record))
    return (sentence[:1].upper() + sentence[1:])[:200]


# ---- the facts of the run


def run_facts(record: TraceRecord) -> list[tuple[str, str]]:
    """Return the names and values of facts about the host and the options of the runs; none if nothing has run."""
    runs = record.root_runs
    options = (fact for run in runs for fact in _option_facts(run, len(runs) > 1))
    backends = ", ".join(dict.fromkeys(run.backend for run in runs if run.backend)) or "unknown"
    host = [("system", record.host.system), ("versions", record.host.versions), ("backend", backends)]
    return [*host, *options] if runs else []


def _option_facts(run: RunSpan, should_name_scheduler: bool) -> Iterator[tuple[str, str]]:
    window = _window_text(run)
    suffix = f" of {run.label}" if should_name_scheduler else ""
    for name, value in ((("jobs_window", window),) if window else ()) + run.options:
        yield name + suffix, value


def _window_text(run: RunSpan) -> str | None:
    """Return the size of the window as text. For an `Adaptive` window, this is its smallest, largest and last size."""
    if run.window_sizes:
        sizes = [size for _, size in run.window_sizes]
        return f"{min(sizes)} to {max(sizes)}, {sizes[-1]} at the end (adaptive)"
    return None if run.window_size is None else str(run.window_size)


# ---- the graph

NO_GRAPH_ERROR: Final = "No graph"
"""The beginning of the message that replaces the picture if it cannot be drawn."""


class GraphPicture(NamedTuple):
    """The picture of a graph, and remarks on it. Without a picture, they say why."""

    svg: str
    notes: tuple[str, ...]


def draw_graph(graph: GraphDescription) -> GraphPicture:
    """Draw a graph with `dot`, from top to bottom or from left to right. Its boxes are links to the jobs."""
    from graphviz import Source

    if not graph.source:
        return GraphPicture("", graph.notes)

    def draw(direction: str | None) -> str:
        source = (
            graph.source if direction is None else re.sub(r"rankdir=\w+", f"rankdir={direction}", graph.source, count=1)
        )
        svg = _render.render(Source(source), "svg", NO_GRAPH_ERROR).decode("utf-8")
        return svg[svg.index("<svg") :]

    try:
        svg = _render.svg_in_best_direction(draw)
    except RuntimeError as error:
        return GraphPicture("", (f"{error}.",))
    except (OSError, ValueError) as error:  # a ValueError: the source in the file of a stranger draws no picture
        return GraphPicture("", (f"{NO_GRAPH_ERROR}: {error}.",))
    return GraphPicture(_link_boxes(svg, graph.paths or {}), graph.notes)


def _link_boxes(svg: str, paths: Mapping[str, str]) -> str:
    """Link each box and frame to the details of its job. A box for several jobs is linked to the first of them."""

    def add_link(match: re.Match[str]) -> str:
        path = paths.get(match["number"])  # the file of a stranger may lack it
        return match[0] if path is None else f'{match[0]}href="#job={quote(path, "", errors="backslashreplace")}" '

    return re.sub(r'<title>(?:cluster )?(?P<number>\d+)</title>\n<g id="\w+"><a ', add_link, svg)
