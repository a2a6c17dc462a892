"""One command that measures and reports: `python -m benchmarks`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import machine, options
from .cases import contests
from .measuring import Contestant, Measurement, hold
from .plans import Plan
from .report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; 0 when the report is written, whatever it says."""
    plan, chosen = options.parse(arguments)
    console = Console()
    began, start, load = time.strftime("%Y-%m-%d %H:%M"), time.perf_counter(), machine.load()
    measurements = list(measure(plan, console))
    report = Report(plan, measurements, began, time.perf_counter() - start, (load, machine.load()))
    plots: list[str] = []
    if not chosen.no_plots:
        from .plots import draw  # only now: what is loaded is gone through by the collector

        plots = draw(measurements, chosen.output)
    report.write(chosen.output, plots)
    report.show(console)
    console.print(f"The report is in {chosen.output}", highlight=False, soft_wrap=True)
    return 0


def measure(plan: Plan, console: Console) -> Iterator[Measurement]:
    """Hold all contests under a progress bar."""
    columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # It moves between two attempts only: a thread that draws would take its share of what is measured.
    with Progress(*columns, TextColumn("{task.description}"), console=console, auto_refresh=False) as progress:
        found = contests(plan)
        bar = progress.add_task("", total=sum(contest.steps for contest in found))

        def tell(contestant: Contestant) -> None:
            setting = contestant.setting
            where = " ".join(filter(None, (setting.backend, setting.shape, setting.body)))
            progress.update(bar, advance=1, description=f"{where}: {contestant.name}")
            progress.refresh()

        for contest in found:
            yield from hold(contest, tell)


if __name__ == "__main__":
    sys.exit(main())
