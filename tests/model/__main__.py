"""Run many random scenarios: ``python -m tests.model --count 1000 --seed 7``."""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from .. import isolations
from . import pairs
from .generator import MEETINGS, scenario_of
from .scenario import Scenario
from .shrink import found_in, kind_of, shrink
from .ties import STEPS, differs_from_itself, what_differs_from_itself, with_ties


def what_differs(scenario: Scenario, backend: str) -> list[str]:
    """Return what differs between a scenario's run and what the model predicts."""
    return found_in(scenario, backend)[1]


def print_difference(
    title: str,
    found: list[str],
    scenario: Scenario,
    options: argparse.Namespace,
    find: Callable[[Scenario], list[str]],
) -> None:
    """Print the first lines of a difference; with `--shrink`, also of the smallest scenario that `find` finds it in."""
    print(f"--- {title}:", *found[:7], sep="\n  ", flush=True)
    if options.shrink:
        kind = kind_of(found)
        small = shrink(scenario, lambda smaller: kind_of(find(smaller)) == kind)
        print(small, *find(small)[:7], sep="\n  ")


def main() -> int:
    """Compare, and print what differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.model")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--without", default="")
    parser.add_argument(
        "--stop", type=int, default=5, help="stop after so many scenarios that differ"
    )
    parser.add_argument(
        "--varied",
        action="store_true",
        help="limiters change, and groups and runs share more",
    )
    meetings = "any", *MEETINGS
    parser.add_argument(
        "--meeting",
        default="",
        choices=meetings,
        help="in each scenario, not some in each other one",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print how often pairs of mechanisms have met",
    )
    parser.add_argument(
        "--every",
        type=int,
        default=10_000,
        help="print the counts after each so many scenarios",
    )
    parser.add_argument(
        "--shrink", action="store_true", help="print the scenarios that differ, shrunk"
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    isolations.check()
    print(f"on {isolations.ISOLATION} isolation")
    table = pairs.Table()
    doubts = Counter[str]()
    failed = 0
    exact = 0
    began = time.process_time()
    for number in range(options.first, options.first + options.count):
        meeting = options.meeting
        if not meeting and number % 2 == 0:
            meeting = "any"
        if options.without:
            meeting = ""
        scenario = scenario_of(
            (options.seed, number),
            options.without.split(","),
            varied=options.varied,
            meeting=meeting,
        )
        for backend in ("trio", "asyncio"):
            expected, found = found_in(scenario, backend)
            if expected is not None:
                doubts.update(expected.doubts.keys())
                if not expected.doubts:
                    exact += 1
                table.add(expected.effects)
            if found:
                failed += 1
                find = partial(what_differs, backend=backend)
                print_difference(
                    f"{number} on {backend}", found, scenario, options, find
                )
                break
        if number % 4 in (1, 2):
            tied = with_ties(scenario, STEPS[number % 8 < 4])
            loop = ("trio", "asyncio")[number % 4 == 1]
            apart = differs_from_itself(tied, loop)
            if apart:
                failed += 1
                find = partial(what_differs_from_itself, backend=loop)
                title = f"{number} with times on a grid, twice on {loop}"
                print_difference(title, apart, tied, options, find)
        done = number + 1 - options.first
        if failed >= options.stop or done == options.count or done % options.every == 0:
            seconds = time.process_time() - began
            print(
                f"{2 * done} runs, {exact} exact, {failed} differ, {seconds:.0f} s of CPU; {dict(doubts)}"
            )
            if options.table:
                print(table, flush=True)
        if failed >= options.stop:
            break
    return bool(failed)


sys.exit(main())
