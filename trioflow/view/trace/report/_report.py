"""The report of a trace as a self-contained HTML page: verdict, failures, graph, timeline, and a table of all jobs.

This module collects the data of the page, and the Jinja template `report.html` has all its markup. Labels, messages and
outputs of jobs cannot inject code: Jinja escapes every text, and the script gets the data of the table as JSON, which
it inserts by `textContent` only. The content security policy of the page allows this script alone, by its hash, and
forbids loading anything.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from ...._core.base._states import (
    STOP_REASON_TEXTS,
    JobState,
    ReportedState,
    StopReason,
)
from ...._core.base._text_forms import (
    MAX_LISTED_NAMES,
    clause,
    duration_text,
    fit,
    join_names,
    plural,
    size_text,
)
from ...._core.job._labels import printable, shorten
from ...._hints import import_extra
from ....jobs.posix._processes import as_signal
from ..._families import fit_name
from ..._state_styles import STATE_STYLES, recorded_state, state_class
from ...graph import _dot
from ...text import _verdict
from ...text._failure_text import (
    FAILURE_ORDER,
    FailureText,
    common_headline,
    group_failures,
)
from ...text._symbols import Symbols, durations_in_column
from .. import _time_spent, _timeline
from .._spans import CommandRecord, RunSpan, Span, or_infinity, wait_texts
from .._trace_record import (
    TOO_MANY_NOTE,
    GraphDescription,
    TraceRecord,
    once_for_each_record,
)


def require_jinja() -> None:
    """Check that Jinja is installed, because reports need it.

    Raises:
        ModuleNotFoundError: Jinja is not installed.

    """
    import_extra("jinja2", "a report", "report", known_as="Jinja")


def report_html(record: TraceRecord, folder: Path | None, *, lacks: str = "") -> str:
    """Return the HTML page of a report that will be written to `folder`.

    Args:
        record: the record of the runs.
        folder: the directory of the report, where relative links to files start, or None if it is part of a page that
            moves, whose console is above it.
        lacks: the jobs that it lacks, because they were dropped. It then leaves out facts that would be false without
            them.

    Raises:
        ModuleNotFoundError: Jinja is not installed. `pip install 'trioflow[report]'` installs it.

    """
    require_jinja()
    is_live = folder is None
    from markupsafe import Markup

    run = record.root_run
    title = record.name
    if run is not None and not run.has_own_label:
        title = f"A run of {plural(record.tally.job_count, 'job')}"
    commands = command_details(record, folder)
    groups = failure_groups(record)
    shown_groups = groups[:MAX_FAILURE_GROUPS]
    unfolded = MAX_UNFOLDED_GROUPS
    if len(shown_groups) == unfolded + 1:
        # A fold would take as much room.
        unfolded += 1
    incidents = [mark.message for mark in record.incidents if not mark.is_steering]
    slots = ""
    complete = TraceRecord()
    if not lacks:
        slots = slots_sentence(record)
        complete = record
    page: str = _template().render(
        title=shorten(title),
        live=is_live,
        lacks=lacks,
        style=Markup(_read_all("css", is_live)),
        script=Markup(_read_all("js", is_live)),
        policy=Markup(content_policy(is_live)),
        verdict=_verdict_on_run(record, run),
        record=record,
        state_counts=_state_counts(record),
        failures=shown_groups,
        group_count=len(groups),
        unfolded=unfolded,
        unlisted=sum(len(group.spans) for group in groups[MAX_FAILURE_GROUPS:]),
        early_end=early_end(record),
        not_run=not_run(record),
        incidents=[message.partition("\n")[0] for message in incidents],
        commands=commands,
        path_rows=list(_critical_path_rows(complete)),
        slots=slots,
        graphs=draw_graphs(record.graphs),
        timeline=Markup(_timeline.timeline_svg(complete, has_title=False)),
        families=families_table(complete),
        forever=[span for span in record.leaf_spans if _is_listed_separately(span)],
        facts=run_facts(record),
        data=Markup(_table_json(record, commands, has_waits=not lacks)),
    )
    return page


# To compile it takes longer than all else of a small report.
@cache
def _template() -> Any:
    """Return the template of the page, where every text is escaped, and made printable."""
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup, escape

    def join_isolated(
        names: Iterable[str], max_names: int = MAX_LISTED_NAMES
    ) -> Markup:
        return Markup(
            join_names(
                [f"<bdi>{escape(printable(name))}</bdi>" for name in names], max_names
            )
        )

    def finalize(value: object) -> Any:
        if type(value) is str:
            return printable(value)
        return value

    environment = Environment(
        autoescape=True,
        loader=DictLoader({"live.html": _timeline.read_resource("live.html")}),
        finalize=finalize,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
    )
    text_filters: dict[str, Callable[[str], str]] = {
        "file_name": lambda path: Path(path).name,
        "keep_percents": lambda text: escape(printable(text)).replace(
            " %", "\N{NO-BREAK SPACE}%"
        ),
        "lines": lambda text: escape(printable_lines(text)),
        "shorten_name": lambda name: fit_name(name, 48),
    }
    filters: Any = environment.filters
    filters |= {"duration": duration_text, "join_names": join_isolated, **text_filters}
    return environment.from_string(_timeline.read_resource("report.html"))


@cache
def content_policy(is_live: bool) -> str:
    """Return the content security policy of a page: only its script runs, and a live page talks only to its server."""
    digest = hashlib.sha256(_read_all("js", is_live).encode()).digest()
    script_hash = base64.b64encode(digest).decode()
    own_server = "connect-src 'self'; " if is_live else ""
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'; img-src data:; "
        f"{own_server}base-uri 'none'; form-action 'none'"
    )


def _read_all(kind: str, is_live: bool) -> str:
    """Return the style sheet or the script of a page. A page that moves adds its own."""
    own = ""
    if is_live:
        own = _timeline.read_resource(f"live.{kind}")
    return f"\n{_timeline.read_resource(f'report.{kind}')}\n{own}"


# ---- the head: the verdict, the counts by state, and the critical path

MAX_CRITICAL_PATH_LINES: Final = 6
MIN_SHARE: Final = 0.005
"""How many parts of the critical path have a line, each with at least this share of the time."""
VERDICT_CLASSES: Final[dict[ReportedState, str]] = {
    JobState.FAILED: "bad",
    JobState.RUNNING: "open",
}
"""The CSS classes of verdicts by the states whose symbols stand for them. Those of other states are "good"."""


def _verdict_on_run(record: TraceRecord, run: RunSpan | None) -> dict[str, str]:
    """Return the CSS class, the words and the symbol of the verdict on the outermost run, and when it began.

    The symbol is the symbol of RUNNING while the run goes on and no job has failed.
    """
    if run is None:
        return {"style": "open", "symbol": ""}
    reason = None if run.finished_at is None else run.stop_reason
    verdict = record.verdict(run, reason)
    state = verdict.state
    tally = record.tally
    is_good = not tally.failure_count and not tally.count(JobState.BLOCKED)
    if reason is None and is_good:
        state = JobState.RUNNING
    seconds = record.start_time + record.wall_offset
    start_time = datetime.datetime.fromtimestamp(seconds).astimezone()
    return {
        "style": VERDICT_CLASSES.get(state, "good"),
        "words": verdict.sentence,
        "symbol": STATE_STYLES[state].symbol,
        "start_time": start_time.isoformat(" ", "seconds"),
    }


def _is_listed_separately(span: Span) -> bool:
    """Return whether this is a forever job that ended normally. Such jobs are listed separately and not counted."""
    return _verdict.tally_key(span.state, span.forever) == _verdict.FOREVER_KEY


def _state_counts(record: TraceRecord) -> list[tuple[str, str, int]]:
    """Return the name, the CSS class and the number of jobs of each state that a job is in."""
    return [
        (str(state.value), state_class(state), number)
        for state, number in record.tally.states()
    ]


class PathRow(NamedTuple):
    """A line of the critical path: a job, several jobs of a family, waits, or the rest."""

    name: str
    style: str
    number: int
    duration: str
    width: str
    share: str
    """The shares of the longest part, and of the time of the run, in percent."""
    short_name: str = ""
    """The name without its middle, if the line is about jobs."""
    address: str = ""
    """The path of the job, quoted for a link, if the line is about a single job."""


def _critical_path_rows(record: TraceRecord) -> Iterator[PathRow]:
    """Yield the lines of the critical path, with their shares of the time, or none if nothing took any time."""
    parts = _time_spent.critical_path_parts(record)
    total_seconds = record.seconds
    if not parts or not total_seconds:
        return
    min_seconds = MIN_SHARE * total_seconds
    shown_parts = [
        part for part in parts[:MAX_CRITICAL_PATH_LINES] if part.seconds >= min_seconds
    ]
    hidden_parts = parts[len(shown_parts) :]
    hidden_jobs = [part for part in hidden_parts if not part.is_wait]
    # If a single job would be hidden, show it, because the line "1 more" would take as much room.
    if len(hidden_jobs) == 1 and hidden_jobs[0].seconds >= min_seconds:
        shown_parts += hidden_jobs
        hidden_parts = [part for part in hidden_parts if part.is_wait]
        hidden_jobs = []

    def numbers(seconds: float) -> tuple[str, str, str]:
        # The longest part is the first.
        width = f"{100 * min(1.0, seconds / parts[0].seconds):.1f}"
        share = f"{100 * seconds / total_seconds:.0f}"
        return duration_text(seconds, in_column=True), width, share

    for part in shown_parts:
        cells = part.count, *numbers(part.seconds)
        if part.is_wait:
            yield PathRow(f"waited for {part.name}", "wait", *cells)
            continue
        short_name = fit_name(part.name, 32)
        address = ""
        if part.count == 1:
            address = quote(printable(record.spans[part.span_number].name), safe="")
        yield PathRow(part.name, "work", *cells, short_name, address)
    hidden_seconds = sum(part.seconds for part in hidden_parts)
    if hidden_seconds >= min_seconds:
        job_count = sum(part.count for part in hidden_jobs)
        name = f"{job_count} more" if job_count else "other waits"
        yield PathRow(name, "more", 1, *numbers(hidden_seconds))


# ---- the failures, grouped by kind, with the jobs that they kept from running

MAX_FAILURE_GROUPS: Final = 200
MAX_UNFOLDED_GROUPS: Final = 3
UNFINISHED_STATES: Final = JobState.IDLE, JobState.SCHEDULED, JobState.CANCELLED
"""The states of jobs that may not have finished because the run ended early."""
DRAINED_REMARK: Final = (
    ": no more jobs were started, and running jobs were allowed to finish"
)


class FailureGroup(NamedTuple):
    """A group of failures that differ only in their messages."""

    spans: list[Span]
    blocked: list[Span]
    cancelled: list[Span]
    failure: FailureText
    headline: str
    is_on_critical_path: bool


def failure_groups(record: TraceRecord) -> list[FailureGroup]:
    """Return the groups of failures: critical first, tolerated last, then those that stopped the most jobs."""
    keys: list[tuple[Span, bool | None, int, str]] = []
    for span in record.counted_spans:
        # Not of earlier attempts.
        failure = record.failures.get(span.number)
        if failure is not None:
            keys.append((span, span.critical, failure.number, failure.kind))
    stopped_jobs = find_stopped_jobs(record)
    made = list[FailureGroup]()
    for group in group_failures(keys):
        numbers = [span.number for span in group]
        failures = [record.failures[number] for number in numbers]
        stopped: list[Span] = []
        for number in numbers:
            stopped += stopped_jobs.get(number, [])
        made.append(
            FailureGroup(
                group,
                [span for span in stopped if span.started_at is None],
                [span for span in stopped if span.started_at is not None],
                failures[0],
                common_headline(failures),
                not record.critical_path.keys().isdisjoint(numbers),
            )
        )
    made.sort(
        key=lambda group: (
            FAILURE_ORDER.index(group.spans[0].critical),
            -len(group.blocked + group.cancelled),
        )
    )
    return made


def not_run(record: TraceRecord) -> dict[str, list[Span]]:
    """Return the jobs that were BLOCKED, or in a group that was, by a reason that is no failure in the report."""
    found: dict[str, list[Span]] = {}
    for number, spans in find_stopped_jobs(record).items():
        root = record.spans[number]
        if number not in record.failures and root.state is not JobState.FAILED:
            if root.state is JobState.BLOCKED:
                words = root.exception_text
            else:
                words = _verdict.failure_words(root, root.name)
            found.setdefault(words, []).extend(spans)
    return found


class EarlyEnd(NamedTuple):
    """Why a run ended early, and which jobs it cancelled or never started."""

    reason: str
    cancelled: list[Span]
    unstarted_count: int


def early_end(record: TraceRecord) -> EarlyEnd | None:
    """Return how the run ended early, or None if it did not. What a critical failure ended is shown elsewhere."""
    reason = None
    if record.root_run is not None:
        reason = record.root_run.stop_reason
    if reason in (None, StopReason.COMPLETED, StopReason.FAILED, StopReason.CRITICAL):
        return None
    jobs = [
        span
        for span in record.counted_spans
        if not (span.forever or record.is_group(span.number))
    ]
    ended = [span for span in jobs if span.state in UNFINISHED_STATES]
    unstarted = [span for span in ended if span.started_at is None]
    if reason is StopReason.DRAINED:
        # It cancels nothing that runs.
        text = STOP_REASON_TEXTS[reason] + DRAINED_REMARK
        return EarlyEnd(text, [], len(unstarted))
    cancelled = [
        span
        for span in ended
        if span.state is JobState.CANCELLED and span.started_at is not None
    ]
    return EarlyEnd(STOP_REASON_TEXTS[reason], cancelled, len(unstarted))


@once_for_each_record
def find_stopped_jobs(record: TraceRecord) -> dict[int, list[Span]]:
    """Return the jobs that each other job cancelled or kept from running, by the span number of that job.

    These are the BLOCKED jobs, and the jobs in nested schedulers that were BLOCKED. If a failure stopped a run, the
    jobs in it that had not settled by then are included, too. Others were cancelled by the user or by a timeout. For V
    jobs and D levels of groups, this takes O(V * D) time.
    """
    # For each job: the failure that stopped its run.
    stops: dict[int | None, tuple[int, float] | None] = {None: None}
    passed_on = {
        run.culprit_number
        for run in record.runs
        if run.stop_reason is StopReason.CRITICAL
    }
    # Enclosing runs come first.
    for run in record.runs:
        stop = stops[run.parent]
        if run.stop_reason is StopReason.CRITICAL and (
            stop is None or run.parent not in passed_on
        ):
            culprit = record.find_culprit(run)
            stop = culprit and (
                record.find_root_failure(culprit).number,
                culprit.finished_at or 0.0,
            )
        stops.update(dict.fromkeys(run.member_numbers, stop))
    stopped_spans: dict[int, list[Span]] = {}
    for span in record.counted_spans:
        if record.is_group(span.number):
            continue
        number = None
        blocked = record.find_blocked(span)
        stop = stops[span.number]
        if blocked.state is JobState.BLOCKED:
            number = record.find_root_failure(blocked).number
        elif stop is not None and span.state in UNFINISHED_STATES and not span.forever:
            culprit_number, stopped_at = stop
            if or_infinity(span.finished_at) >= stopped_at:
                number = culprit_number
        if number is not None and (
            number != span.number or number not in record.failures
        ):
            stopped_spans.setdefault(number, []).append(span)
    return stopped_spans


# ---- commands: command lines, exit codes, resource use, ends of outputs, and output files

MAX_OUTPUT_CHARACTERS: Final = 1_000_000
"""The maximum number of characters of output in a report. Failed commands come first."""
printable_lines: Final = Symbols().escape_lines
OUTPUT_NAMES: Final = {"stdout": "standard output", "stderr": "standard error"}
PRINTED: Final = "printed"
OMITTED_NOTE: Final = "The end of its output is omitted: the report would be too large."
MAX_OUTPUT_BYTES: Final = 1000


def exit_text(returncode: int) -> str:
    """Return an exit code as text. If it is negative, return the name of the signal that ended the process."""
    if returncode >= 0:
        return str(returncode)
    number = as_signal(-returncode)
    return getattr(number, "name", f"signal {number}")


def command_details(
    record: TraceRecord, folder: Path | None
) -> dict[int, dict[str, Any]]:
    """Return the details of commands and of what jobs have printed, by their span numbers, not yet escaped for HTML.

    Args:
        record: the record of the runs.
        folder: the directory of the report. Links to files in this directory are relative, so that they survive a move
            of the whole directory. None if a server has the files.

    """
    remaining_characters = MAX_OUTPUT_CHARACTERS
    details: dict[int, dict[str, Any]] = {}
    numbers = sorted(record.commands.keys() | record.printed.keys())
    for number in sorted(numbers, key=lambda number: number not in record.failures):
        shown: dict[str, Any] = {"command": "", "facts": "", "files": [], "note": ""}
        outputs = list[tuple[str, str]]()
        if number in record.commands:
            command = record.commands[number]
            outputs += command_outputs(command)
            shown["command"] = fit(printable(command.line), 2000)
            shown["facts"] = " · ".join(command_fact_texts(command))
            shown["files"] = list(file_links(command, folder))
        if number in record.printed:
            outputs.append((PRINTED, printable_lines(record.printed[number])))
        output_size = sum(len(text) for _, text in outputs)
        remaining_characters -= output_size
        if remaining_characters < 0:
            outputs = []
            if output_size:
                shown["note"] = OMITTED_NOTE
        shown["outputs"] = outputs
        details[number] = shown
    return details


def command_fact_texts(command: CommandRecord) -> Iterator[str]:
    how = "exit code" if command.returncode >= 0 else "ended by"
    yield f"{how} {exit_text(command.returncode)}"
    yield f"elapsed {duration_text(command.elapsed)}"
    yield f"user {duration_text(command.user_time)}"
    yield f"system {duration_text(command.system_time)}"
    if command.max_rss is not None:
        yield f"max memory {size_text(command.max_rss)}"


def command_outputs(command: CommandRecord) -> Iterator[tuple[str, str]]:
    for output in command.outputs:
        data = output.text.encode(errors="backslashreplace")
        end = data[-MAX_OUTPUT_BYTES:].decode(errors="ignore")
        if end.strip():
            yield f"end of its {OUTPUT_NAMES[output.stream]}", printable_lines(end)


def file_links(
    command: CommandRecord, folder: Path | None
) -> Iterator[tuple[str, str, str]]:
    """Yield the stream, the URL and the path of each file with output of a command."""
    for stream, name in command.files:
        path = Path(name)
        url = f"file?path={quote(name, errors='surrogatepass')}"
        if folder is not None:
            url = path.as_uri()
            if path.is_relative_to(folder):
                url = "./" + url.removeprefix(f"{folder.as_uri().rstrip('/')}/")
        yield stream, url, printable(name)


# ---- table


def _table_json(
    record: TraceRecord, commands: dict[int, dict[str, Any]], *, has_waits: bool
) -> str:
    """Return the data of the table of jobs as JSON that is safe inside an HTML page."""
    starts: list[float | None] = []
    required: dict[int, tuple[int, ...]] = {}
    waits: dict[int, list[str]] = {}
    for span in record.spans:
        start = None
        if span.started_at is not None:
            start = span.started_at - record.start_time
        starts.append(start)
        if span.required:
            required[span.number] = span.required
        if span.waits and has_waits:
            waits[span.number] = list(wait_texts(record.spans, span.waits))
    waited = [span.waited if has_waits else None for span in record.spans]
    units: list[str] = []
    cells: list[list[Any]] = []
    for column in (starts, waited, [span.took for span in record.spans]):
        unit, texts = durations_in_column(column)
        units.append(unit)
        cells.append(list(map(_duration_cell, column, texts)))
    times = zip(*cells, strict=True)
    table: dict[str, Any] = {
        "units": units,
        "required": required,
        "waits": waits,
        "states": [[state, count] for state, _, count in _state_counts(record)],
        "rows": list(map(partial(_table_row, record), record.spans, times)),
        "commands": commands,
    }
    return json.dumps(table, separators=(",", ":")).replace("<", "\\u003c")


def _duration_cell(seconds: float | None, text: str) -> list[Any] | None:
    if seconds is None:
        return None
    return [round(seconds, 9), text]


def _table_row(record: TraceRecord, span: Span, times: tuple[Any, ...]) -> list[Any]:
    """Return the cells of a row in the order that the script expects. A number is a pair of its value and its text.

    Args:
        record: the record of the runs.
        span: the span of the row.
        times: the cells of the start, the wait and the duration.

    """
    # 0 for a span that is not counted, such as spans of nested schedulers and of earlier attempts. 2 for a forever job
    # that ended normally, which is listed separately. 1 for any other job.
    rank = 0
    if span.number in record.counted_numbers and not record.is_group(span.number):
        rank = 2 if _is_listed_separately(span) else 1
    tags = {
        "critical path": span.number in record.critical_path,
        "critical": span.critical,
        "forever": span.forever,
        "timed out": span.timed_out,
        "restored": span.restored,
    }
    row = [
        printable(span.name),
        printable(span.kind),
        recorded_state(span).value,
        *times,
        span.last_attempt or None,
        span.lane,
        printable(span.exception_text),
        [tag for tag, applies in tags.items() if applies],
        rank,
    ]
    if record.commands:
        row += _command_cells(span)
    return row


def _command_cells(span: Span) -> list[list[Any] | None]:
    cells: list[list[Any] | None] = [None, None, None]
    if span.returncode is not None:
        cells[0] = [span.returncode, exit_text(span.returncode)]
    if span.user_time is not None and span.system_time is not None:
        seconds = span.user_time + span.system_time
        cells[1] = [round(seconds, 6), duration_text(seconds)]
    if span.max_rss is not None:
        cells[2] = [span.max_rss, size_text(span.max_rss)]
    return cells


# ---- families of jobs


HEADINGS: Final = ("family", "count", "work", "waits", "p50", "p95", "waited for")


def families_table(record: TraceRecord) -> dict[str, Any] | None:
    """Return the headings and rows of the table of families, or None if no two jobs are of the same family.

    All numbers in a column have the same unit and the same number of decimals, so that they can be compared. The sums
    have a common unit, and the times of single jobs (p50, p95) may have another.
    """
    all_families = _time_spent.compute_time_spent(record).families
    if all(family.count <= 1 for family in all_families):
        return None
    families = all_families[: _time_spent.MAX_FAMILIES]
    sums: list[float] = []
    percentiles: list[float | None] = []
    for family in families:
        waits = family.waits.values()
        sums += [family.work, sum(waits), *waits]
        percentiles += [family.p50, family.p95]
    unit, sum_texts = durations_in_column(sums)
    job_unit, job_texts = durations_in_column(percentiles)
    texts = iter(sum_texts)
    job_times = zip(job_texts[::2], job_texts[1::2], strict=True)
    rows: list[tuple[Any, ...]] = []
    for family, job_time in zip(families, job_times, strict=True):
        cells = [str(family.count), next(texts), next(texts), *job_time]
        shown_waits = [(printable(cause), next(texts)) for cause in family.waits]
        rows.append(
            (family, list(zip(HEADINGS[1:-1], cells, strict=True)), shown_waits)
        )
    units = ("", "", unit, unit, job_unit, job_unit, unit)
    return {
        "headings": [
            (name, name + clause(", {}", unit))
            for name, unit in zip(HEADINGS, units, strict=True)
        ],
        "rows": rows,
        "unlisted": len(all_families) - _time_spent.MAX_FAMILIES,
    }


def slots_sentence(record: TraceRecord) -> str:
    sentence = str(_time_spent.compute_time_spent(record))
    return fit(sentence[:1].upper() + sentence[1:], 500)


# ---- the facts of the run


def run_facts(record: TraceRecord) -> list[tuple[str, str]]:
    """Return the names and values of facts about the host and the options of the run, or none if nothing has run."""
    run = record.root_run
    if run is None:
        return []
    facts = [
        ("system", record.host.system),
        ("versions", record.host.versions),
        ("backend", run.backend or "unknown"),
    ]
    if sizes := [size for _, size in run.window_sizes]:
        facts.append(
            ("jobs_window", f"{min(sizes)} to {max(sizes)}, {sizes[-1]} at the end")
        )
    elif run.window_size is not None:
        facts.append(("jobs_window", str(run.window_size)))
    facts += run.options
    facts += [
        ("steered", mark.message) for mark in record.incidents if mark.is_steering
    ]
    return facts


# ---- the graph

NO_GRAPH_ERROR: Final = "No graph"
"""The beginning of the message that replaces the picture if it cannot be drawn."""


class GraphPicture(NamedTuple):
    """The picture of a graph, and remarks on it. Without a picture, they say why."""

    svg: str
    notes: tuple[str, ...]


MAX_STATEMENTS: Final = 5_000
"""The maximum number of boxes and edges of a graph: the file of a stranger may have more."""
MAX_PAGE_SECONDS: Final = 60
"""The time that `dot` may take for all graphs of a page. It draws 300 boxes in less than a second."""
TOO_LATE_NOTE: Final = "No graph: those before it took too long to draw."


def draw_graphs(graphs: Sequence[GraphDescription]) -> list[GraphPicture]:
    """Draw graphs with `dot`, until the time for the page is over."""
    deadline = time.monotonic() + MAX_PAGE_SECONDS
    return [draw_graph(graph, deadline - time.monotonic()) for graph in graphs]


def draw_graph(
    graph: GraphDescription, seconds: float = MAX_PAGE_SECONDS
) -> GraphPicture:
    """Draw a graph with `dot`, from top to bottom or from left to right. Its boxes are links to the jobs."""
    if not graph.statements:
        return GraphPicture("", graph.notes)
    if len(graph.statements) > MAX_STATEMENTS:
        return GraphPicture("", (TOO_MANY_NOTE,))
    if seconds <= 0:
        return GraphPicture("", (TOO_LATE_NOTE,))
    try:
        source = str(_dot.digraph_of(graph.statements, graph.direction).source)
        drawn = _dot.render_svg(source, NO_GRAPH_ERROR, seconds / 2)
        svg = _dot.picture_for_page(drawn)
    except (OSError, RuntimeError, ValueError, ModuleNotFoundError) as error:
        reason = str(error).removeprefix(f"{NO_GRAPH_ERROR}: ")
        return GraphPicture("", (f"{NO_GRAPH_ERROR}: {reason}.",))
    return GraphPicture(_link_boxes(svg, graph.paths or {}), graph.notes)


def _link_boxes(svg: str, paths: Mapping[str, str]) -> str:
    """Link each box and frame to the details of its job. A box for several jobs is linked to the first of them."""

    def add_link(match: re.Match[str]) -> str:
        # The file of a stranger may lack it.
        path = paths.get(match["number"])
        if path is None:
            return match[0]
        return f'{match[0]}href="#job={quote(path, "", errors="backslashreplace")}" '

    return re.sub(
        r'<title>(?:cluster )?(?P<number>\d+)</title>\n<g id="\w+"><a ', add_link, svg
    )
