"""The record of a process as text for a terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any, Final

from ..._core.api.views import JobState, duration_text, join_names, plural, printable, shorten
from ..text._symbols import align_columns
from ._process_record import Record

MAX_LINES: Final = 20
"""The maximum number of lines for running jobs, for waiting jobs and for failures of a run; JSON has more."""
MAX_NAMES: Final = 5
"""The maximum number of jobs that a line names."""


def text_lines(pid: int, record: Record) -> Iterator[str]:
    """Yield the lines of the record of a process."""
    words = record["command"]
    yield f"process {pid}: {printable(shorten(shlex.join([*map(os.path.basename, words[:1]), *words[1:]])))}"
    if not record["runs"]:
        yield "no run is in progress"
    for run in record["runs"]:
        yield ""
        yield from _run_lines(run)


def _run_lines(run: Record) -> Iterator[str]:
    phase = "" if run["phase"] == "runs" else f", {run['phase']}"
    reason = f" ({run['reason']})" if run["reason"] and phase else ""
    place = f"on {run['backend']} in {run['thread'] or 'an unknown thread'}"
    yield printable(f"{run['label']}: {place} for {duration_text(run['seconds'])}{phase}{reason}")
    yield f"  {run['verdict']}"
    if run["window"] is not None:
        yield f"  window: {run['slots_taken']} of {plural(run['window'], 'slot')} taken"
    for resource in run["resources"]:
        yield f"  {printable(resource['text'])}"
    yield from _section("running", _running_rows(run), run)
    yield from _section("waiting", _waiting_rows(run), run)
    yield from _section("failures", _failure_rows(run), run)


def _section(name: str, rows: list[tuple[int, list[str]]], run: Record) -> Iterator[str]:
    """Yield a head and aligned lines, and a line with the number of jobs that have none."""
    if not rows:
        return
    yield f"{name}:"
    shown = rows[:MAX_LINES]
    for line in align_columns([[printable(cell) for cell in row] for _, row in shown], range(len(shown[0][1]))):
        yield f"  {line}".rstrip()
    more = sum(number for number, _ in rows[MAX_LINES:]) + run["omitted"].get(name, 0)
    if more:
        yield f"  and {plural(more, 'job')} more; --json has up to 1000"


def _running_rows(run: Record) -> list[tuple[int, list[str]]]:
    rows: list[tuple[int, list[str]]] = []
    for job in sorted(run["running"], key=lambda job: not job["blocks_loop"]):
        remarks = ["blocks the event loop"] if job["blocks_loop"] else []
        remarks += [f"attempt {job['attempt']}"] if job["attempt"] > 1 else []
        remarks += ["forever"] if job["forever"] else []
        remarks += [job["status"]] if job["status"] else []
        line = job["line"]
        if line is not None:
            remarks.append(f"{line['text']} (in {line['function']})")
        seconds = "" if job["seconds"] is None else duration_text(job["seconds"])
        rows.append((1, [shorten(job["path"]), seconds, ", ".join(remarks)]))
    return rows


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
