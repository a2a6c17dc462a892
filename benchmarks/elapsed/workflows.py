"""The workflows: task graphs with the seconds of each task, drawn in the families that clusters run, or recorded."""

from __future__ import annotations

import graphlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..graphs import Graph

SEED: Final = 2026
DRAWN: Final = 40


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph, and how many seconds each of its tasks takes."""

    name: str
    graph: Graph
    seconds: list[float]

    def longest_path(self) -> float:
        """Return the seconds of the longest path."""
        ends: list[float] = []
        for required, own in zip(self.graph.requirements, self.seconds, strict=True):
            ends.append(own + max((ends[one] for one in required), default=0.0))
        return max(ends)

    def lower_bound(self, window: int | None) -> float:
        """Return a bound that no order can beat: the longest path, or the work shared by the slots."""
        path = self.longest_path()
        return path if window is None else max(path, sum(self.seconds) / window)

    def scaled(self, seconds: float, window: int | None) -> Workflow:
        """Return the same workflow with another unit of time, so that its lower bound is `seconds`."""
        factor = seconds / self.lower_bound(window)
        return Workflow(self.name, self.graph, [factor * own for own in self.seconds])


class Drawing:
    """A workflow while it is drawn: tasks are added behind those that they require."""

    def __init__(self, seed: object) -> None:
        self.chance: Final = random.Random(f"{SEED} {seed}")
        self.requirements: list[tuple[int, ...]] = []
        self.seconds: list[float] = []

    def task(self, mean: float, *required: int) -> int:
        """Add a task; most take about `mean` seconds, and some take several times as long."""
        self.requirements.append(required)
        self.seconds.append(self.chance.lognormvariate(0, 0.8) * mean)
        return len(self.seconds) - 1


def search(drawing: Drawing) -> None:
    """Split, look through each part, and merge."""
    start = drawing.task(1)
    parts = [drawing.task(20, start) for _ in range(drawing.chance.randint(20, 120))]
    drawing.task(2, drawing.task(5, *parts))


def lanes(drawing: Drawing) -> None:
    """Several lanes of steps side by side, each of many pieces, which are joined at the end."""
    merged = []
    for _ in range(drawing.chance.randint(2, 6)):
        split = drawing.task(2)
        pieces = []
        for _ in range(drawing.chance.randint(5, 25)):
            last = split
            for mean in (3, 1, 2, 15):
                last = drawing.task(mean, last)
            pieces.append(last)
        merged.append(drawing.task(6, *pieces))
    drawing.task(4, drawing.task(8, *merged))


def mosaic(drawing: Drawing) -> None:
    """Pictures are projected, neighbors compared, corrected, and put together."""
    pictures = [drawing.task(10) for _ in range(drawing.chance.randint(10, 50))]
    pairs = [*itertools.pairwise(pictures), *zip(pictures, pictures[3:], strict=False)]
    compared = [drawing.task(1, *pair) for pair in pairs]
    model = drawing.task(6, drawing.task(4, *compared))
    corrected = [drawing.task(2, picture, model) for picture in pictures]
    drawing.task(9, drawing.task(3, *corrected))


def samples(drawing: Drawing) -> None:
    """Each sample goes through its own pipeline of uneven steps, and reports are made of all."""
    reports = []
    for _ in range(drawing.chance.randint(10, 60)):
        trimmed = drawing.task(4, drawing.task(1))
        aligned = drawing.task(30, trimmed)
        reports += [
            drawing.task(3, aligned),
            drawing.task(12, aligned),
            drawing.task(1, trimmed),
        ]
    drawing.task(5, *reports)


def genomes(drawing: Drawing) -> None:
    """For each chromosome many parts are merged, and then looked at in pairs with every population."""
    for _ in range(drawing.chance.randint(2, 10)):
        parts = [drawing.task(15) for _ in range(drawing.chance.randint(8, 20))]
        merged, sifted = drawing.task(4, *parts), drawing.task(3)
        for _ in range(7):
            drawing.task(6, merged, sifted)
            drawing.task(20, merged, sifted)


def tangle(drawing: Drawing) -> None:
    """Each task requires up to three of the last thirty."""
    for number in range(drawing.chance.randint(60, 300)):
        before = range(max(0, number - 30), number)
        drawing.task(
            5,
            *drawing.chance.sample(
                before, min(len(before), drawing.chance.randint(0, 3))
            ),
        )


FAMILIES: Final[tuple[Callable[[Drawing], None], ...]] = (
    search,
    lanes,
    mosaic,
    samples,
    genomes,
    tangle,
)


def drawn(number: int = DRAWN) -> Iterator[Workflow]:
    """Draw workflows, the families in turn; the same ones each time."""
    for index in range(number):
        family = FAMILIES[index % len(FAMILIES)]
        drawing = Drawing(index)
        family(drawing)
        yield Workflow(
            f"{family.__name__} {index}",
            Graph(family.__name__, drawing.requirements),
            drawing.seconds,
        )


def from_folder(folder: Path) -> Iterator[Workflow]:
    """Yield the recorded workflows in a folder, at any depth; a task that took no time takes a millisecond.

    A workflow is a file of JSON: `{"tasks": [{"name", "runtime_s", "needs": [index, ...]}, ...]}`.
    """
    for path in sorted(folder.rglob("*.json")):
        tasks = json.loads(path.read_text())["tasks"]
        order = in_order([list(task["needs"]) for task in tasks])
        place = {old: new for new, old in enumerate(order)}
        required = [tuple(place[one] for one in tasks[old]["needs"]) for old in order]
        yield Workflow(
            path.stem,
            Graph(path.stem, required),
            [max(0.001, float(tasks[old]["runtime_s"])) for old in order],
        )


def in_order(needs: list[list[int]]) -> list[int]:
    """Return the numbers of all tasks, each behind those that it needs."""
    return list(graphlib.TopologicalSorter(dict(enumerate(needs))).static_order())
