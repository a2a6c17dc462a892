"""`trioflow journal`: list, prune, check, copy and compact a journal."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from .. import JournalError, StopReason
from ..abc import duration_text, printable
from ..journal._run_summary import Failed
from ..journal._run_summary import read as read_ending
from ..journal._store import Record, RunRecord, Store, read_with_retry
from ..view.text._selection import match_paths
from ..view.text._symbols import Symbols, align_columns
from ..view.text._verdict import Tally, verdict
from . import FINE
from ._scenario import Refusal
from ._suggestions import check_command

T = TypeVar("T")

DAMAGED: Final = 1
"""The exit code of a check that has found damage."""
NOT_IN_JOURNAL: Final = "the journal did not have it"
MAX_RESULT_LENGTH: Final = 60
"""Characters of a result in the list."""
COMMAND_RESULT: Final = '{"$":"CommandResult",'
"""The beginning of a command's stored result."""


EPILOG: Final = """\b
Examples:
  trioflow journal run.db
  trioflow journal run.db why
  trioflow journal run.db show "fetch *"
  trioflow journal run.db forget count

The exit code is 0; 1 if check finds damage; 2 if the file is not a journal, or nothing matches.
"""


class Commands(click.Group):
    """The commands of `trioflow journal`; the name of a command follows the file."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, even if its name comes before the file."""
        first = str(ctx.params.get("path"))
        is_turned = first in self.commands
        check_command(
            self, ctx, args[0], f"write: trioflow journal {printable(args[0])} {first}" if is_turned else None
        )
        return super().resolve_command(ctx, args)


@click.group(
    name="journal",
    cls=Commands,
    invoke_without_command=True,
    epilog=EPILOG,
)
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def command(context: click.Context, path: Path) -> int:
    """Look at a journal, or change it. Without a command, list its jobs.

    FILE is what `trioflow run --journal FILE` or `run(journal=FILE)` has written. PATTERN is the path of a job; `*` in
    it stands for any text, `?` for any one character. Quote it.
    """
    context.obj = path
    return list_jobs(path) if context.invoked_subcommand is None else FINE


@command.command()
@click.pass_obj
def why(path: Path) -> int:
    """Print a table of the jobs that the last run did not restore, and why each of them ran, or failed.

    For a run that was killed, the journal has only the jobs that succeeded.
    """
    runs, records = runs_and_jobs(path)
    failures = failures_of(runs)
    states = [state_of(record, runs) for record in records if record.path not in failures]
    rows = [
        (record.path, duration_cell(record.elapsed), record.why or NOT_IN_JOURNAL)
        for record in records
        if record.path not in failures and state_of(record, runs) in ("ran", "unstored")
    ]
    for failure in failures.values():
        reason = NOT_IN_JOURNAL if failure.why is None else failure.why
        rows.append(
            (failure.path, duration_cell(failure.elapsed), f"{reason}; {failure.error}" if reason else failure.error)
        )
    shown = [[printable(cell) for cell in row] for row in (("job", "took", "why it ran"), *rows)]
    for line in align_columns(shown, (0, 2)):
        click.echo(line.encode(errors="backslashreplace"))
    failed = f" ({len(failures)} of them failed)" if failures else ""
    click.echo(f"{len(rows)} ran{failed}, {states.count('restored')} restored")
    return FINE


@command.command()
@click.argument("pattern")
@click.pass_obj
def show(path: Path, pattern: str) -> int:
    """Print all that is known of the jobs that match PATTERN, with their results."""
    runs, records = runs_and_jobs(path)
    for record in match_records(records, pattern, path):
        for name, value in record_facts(record, runs).items():
            if value is not None:
                click.echo(f"{name + ':':13}{printable(str(value))}")
        click.echo()
    return FINE


@command.command()
@click.argument("pattern")
@click.pass_obj
def forget(path: Path, pattern: str) -> int:
    """Remove the jobs that match PATTERN, so that the next run runs them again."""
    with open_for_changes(path) as store:
        records = match_records(list(store.records()), pattern, path)
        store.forget(record.path for record in records)
    click.echo(f"forgotten: {len(records)} job{'s' * (len(records) != 1)}")
    return FINE


