"""The sections of a report that do not depend on each other: graph, what-if, kinds, glossary, and facts of the run."""

from __future__ import annotations

import html as escapes
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as Tree

from ...._core.api.views import StopReason, WaitCause, duration_text, is_scheduler, name_of_policy, printable, shorten
from ..._state_styles import CAUSES, STATE_STYLES
from ...graph import _dot, _graph_legend, _render
from ...graph._drawing import CriticalPath, Drawing
from .. import _time_spent as _spent
from .._span_builder import TraceRecord
from .._spans import RunSpan
from ..timeline import _what_if_chart
from ..timeline._svg import add
from ._names import escape

# ---- kinds of jobs

NUMBER: Final = ' class="number"'
WIDE_NUMBER: Final = ' class="number further"'
"""The attribute of numbers in columns that are hidden in narrow windows."""
COLUMN_CLASSES: Final = {"count": NUMBER, "work": NUMBER, "waits": NUMBER, "p50": WIDE_NUMBER, "p95": WIDE_NUMBER}
"""The attributes of the columns with numbers, by their names in `HEADINGS`."""


def kinds_section(record: TraceRecord) -> str:
    """Return the section on kinds of jobs as HTML, or "" if no kind has two jobs: the table of jobs is enough then."""
    spent = _spent.time_spent(record)
    if all(kind.count == 1 for kind in spent.kinds):
        return ""
    titles, cells = _spent.format_columns(spent.kinds[: _spent.MAX_KINDS])
    heads = "".join(
        f"<th{COLUMN_CLASSES.get(name, '')}>{title}</th>" for name, title in zip(_spent.HEADINGS, titles, strict=True)
    )
    rows = "".join(map(_row, spent.kinds, cells))
    more = len(spent.kinds) - _spent.MAX_KINDS
    note = f'<p class="note">{more} more kinds took less.</p>' if more > 0 else ""
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        '<section id="kinds">\n<h2>Kinds of jobs</h2>\n<p class="note">'
        "Half of the jobs of a kind worked for p50 or less, and 95 % of them for p95 or less.</p>"
        f'<div class="card scroll kinds" tabindex="0">{table}</div>{note}</section>'
    )


def slots_sentence(record: TraceRecord) -> str:
    """Return the sentence on the use of the slots as HTML."""
    sentence = str(_spent.time_spent(record))
    return _clip_and_escape(sentence[:1].upper() + sentence[1:]).replace(" %", "\N{NO-BREAK SPACE}%")


def _row(kind: _spent.KindTime, cells: tuple[list[str], list[tuple[str, str]]]) -> str:
    times, waits = cells
    numbers = "".join(
        f"<td{css}>{cell}</td>" for css, cell in zip(COLUMN_CLASSES.values(), (kind.count, *times), strict=True)
    )
    waited = ", ".join(f"{_clip_and_escape(cause)}\N{NO-BREAK SPACE}{text}" for cause, text in waits)
    return f"<tr><td><bdi>{_clip_and_escape(kind.kind) or '(no label)'}</bdi></td>{numbers}<td>{waited}</td></tr>"


def _clip_and_escape(text: str) -> str:
    return escape(text[:200])


# ---- the glossary, for readers who do not know trioflow

WHAT_IF: Final = (
    "the same run, simulated with another number of slots, or another amount of a resource; each job takes as long as "
    "it did. No order of the jobs is below the lowest line: the longest chain takes so long, or the work of all slots"
)


def glossary(record: TraceRecord, has_what_if: bool = False) -> str:
    """Return the folded glossary of the report as HTML."""
    terms = [*_glossary_terms(record), *([("what if", WHAT_IF)] if has_what_if else [])]
    meanings = "".join(f"<dt>{term}</dt><dd>{escapes.escape(meaning)}</dd>" for term, meaning in terms)
    return f'<details id="words" class="card fold"><summary>What the words mean</summary><dl>{meanings}</dl></details>'


def _glossary_terms(record: TraceRecord) -> Iterator[tuple[str, str]]:
    spans = record.spans
    states = {span.state for span in spans}
    yield from ((state.value, look.meaning) for state, look in STATE_STYLES.items() if state in states)
    if any(span.restored for span in spans):
        yield "restored", "its result comes from an earlier run, whose journal had it; it did not run again"
    if len({span.kind for span in spans}) > 1:
        yield "kind", "what does the work: for instance, a Job is a function in Python, a CommandJob another program"
    if record.nested:
        yield "a / in a path", "the second job is in the group before the slash (a nested Scheduler)"
    yield "start", "when it began, counted from the beginning of the run"
    yield "wait", "how long it could have started, but had to wait for a free slot, or for what it needs"
    yield "time", "how long it took, from its start to its end"
    causes = {wait.cause for span in spans for wait in span.waits}
    yield from ((words.title, words.meaning) for cause, words in CAUSES.items() if cause in causes)
    if any(len(span.attempts) > 1 for span in spans):
        yield "attempts", "how often it was tried"
    if record.commands:
        yield "exit", "the exit code of a command, where 0 means success; or the signal that ended it"
        yield "CPU", "how long a command kept a processor busy"
        yield "memory", "the most memory that a command had at one time"
    if record.chain:
        yield (
            "critical path",
            (
                "the chain of jobs that decided when the run ended, each of which waited for the one before. "
                "To make the run shorter, make these jobs shorter. The table has them in bold"
            ),
        )
    yield "lane", "a slot, which one job after the other uses"
    if any(run.window is not None for run in record.runs):
        yield "window", "the number of slots: how many jobs may run at once, as in `trioflow run --jobs 3`"
    if any(span.critical for span in spans):
        yield "critical", "if such a job fails, the run stops"
    if any(span.forever for span in spans):
        yield "forever", "such a job runs beside the others, and the run ends it when these have settled"
    if any(span.timed_out for span in spans):
        yield "timed out", "it took longer than its timeout allowed"


