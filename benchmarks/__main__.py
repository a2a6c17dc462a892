"""`python -m benchmarks`: the command line, and the measurements under a progress bar."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .bodies import BODIES
from .cases import contests
from .graphs import SHAPES
from .loops import BACKENDS
from .measuring import Contestant, Measurement, hold
from .plans import CASES, FIGURE_SHAPES, FULL, PLANS, Grid, Plan
from .report import Report, load
from .rivals import all_rivals

RESULTS: Final = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for, and return 0 once the report is written, whatever it says."""
    plan, options = parse(arguments)
    console = Console()
    began, start, load_before = time.strftime("%Y-%m-%d %H:%M"), time.perf_counter(), load()
    measurements = list(measure(plan, console))
    report = Report(plan, measurements, began, time.perf_counter() - start, (load_before, load()))
    plots: list[str] = []
    if not options.no_plots:
        from .plots import draw  # only now, because the garbage collector goes through everything that is loaded

        plots = draw(measurements, options.output)
    report.write(options.output, plots)
    report.show(console)
    console.print(f"The report is in {options.output}", highlight=False, soft_wrap=True)
    return 0


def measure(plan: Plan, console: Console) -> Iterator[Measurement]:
    """Hold all contests under a progress bar."""
    columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # The bar moves between two attempts only: a drawing thread would add to what is measured.
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


# ---- the command line


def parse(arguments: Sequence[str] | None) -> tuple[Plan, argparse.Namespace]:
    """Return the plan that the command line asks for, and the other options."""
    names = sorted({rival.name for rival in all_rivals()})
    bodies = sorted({body for bodies in BODIES.values() for body in bodies})
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What trioflow costs, beside its rivals.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="plan", action="store_const", const="quick", help="in minutes: the figures")
    size.add_argument(
        "--tiny", dest="plan", action="store_const", const="tiny", help="in seconds: to see that it works"
    )
    choose = parser.add_argument_group("what to measure", "each takes one or more; the default is the plan's")
    choose.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    choose.add_argument("--backends", nargs="+", choices=BACKENDS, metavar="BACKEND", help=", ".join(BACKENDS))
    choose.add_argument("--rivals", nargs="+", choices=names, metavar="RIVAL", help=", ".join(names))
    grid = parser.add_argument_group("for the case running", "any of these replaces what the plan has for it")
    grid.add_argument("--shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=", ".join(SHAPES))
    grid.add_argument("--bodies", nargs="+", choices=bodies, metavar="BODY", help=", ".join(bodies))
    grid.add_argument("--sizes", nargs="+", type=positive, metavar="N", help="how many jobs; 100 to 1000000")
    grid.add_argument("--windows", nargs="+", type=window, metavar="N", help="how many at once; none for no window")
    parser.add_argument("--rounds", type=positive, metavar="K", help="the best of K")
    parser.add_argument("--no-plots", action="store_true", help="write the table and the JSON only")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    options = parser.parse_args(arguments)
    return changed(options), options


def changed(options: argparse.Namespace) -> Plan:
    """Return the plan, changed as the options say."""
    plan = PLANS[options.plan] if options.plan else FULL
    if options.cases:
        plan = replace(plan, cases=tuple(options.cases))
    if options.backends:
        plan = replace(plan, backends=tuple(options.backends))
    if options.rivals:
        plan = replace(plan, rivals=tuple(options.rivals), slow_rivals=True)
    if options.rounds:
        plan = replace(plan, rounds=options.rounds, few_rounds=options.rounds)
    if options.shapes or options.bodies or options.sizes or options.windows:
        grid = Grid(
            shapes=tuple(options.shapes or FIGURE_SHAPES),
            bodies=tuple(options.bodies or ("no-op", "checkpoint")),
            sizes=tuple(options.sizes or (10_000,)),
            windows=tuple(options.windows or (None,)),
            backends=plan.backends,
        )
        plan = replace(plan, grids=(grid,), cases=tuple(options.cases or ("running",)))
    return plan


def positive(text: str) -> int:
    number = int(text.replace(",", "").replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number, 1 or more")
    return number


def window(text: str) -> int | None:
    return None if text == "none" else positive(text)


if __name__ == "__main__":
    sys.exit(main())
