"""Run many random scenarios: ``python -m tests.model --count 1000 --seed 7``."""

import argparse
import logging
import sys
import time
from collections import Counter
from functools import partial
from .. import isolations
from . import pairs
from .generator import MEETINGS, scenario_of
from .scenario import Scenario
from .shrink import found_in, kind_of, shrink
from .ties import STEPS, differs_from_itself, still_differs_from_itself, with_ties


def still_differs(scenario: Scenario, backend: str, kind: str) -> bool:
    """Return whether a scenario has the same kind of difference."""
    return kind_of(found_in(scenario, backend)[1]) == kind


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
    table, doubts, failed, exact, began = (
        pairs.Table(),
        Counter[str](),
        0,
        0,
        time.process_time(),
    )
    for number in range(options.first, options.first + options.count):
        meeting = (
            "" if options.without else options.meeting or "any" * (number % 2 == 0)
        )
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
                exact += not expected.doubts
                table.add(expected.effects)
            if found:
                failed += 1
                print(f"--- {number} on {backend}:", *found[:7], sep="\n  ", flush=True)
                if options.shrink:
                    small = shrink(
                        scenario,
                        partial(still_differs, backend=backend, kind=kind_of(found)),
                    )
                    print(small, *found_in(small, backend)[1][:7], sep="\n  ")
                break
        tied, loop = (
            with_ties(scenario, STEPS[number % 8 < 4]),
            ("trio", "asyncio")[number % 4 == 1],
        )
        if number % 4 in (1, 2) and (apart := differs_from_itself(tied, loop)):
            failed += 1
            print(
                f"--- {number} with times on a grid, twice on {loop}:",
                *apart[:7],
                sep="\n  ",
                flush=True,
            )
            if options.shrink:
                small = shrink(
                    tied,
                    partial(
                        still_differs_from_itself, backend=loop, kind=kind_of(apart)
                    ),
                )
                print(small, *differs_from_itself(small, loop)[:7], sep="\n  ")
        done = number + 1 - options.first
        if failed >= options.stop or done == options.count or done % options.every == 0:
            seconds = time.process_time() - began
            print(
                f"{2 * done} runs, {exact} exact, {failed} differ, {seconds:.0f} s of CPU; {dict(doubts)}"
            )
            print(*[table] * options.table, sep="\n", flush=True)
        if failed >= options.stop:
            break
    return bool(failed)


sys.exit(main())
