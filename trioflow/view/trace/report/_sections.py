"""Independent sections of a report: kinds of jobs, the glossary, facts about the run, and the graph."""

from __future__ import annotations

import html as escapes
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as Tree

from ...._core.api.views import duration_text, is_scheduler, name_of_policy, printable, shorten
from ..._state_styles import CAUSE_WORDS, STATE_STYLES
from ...graph import _dark_scheme, _dot, _graph_legend, _render
from ...graph._drawing import CriticalPath, Drawing
from .. import _time_spent
from .._span_builder import TraceRecord
from .._spans import RunSpan
from ..timeline._svg import add_element
from ._html_text import escape

# ---- kinds of jobs

NUMBER_ATTRIBUTE: Final = ' class="number"'
"""The HTML attribute of cells with numbers."""
HIDEABLE_NUMBER_ATTRIBUTE: Final = ' class="number further"'
"""The HTML attribute of cells with numbers in columns that are hidden in narrow windows."""
COLUMN_ATTRIBUTES: Final = {
    "count": NUMBER_ATTRIBUTE,
    "work": NUMBER_ATTRIBUTE,
    "waits": NUMBER_ATTRIBUTE,
    "p50": HIDEABLE_NUMBER_ATTRIBUTE,
    "p95": HIDEABLE_NUMBER_ATTRIBUTE,
}
"""The HTML attribute of each column with numbers, by its name in `HEADINGS`."""


def kinds_section(record: TraceRecord) -> str:
    """Return the section on kinds of jobs as HTML, or an empty string if no two jobs are of the same kind."""
    time_spent = _time_spent.compute_time_spent(record)
    if all(kind.count == 1 for kind in time_spent.kinds):
        return ""
    headings, cells = _time_spent.format_columns(time_spent.kinds[: _time_spent.MAX_KINDS])
    header_cells = "".join(
        f"<th{COLUMN_ATTRIBUTES.get(name, '')}>{title}</th>"
        for name, title in zip(_time_spent.HEADINGS, headings, strict=True)
    )
    rows = "".join(map(_kind_row, time_spent.kinds, cells))
    unlisted_count = len(time_spent.kinds) - _time_spent.MAX_KINDS
    note = f'<p class="note">{unlisted_count} more kinds took less.</p>' if unlisted_count > 0 else ""
    table = f"<table><thead><tr>{header_cells}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        '<section id="kinds">\n<h2>Kinds of jobs</h2>\n<p class="note">'
        "Half of the jobs of a kind worked for p50 or less, and 95 % of them for p95 or less.</p>"
        f'<div class="card scroll kinds" tabindex="0">{table}</div>{note}</section>'
    )


def slots_sentence(record: TraceRecord) -> str:
    """Return the sentence on the use of the slots as HTML."""
    sentence = str(_time_spent.compute_time_spent(record))
    return _clip_and_escape(sentence[:1].upper() + sentence[1:]).replace(" %", "\N{NO-BREAK SPACE}%")


def _kind_row(kind: _time_spent.KindTime, cells: tuple[list[str], list[tuple[str, str]]]) -> str:
    times, waits = cells
    numbers = "".join(
        f"<td{attributes}>{value}</td>"
        for attributes, value in zip(COLUMN_ATTRIBUTES.values(), (kind.count, *times), strict=True)
    )
    waits_html = ", ".join(f"{_clip_and_escape(cause)}\N{NO-BREAK SPACE}{text}" for cause, text in waits)
    return f"<tr><td><bdi>{_clip_and_escape(kind.kind) or '(no label)'}</bdi></td>{numbers}<td>{waits_html}</td></tr>"


def _clip_and_escape(text: str) -> str:
    return escape(text[:200])


# ---- the glossary, for people who do not know trioflow


def glossary_html(record: TraceRecord) -> str:
    """Return the folded glossary of the report as HTML."""
    meanings = "".join(
        f"<dt>{term}</dt><dd>{escapes.escape(meaning)}</dd>" for term, meaning in _glossary_terms(record)
    )
    return f'<details id="words" class="card fold"><summary>What the words mean</summary><dl>{meanings}</dl></details>'


