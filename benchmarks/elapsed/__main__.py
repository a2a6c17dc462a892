"""`python -m benchmarks.elapsed`: the command line, and the order of the measurements."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from . import __doc__ as about
from . import measures, workflows
from .report import Outcome, Report
from .ways import Way, installed
from .workflows import Workflow

RESULTS: Final = Path(__file__).parent.parent / "results" / "elapsed"
WINDOWS: Final = (4, 16, 64)
MIDDLE: Final = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the report as far as it has come after each step, and return 0."""
    options = parse(arguments)
    console = Console()
    report = Report(options.output, is_tiny=options.tiny, ways=[way.label for way in installed()])
    start = time.perf_counter()
    for step, outcome in measure(options):
        report.add(outcome)
        if outcome.is_last:
            report.write()
            console.print(f"{time.perf_counter() - start:6.0f} s  {step}", highlight=False, soft_wrap=True)
    report.write(with_plot=not options.no_plot)
    report.show(console)
    console.print(f"The report is in {options.output}", highlight=False, soft_wrap=True)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.elapsed", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workflows", type=Path, metavar="FOLDER", help="recorded workflows, *.json, in place of drawn"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="that each real run takes at least; default: 1")
    parser.add_argument("--real", type=int, default=6, metavar="N", help="how many workflows run for real; default: 6")
    parser.add_argument("--tiny", action="store_true", help="in seconds: to see that it works")
    parser.add_argument("--no-plot", action="store_true", help="write the table and the JSON only")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results/elapsed"
    )
    options = parser.parse_args(arguments)
    if options.tiny:
        options.seconds, options.real = 0.05, 1
    if not options.seconds > 0 or options.real < 1:
        parser.error("--seconds takes a positive number, and --real a whole one, 1 or more")
    return options


def measure(options: argparse.Namespace) -> Iterator[tuple[str, Outcome]]:
    """Yield what was measured, step by step; in each step the ways take turns."""
    found = list(workflows.from_folder(options.workflows) if options.workflows else workflows.drawn())
    if not found:
        raise SystemExit(f"{options.workflows} has no workflows (*.json)")
    if options.tiny:
        found = sorted(found, key=lambda one: len(one.seconds))[:2]
    real = spread(found, options.real)
    for window in WINDOWS:
        yield from step(
            f"simulated, window {window}",
            found,
            lambda way, one, window=window: {f"simulated {window}": measures.simulated(way, one, window)},
        )

    def sleeping(way: Way, one: Workflow) -> dict[str, Any]:
        seen = measures.slept(way, one.scaled(options.seconds, MIDDLE), MIDDLE)
        return {"slept": seen["makespan"], "CPU": seen["CPU"]}

    yield from step(f"real sleeps, window {MIDDLE}", real, sleeping)

    def late(way: Way, one: Workflow) -> dict[str, Any]:
        seen = measures.slept(way, one.scaled(options.seconds, None), None)
        return {"latency": seen["latency p50"], "latency p99": seen["latency p99"]}

    yield from step("real sleeps, no window", real[:3], late)
    with measures.serving() as port:

        def asking(way: Way, one: Workflow) -> dict[str, Any]:
            seen = measures.requested(way, one.scaled(options.seconds, MIDDLE), MIDDLE, port)
            return {} if seen is None else {"requested": seen["makespan"], "CPU of a request": seen["CPU"]}

        yield from step(f"HTTP requests, window {MIDDLE}", real[:3], asking)
    yield from step("cancellation", real[:3], lambda way, one: {"cancel": measures.cancelled(way, one)})
    yield from step("memory", real[:3], lambda way, one: {"memory": measures.remembered(way, one)})


def spread(found: Sequence[Workflow], number: int) -> list[Workflow]:
    """Choose so many of all, of different families where they are drawn."""
    number = min(number, len(found))
    return [found[round(index * (len(found) - 1) / max(1, number - 1))] for index in range(number)]


def step(
    name: str, found: Iterable[Workflow], attempt: Callable[[Way, Workflow], dict[str, float | None]]
) -> Iterator[tuple[str, Outcome]]:
    """Let all ways run each workflow in turn, each time another one first."""
    ways, chosen = installed(), list(found)
    for number, one in enumerate(chosen):
        first = number % len(ways)
        for way in (*ways[first:], *ways[:first]):
            for metric, value in attempt(way, one).items():
                yield name, Outcome(way.label, one.name, metric, value)
    yield name, Outcome("", "", "", None, is_last=True)


if __name__ == "__main__":
    sys.exit(main())
