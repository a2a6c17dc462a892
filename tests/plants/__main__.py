"""Plant faults into the engine, one at a time, and print who notices each: the model, its room's tests, or nobody.

    python -m tests.plants                        # all of them: an hour
    python -m tests.plants run-refund key-keep    # these

The random faults of `tests.mutation` show which lines no test holds; these show which laws none holds. Each is planted
in a copy of the tree."""

import argparse
import concurrent.futures
import os
import queue
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from ..mutation.__main__ import ROOMS, copied, noticed
from ..mutation.mutants import write
from .plants import PLANTS, Plant

MODEL: Final = ("tests/model/test_found.py", "tests/model/test_model.py")
LIMIT: Final = 1800.0
"""After how many seconds a run of tests counts as one that hangs."""
BY_MODEL, BY_TESTS, BY_NOBODY = "the model", "tests", "nobody"


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the plants that the command line names; return 0 if each is noticed."""
    parser = argparse.ArgumentParser("python -m tests.plants")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="how many at once; default: each core",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {plant.name for plant in PLANTS}:
        parser.error(
            f"there are no plants of these names: {', '.join(sorted(unknown))}"
        )
    chosen = [
        plant for plant in PLANTS if plant.name in options.names or not options.names
    ]
    counts = Counter[str]()
    with (
        tempfile.TemporaryDirectory() as directory,
        concurrent.futures.ThreadPoolExecutor(options.workers) as pool,
    ):
        copies = queue.SimpleQueue[Path]()
        for number in range(options.workers):
            copies.put(copied(Path(directory) / f"copy{number}"))

        def attempt(plant: Plant) -> tuple[str, str]:
            copy = copies.get()
            try:
                return who_notices(plant, copy)
            finally:
                copies.put(copy)

        for plant, (who, test) in zip(chosen, pool.map(attempt, chosen), strict=True):
            counts[who] += 1
            print(f"{plant.name:28} {who:10} {test}", flush=True)
    print(", ".join(f"{count} noticed by {who}" for who, count in counts.most_common()))
    return 1 if counts[BY_NOBODY] else 0


def who_notices(plant: Plant, copy: Path) -> tuple[str, str]:
    """Plant a fault in a copy of the tree; return who notices it, and the name of the first test that fails. A test
    that fails without the fault, too, has noticed nothing."""
    mutant = plant.mutant(copy)
    text = (copy / mutant.path).read_text(encoding="utf-8")
    for who, tests in ((BY_MODEL, MODEL), (BY_TESTS, tests_of(plant))):
        left_out: list[str] = []
        while True:
            mutant.put_into(copy)
            try:
                is_noticed = noticed(copy, [*tests, *left_out], LIMIT, {})
            finally:
                write(copy / mutant.path, text)
            if not is_noticed:
                break
            failed = first_failure(copy / "ended.xml")
            if not (failed and noticed(copy, [failed], LIMIT, {})):
                return who, failed
            left_out.append(f"--deselect={failed}")
    return BY_NOBODY, ""


def tests_of(plant: Plant) -> list[str]:
    """Return the tests of the room in which a plant stands, those that mirror it first, without the model's."""
    room, tests = next(
        (room, tests)
        for room, (place, tests) in ROOMS.items()
        if plant.path.startswith(place)
    )
    return sorted(
        set(tests) - {"tests/model"},
        key=lambda path: (not path.startswith(f"tests/{room}"), path),
    )


def first_failure(report: Path) -> str:
    """Return the test that failed, as pytest takes it; "" if there is none, because an import failed, or all hung."""
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
    failed = [
        case.attrib
        for case in cases
        if {part.tag for part in case} & {"failure", "error"}
    ]
    return next(
        (
            f"{one['classname'].replace('.', '/')}.py::{one['name']}"
            for one in failed
            if one["classname"]
        ),
        "",
    )


if __name__ == "__main__":
    sys.exit(main())
