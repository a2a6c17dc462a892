"""Independent sections of a report: kinds of jobs, the glossary, and the facts of the run."""

from __future__ import annotations

import html as escapes
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from ...._core.api.views import duration_text, name_of_policy, printable
from ..._state_styles import CAUSES, STATE_STYLES
from .. import _time_spent as _spent
from .._span_builder import TraceRecord
from .._spans import RunSpan

# ---- kinds of jobs

NUMBER: Final = ' class="number"'
FURTHER: Final = ' class="number further"'
"""The class of columns for wider windows."""
CLASSES: Final = {"count": NUMBER, "work": NUMBER, "waits": NUMBER, "p50": FURTHER, "p95": FURTHER}
"""The classes of the columns with numbers, as in `HEADINGS`."""


def kinds(record: TraceRecord) -> str:
    """Return the section as HTML; "" if no kind has two jobs, because the table of jobs has the same then."""
    spent = _spent.time_spent(record)
    if all(kind.count == 1 for kind in spent.kinds):
        return ""
    titles, cells = _spent.in_columns(spent.kinds[: _spent.MOST_KINDS])
    heads = "".join(
        f"<th{CLASSES.get(name, '')}>{title}</th>" for name, title in zip(_spent.HEADINGS, titles, strict=True)
    )
    rows = "".join(map(_row, spent.kinds, cells))
    more = len(spent.kinds) - _spent.MOST_KINDS
    note = f'<p class="note">{more} more kinds took less.</p>' if more > 0 else ""
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        '<section id="kinds">\n<h2>Kinds of jobs</h2>\n<p class="note">'
        "Half of the jobs of a kind worked for p50 or less, and 95 % of them for p95 or less.</p>"
        f'<div class="card scroll kinds" tabindex="0">{table}</div>{note}</section>'
    )


def slots(record: TraceRecord) -> str:
    """Return the sentence on the use of the slots."""
    told = str(_spent.time_spent(record))
    return _text(told[:1].upper() + told[1:]).replace(" %", "\N{NO-BREAK SPACE}%")


def _row(one: _spent.KindTime, cells: tuple[list[str], list[tuple[str, str]]]) -> str:
    times, waits = cells
    numbers = "".join(f"<td{css}>{cell}</td>" for css, cell in zip(CLASSES.values(), (one.count, *times), strict=True))
    waited = ", ".join(f"{_text(what)}\N{NO-BREAK SPACE}{text}" for what, text in waits)
    return f"<tr><td><bdi>{_text(one.kind) or '(no label)'}</bdi></td>{numbers}<td>{waited}</td></tr>"


def _text(text: str) -> str:
    return escapes.escape(printable(text[:200]))


# ---- the glossary, for readers who do not know trioflow

WHAT_IF: Final = (
    "the same run, simulated with another number of slots, or another amount of a resource; each job takes as long as "
    "it did. No order of the jobs is below the lowest line: the longest chain takes so long, or the work of all slots"
)


def words(record: TraceRecord, has_what_if: bool = False) -> str:
    """Return the glossary of the report, folded."""
    found = [*_words(record), *([("what if", WHAT_IF)] if has_what_if else [])]
    meanings = "".join(f"<dt>{word}</dt><dd>{escapes.escape(meaning)}</dd>" for word, meaning in found)
    return f'<details id="words" class="card fold"><summary>What the words mean</summary><dl>{meanings}</dl></details>'


def _words(record: TraceRecord) -> Iterator[tuple[str, str]]:
    spans = record.spans
    states = {span.state for span in spans}
    nested = {run.parent for run in record.runs} - {None}
    yield from ((state.value, look.meaning) for state, look in STATE_STYLES.items() if state in states)
    if any(span.restored for span in spans):
        yield "restored", "its result comes from an earlier run, whose journal had it; it did not run again"
    if len({span.kind for span in spans}) > 1:
        yield "kind", "what does the work: for instance, a Job is a function in Python, a CommandJob another program"
    if nested:
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


def about(roots: list[RunSpan]) -> str:
    """Return the facts, folded; "" if nothing has run."""
    facts = [*_host(roots), *(fact for run in roots for fact in _options(run, len(roots) > 1))] if roots else []
    told = "".join(f"<dt>{escapes.escape(name)}</dt><dd>{escapes.escape(printable(said))}</dd>" for name, said in facts)
    return (
        f'<details id="about" class="card fold"><summary>Where and how it ran</summary><dl>{told}</dl></details>'
        * bool(told)
    )


def _host(roots: list[RunSpan]) -> Iterator[tuple[str, str]]:
    yield "system", platform.platform()
    packages = [f"Python {platform.python_version()}", *filter(None, map(_version, ("trioflow", "trio", "anyio")))]
    yield "versions", ", ".join(packages)
    yield "backend", ", ".join(dict.fromkeys(run.backend for run in roots if run.backend)) or "unknown"


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def _options(run: RunSpan, is_named: bool) -> Iterator[tuple[str, str]]:
    """Yield the options that differ from their defaults."""
    scheduler = run.scheduler
    found = {
        "jobs_window": _window(run),
        "timeout": None if scheduler.timeout is None else duration_text(scheduler.timeout),
        "policy": name_of_policy(scheduler.policy),
        "pool": None if scheduler.pool is None else repr(scheduler.pool),
        "critical_jobs": None if scheduler.critical_jobs is None else str(scheduler.critical_jobs),
    }
    of = f" of {run.label}" if is_named else ""
    yield from ((name + of, said) for name, said in found.items() if said is not None)


def _window(run: RunSpan) -> str | None:
    """Return the size of the window; for an `Adaptive` one, the smallest, the largest and the last."""
    if run.window_sizes:
        sizes = [size for _, size in run.window_sizes]
        return f"{min(sizes)} to {max(sizes)}, {sizes[-1]} in the end (adaptive)"
    return None if run.window is None else str(run.window)