def _glossary_terms(record: TraceRecord) -> Iterator[tuple[str, str]]:
    spans = record.spans
    states = {span.state for span in spans}
    yield from ((state.value, style.glossary_meaning) for state, style in STATE_STYLES.items() if state in states)
    if any(span.restored for span in spans):
        yield "restored", "its result was restored from the journal of an earlier run; it did not run again"
    if len({span.kind for span in spans}) > 1:
        yield "kind", "what does the work: for instance, a Job is a function in Python, a CommandJob another program"
    if record.scheduler_numbers:
        yield "a / in a path", "the second job is in the group before the slash (a nested Scheduler)"
    yield "start", "when it began, counted from the beginning of the run"
    yield "wait", "how long it was ready to start, but waited for a free slot or a resource"
    yield "time", "how long it took, from its start to its end"
    causes = {wait.cause for span in spans for wait in span.waits}
    yield from (
        (words.glossary_term, words.glossary_meaning) for cause, words in CAUSE_WORDS.items() if cause in causes
    )
    if any(len(span.attempts) > 1 for span in spans):
        yield "attempts", "how often it was tried"
    if record.commands:
        yield "exit", "the exit code of a command, where 0 means success; or the signal that ended it"
        yield "CPU", "how long a command kept a processor busy"
        yield "memory", "the maximum amount of memory that a command used"
    if record.critical_path_links:
        yield (
            "critical path",
            (
                "the chain of jobs that decided when the run ended, each of which waited for the one before. "
                "To make the run shorter, make these jobs shorter. The table has them in bold"
            ),
        )
    yield "lane", "a slot, used by one job at a time"
    if any(run.window_size is not None for run in record.runs):
        yield "window", "the number of slots: how many jobs may run at once, as in `trioflow run --jobs 3`"
    if any(span.critical for span in spans):
        yield "critical", "if such a job fails, the run stops"
    if any(span.forever for span in spans):
        yield "forever", "such a job runs beside the others, and the run ends it when these have settled"
    if any(span.timed_out for span in spans):
        yield "timed out", "it took longer than its timeout allowed"


# ---- the facts of the run


