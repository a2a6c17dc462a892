"""`python -m benchmarks.elapsed`: the command line."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..plans import TINY_ELAPSED, ElapsedSize
from ..screen import alone_on_the_screen
from . import __doc__ as about
from .report import Report
from .steps import measure
from .ways import installed

RESULTS: Final = Path(__file__).parent.parent / "results" / "elapsed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the report after each step, and return 0; 130 after Ctrl-C."""
    options = parse(arguments)
    size = replace(
        TINY_ELAPSED
        if options.tiny
        else ElapsedSize(real=options.real, seconds=options.seconds),
        folder=options.workflows,
    )
    report = Report(
        options.output, is_tiny=options.tiny, ways=[way.label for way in installed()]
    )
    start = time.perf_counter()
    with alone_on_the_screen() as console:
        try:
            for step, outcome in measure(size):
                report.add(outcome)
                if outcome.is_last:
                    report.write()
                    console.print(
                        f"{time.perf_counter() - start:6.0f} s  {step}",
                        highlight=False,
                        soft_wrap=True,
                    )
        except KeyboardInterrupt:
            console.print("Stopped: the report has the steps that had ended.")
            return 130
        finally:
            report.write()
            report.show(console)
            console.print(
                f"The report is in {options.output}", highlight=False, soft_wrap=True
            )
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.elapsed",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--workflows",
        type=Path,
        metavar="FOLDER",
        help="recorded workflows, *.json, in place of drawn",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="that each real run takes at least; default: 1",
    )
    parser.add_argument(
        "--real",
        type=int,
        default=6,
        metavar="N",
        help="how many workflows run for real; default: 6",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="in seconds: to see that it works"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="default: benchmarks/results/elapsed",
    )
    options = parser.parse_args(arguments)
    if not options.seconds > 0 or options.real < 1:
        parser.error(
            "--seconds takes a positive number, and --real a whole one, 1 or more"
        )
    if importlib.util.find_spec("httpx") is None:
        parser.error(
            "the requests need httpx, and other libraries take part: pip install -e . --group bench"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
