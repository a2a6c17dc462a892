"""Save the graph of a scheduler, or the record of a run, to a file. Show a scheduler as text, and in a notebook."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from .._core.base._text_forms import short_repr
from .._core.job import _job, _job_options
from .._core.scheduler._base_scheduler import BaseScheduler

if TYPE_CHECKING:
    from pathlib import Path

    from .text._selection import JobSelection
    from .trace._trace import Trace


def save(
    source: BaseScheduler | Trace,
    path: str | os.PathLike[str],
    *,
    collapse: JobSelection | bool = False,
) -> None:
    """Write the graph of a scheduler, or the record of a run, to a file. The suffix of its name selects the form.

    For a scheduler:

    - `.svg`, `.png`: the graph as a picture, drawn by the program `dot`, which may take half a minute for ten thousand
      boxes, and is stopped after two minutes. A PNG has 144 dots per inch.
    - `.dot`: the graph in the language of Graphviz.
    - `.mmd`: the graph as a Mermaid flowchart, which GitHub (up to 500 arrows) and GitLab draw inside a README.

    For a `Trace`:

    - `.svg`: the timeline: a row for each lane, with a bar for each job that started. Colors distinguish families of
      jobs, and narrow neighboring bars of the same family are merged. Failed jobs have a cross, cancelled jobs are
      hatched, and jobs on the critical path have a border.
    - `.html`: a report, which loads no other files: the verdict, the failures, where the time went, the graph, the
      timeline, and a table of all jobs that can be sorted and searched.
    - `.json`: the whole record of the run, for `trioflow report` and `trioflow compare`, with trace events for
      https://ui.perfetto.dev and chrome://tracing: each scheduler is a process, its lanes are threads.
    - `.csv`: a line of headings, then a line for each run of each job. Times are seconds since the beginning of the
      run. `started_wall` is the time of day in UTC. `required` contains the numbers of the required lines, and `parent`
      the number of the nested scheduler that contains the job.

    An existing file is replaced as a whole, or not at all.

    *Provisional*: the columns and keys of traces.

    Args:
        source: the scheduler, or the trace.
        path: the file.
        collapse: of a scheduler, as in `Scheduler.graph`.

    Raises:
        TypeError: `source` is neither a scheduler nor a trace, or `collapse` has a wrong type or comes with a trace.
        ValueError: the suffix is none of these, or `collapse` is no job of the scheduler.
        ModuleNotFoundError: a package is not installed. The error says which extra has it.
        RuntimeError: `dot` is not installed, has failed, or takes too long.
        OSError: the file cannot be written.

    Example:
        >>> from trioflow.view import save
        >>> save(Scheduler(), "graph.doc")
        Traceback (most recent call last):
            ...
        ValueError: save(): 'graph.doc' must end in .svg, .png, .dot, .mmd (a Trace: .svg, .html, .json, .csv)

    """
    # Imported here, like all views, because many programs save nothing.
    from pathlib import Path

    from ._exports import write_atomically
    from .trace._trace import Trace

    file = Path(_job_options.file_path(path, "path", "save()"))
    if isinstance(source, Trace):
        if collapse is not False:
            raise TypeError(
                f"save(): collapse={short_repr(collapse)} is for the graph of a Scheduler; this is a Trace"
            )
        save_trace(source, _check_suffix(file, TRACE_SUFFIXES), file)
    elif _job.is_scheduler(source):
        write_atomically(
            file, _graph_contents(source, _check_suffix(file, GRAPH_SUFFIXES), collapse)
        )
    else:
        raise TypeError(
            f"save(): {short_repr(source)} is neither a Scheduler nor a Trace"
        )


GRAPH_SUFFIXES: Final = (".svg", ".png", ".dot", ".mmd")
TRACE_SUFFIXES: Final = (".svg", ".html", ".json", ".csv")


def _check_suffix(file: Path, suffixes: tuple[str, ...]) -> str:
    if (suffix := file.suffix.lower()) not in suffixes:
        other = "Scheduler"
        forms = GRAPH_SUFFIXES
        if suffixes is forms:
            other = "Trace"
            forms = TRACE_SUFFIXES
        raise ValueError(
            f"save(): {file.name!r} must end in {', '.join(suffixes)} (a {other}: {', '.join(forms)})"
        )
    return suffix


def _graph_contents(
    scheduler: BaseScheduler, suffix: str, collapse: JobSelection | bool
) -> str | bytes:
    from .graph import _dot, _drawing
    from .trace._trace import find_critical_path

    critical_path = find_critical_path(scheduler)
    if suffix == ".mmd":
        return _drawing.mermaid(scheduler, critical_path, collapse)
    graph = _drawing.graph(scheduler, critical_path, collapse)
    subject = f"save() of {scheduler.label!r}"
    if suffix == ".png":
        return _dot.render_png(str(graph.source), subject)
    if suffix == ".dot":
        return str(graph.source)
    return _dot.render_svg(str(graph.source), subject)


def save_trace(trace: Trace, suffix: str, path: str | os.PathLike[str]) -> None:
    """Write a trace in the form of a suffix in `TRACE_SUFFIXES`. The name of the file may have another suffix."""
    from pathlib import Path

    from ._exports import write_atomically
    from .trace import _timeline, _trace_file
    from .trace.report import _report

    texts = {
        ".svg": _timeline.timeline_svg,
        ".csv": _trace_file.csv_text,
        ".json": _trace_file.json_text,
    }
    texts[".html"] = lambda record: _report.report_html(record, Path(path).parent)
    write_atomically(path, texts[suffix](trace._get_record()))


def listing(scheduler: BaseScheduler, *, details: bool = False) -> str:
    """Return the output of `Scheduler.list`, with Unicode symbols and without a final newline.

    Args:
        scheduler: the scheduler.
        details: shows results and exceptions, shortened.

    Returns:
        The lines, or an empty string if there are none.

    Raises:
        TypeError: `scheduler` is not a scheduler.

    Example:
        >>> from trioflow.view import listing
        >>> listing(Scheduler(AbstractJob(label="a")))
        '1    ·    <AbstractJob a>'

    """
    from .text import _symbols
    from .text._listing import Listing

    if not _job.is_scheduler(scheduler):
        raise _job.not_a_scheduler_error(scheduler, "listing()")
    return Listing(scheduler, _symbols.Symbols()).text(details)


# ---- notebooks

MimeBundle = dict[str, str]
"""The representations of an object in a notebook, by MIME type."""

MAX_GRAPH_ELEMENTS: Final = 400
"""The maximum number of boxes and arrows in a picture, as lines of Mermaid: a larger one is slow and unreadable."""
MAX_LISTED_JOBS: Final = 100
"""The maximum number of jobs in a listing. For more jobs, the plain text is the repr of the scheduler."""


def scheduler_bundle(scheduler: BaseScheduler) -> MimeBundle:
    """Return the MIME bundle of a scheduler: a picture of its graph, and its listing as plain text.

    The picture is an SVG if the package graphviz and the program `dot` are installed, and otherwise a Mermaid
    flowchart, which JupyterLab 4.1 and later can draw. A front end that supports neither shows the plain text.
    """
    job_count = sum(1 for _ in scheduler.iterate_jobs())
    text = ""
    if job_count <= MAX_LISTED_JOBS:
        text = listing(scheduler)
    bundle = {"text/plain": text or repr(scheduler)}
    if job_count:
        bundle |= _picture_bundle(scheduler)
    return bundle


def _picture_bundle(scheduler: BaseScheduler) -> MimeBundle:
    from ._exports import svg_bundle
    from .graph import _dot, _drawing
    from .trace._trace import find_critical_path

    critical_path = find_critical_path(scheduler)
    mermaid = _drawing.mermaid(scheduler, critical_path)
    if mermaid.count("\n") > MAX_GRAPH_ELEMENTS:
        return {}
    try:
        svg = _dot.render_svg(
            str(_drawing.graph(scheduler, critical_path).source),
            "the picture of a scheduler",
        )
    except (ModuleNotFoundError, RuntimeError):
        return {"text/vnd.mermaid": mermaid}
    return svg_bundle(svg, "the graph of a scheduler")
