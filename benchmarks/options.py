"""The command line: which plan, and what of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from .bodies import BODIES
from .graphs import SHAPES
from .loops import BACKENDS
from .plans import CASES, FIGURE_SHAPES, FULL, PLANS, Grid, Plan
from .rivals import all_rivals

RESULTS: Final = Path(__file__).parent / "results"


def parse(arguments: Sequence[str] | None) -> tuple[Plan, argparse.Namespace]:
    """Return the plan that the command line asks for, and the other options."""
    names = sorted({rival.name for rival in all_rivals()})
    bodies = sorted({body for bodies in BODIES.values() for body in bodies})
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What trioflow costs, beside its rivals.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="plan", action="store_const", const="quick", help="two minutes: the figures")
    size.add_argument("--tiny", dest="plan", action="store_const", const="tiny", help="seconds: only whether it works")
    choose = parser.add_argument_group("what to measure", "each takes one or more; the default is what the plan says")
    choose.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    choose.add_argument("--backends", nargs="+", choices=BACKENDS, metavar="BACKEND", help=", ".join(BACKENDS))
    choose.add_argument("--rivals", nargs="+", choices=names, metavar="RIVAL", help=", ".join(names))
    grid = parser.add_argument_group("for the case running", "any of these replaces what the plan has in store for it")
    grid.add_argument("--shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=", ".join(SHAPES))
    grid.add_argument("--bodies", nargs="+", choices=bodies, metavar="BODY", help=", ".join(bodies))
    grid.add_argument("--sizes", nargs="+", type=positive, metavar="N", help="how many jobs; 100 to 1000000")
    grid.add_argument("--windows", nargs="+", type=window, metavar="N", help="how many at once; none for no window")
    parser.add_argument("--rounds", type=positive, metavar="K", help="the best of K")
    parser.add_argument("--no-plots", action="store_true", help="write the table and the JSON only")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    options = parser.parse_args(arguments)
    return chosen(options), options


def chosen(options: argparse.Namespace) -> Plan:
    """Change the plan as the options say."""
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
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1 on")
    return number


def window(text: str) -> int | None:
    return None if text == "none" else positive(text)
