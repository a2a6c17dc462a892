"""The steps of the measurement with their sizes; in each step the ways take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from ..plans import ElapsedSize
from . import measures, workflows
from .report import Outcome
from .ways import Way, installed
from .workflows import Workflow

MIDDLE: Final = 16
"""The window of what runs for real."""
MAX_REQUESTS: Final = 300
A_REQUEST: Final = 0.004
"""Seconds that a run takes for each of its requests, at least: a client needs 1 to 2 ms of CPU for one, and all ways
would look alike if that were what takes the time."""


def measure(size: ElapsedSize) -> Iterator[tuple[str, Outcome]]:
    """Yield what was measured, each with the name of its step.

    Raises:
        SystemExit: the folder has no workflows.

    """
    found = list(
        workflows.from_folder(size.folder) if size.folder else workflows.drawn()
    )
    if not found:
        raise SystemExit(f"{size.folder} has no workflows (*.json)")
    found = [
        one for one in found if size.largest is None or len(one.seconds) <= size.largest
    ] or found
    simulated = spread(found, size.simulated or len(found))
    real = spread(found, size.real)
    for window in size.windows:
        yield from step(
            f"simulated, window {window}",
            simulated,
            lambda way, one, window=window: {
                f"simulated {window}": measures.simulated(way, one, window)
            },
        )

    def sleeping(way: Way, one: Workflow) -> dict[str, Any]:
        seen = measures.slept(way, one.scaled(size.seconds, MIDDLE), MIDDLE)
        return {"slept": seen["makespan"], "CPU": seen["CPU"]}

    yield from step(f"real sleeps, window {MIDDLE}", real, sleeping)

    def late(way: Way, one: Workflow) -> dict[str, Any]:
        seen = measures.slept(way, one.scaled(size.seconds, None), None)
        return {"latency": seen["latency p50"], "latency p99": seen["latency p99"]}

    yield from step("real sleeps, no window", real[:3], late)
    with measures.serving() as port:

        def asking(way: Way, one: Workflow) -> dict[str, Any]:
            seconds = max(size.seconds, A_REQUEST * len(one.seconds))
            seen = measures.requested(way, one.scaled(seconds, MIDDLE), MIDDLE, port)
            return (
                {}
                if seen is None
                else {"requested": seen["makespan"], "CPU of a request": seen["CPU"]}
            )

        few = spread(
            [one for one in found if len(one.seconds) <= MAX_REQUESTS] or found,
            len(real[:3]),
        )
        yield from step(f"HTTP requests, window {MIDDLE}", few, asking)
    yield from step(
        "cancellation",
        real[:3],
        lambda way, one: {"cancel": measures.cancelled(way, one)},
    )
    yield from step(
        "memory", real[:3], lambda way, one: {"memory": measures.remembered(way, one)}
    )


def spread(found: Sequence[Workflow], number: int) -> list[Workflow]:
    """Choose a number of workflows, of different families if they are generated."""
    number = min(number, len(found))
    return [
        found[round(index * (len(found) - 1) / max(1, number - 1))]
        for index in range(number)
    ]


def step(
    name: str,
    found: Iterable[Workflow],
    attempt: Callable[[Way, Workflow], dict[str, float | None]],
) -> Iterator[tuple[str, Outcome]]:
    """Have all ways run each workflow in turn, each time with another one first."""
    ways, chosen = installed(), list(found)
    for number, one in enumerate(chosen):
        first = number % len(ways)
        for way in (*ways[first:], *ways[:first]):
            for metric, value in attempt(way, one).items():
                yield name, Outcome(way.label, one.name, metric, value)
    yield name, Outcome("", "", "", None, is_last=True)
