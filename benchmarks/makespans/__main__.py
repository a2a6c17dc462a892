"""`python -m benchmarks.makespans`: the command line."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import anyio

from . import __doc__ as about
from . import psplib, stg, workflows
from .cases import POLICIES

INVENTED = Path(__file__).parent / "invented"


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.makespans", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=INVENTED, help="default: the invented set")
    parser.add_argument("--real", type=float, metavar="SECONDS", help="run workflows, scaled to take so many seconds")
    parser.add_argument("--window", type=int, default=16, help="the window of real runs; default: 16")
    parser.add_argument("--policy", choices=POLICIES, default="critical-path", help="the policy of real runs")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="trio", help="the backend of real runs")
    options = parser.parse_args()
    if options.real is not None:
        if not options.real > 0 or options.window < 0:
            parser.error("--real takes a positive number of seconds, and --window a window; 0 for none")
        if not any(workflows.found(options.folder)):
            parser.error(f"{options.folder} has no workflows (*.json) to run")
        real = functools.partial(workflows.run_for_real, options.folder, options.real, options.window, options.policy)
        anyio.run(real, backend=options.backend)
        return
    try:
        sets = [one for kind in (workflows, psplib, stg) for one in kind.sets(options.folder)]
    except ValueError as error:
        parser.error(str(error))
    if not sets:
        parser.error(
            f"{options.folder} has no workflows (*.json), no table of PSPLIB (j*.sm) and no task graphs (*.stg)"
        )
    print("Makespan / best known, or / lower bound: geometric mean / worst, and the published ones beside them.")
    for one in sets:
        for line in one.lines():
            print(line, flush=True)


if __name__ == "__main__":
    main()
