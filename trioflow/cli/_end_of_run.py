"""The summary that `trioflow run` prints at the end.

It contains the failures, the verdict, the slowest chain of jobs, the written files, and the command to run again.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .. import JournalError, Scheduler, StopReason
from .._core.base._text_forms import headline
from ..abc import duration_text, is_scheduler, printable
from ..view._families import fit_name
from ..view.monitor._monitor import can_move_cursor, has_colors
from ..view.text import _debrief, _symbols, _verdict
from ..view.text._selection import readable_path
from ..view.text._verdict import Tally
from . import SUCCESS_CODE, _outputs
from ._commands import CommandLine

if TYPE_CHECKING:
    from .. import Trace

MIN_SECONDS_FOR_CHAIN: Final = 3.0
SEARCH_SECONDS_PER_JOB: Final = 50e-6
"""An estimate of the time, in seconds per job, to find the slowest chain of a run that was not traced."""
MAX_SEARCH_SHARE: Final = 0.02
"""The maximum time to spend on finding the slowest chain of an untraced run, as a fraction of the run's duration."""
# The jobs of a chain that takes a smaller share of the run explain little of it.
MIN_CHAIN_SHARE: Final = 1 / 3
CHAIN_HEADING: Final = "slowest chain"
MAX_NAMED_JOBS: Final = 3
MAX_PATH_LENGTH: Final = 40
DEFAULT_WIDTH: Final = 120


