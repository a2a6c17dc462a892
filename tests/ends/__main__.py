"""Ask many seeds for the law of ends: ``python -m tests.ends --count 1000 --first 0``."""

import argparse
import sys
import time
import traceback
from .. import isolations
from .law import broken_by

LOOPS = ("trio", "asyncio")


def main() -> int:
    """Run the seeds, each on one of the loops, and print what breaks the law."""
    parser = argparse.ArgumentParser(prog="python -m tests.ends")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--stop",
        type=int,
        default=20,
        help="stop after so many seeds that break the law",
    )
    options = parser.parse_args()
    isolations.check()
    broken, began, seed = 0, time.process_time(), options.first
    for seed in range(options.first, options.first + options.count):
        try:
            found = broken_by(seed, LOOPS[seed % 2])
        except Exception:
            found = [traceback.format_exc(limit=-8)]
        if found:
            broken += 1
            print(
                f"--- {seed} on {LOOPS[seed % 2]}:", *found[:4], sep="\n  ", flush=True
            )
        if broken >= options.stop:
            break
    seconds = time.process_time() - began
    number = seed + 1 - options.first
    print(
        f"{number} scenarios on {isolations.ISOLATION} isolation, {broken} broken, {seconds:.0f} s of CPU"
    )
    return bool(broken)


sys.exit(main())
