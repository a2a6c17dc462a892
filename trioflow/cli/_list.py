"""The subcommand `trioflow list`: prints the jobs as a tree, in the same order as a monitor shows them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

from .. import Scheduler
from ..abc import AbstractJob, is_scheduler, is_service, paths_of, printable
from ..view.text._listing import BeginRow, CycleRow, EndRow, ListingRow, closed_cycle, listing_rows
from ..view.text._symbols import Symbols, display_width
from ..view.text._verdict import join_names
from ._scenario import scenario_command

MAX_NAMED_REQUIREMENTS: Final = 4
"""The maximum number of requirements to name. If there are more, only the first three are named."""
MAX_LABEL_COLUMNS: Final = 60
"""The maximum width of the column of labels. A line with a longer label is not aligned with the other lines."""
INDENT: Final = "  "

EXAMPLES: Final = """\b
Examples:
  trioflow list flow.py
  trioflow list flow.py --paths --from "fetch *"
"""


@click.command(name="list", epilog=EXAMPLES)
@scenario_command
@click.option("--paths", is_flag=True, help="Print the path of each job instead, for --only, --from and --until.")
def command(scheduler: Scheduler, paths: bool) -> None:
    """Print the jobs as a tree: what each waits for, and the window of each scheduler.

    Each job comes after what it requires. "!" marks a critical job, "∞" a forever job. Nothing is run.
    """
    symbols = Symbols.for_stream(sys.stdout)
    job_paths = paths_of(scheduler)
    rows = list(listing_rows(scheduler))
    jobs = [row.job for row in rows if not isinstance(row, (EndRow, CycleRow))]
    lines = (
        (job_paths[job] for job in scheduler.iterate_jobs())
        if paths
        else JobTree(scheduler, jobs, job_paths).lines(rows)
    )
    for line in lines:
        click.echo(symbols.escape(line))


class JobTree:
    """The tree of the jobs, as lines of text.

    Args:
        scheduler: the outermost scheduler.
        jobs: all jobs in the scheduler, in the order of their lines.
        paths: the path of each job.

    """

    def __init__(self, scheduler: Scheduler, jobs: Sequence[AbstractJob[Any]], paths: Mapping[Any, str]) -> None:
        self._scheduler: Final = scheduler
        # If the user named a nested scheduler, paths begin with its own path.
        root_paths = {scheduler: scheduler.path} if scheduler.scheduler is not None else {}
        self._paths: Final = {**paths, **root_paths}
        self._line_indices: Final = {job: index for index, job in enumerate(jobs)}
        self._symbols: Final = Symbols.for_stream(sys.stdout).symbol_set
        self._users_by_service: Final[dict[AbstractJob[Any], list[AbstractJob[Any]]]] = {}
        for job in jobs:
            for service in filter(is_service, job.required):
                self._users_by_service.setdefault(service, []).append(job)

    def lines(self, rows: Iterable[ListingRow]) -> Iterator[str]:
        """Yield the line of the outermost scheduler, then the line of each job."""
        yield f"{printable(self._scheduler.label)}: {'; '.join(_scheduler_notes(self._scheduler))}"
        pairs = [pair for row in rows if (pair := self._line_parts(row)) is not None]
        label_width = max(
            (width for left, right in pairs if right and (width := display_width(left)) <= MAX_LABEL_COLUMNS), default=0
        )
        for left, right in pairs:
            yield f"{left}{' ' * (label_width - display_width(left))}  {right}".rstrip()

    def _line_parts(self, row: ListingRow) -> tuple[str, str] | None:
        """Return the left part of a line (symbols and label) and its right part (notes).

        Return None for the end of a nested scheduler, which has no line.
        """
        indent = INDENT * row.depth
        if isinstance(row, EndRow):
            return None
        if isinstance(row, CycleRow):
            cycle = " requires ".join(self._relative_name(job, row.job) for job in closed_cycle(row.job))
            return f"    {indent}the remaining jobs are in the order added: cycle {cycle}", ""
        job = row.job
        critical = self._symbols.critical_symbol if job.is_critical() else " "
        forever = self._symbols.forever_symbol if job.forever else self._symbols.state_symbols[job.state]
        notes = [*(_scheduler_notes(job) if isinstance(row, BeginRow) else ()), *self._job_notes(job)]
        return f"{critical} {forever} {indent}{self._relative_name(job, job.scheduler)}", "; ".join(notes)

    def _job_notes(self, job: AbstractJob[Any]) -> Iterator[str]:
        """Yield notes on a job: the condition under which it runs, and the jobs that use it as a service."""
        required = self._join_names(job.required, job.scheduler)
        has_several = len(job.required) > 1
        if not required:
            pass
        elif job.run_if == "settled":
            yield f"after {required}"
        elif job.run_if == "failed":
            yield f"if {'one of ' * has_several}{required} failed"
        else:
            yield f"if {'all of ' * has_several}{required} succeeded"
        if users := self._users_by_service.get(job):
            yield f"service of {self._join_names(users, job.scheduler)}"

    def _join_names(self, jobs: Iterable[AbstractJob[Any]], parent: Any) -> str:
        in_order = sorted(jobs, key=lambda job: self._line_indices.get(job, len(self._line_indices)))
        names = [self._relative_name(job, parent) for job in in_order]
        return join_names(names, len(names) if len(names) <= MAX_NAMED_REQUIREMENTS else MAX_NAMED_REQUIREMENTS - 1)

    def _relative_name(self, job: AbstractJob[Any], parent: Any) -> str:
        """Return the path of a job relative to a scheduler; "?" and its label if it is not in the scenario."""
        path = self._paths.get(job)
        if path is None:
            return f"?{printable(job.label)}"
        enclosing_path = self._paths.get(parent)
        return printable(path if enclosing_path is None else path.removeprefix(f"{enclosing_path}/"))


def _scheduler_notes(scheduler: Any) -> Iterator[str]:
    """Yield the number of jobs in a scheduler and, if it has one, its window."""
    number = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    yield f"{number} job{'s' * (number != 1)}"
    if scheduler.window_size is not None:
        yield f"window {scheduler.window_size}"