def run_facts_html(root_runs: list[RunSpan]) -> str:
    """Return facts about the host and the options of the runs as folded HTML. Empty if nothing has run."""
    if not root_runs:
        return ""
    facts = [*_host_facts(root_runs), *(fact for run in root_runs for fact in _option_facts(run, len(root_runs) > 1))]
    items = "".join(f"<dt>{escapes.escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<details id="about" class="card fold"><summary>Where and how it ran</summary><dl>{items}</dl></details>'


def _host_facts(root_runs: list[RunSpan]) -> Iterator[tuple[str, str]]:
    yield "system", platform.platform()
    packages = [
        f"Python {platform.python_version()}",
        *filter(None, map(_package_version, ("trioflow", "trio", "anyio"))),
    ]
    yield "versions", ", ".join(packages)
    yield "backend", ", ".join(dict.fromkeys(run.backend for run in root_runs if run.backend)) or "unknown"


def _package_version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def _option_facts(run: RunSpan, should_name_scheduler: bool) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each option that was set on a run's scheduler."""
    scheduler = run.scheduler
    options = {
        "jobs_window": _window_text(run),
        "timeout": None if scheduler.timeout is None else duration_text(scheduler.timeout),
        "policy": name_of_policy(scheduler.policy),
        "pool": None if scheduler.pool is None else repr(scheduler.pool),
        "critical_jobs": None if scheduler.critical_jobs is None else str(scheduler.critical_jobs),
    }
    suffix = f" of {run.label}" if should_name_scheduler else ""
    yield from ((name + suffix, value) for name, value in options.items() if value is not None)


def _window_text(run: RunSpan) -> str | None:
    """Return the size of the window as text. For an `Adaptive` window, this is its smallest, largest and last size."""
    if run.window_sizes:
        sizes = [size for _, size in run.window_sizes]
        return f"{min(sizes)} to {max(sizes)}, {sizes[-1]} at the end (adaptive)"
    return None if run.window_size is None else str(run.window_size)


# ---- the graph with its legend

MAX_BOXES: Final = 300
"""The maximum number of boxes in a picture. A larger picture would be unreadable, and with 1,000 boxes `dot` would take
minutes."""
NO_GRAPH_ERROR: Final = "No graph"
"""The beginning of the message that replaces the picture if it cannot be drawn."""
SAMPLE_WIDTH: Final = 26
"""The width of a swatch, the drawn sample of an entry in the legend, in pixels."""


def graph_section(scheduler: Any, critical_path: CriticalPath) -> str:
    """Return the graph of a scheduler with a legend, or the reason why there is no graph, as HTML."""
    job_count = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    options, drawing = _render.choose_detail(scheduler, critical_path)
    if _render.count_boxes(drawing) > MAX_BOXES:
        return note_html(
            f"{job_count} jobs are too many for a readable graph: draw parts of it with scheduler.graph()."
        )
    try:
        svg = _render.svg_in_best_direction(
            lambda direction: _graph_svg(scheduler.graph(**options, direction=direction))
        )
    except RuntimeError as error:
        return note_html(f"{error}.")
    except OSError as error:
        return note_html(f"{NO_GRAPH_ERROR}: {error}.")
    notes = [note_html(SHAPES_NOTE)] * any(_graph_legend.kind_samples(drawing))
    if drawing.bundles:
        notes.append(note_html(f"{job_count} jobs; those that are alike share a box."))
    elif "collapse" in options and any(is_scheduler(job) for job in scheduler):
        notes.append(note_html(f"{job_count} jobs; each group is one box."))
    picture = f'<div class="card paper scroll" tabindex="0">{_link_boxes(svg, drawing)}</div>'
    return f'{picture}<ul class="legend">{_graph_legend_html(drawing)}</ul>{"".join(notes)}'


def _graph_svg(digraph: Any) -> str:
    svg = _render.render(digraph, "svg", NO_GRAPH_ERROR).decode("utf-8")
    return svg[svg.index("<svg") :].replace(_dark_scheme.DEFAULT_TITLE, "", 1)


def _link_boxes(svg: str, drawing: Drawing) -> str:
    """Link each box and frame to the details of its job. A box for several jobs is linked to the first of them."""
    jobs = {number: job for job, number in drawing.job_numbers.items()}

    def add_link(match: re.Match[str]) -> str:
        path = printable(shorten(drawing.paths[jobs[match["number"]]]))
        return f'{match[0]}href="#job={quote(path, safe="")}" '

    return re.sub(r'<title>(?:cluster )?(?P<number>\d+)</title>\n<g id="\w+"><a ', add_link, svg)


def note_html(text: str) -> str:
    """Return a remark as HTML."""
    return f'<p class="note">{escape(text)}</p>'


LEGEND_MEANINGS: Final = {
    "! critical": "critical: its failure stops the run",
    "forever": "forever: the run ends it when the others have settled",
    "several alike": "several jobs that are alike",
    "? elsewhere": "required, but not in this run",
    "requires": "the second starts when the first has settled",
    "result is an argument": "the second gets the result of the first",
    "by way of jobs left out": "by way of jobs left out",
    "critical path": "the critical path: the jobs with a double border decided when the run ended",
    "if that failed": "the second runs only if something failed",
}
"""The labels in the legend of `Scheduler.graph`, each with an explanation for readers who do not know trioflow."""
SHAPES_NOTE: Final = "The shape of a box shows what kind of job it is: point at it to read more."


def _graph_legend_html(drawing: Drawing) -> str:
    boxes = [
        _legend_item(attributes)
        for attributes in (*_graph_legend.state_samples(drawing), *_graph_legend.mark_samples(drawing))
    ]
    arrows = [_legend_item(attributes, is_edge=True) for attributes in _graph_legend.edge_samples(drawing)]
    return "".join(boxes + arrows)


def _legend_item(attributes: _dot.DotAttributes, is_edge: bool = False) -> str:
    label = attributes["label"]
    item = Tree.Element("li")
    picture = add_element(item, "svg", width=SAMPLE_WIDTH, height=14, aria_hidden="true")
    is_dashed = "dashed" in attributes.get("style", "") or "dotted" in attributes.get("style", "")
    stroke = {"stroke": attributes.get("color", _dot.FAINT_COLOR), "stroke_width": attributes.get("penwidth", "1")}
    stroke |= {"stroke_dasharray": "4 3"} if is_dashed else {}
    if is_edge:
        add_element(picture, "path", d=f"M1 7H{SAMPLE_WIDTH - 6}", fill="none", **stroke)
        add_element(picture, "path", d=f"M{SAMPLE_WIDTH - 7} 3.5l6 3.5l-6 3.5z", fill=stroke["stroke"])
    else:
        if label == "several alike":
            add_element(picture, "path", d=f"M4 3v-2h{SAMPLE_WIDTH - 5}v9h-2", fill="none", **stroke)
        fill = attributes.get("fillcolor", "none")
        add_element(picture, "rect", x=1.5, y=2.5, width=SAMPLE_WIDTH - 5, height=10, fill=fill, **stroke)
    picture.tail = LEGEND_MEANINGS.get(label, label)
    return Tree.tostring(item, encoding="unicode", method="html")
