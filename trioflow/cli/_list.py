"""`trioflow list`: the jobs before a run, as the tree that the monitor shows during it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

from .. import Scheduler
from ..abc import AbstractJob, is_scheduler, is_service, paths_of, printable
from ..view.text._listing import Begin, Cycle, End, Row, closed_cycle, listing_rows
from ..view.text._symbols import Symbols, width
from ..view.text._verdict import join_names
from ._scenario import takes_scenario

MAX_NAMES: Final = 4
"""The number of requirements up to which all are named; of more, the first three are."""
MAX_LABEL_COLUMNS: Final = 60
"""The maximum width of the column of labels; longer labels exceed it in their own line alone."""
INDENT: Final = "  "

EXAMPLES: Final = """\b
Examples:
  trioflow list flow.py
  trioflow list flow.py --paths --from "fetch *"
"""


@click.command(name="list", epilog=EXAMPLES)
@takes_scenario
@click.option(
    "--paths", is_flag=True, help="Print the path of each job instead, as --only, --from and --until take it."
)
def command(scheduler: Scheduler, paths: bool) -> None:
    """Print the jobs as a tree: what each waits for, and the window of each scheduler.

    Each job comes after what it requires. "!" stands before a critical job, "∞" before a forever job. Nothing is run.
    """
    symbols = Symbols.for_stream(sys.stdout)
    job_paths = paths_of(scheduler)
    every = list(listing_rows(scheduler))
    jobs = [row.job for row in every if not isinstance(row, (End, Cycle))]
    lines = (
        (job_paths[job] for job in scheduler.iterate_jobs()) if paths else Tree(scheduler, jobs, job_paths).lines(every)
    )
    for line in lines:
        click.echo(symbols.escape(line))


class Tree:
    """The lines of the tree.

    Args:
        scheduler: the outermost scheduler.
        jobs: all jobs in it, in the order of their lines.
        paths: the path of each job.

    """

    def __init__(self, scheduler: Scheduler, jobs: Sequence[AbstractJob[Any]], paths: Mapping[Any, str]) -> None:
        self._scheduler: Final = scheduler
        around = {scheduler: scheduler.path} if scheduler.scheduler is not None else {}  # the user named a nested one
        self._paths: Final = {**paths, **around}
        self._places: Final = {job: place for place, job in enumerate(jobs)}
        self._symbols: Final = Symbols.for_stream(sys.stdout).set
        self._users: Final[dict[AbstractJob[Any], list[AbstractJob[Any]]]] = {}
        for job in jobs:
            for service in filter(is_service, job.required):
                self._users.setdefault(service, []).append(job)

    def lines(self, every: Iterable[Row]) -> Iterator[str]:
        """Yield a line about the outermost scheduler, and one for each job."""
        yield f"{printable(self._scheduler.label)}: {'; '.join(_size(self._scheduler))}"
        pairs = [pair for row in every if (pair := self._line(row)) is not None]
        column = max((wide for left, right in pairs if right and (wide := width(left)) <= MAX_LABEL_COLUMNS), default=0)
        for left, right in pairs:
            yield f"{left}{' ' * (column - width(left))}  {right}".rstrip()

    def _line(self, row: Row) -> tuple[str, str] | None:
        """Return the symbols with the label, and the text after it; None for the end of a scheduler."""
        indent = INDENT * row.depth
        if isinstance(row, End):
            return None
        if isinstance(row, Cycle):
            cycle = " -> ".join(self._relative_name(job, row.job) for job in closed_cycle(row.job))
            return f"    {indent}from here on in the order added: cycle {cycle}", ""
        job = row.job
        critical = self._symbols.critical if job.is_critical() else " "
        forever = self._symbols.forever if job.forever else self._symbols.states[job.state]
        about = [*(_size(job) if isinstance(row, Begin) else ()), *self._conditions(job)]
        return f"{critical} {forever} {indent}{self._relative_name(job, job.scheduler)}", "; ".join(about)

    def _conditions(self, job: AbstractJob[Any]) -> Iterator[str]:
        """Yield the requirements of a job, its `run_if`, and the jobs that use it as a service."""
        required = self._join_names(job.required, job.scheduler)
        several = len(job.required) > 1
        if not required:
            pass
        elif job.run_if == "settled":
            yield f"after {required}"
        elif job.run_if == "failed":
            yield f"if {'one of ' * several}{required} failed"
        else:
            yield f"if {'all of ' * several}{required} succeeded"
        if users := self._users.get(job):
            yield f"service of {self._join_names(users, job.scheduler)}"

    def _join_names(self, jobs: Iterable[AbstractJob[Any]], level: Any) -> str:
        in_order = sorted(jobs, key=lambda job: self._places.get(job, len(self._places)))
        names = [self._relative_name(job, level) for job in in_order]
        return join_names(names, len(names) if len(names) <= MAX_NAMES else MAX_NAMES - 1)

    def _relative_name(self, job: AbstractJob[Any], level: Any) -> str:
        """Return the name of a job relative to a scheduler; a question mark if it is in no scheduler of the run."""
        path = self._paths.get(job)
        if path is None:
            return f"?{printable(job.label)}"
        around = self._paths.get(level)
        return printable(path if around is None else path.removeprefix(f"{around}/"))


def _size(scheduler: Any) -> Iterator[str]:
    """Yield the number of jobs in a scheduler, and its window, if it has one."""
    number = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    yield f"{number} job{'s' * (number != 1)}"
    if scheduler.window_size is not None:
        yield f"window {scheduler.window_size}"
