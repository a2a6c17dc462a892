"""The end of `trioflow run`: failures, verdict, slowest chain, the files written, and how to run again."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .. import JobState, JournalError, Scheduler, StopReason
from ..abc import duration_text, is_scheduler, printable, without_middle
from ..view.monitor._monitor import can_draw, has_colours
from ..view.text import _debrief, _symbols, _verdict
from ..view.text._verdict import Verdict
from . import FINE
from ._commands import CommandLine

if TYPE_CHECKING:
    from .. import Trace

SHORTEST_RUN: Final = 3.0
"""Runs shorter than this, in seconds, have no slowest chain: there is little time to gain."""
SECONDS_PER_JOB: Final = 50e-6
"""Seconds per job to find the slowest chain without a trace: 44 microseconds."""
LARGEST_SHARE: Final = 0.02
"""The maximum share of the run's time that a search for the slowest chain without a trace may take."""
MAX_JOBS: Final = 3
"""The number of jobs of the slowest chain that are named."""
MAX_PATH_LENGTH: Final = 40
"""Characters of each path; a longer one loses its middle."""
DEFAULT_WIDTH: Final = 120
"""The width of a line, in columns, where there is no terminal."""


class EndOfRun:
    """The lines to print at the end of a run.

    Args:
        scheduler: the scheduler.
        elapsed: the duration of its run in seconds; None if it never began.
        code: the exit code.
        trace: the trace of the run, if there is one.

    """

    def __init__(self, scheduler: Scheduler, elapsed: float | None, code: int, trace: Trace | None) -> None:
        self._scheduler: Final = scheduler
        self._elapsed: Final = elapsed
        self._is_fine: Final = code == FINE
        self._trace: Final = trace
        self._symbols: Final = _symbols.Symbols.for_stream(sys.stdout)

    def details(self, failures: bool) -> str:
        """Return the details below the verdict, with the failures if they are wanted."""
        return (
            ""
            if self._is_fine
            else _debrief.details(self._scheduler, _symbols.Symbols.for_stream(sys.stderr), failures)
        )

    def verdict(self) -> Iterator[str]:
        """Yield the verdict, and the number of jobs in each state unless all succeeded."""
        verdict = self._make_verdict(self._elapsed)
        yield self._line(verdict)
        counts = _verdict.Tally.for_scheduler(self._scheduler).in_words()
        if {",", "("} & {*counts} or not verdict.is_good:
            yield counts

    def reminder(self) -> Iterator[str]:
        """Yield the verdict without the time, which the monitor's picture above the failures has."""
        yield self._line(self._make_verdict(None))

    def _make_verdict(self, elapsed: float | None) -> Verdict:
        return _verdict.run_verdict(self._scheduler, self._scheduler.stop_reason or StopReason.INTERRUPTED, elapsed)

    def _line(self, verdict: Verdict) -> str:
        line = verdict.line(self._scheduler.label, self._symbols)
        colour = "green" if verdict.is_good else "red"
        return click.style(line, fg=colour, bold=True) if has_colours(sys.stdout) else line

    def lines(self, written: Mapping[str, Path], journal: Path | None) -> Iterator[str]:
        """Yield the slowest chain, each written file, and how to run again."""
        facts = {"running then": self.running_at_timeout(), "slowest chain": self.slowest_chain()}
        facts.update((name, link(path)) for name, path in written.items())
        facts["again"] = "" if self._is_fine else self.rerun_hint(journal)
        shown = {name: text for name, text in facts.items() if text}
        width = max(map(len, shown), default=0)
        for name, text in shown.items():
            yield f"{name:{width}}  {text}"

    # ---- what took the time

    def slowest_chain(self) -> str:
        """Return the slowest jobs on the critical path with their shares of the time; "" for a short run."""
        jobs, elapsed = _verdict.Tally.for_scheduler(self._scheduler).jobs, self._elapsed or 0.0
        is_cheap = self._trace is not None or jobs * SECONDS_PER_JOB <= elapsed * LARGEST_SHARE
        if jobs < 2 or elapsed < SHORTEST_RUN or not is_cheap:
            return ""
        from ..view.trace._trace import find_path_parts  # here, because most runs are shorter

        shown: list[str] = []
        for part in find_path_parts(self._scheduler, self._trace):
            if not part.is_wait:
                name = self._name(part.text)
                share = 100 * part.seconds / elapsed
                shown.append(f"{name} {duration_text(part.seconds, in_column=True)} ({share:.0f} %)")
        return fit_pieces(shown, self._separator, line_width() - len("slowest chain") - 2)

    def running_at_timeout(self) -> str:
        """Return the jobs that the run's timeout cancelled, the longest first."""
        if self._scheduler.stop_reason is not StopReason.TIMEOUT:
            return ""
        running = [
            (job.finished_at - job.started_at, job)
            for job in self._scheduler.iterate_jobs()
            if job.state is JobState.CANCELLED and not (job.forever or is_scheduler(job))
            if job.started_at is not None and job.finished_at is not None
        ]
        running.sort(key=lambda one: -one[0])
        shown = [f"{self._name(job.path)} {duration_text(took, in_column=True)}" for took, job in running]
        return fit_pieces(shown, self._separator, line_width() - len("slowest chain") - 2)

    def _name(self, path: str) -> str:
        """Return a path that leaves room on the line for what stands beside it."""
        return self._symbols.escape(without_middle(printable(path), min(MAX_PATH_LENGTH, line_width() // 2 - 12)))

    @property
    def _separator(self) -> str:
        return " · " if self._symbols.set is _symbols.UNICODE else ", "

    # ---- how to run again

    def rerun_hint(self, journal: Path | None) -> str:
        """Return the command line, and how many jobs need not run again."""
        line = printable(shlex.join(["trioflow", *CommandLine.current().words]))
        if journal is None:
            return f"{line}  (--journal FILE keeps what succeeds)"
        kept, jobs = number_to_restore(journal), _verdict.Tally.for_scheduler(self._scheduler).jobs
        of = f" of {jobs}" if kept <= jobs else ""  # a scheduler with keep_jobs=False has dropped some
        return f"{line}  ({kept}{of} job{'s' * (max(kept, jobs) != 1)} kept)"


def number_to_restore(journal: Path) -> int:
    """Return how many jobs of the last run the next one can restore."""
    from ..journal._store import read_with_retry

    try:
        return read_with_retry(journal, lambda store: store.number_of_results())
    except JournalError:  # the run has logged it
        return 0


def fit_pieces(pieces: Sequence[str], between: str, columns: int) -> str:
    """Return the first pieces that fit, at least one, and the number of the others."""
    for number in range(min(MAX_JOBS, len(pieces)), 0, -1):
        more = [f"{len(pieces) - number} more"] if len(pieces) > number else []
        line = between.join([*pieces[:number], *more])
        if number == 1 or _symbols.width(line) <= columns:
            return line
    return ""


def line_width() -> int:
    """Return the width of a line."""
    return shutil.get_terminal_size().columns if can_draw(sys.stdout) else DEFAULT_WIDTH


def link(path: Path) -> str:
    """Return the path of a file relative to the user's directory; as a link on a terminal of this machine."""
    directory = CommandLine.current().directory
    shown = printable(str(path.relative_to(directory) if path.is_relative_to(directory) else path))
    if not can_draw(sys.stdout) or "SSH_CONNECTION" in os.environ:
        return shown
    return f"\x1b]8;;{path.as_uri()}\x1b\\{shown}\x1b]8;;\x1b\\"