# ---- the facts of the run


def run_facts(roots: list[RunSpan]) -> str:
    """Return the folded facts about the host and the options of the runs as HTML, or "" if nothing has run."""
    if not roots:
        return ""
    facts = [*_host_facts(roots), *(fact for run in roots for fact in _option_facts(run, len(roots) > 1))]
    items = "".join(f"<dt>{escapes.escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<details id="about" class="card fold"><summary>Where and how it ran</summary><dl>{items}</dl></details>'


def _host_facts(roots: list[RunSpan]) -> Iterator[tuple[str, str]]:
    yield "system", platform.platform()
    packages = [f"Python {platform.python_version()}", *filter(None, map(_version, ("trioflow", "trio", "anyio")))]
    yield "versions", ", ".join(packages)
    yield "backend", ", ".join(dict.fromkeys(run.backend for run in roots if run.backend)) or "unknown"


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def _option_facts(run: RunSpan, is_named: bool) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a scheduler's options that are set."""
    scheduler = run.scheduler
    options = {
        "jobs_window": _window_text(run),
        "timeout": None if scheduler.timeout is None else duration_text(scheduler.timeout),
        "policy": name_of_policy(scheduler.policy),
        "pool": None if scheduler.pool is None else repr(scheduler.pool),
        "critical_jobs": None if scheduler.critical_jobs is None else str(scheduler.critical_jobs),
    }
    suffix = f" of {run.label}" if is_named else ""
    yield from ((name + suffix, value) for name, value in options.items() if value is not None)


def _window_text(run: RunSpan) -> str | None:
    """Return the size of the window; for an `Adaptive` window, its smallest, largest and last size."""
    if run.window_sizes:
        sizes = [size for _, size in run.window_sizes]
        return f"{min(sizes)} to {max(sizes)}, {sizes[-1]} in the end (adaptive)"
    return None if run.window is None else str(run.window)


# ---- what-if: simulations with other amounts of that limit for which jobs waited longest

MAX_JOBS: Final = 1000
"""The number of jobs above which the section is left out: its simulations would delay the end of each run."""
MAX_SIMULATED_JOBS: Final = 10_000
"""The number of jobs in all simulations for one chart, which take about a second of CPU time."""
TOO_MANY: Final = (
    '<p class="note">To simulate so many jobs takes a while: <code>trace.what_if()</code> does it when asked.</p>'
)
MIN_WAIT: Final = 0.02
"""The ratio of waits for a limit to work above which the limit is simulated."""
WIDTH: Final = 900


def what_if_section(record: TraceRecord) -> str:
    """Return the what-if section as HTML, or "" if the run did not complete, or its jobs hardly waited for limits."""
    jobs = len(record.spans) - len(record.nested)
    if len(record.roots) != 1 or record.roots[0].reason is not StopReason.COMPLETED or jobs < 2:
        return ""
    limits = _limits_waited_for(record)
    if not limits:
        return ""
    try:
        content = _simulate(record, limits[0]) if jobs <= MAX_JOBS else TOO_MANY
    except (ValueError, RuntimeError):  # the scenario has changed since, or cannot be simulated
        return ""
    return f'<section id="what-if">\n<h2>What if</h2>\n{content}</section>'


def _limits_waited_for(record: TraceRecord) -> list[str | None]:
    """Return the resources (None for the slots) for which jobs waited notably, the one with the longest waits first."""
    waited: dict[str | None, float] = {}
    work = 0.0
    members = {*record.roots[0].members}
    for span in record.spans:
        work += span.worked if span.number not in record.nested else 0.0
        for wait in span.waits:
            is_slot = wait.cause is WaitCause.SLOT and span.number in members
            if is_slot or wait.cause in (WaitCause.RESOURCE, WaitCause.RATE):
                waited[wait.name or None] = waited.get(wait.name or None, 0.0) + wait.seconds
    adjustable: set[str | None] = {resource.name for resource in record.resources if not resource.is_reservation}
    adjustable |= {None} if record.roots[0].window is not None else set()
    notable = [name for name in waited if waited[name] > MIN_WAIT * work and name in adjustable]
    return sorted(notable, key=waited.__getitem__, reverse=True)


def _simulate(record: TraceRecord, resource: str | None) -> str:
    """Return the result of simulations with other amounts of a resource, as a sentence and a chart."""
    from ....simulation import _sweep

    result = _sweep.simulate_trace(record, resource, most=MAX_SIMULATED_JOBS)
    chart = f'<div class="card paper scroll" tabindex="0">{_what_if_chart.chart_svg(result, WIDTH)}</div>'
    return f'<p class="note">{escape(str(result))}</p>{chart}\n'


# ---- the graph with its legend

MAX_BOXES: Final = 300
"""Number of boxes above which there is no picture: it would be unreadable, and `dot` takes minutes for a thousand."""
NO_GRAPH: Final = "No graph"
"""The beginning of the error that replaces the picture if it cannot be drawn."""
SAMPLE_WIDTH: Final = 26
"""The width of a sample in the legend, in pixels."""


def graph_section(scheduler: Any, path: CriticalPath) -> str:
    """Return the graph of a scheduler with a legend, or the reason why there is none, as HTML."""
    jobs = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    options, drawing = _render.choose_readable(scheduler, path)
    if _render.number_of_boxes(drawing) > MAX_BOXES:
        return note_html(
            f"{jobs} jobs are too many for a graph that can be read here: see scheduler.graph() for parts of it."
        )
    try:
        svg = _render.draw_narrow(lambda direction: _svg(scheduler.graph(**options, direction=direction)))
    except RuntimeError as error:
        return note_html(f"{error}.")
    except OSError as error:
        return note_html(f"{NO_GRAPH}: {error}.")
    notes = [note_html(SHAPES)] * any(_graph_legend.kinds(drawing))
    if drawing.bundles:
        notes.append(note_html(f"{jobs} jobs: those that are alike are one box."))
    elif "collapse" in options and any(is_scheduler(job) for job in scheduler):
        notes.append(note_html(f"{jobs} jobs: each group of them is one box."))
    picture = f'<div class="card paper scroll" tabindex="0">{_link_boxes(svg, drawing)}</div>'
    return f'{picture}<ul class="legend">{_graph_legend_html(drawing)}</ul>{"".join(notes)}'


def _svg(digraph: Any) -> str:
    text = _render.render(digraph, "svg", NO_GRAPH).decode("utf-8")
    return text[text.index("<svg") :].replace(_render.NO_TITLE, "", 1)


def _link_boxes(svg: str, drawing: Drawing) -> str:
    """Make each box and frame a link to the details of its job; a box for several jobs links to the first of them."""
    jobs = {number: job for job, number in drawing.numbers.items()}

    def link(match: re.Match[str]) -> str:
        path = printable(shorten(drawing.paths[jobs[match["number"]]]))
        return f'{match[0]}href="#job={quote(path, safe="")}" '

    return re.sub(r'<title>(?:cluster )?(?P<number>\d+)</title>\n<g id="\w+"><a ', link, svg)


def note_html(text: str) -> str:
    """Return a remark as HTML."""
    return f'<p class="note">{escape(text)}</p>'


MEANINGS: Final = {
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
"""The texts of the legend of `Scheduler.graph`, each with an explanation for readers who do not know trioflow."""
SHAPES: Final = "The shape of a box shows what kind of job it is: point at it to read more."


def _graph_legend_html(drawing: Drawing) -> str:
    boxes = [_legend_item(attributes) for attributes in (*_graph_legend.states(drawing), *_graph_legend.marks(drawing))]
    arrows = [_legend_item(attributes, is_line=True) for attributes in _graph_legend.lines(drawing)]
    return "".join(boxes + arrows)


def _legend_item(attributes: _dot.Attributes, is_line: bool = False) -> str:
    label = attributes["label"]
    item = Tree.Element("li")
    picture = add(item, "svg", width=SAMPLE_WIDTH, height=14, aria_hidden="true")
    dashes = "dashed" in attributes.get("style", "") or "dotted" in attributes.get("style", "")
    look = {"stroke": attributes.get("color", _dot.FAINT), "stroke_width": attributes.get("penwidth", "1")}
    look |= {"stroke_dasharray": "4 3"} if dashes else {}
    if is_line:
        add(picture, "path", d=f"M1 7H{SAMPLE_WIDTH - 6}", fill="none", **look)
        add(picture, "path", d=f"M{SAMPLE_WIDTH - 7} 3.5l6 3.5l-6 3.5z", fill=look["stroke"])
    else:
        if label == "several alike":
            add(picture, "path", d=f"M4 3v-2h{SAMPLE_WIDTH - 5}v9h-2", fill="none", **look)
        fill = attributes.get("fillcolor", "none")
        add(picture, "rect", x=1.5, y=2.5, width=SAMPLE_WIDTH - 5, height=10, fill=fill, **look)
    picture.tail = MEANINGS.get(label, label)
    return Tree.tostring(item, encoding="unicode", method="html")
