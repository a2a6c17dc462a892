"""The record of a process as text for a terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from textwrap import wrap
from typing import Any, Final

from ..._core.api.views import JobState, duration_text, durations_in_column, fit, join_names, plural, printable, shorten
from ..text._symbols import align_columns, display_width
from ._process_record import Record

MAX_LINES: Final = 20
"""The maximum number of lines for running jobs, for waiting jobs and for failures of a run; JSON has more."""
MAX_NAMES: Final = 5
"""The maximum number of jobs that a line names."""


def text_lines(pid: int, record: Record, columns: int | None = None) -> Iterator[str]:
    """Yield the lines of the record of a process; no line is wider than `columns`."""
    for line in _lines(pid, record, columns):
        if columns is None or display_width(line) <= columns:
            yield line
        else:
            indent = " " * (len(line) - len(line.lstrip()) + 2)
            yield from (
                fit(part, columns, measure=display_width) for part in wrap(line, columns, subsequent_indent=indent)
            )


def _lines(pid: int, record: Record, columns: int | None) -> Iterator[str]:
    words = record["command"]
    yield f"process {pid}: {printable(shorten(shlex.join([*map(os.path.basename, words[:1]), *words[1:]])))}"
    if not record["runs"]:
        yield "no run is in progress"
    for run in record["runs"]:
        yield ""
        yield from _run_lines(run, columns)


def _run_lines(run: Record, columns: int | None) -> Iterator[str]:
    phase = "" if run["phase"] == "runs" else f", {run['phase']}"
    reason = f" ({run['reason']})" if run["reason"] and phase else ""
    place = f"on {run['backend']} in {run['thread'] or 'an unknown thread'}"
    yield printable(f"{run['label']}: {place} for {duration_text(run['seconds'])}{phase}{reason}")
    yield f"  {run['verdict']}"
    if run["window"] is not None:
        yield f"  window: {run['slots_taken']} of {plural(run['window'], 'slot')} taken"
    for resource in run["resources"]:
        yield f"  {printable(resource['text'])}"
    unit, rows = _running_rows(run)
    yield from _section("running", rows, run, columns, f" ({unit})")
    yield from _section("waiting", _waiting_rows(run), run, columns)
    yield from _section("failures", _failure_rows(run), run, columns)


def _section(
    name: str, rows: list[tuple[int, list[str]]], run: Record, columns: int | None, unit: str = ""
) -> Iterator[str]:
    """Yield a head and aligned lines, and a line with the number of jobs that have none.

    If one of these is too wide, the last cell of each row gets a line of its own.
    """
    if not rows:
        return
    yield f"{name}{unit}:"
    cells = [[printable(cell) for cell in row] for _, row in rows[:MAX_LINES]]
    left_aligned = (0, len(cells[0]) - 1)  # any others are numbers
    lines = list(align_columns(cells, left_aligned))
    if columns is not None and max(map(display_width, lines)) + 2 > columns:
        heads = align_columns([row[:-1] for row in cells], left_aligned)
        lines = [text for head, row in zip(heads, cells, strict=True) for text in (head, f"    {row[-1]}")]
    for line in lines:
        if line.strip():
            yield f"  {line}"
    more = sum(number for number, _ in rows[MAX_LINES:]) + run["omitted"].get(name, 0)
    if more:
        yield f"  and {plural(more, 'job')} more; --json has up to 1000"


def _running_rows(run: Record) -> tuple[str, list[tuple[int, list[str]]]]:
    """Return the unit of the times, and the rows."""
    rows: list[tuple[int, list[str]]] = []
    jobs = sorted(run["running"], key=lambda job: not job["blocks_loop"])
    unit, times = durations_in_column(job["seconds"] for job in jobs)
    for job, time in zip(jobs, times, strict=True):
        remarks = ["blocks the event loop"] if job["blocks_loop"] else []
        remarks += [f"attempt {job['attempt']}"] if job["attempt"] > 1 else []
        remarks += ["forever"] if job["forever"] else []
        remarks += [job["status"]] if job["status"] else []
        line = job["line"]
        if job["command"] is not None:
            remarks.append(job["command"])
        elif line is not None:
            remarks.append(f"{line['text']} (in {line['function']})")
        rows.append((1, [shorten(job["path"]), time, ", ".join(remarks)]))
    return unit, rows


def _waiting_rows(run: Record) -> list[tuple[int, list[str]]]:
    """Return a row for each group of jobs that wait for the same thing; the explanation is that of the first."""
    groups: dict[Any, list[Record]] = {}
    for job in run["waiting"]:
        # An explanation goes on with the times and with the jobs before this one, which differ from job to job.
        common, _, _ = job["explanation"].partition("," if job["state"] == JobState.SCHEDULED.value else ":")
        groups.setdefault((job["state"], job["cause"], common), []).append(job)
    return [
        (len(jobs), [join_names([shorten(job["path"]) for job in jobs], MAX_NAMES), jobs[0]["explanation"]])
        for jobs in groups.values()
    ]


def _failure_rows(run: Record) -> list[tuple[int, list[str]]]:
    return [
        (
            len(failure["paths"]),
            [
                join_names([shorten(path) for path in failure["paths"]], MAX_NAMES),
                failure["headline"] + (f" at {failure['line']}" if failure["line"] else ""),
            ],
        )
        for failure in run["failures"]
    ]
