"""The subcommand `trioflow journal`: lists and prunes a journal."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from .. import JournalError, StopReason
from .._core.base._text_forms import fit, plural, size_text
from ..abc import duration_text, printable
from ..jobs.posix._processes import describe_exit
from ..journal import _fingerprint, _serialization
from ..journal._questions import QuestionFiles
from ..journal._run_summary import MAX_FAILURES, FailedJob, parse_summary
from ..journal._store import (
    JournalStore,
    Outputs,
    RunRecord,
    StoredJob,
    count_jobs,
    read_with_retry,
)
from ..view.text import _selection, _verdict
from ..view.text._symbols import Symbols, align_columns, display_width
from . import SUCCESS_CODE, _outputs
from ._commands import HelpfulGroup
from ._scenario import CliError

T = TypeVar("T")

NO_RESULT: Final = "no result in the journal"
MAX_RESULT_LENGTH: Final = 60
BRACKETS: Final = {"tuple": "()", "set": "{}"}
COMMAND_RESULT_PREFIX: Final = '{"$":"CommandResult",'
# `batch --keep all` stores failures so.
KEPT_FAILURE_PREFIX: Final = f'{{"result":{COMMAND_RESULT_PREFIX}'


HELP_EPILOG: Final = """\b
Examples:
  trioflow journal run.db
  trioflow journal run.db why
  trioflow journal run.db show "fetch *"
  trioflow journal run.db forget count

