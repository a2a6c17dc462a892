"""`python -m benchmarks`: the command line, and the measurements under a progress bar."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from . import published
from .bodies import BODIES
from .cases import contests
from .elapsed.steps import measure as elapsed
from .graphs import SHAPES
from .loops import BACKENDS
from .measuring import Contestant, hold
from .plans import CASES, ELAPSED, FIGURE_SHAPES, FULL, PLANS, Grid, Plan
from .report import TINY, Report
from .rivals import all_rivals
from .screen import alone_on_the_screen

RESULTS: Final = Path(__file__).parent / "results"
TRIES: Final = 10
"""How often `--check` measures the cases of which a ratio is beyond its limit, for medians of more samples."""
BETWEEN_REPORTS: Final = 10.0
"""Seconds: to write the report after each contest would take a third of the time of a hundred short ones."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; return 0 whatever the figures are, but with `--check`.

    Return 1 if a contest could not be held to its end, or if `--check` finds a figure beyond its limit, and 130 after
    Ctrl-C.

    The report is written meanwhile, so little is lost if the process is killed, and at the end, however that comes.
    """
    plan, options = parse(arguments)
    commit = published.commit() if plan.name == "pages" else ""
    report = Report(plan, options.output)
    checks = plan.name == "check"
    stopped = False
    with alone_on_the_screen() as console:
        if plan.name == "tiny":
            console.print(TINY, highlight=False)
        if plan.name in ("tiny", "check"):
            gc.freeze()  # a collection before each attempt that goes through all rivals takes half of the time
        written = time.perf_counter()
        try:
            for _ in range(TRIES if checks else 1):
                for _ in measure(plan, report, console):
                    if time.perf_counter() - written > BETWEEN_REPORTS:
                        report.write()
                        written = time.perf_counter()
                if not checks or not report.missed():
                    break
                plan = replace(plan, cases=report.missed_cases())
        except KeyboardInterrupt:
            console.print("Stopped: the report has what was measured until now.")
            stopped = True
        finally:
            report.write()
        report.show(console)
        console.print(
            f"The report is in {options.output / 'report.md'}",
            highlight=False,
            soft_wrap=True,
        )
        if commit and not stopped:
            published.publish(
                [*report.figures, *report.elapsed.figures()], commit, report.facts
            )
        missed = report.missed() if checks else []
        for figure in missed:
            console.print(
                f"{figure.row}, {figure.column}: {figure.value}, at most {figure.limit}",
                style="red",
            )
    return 130 if stopped else 1 if report.failed or missed else 0


def measure(plan: Plan, report: Report, console: Console) -> Iterator[None]:
    """Hold all contests, and yield after each one, when the report includes it.

    A terminal shows a bar; anything else gets a line for each contest.
    """
    found = contests(plan)
    columns = (
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # The bar moves between two attempts only: a drawing thread would add to what is measured.
    with Progress(
        *columns,
        TextColumn("{task.description}"),
        console=console,
        auto_refresh=False,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task("", total=sum(contest.steps for contest in found))

        def tell(contestant: Contestant) -> None:
            progress.update(
                bar, advance=1, description=f"{contestant.setting}: {contestant.name}"
            )
            progress.refresh()

        def tell_step(name: str) -> None:
            if console.is_terminal:
                progress.update(bar, description=name)
                progress.refresh()
            else:
                console.print(
                    f"{time.perf_counter() - report.start:6.0f} s  {name}",
                    highlight=False,
                    soft_wrap=True,
                )

        if ELAPSED in plan.cases:
            for step, outcome in elapsed(plan.elapsed):
                report.elapsed.add(outcome)
                if outcome.is_last:
                    tell_step(f"elapsed: {step}")
                    yield
        for number, contest in enumerate(found, 1):
            name = f"{contest.case}: {contest.contestants[0].setting}"
            try:
                report.measurements.extend(hold(contest, tell))
            except Exception as error:  # a rival that fails does not end the suite
                report.failed.append(name)
                console.print(
                    f"{name} cannot be measured: {error!r}",
                    style="red",
                    markup=False,
                    soft_wrap=True,
                )
            if not console.is_terminal:
                tell_step(f"{number} of {len(found)}  {name}")
            yield


# ---- the command line


def parse(arguments: Sequence[str] | None) -> tuple[Plan, argparse.Namespace]:
    """Return the plan that the command line asks for, and the other options."""
    names = sorted({rival.name for rival in all_rivals()})
    bodies = sorted({body for bodies in BODIES.values() for body in bodies})
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What trioflow costs, beside its rivals.",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        dest="plan",
        action="store_const",
        const="quick",
        help="in minutes: what matters most",
    )
    size.add_argument(
        "--check",
        dest="plan",
        action="store_const",
        const="check",
        help="in a minute: fail if a ratio is too high",
    )
    size.add_argument(
        "--tiny",
        dest="plan",
        action="store_const",
        const="tiny",
        help="in seconds: to see that it works",
    )
    size.add_argument(
        "--write",
        dest="plan",
        action="store_const",
        const="pages",
        help="in minutes: the tables of the documentation",
    )
    choose = parser.add_argument_group(
        "what to measure", "each takes one or more; the default is the plan's"
    )
    choose.add_argument(
        "--cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES)
    )
    choose.add_argument(
        "--backends",
        nargs="+",
        choices=BACKENDS,
        metavar="BACKEND",
        help=", ".join(BACKENDS),
    )
    choose.add_argument(
        "--rivals", nargs="+", choices=names, metavar="RIVAL", help=", ".join(names)
    )
    grid = parser.add_argument_group(
        "for the case running", "any of these replaces what the plan has for it"
    )
    grid.add_argument(
        "--shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=", ".join(SHAPES)
    )
    grid.add_argument(
        "--bodies", nargs="+", choices=bodies, metavar="BODY", help=", ".join(bodies)
    )
    grid.add_argument(
        "--sizes",
        nargs="+",
        type=positive,
        metavar="N",
        help="how many jobs; 100 to 1000000",
    )
    grid.add_argument(
        "--windows",
        nargs="+",
        type=window,
        metavar="N",
        help="how many at once; none for no window",
    )
    parser.add_argument("--rounds", type=positive, metavar="K", help="the best of K")
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="default: benchmarks/results",
    )
    options = parser.parse_args(arguments)
    return changed(options), options


def changed(options: argparse.Namespace) -> Plan:
    """Return the plan, changed by the options."""
    plan = PLANS[options.plan] if options.plan else FULL
    if options.cases:
        plan = replace(plan, cases=tuple(options.cases))
    if options.backends:
        plan = replace(plan, backends=tuple(options.backends))
    if options.rivals:
        plan = replace(plan, rivals=tuple(options.rivals), slow_rivals=True)
    if options.rounds:
        plan = replace(
            plan,
            rounds=options.rounds,
            few_rounds=options.rounds,
            growth_rounds=options.rounds,
        )
    asked = (options.shapes, options.bodies, options.sizes, options.windows)
    if any(asked):
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