class RunSummaryText:
    """The lines to print at the end of a run.

    Args:
        scheduler: the outermost scheduler of the run.
        code: the exit code.
        trace: the trace of the run, or None if the run was not traced.

    """

    def __init__(self, scheduler: Scheduler, code: int, trace: Trace | None) -> None:
        self._scheduler: Final = scheduler
        self._is_fine: Final = code == SUCCESS_CODE
        self._trace: Final = trace
        self._symbols: Final = _symbols.Symbols.for_stream(sys.stdout)

    @functools.cached_property
    def _tally(self) -> Tally:
        """The counts of the run's jobs, which takes a walk over all of them."""
        return Tally.for_scheduler(self._scheduler)

    def details(self) -> str:
        """Return the details of a run that was not fine: its failures, and why other jobs did not run.

        Return "" if the run was fine.
        """
        if self._is_fine:
            return ""
        return _debrief.details_text(
            self._scheduler, _symbols.Symbols.for_stream(sys.stderr)
        )

    def verdict_lines(self) -> Iterator[str]:
        """Yield the line of the verdict.

        If the run was not good, or there were forever jobs, then yield the number of jobs in each state.
        """
        reason = self._scheduler.stop_reason or StopReason.INTERRUPTED
        verdict = _verdict.run_verdict(self._scheduler, reason, has_duration=True)
        line = verdict.format_line(self._scheduler.label, self._symbols)
        color = "green" if verdict.is_good else "red"
        if has_colors(sys.stdout):
            yield click.style(line, fg=color, bold=True)
        else:
            yield line
        if not verdict.is_good or self._tally.count(_verdict.FOREVER_KEY):
            yield self._tally.describe()

    def footer_lines(
        self, written: Sequence[tuple[str, Path]], journal: Path | None
    ) -> Iterator[str]:
        """Yield lines about the jobs that a timeout cancelled, the incidents, the slowest chain, and each written file.

        Then yield the command to run again. Lines that do not apply are left out.
        """
        facts = [
            ("was running", self.running_at_timeout()),
            ("incidents", self.incidents()),
            (CHAIN_HEADING, self.slowest_chain()),
        ]
        facts += [(name, shown_path(path)) for name, path in written]
        if not self._is_fine:
            facts.append(("run again", self.rerun_hint(journal)))
        shown = [(name, text) for name, text in facts if text]
        width = max((len(name) for name, _ in shown), default=0)
        for name, text in shown:
            yield f"{name:{width}}  {text}".replace("\n", f"\n{'':{width}}  ")

    def incidents(self) -> str:
        """Return the first lines of the incidents of a run that was fine. Otherwise the details have them."""
        if not self._is_fine:
            return ""
        found = [
            each.message
            for each in _debrief.all_incidents(self._scheduler)
            if not each.is_steering
        ]
        texts = [self._symbols.escape(printable(headline(text))) for text in found]
        return self._fit_items([*enumerate(texts)])

    # ---- the slowest jobs

    def slowest_chain(self) -> str:
        """Return the slowest jobs on the critical path, in the order of the path, with their shares of the duration.

        Return "" if the run was short, if these jobs took little of it, because they waited for most of it, or if the
        search for the critical path would take too long.
        """
        job_count = self._tally.job_count
        elapsed = _verdict.run_seconds(self._scheduler) or 0.0
        is_cheap = (
            self._trace is not None
            or job_count * SEARCH_SECONDS_PER_JOB <= elapsed * MAX_SEARCH_SHARE
        )
        if job_count < 2 or elapsed < MIN_SECONDS_FOR_CHAIN or not is_cheap:
            return ""
        # Imported here, because most runs are shorter.
        from ..view.trace._trace import find_critical_path_parts

        parts = [
            part
            for part in find_critical_path_parts(self._scheduler, self._trace)
            if not part.is_wait
        ]
        if sum(part.seconds for part in parts) < elapsed * MIN_CHAIN_SHARE:
            return ""
        shown = list[tuple[float, str]]()
        for part in parts:
            duration = f"{duration_text(part.seconds, in_column=True)} ({100 * part.seconds / elapsed:.0f} %)"
            shown.append((part.start, f"{self._short_path(part.label)} {duration}"))
        return self._fit_items(shown)

    def running_at_timeout(self) -> str:
        """Return the jobs that the run's timeout has cancelled, longest-running first, or "" if it did not time out."""
        if self._scheduler.stop_reason is not StopReason.TIMEOUT:
            return ""
        ended = list[tuple[float, str]]()
        for job in _debrief.jobs_cut_off(self._scheduler):
            if job.forever:
                continue
            began = job.started_at
            end = job.finished_at
            if began is not None and end is not None and not is_scheduler(job):
                ended.append((end - began, job.path))
        ended.sort(key=itemgetter(0), reverse=True)
        texts = [
            f"{self._short_path(path)} {duration_text(took, in_column=True)}"
            for took, path in ended
        ]
        return self._fit_items(list(enumerate(texts)))

    def _short_path(self, path: str) -> str:
        return self._symbols.escape(
            fit_name(readable_path(path), min(MAX_PATH_LENGTH, line_width() // 2 - 12))
        )

    def _fit_items(self, items: Sequence[tuple[float, str]]) -> str:
        """Join as many of the first items as fit into a line, up to `MAX_NAMED_JOBS`, and the number of the others.

        Args:
            items: the place of each item in the line, and its text.

        """
        columns = line_width() - len(CHAIN_HEADING) - 2
        for count in range(min(MAX_NAMED_JOBS, len(items)), 0, -1):
            omitted = []
            if len(items) > count:
                omitted = [f"{len(items) - count} more"]
            line = self._symbols.separator.join(
                [*(text for _, text in sorted(items[:count])), *omitted]
            )
            if count == 1 or _symbols.display_width(line) <= columns:
                return line
        return ""

    # ---- how to run again

    def rerun_hint(self, journal: Path | None) -> str:
        """Return the command line that repeats the run, with the number of jobs that the journal would restore.

        Without a journal, add a hint on `--journal`.
        """
        line = printable(shlex.join(["trioflow", *CommandLine.current().arguments]))
        kept = None
        if journal is not None:
            kept = count_restorable_jobs(journal)
        note = _outputs.kept_note(kept, self._tally.job_count, "job")
        width = _symbols.display_width(f"{CHAIN_HEADING}  {line}  {note}")
        if width > line_width() and can_move_cursor(sys.stdout):
            return f"{line}\n{note}"
        return f"{line}  {note}"


def count_restorable_jobs(journal: Path) -> int:
    """Return how many jobs the next run can restore from the journal, or 0 if the journal cannot be read."""
    from ..journal._store import read_with_retry

    try:
        return read_with_retry(journal, lambda store: store.count_kept_jobs())
    except JournalError:
        # The run has logged the error already.
        return 0


def line_width() -> int:
    if can_move_cursor(sys.stdout):
        return shutil.get_terminal_size().columns
    return DEFAULT_WIDTH


def shown_path(path: Path) -> str:
    """Return the path of a file, relative to the working directory."""
    directory = CommandLine.current().directory
    if path.is_relative_to(directory):
        path = path.relative_to(directory)
    return printable(str(path))