Exit codes: 0 for success; 2 if the file is not a journal, or nothing matches.
"""


class JournalCommands(HelpfulGroup):
    """The commands of `trioflow journal`, whose names follow the file on the command line."""

    def find_hint(self, ctx: click.Context, name: str) -> str:
        first = str(ctx.params.get("path"))
        if first not in self.commands:
            return ""
        return f"write: trioflow journal {printable(name)} {first}"


@click.group(
    name="journal", cls=JournalCommands, invoke_without_command=True, epilog=HELP_EPILOG
)
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def command(context: click.Context, path: Path) -> int:
    """Inspect or edit a journal. Without a command, list its jobs.

    FILE was written by `trioflow run --journal FILE` or `run(journal=FILE)`. PATTERN is the path of a job, where `*`
    stands for any text and `?` for any single character. Quote it for the shell.
    """
    context.obj = path
    if context.invoked_subcommand is None:
        return list_jobs(path)
    return SUCCESS_CODE


@command.command()
@click.pass_obj
def why(path: Path) -> int:
    """Print the jobs that the last run did not restore, and why.

    For a run that was killed, the journal has only the jobs that succeeded. Forgotten jobs, and jobs that always run
    and have succeeded, do not count.
    """
    runs, records = read_runs_and_jobs(path)
    failures = last_failures(runs)
    others = [record for record in records if record.path not in failures]
    states = {record: last_state(record, runs) for record in others}
    ran = [record for record, state in states.items() if state in ("ran", "unstored")]
    absent = defaultdict(
        lambda: NO_RESULT,
        dict.fromkeys(last_failures(runs[:-1]), "it failed in the run before"),
    )
    rows = [
        (record.path, duration_cell(record.took), record.why or absent[record.path])
        for record in ran
    ]
    for failure in failures.values():
        reason = absent[failure.path] if failure.why is None else failure.why
        if reason:
            text = f"{reason}; {failure.error}"
        else:
            text = failure.error
        rows.append((failure.path, duration_cell(failure.took), text))
    shown = [
        [_selection.readable_path(path), *map(printable, cells)]
        for path, *cells in rows
    ]
    for line in align_columns([["job", "took", "why it ran"], *shown], (0, 2)):
        _outputs.echo(line)
    failed = ""
    if failures:
        failed = f" ({len(failures)} of them failed)"
    number = count_jobs((record.path, record.fingerprint) for record in ran) + len(
        failures
    )
    at_least = ""
    if len(failures) >= MAX_FAILURES:
        # The journal has no others.
        at_least = "at least "
    restored = [*states.values()].count("restored")
    _outputs.echo(f"{at_least}{number} ran{failed}, {restored} restored")
    return SUCCESS_CODE


@command.command()
@click.argument("pattern")
@click.pass_obj
def show(path: Path, pattern: str) -> int:
    """Print the results and all details of the jobs that match PATTERN."""
    runs, records = read_runs_and_jobs(path)
    failures = {
        failure: failure_path for failure_path, failure in last_failures(runs).items()
    }
    failed = _selection.match_paths(failures, pattern)
    kept = match_records(
        [record for record in records if record.path not in failures.values()],
        pattern,
        path,
        failed,
    )
    for facts in [
        *(record_facts(record, runs) for record in kept),
        *map(FailedJob._asdict, failed),
    ]:
        for name, value in facts.items():
            text = str(value)
            if isinstance(value, float):
                text = str(round(value, 6))
            if not (value is None or value is False):
                _outputs.echo(f"{name + ':':13}{printable(text)}")
        _outputs.echo()
    return SUCCESS_CODE


@command.command()
@click.argument("pattern")
@click.pass_obj
def forget(path: Path, pattern: str) -> int:
    """Remove the jobs that match PATTERN, and their answers. The next run runs them again."""
    # Raises if the file is not a journal. Opening it for changes would turn it into a journal.
    read_runs_and_jobs(path)
    with (
        _outputs.errors_as(CliError, JournalError),
        contextlib.closing(JournalStore(path, writes=True)) as store,
    ):
        questions = QuestionFiles(store.file)
        answered = {name: name for name in questions.pending_paths()}
        answers = _selection.match_paths(answered, pattern)
        records = match_records(list(store.job_records()), pattern, path, answers)
        forgotten = {*answers, *(record.path for record in records)}
        # First: a kill must not leave the answer without its result, which the next run would take for a new one.
        for name in forgotten:
            questions.remove(name, "taken", "answer")
        store.forget(forgotten)
    _outputs.echo(f"forgotten: {plural(len(forgotten), 'job')}")
    return SUCCESS_CODE


# ---- the file


def read_runs_and_jobs(path: Path) -> tuple[list[RunRecord], list[StoredJob]]:
    with _outputs.errors_as(CliError, JournalError):
        return read_with_retry(
            path, lambda store: (store.run_records(), list(store.job_records()))
        )


def match_records(
    records: list[StoredJob], pattern: str, path: Path, others: object = ()
) -> list[StoredJob]:
    """Return the records of the jobs that match a pattern. The records of a command count in all of its directories.

    Raises:
        CliError: no record matches, and there are no other matches.

    """
    paths = {record: record.path for record in records}
    jobs = {
        record: _fingerprint.job_path(record.path, record.fingerprint)
        for record in records
    }
    matches = [
        *dict.fromkeys(
            [
                *_selection.match_paths(paths, pattern),
                *_selection.match_paths(jobs, pattern),
            ]
        )
    ]
    if not (matches or others):
        raise CliError(
            f"no job in {printable(str(path))!r} matches {printable(pattern)!r}; * stands for any text"
        )
    return matches


# ---- output


def list_jobs(path: Path) -> int:
    runs, records = read_runs_and_jobs(path)
    failures = last_failures(runs)
    shown = {
        text: _selection.readable_path(text)
        for text in (*failures, *(record.path for record in records))
    }
    path_width = min(60, max(map(display_width, shown.values()), default=0))

    def path_cell(text: str) -> str:
        return shown[text] + " " * (path_width - display_width(shown[text]))

    for record in records:
        if record.path in failures:
            continue
        state = last_state(record, runs)
        why = record.why if state == "ran" or record.saved is None else None
        times = f"{timestamp_text(record.settled)}  {duration_cell(record.took):>9}"
        _outputs.echo(
            f"{state:9}{times}  {path_cell(record.path)}  {printable(why or short_result(record))}".rstrip()
        )
    for failure in failures.values():
        times = f"{'':25}  {duration_cell(failure.took):>9}"
        state = "tolerated" if failure.tolerated else "failed"
        _outputs.echo(
            f"{state:9}{times}  {path_cell(failure.path)}  {printable(failure.error)}"
        )
    _outputs.echo(summary_text(runs, records))
    return SUCCESS_CODE


def summary_text(runs: list[RunRecord], records: list[StoredJob]) -> str:
    kept = count_jobs(
        (record.path, record.fingerprint)
        for record in records
        if record.saved is not None
    )
    number = f"{plural(kept, 'job')} kept, {plural(len(runs), 'run')}"
    if not runs:
        return number
    last = runs[-1]
    begun = timestamp_text(last.started)
    return f"{number}; last run: {printable(last.label)!r}, started {begun}: {run_verdict_text(last, records)}"


def run_verdict_text(run: RunRecord, records: list[StoredJob]) -> str:
    """Return the verdict on the last run, in the same form as in all other views.

    If the run has not ended, return whether it is still running or was killed.
    """
    reason = StopReason.__members__.get(run.outcome or "")
    summary = parse_summary(run.ending)
    if reason is None:
        if run.outcome:
            return printable(run.outcome)
        state = "is running" if run.is_running else "was killed"
        return f"{state} ({printable(run.process)})"
    if summary is None:
        # Another program changed it.
        return reason.name.lower()
    tally = _verdict.Tally()
    for count in summary.counts:
        tally.add_jobs(*count)
    tally.failed_groups = summary.failed_groups
    tally.reruns.update({printable(cause): number for cause, number in summary.reruns})
    if summary.restored is None:
        # An earlier version has written it, and counts the members of a `First` apart.
        for record in records:
            if record.restored == run.id:
                tally.restored.add(record.settled, record.took)
    else:
        number, seconds, *times = summary.restored
        tally.restored.number = number
        tally.restored.seconds = seconds
        for time in times:
            tally.restored.add(time, None, number=0)
    if reason is StopReason.COMPLETED and tally.failure_count > len(summary.failures):
        # Jobs of a batch have results that count as failures.
        reason = StopReason.FAILED
    elapsed = None
    if run.ended is not None and math.isfinite(run.ended - run.started):
        elapsed = max(0.0, run.ended - run.started)
    verdict = _verdict.create_verdict(reason, tally, elapsed, summary.culprit)
    symbols = Symbols.for_stream(sys.stdout)
    return f"{verdict.symbol(symbols)} {symbols.escape(verdict.sentence)}"


def last_failures(runs: list[RunRecord]) -> dict[str, FailedJob]:
    if not runs:
        return {}
    summary = parse_summary(runs[-1].ending)
    if summary is None:
        return {}
    return {failure.path: failure for failure in summary.failures}


def last_state(record: StoredJob, runs: list[RunRecord]) -> str:
    """Return the state of a job in the last run, or "earlier" if the last run neither ran nor restored it."""
    last = runs[-1].id if runs else None
    if record.restored == last and last is not None:
        return "restored"
    if record.run == last:
        return "ran" if record.saved is not None else "unstored"
    return "earlier"


def short_result(record: StoredJob) -> str:
    """Return a short form of a stored result, without loading pickles."""
    if record.large is not None:
        if not isinstance(record.result, int):
            return "damaged"
        return f"a large result, {size_text(record.result)}"
    if not isinstance(record.result, str):
        if not isinstance(record.result, bytes):
            return "damaged"
        return f"pickled, {len(record.result)} bytes"
    if record.result.startswith((COMMAND_RESULT_PREFIX, KEPT_FAILURE_PREFIX)):
        return _short_command_result(record.result)
    if Outputs.parse(record.outputs).redacted:
        return "(redacted)"
    try:
        text = _readable(json.loads(record.result))
    except Exception:
        # Another program may have written anything.
        text = record.result
    return fit(text, MAX_RESULT_LENGTH, ellipsis="...")


def _readable(value: object) -> str:
    """Return a JSON value as text, with short floats, and with the types that JSON does not have as in Python."""
    if isinstance(value, float):
        return min(repr(value), f"{value:.9g}", key=len)
    if isinstance(value, list):
        return f"[{','.join(map(_readable, value))}]"  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    items = cast(dict[str, Any], value)
    if _serialization.TYPE_KEY not in items:
        return f"{{{','.join(f'{_readable(key)}:{_readable(item)}' for key, item in items.items())}}}"
    kind = str(items[_serialization.TYPE_KEY])
    text = _readable(items["v"])
    if kind == "CommandResult":
        return describe_exit(items["v"][0])
    if kind in BRACKETS:
        comma = "," if kind == "tuple" and len(items["v"]) == 1 else ""
        return f"{BRACKETS[kind][0]}{text[1:-1]}{comma}{BRACKETS[kind][1]}"
    return f"{str(items.get('t', kind)).rpartition(':')[2]}({text})"


def _short_command_result(text: str) -> str:
    try:
        result = _serialization.loads(text)
        if text.startswith(KEPT_FAILURE_PREFIX):
            if result["limit"] is not None:
                return f"ended at its limit of {result['limit']:g} s"
            result = result["result"]
        parts = [describe_exit(result.returncode), duration_text(result.elapsed)]
        for name in ("stdout", "stderr"):
            output = getattr(result, name)
            if output:
                parts.append(f"{name} of {len(output)} bytes")
        return ", ".join(parts)
    except Exception:
        # Another program may have written anything.
        return text[:MAX_RESULT_LENGTH]


def record_facts(record: StoredJob, runs: list[RunRecord]) -> dict[str, Any]:
    outputs = Outputs.parse(record.outputs)
    shown: object = record.result
    if outputs.redacted or (record.saved and not isinstance(shown, str)):
        shown = short_result(record)
    return {
        "path": record.path,
        "state": last_state(record, runs),
        "run": record.run,
        "settled": timestamp_text(record.settled),
        "took": record.took,
        "why": record.why,
        "saved": record.saved,
        "result": shown,
        "answered": outputs.answered,
        "fingerprint": record.fingerprint,
    }


def duration_cell(seconds: float | None) -> str:
    return duration_text(seconds, in_column=True)


def timestamp_text(seconds: float) -> str:
    """Format a time as local date and time of day, with the offset from UTC.

    Args:
        seconds: the time in seconds since 1970.

    """
    try:
        return (
            datetime.datetime.fromtimestamp(seconds)
            .astimezone()
            .isoformat(sep=" ", timespec="seconds")
        )
    except (ValueError, OverflowError, OSError):
        # Another program changed the file.
        return "unknown time"