@command.command()
@click.pass_obj
def vacuum(path: Path) -> int:
    """Give unused space back, and remove large results that no job refers to any more."""
    with open_for_changes(path) as store:
        before = path.stat().st_size
        store.vacuum()
        click.echo(f"{before} bytes before, {path.stat().st_size} bytes now")
    return FINE


@command.command()
@click.pass_obj
def check(path: Path) -> int:
    """Look for damage in the file and in the large results; the exit code is 1 if there is some.

    A job whose result is damaged runs again. While a run uses the journal, it can be checked, too.
    """
    damage, records = translate_errors(
        lambda: read_with_retry(path, lambda store: (store.find_damage(), store.records()))
    )
    for job, what in damage:
        click.echo(printable(what if job is None else f"{job}: {what}"))
    summary = f"{len(damage)} damaged; these jobs run again" if damage else "no damage"
    click.echo(f"{totals_text(records, ', ')}: {summary}")
    return DAMAGED if damage else FINE


@command.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def backup(path: Path, target: Path) -> int:
    """Copy the journal to TARGET, whole, even while a run writes into it; with its large results beside TARGET.

    A copy that `cp` makes during a run may lack what was committed last, or be torn.
    """

    def copy(store: Store) -> list[Record]:
        store.copy_to(target)
        return store.records()

    records = translate_errors(lambda: read_with_retry(path, copy))
    number = len(records)
    click.echo(f"{totals_text(records, ' and ')} {'are' if number != 1 else 'is'} in {printable(str(target))!r}")
    return FINE


def totals_text(records: list[Record], between: str) -> str:
    """Return the number of jobs and of large results."""
    large = len({record.file for record in records if record.file is not None})
    return f"{len(records)} job{'s' * (len(records) != 1)}{between}{large} large result{'s' * (large != 1)}"


# ---- the file


def runs_and_jobs(path: Path) -> tuple[list[RunRecord], list[Record]]:
    """Read the runs and the jobs of a journal.

    Raises:
        Refusal: it is not a journal.

    """
    return translate_errors(lambda: read_with_retry(path, lambda store: (store.runs(), list(store.records()))))


@contextlib.contextmanager
def open_for_changes(path: Path) -> Generator[Store]:
    """Open an existing journal for changes."""
    runs_and_jobs(path)  # a file that is not a journal must not become one
    store = translate_errors(lambda: Store(path, writes=True))
    try:
        yield store
    finally:
        store.close()


def translate_errors(call: Callable[[], T]) -> T:
    """Call `call`, and raise errors of the journal as errors of the command line."""
    try:
        return call()
    except JournalError as error:
        raise Refusal(printable(str(error))) from None


def match_records(records: list[Record], pattern: str, path: Path) -> list[Record]:
    """Return the jobs whose path matches.

    Raises:
        Refusal: no path matches.

    """
    matches = match_paths({record: record.path for record in records}, pattern)
    if not matches:
        raise Refusal(f"no job in {printable(str(path))!r} matches {printable(pattern)!r}")
    return matches


# ---- output


def list_jobs(path: Path) -> int:
    """Print the jobs, and the verdict on the last run."""
    runs, records = runs_and_jobs(path)
    failures = failures_of(runs)
    widest = min(60, max((len(printable(one)) for one in (*failures, *(record.path for record in records))), default=0))
    for record in records:
        if record.path in failures:
            continue
        state = state_of(record, runs)
        why = record.why if state == "ran" and record.why else ""
        times = f"{date_text(record.settled)}  {duration_cell(record.elapsed):>9}"
        text = f"{state:9}{times}  {printable(record.path):{widest}}  {printable(why or short_result(record))}"
        click.echo(text.rstrip().encode(errors="backslashreplace"))
    for failure in failures.values():
        times = f"{'':19}  {duration_cell(failure.elapsed):>9}"
        text = f"{'failed':9}{times}  {printable(failure.path):{widest}}  {printable(failure.error)}"
        click.echo(text.encode(errors="backslashreplace"))
    click.echo(summary(runs, records))
    return FINE


