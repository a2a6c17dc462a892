"""What a program of asynciojobs costs with another import: python -m benchmarks.asynciojobs_names [--rounds N].

The same small scenarios, by asynciojobs and by its names in trioflow, in turns in one process: microseconds of CPU time
for each job, to build the scenario and run it in a new event loop, the best of all rounds, and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Any, Final

import asynciojobs

import trioflow.compat.asynciojobs as names

LIBRARIES: Final[tuple[ModuleType, ModuleType]] = (asynciojobs, names)
GROUP: Final = 5


async def no_op() -> None:
    pass


async def checkpoint() -> None:
    await asyncio.sleep(0)


Body = Callable[[], Awaitable[None]]


def wide(library: Any, size: int, body: Body) -> Any:
    return library.Scheduler(*[library.Job(body()) for _ in range(size)])


def chain(library: Any, size: int, body: Body) -> Any:
    return library.Scheduler(
        library.Sequence(*[library.Job(body()) for _ in range(size)])
    )


def groups(library: Any, size: int, body: Body) -> Any:
    return library.Scheduler(
        *[wide(library, GROUP, body) for _ in range(size // GROUP)]
    )


SHAPES: Final = {
    "5 wide": (wide, 5),
    "20 wide": (wide, 20),
    "100 wide": (wide, 100),
    "a chain of 20": (chain, 20),
    "1 group of 5": (groups, 5),
    "20 groups of 5": (groups, 100),
}


def measure(rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the least time of a job, for each shape and body, with each library."""
    best: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for shape, (make, size) in SHAPES.items():
            for body in (no_op, checkpoint):
                found = best.setdefault(
                    (shape, body.__name__), [float("inf")] * len(LIBRARIES)
                )
                for place in (0, 1) if number % 2 else (1, 0):
                    gc.collect()
                    begun = time.process_time()
                    assert make(LIBRARIES[place], size, body).run()
                    found[place] = min(
                        found[place], (time.process_time() - begun) / size * 1e6
                    )
    return best


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args(arguments).rounds
    print(
        f"Python {platform.python_version()}, asynciojobs {importlib.metadata.version('asynciojobs')}, {rounds} rounds"
    )
    print(f"{'CPU time of a job in µs':30}  asynciojobs   its names   ratio")
    for (shape, body), (theirs, ours) in measure(rounds).items():
        print(
            f"{shape + ', ' + body:30} {theirs:12.1f} {ours:11.1f} {ours / theirs:7.2f}"
        )


if __name__ == "__main__":
    main()