def summary(runs: list[RunRecord], records: list[Record]) -> str:
    """Return the number of jobs, and the verdict on the last run."""
    number = f"{len(records)} job{'s' * (len(records) != 1)}, {len(runs)} run{'s' * (len(runs) != 1)}"
    if not runs:
        return number
    last = runs[-1]
    return f"{number}; the last of {printable(last.label)!r}, begun {date_text(last.started)}: {run_verdict(last)}"


def run_verdict(run: RunRecord) -> str:
    """Return the verdict on a run, in the words of all views."""
    reason, ending = StopReason.__members__.get(run.outcome or ""), read_ending(run.ending)
    if reason is None:
        return run.outcome or f"{'is running' if run.is_running else 'was killed'} ({printable(run.process)})"
    if ending is None:  # the file was edited by hand
        return reason.name.lower()
    tally = Tally(failures=ending.failed)
    for state, forever, jobs in ending.counts:
        tally.add(state, forever, jobs)
    result = verdict(reason, tally, None if run.ended is None else max(0.0, run.ended - run.started), ending.culprit)
    symbols = Symbols.for_stream(sys.stdout)
    return f"{result.symbol(symbols)} {symbols.escape(result.words)}"


def failures_of(runs: list[RunRecord]) -> dict[str, Failed]:
    """Return the jobs that failed in the last run, by path."""
    ending = read_ending(runs[-1].ending) if runs else None
    return {} if ending is None else {failure.path: failure for failure in ending.failures}


def state_of(record: Record, runs: list[RunRecord]) -> str:
    """Return the state of a job in the last run."""
    last = runs[-1].id if runs else None
    if record.restored == last and last is not None:
        return "restored"
    if record.run == last:
        return "ran" if record.saved is not None else "unstored"
    return "earlier"


def short_result(record: Record) -> str:
    """Return a short form of a stored result; pickles are not loaded."""
    if record.file is not None:
        return f"a large result, in {record.file[:12]}..."
    if not isinstance(record.result, str):
        return f"pickled, {len(record.result or b'')} bytes"
    if record.result.startswith(COMMAND_RESULT):
        return _short_command_result(record.result)
    return record.result if len(record.result) <= MAX_RESULT_LENGTH else record.result[: MAX_RESULT_LENGTH - 3] + "..."


def _short_command_result(text: str) -> str:
    """Return a short form of a command's result, or the stored text if it cannot be read."""
    try:
        returncode, elapsed, _, _, _, stdout, stderr = json.loads(text)["v"]
        shown = [f"exit code {returncode:d}", duration_text(elapsed)]
        for name, output in (("stdout", stdout), ("stderr", stderr)):
            if output:
                shown.append(f"{name} of {len(base64.b64decode(output))} bytes")
    except (ValueError, TypeError, KeyError):
        return text[:MAX_RESULT_LENGTH]
    return ", ".join(shown)


def record_facts(record: Record, runs: list[RunRecord]) -> dict[str, Any]:
    """Return the facts on a job, by name."""
    return {
        "path": record.path,
        "state": state_of(record, runs),
        "run": record.run,
        "settled": time_text(record.settled),
        "elapsed": None if record.elapsed is None else round(record.elapsed, 6),
        "why": record.why,
        "saved": record.saved,
        "result": record.result if isinstance(record.result, str) else short_result(record) if record.saved else None,
        "fingerprint": record.fingerprint,
    }


def duration_cell(seconds: float | None) -> str:
    """Return the duration of a job for a column; "" if unknown."""
    return "" if seconds is None else duration_text(seconds, in_column=True)


def date_text(seconds: float) -> str:
    """Return a date with the local time of day."""
    return time_text(seconds)[:19]


def time_text(seconds: float) -> str:
    """Return a time as text."""
    try:
        return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError, OSError):  # the file was edited by hand
        return "unknown time"
