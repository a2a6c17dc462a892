"""The shapes of graphs: which job requires which."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

LAYER: Final = 100
REQUIREMENTS: Final = 3
CHAINS: Final = 10

Requirements = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Jobs numbered from 0; each requires some with lower numbers."""

    shape: str
    requirements: list[Requirements]

    @property
    def size(self) -> int:
        return len(self.requirements)

    @property
    def entries(self) -> list[int]:
        """The jobs that require nothing."""
        return [job for job, required in enumerate(self.requirements) if not required]

    def successors(self) -> list[list[int]]:
        """Return, for each job, those that require it."""
        successors: list[list[int]] = [[] for _ in self.requirements]
        for job, required in enumerate(self.requirements):
            for requirement in required:
                successors[requirement].append(job)
        return successors

    def levels(self) -> list[list[int]]:
        """Return the jobs level by level; those of a level are equally far from an entry job."""
        depths: list[int] = []
        levels: list[list[int]] = []
        for job, required in enumerate(self.requirements):
            depth = max(
                (depths[requirement] + 1 for requirement in required), default=0
            )
            depths.append(depth)
            if depth == len(levels):
                levels.append([])
            levels[depth].append(job)
        return levels


def wide(size: int) -> Iterator[Requirements]:
    """No job requires another."""
    return (() for _ in range(size))


def chain(size: int) -> Iterator[Requirements]:
    """Each job requires the one before it."""
    return ((job - 1,) if job else () for job in range(size))


def chains(size: int) -> Iterator[Requirements]:
    """Ten chains side by side."""
    return ((job - CHAINS,) if job >= CHAINS else () for job in range(size))


def layered(size: int) -> Iterator[Requirements]:
    """Layers of a hundred; each job requires three neighbors in the layer before."""
    for job in range(size):
        before = job // LAYER * LAYER - LAYER
        yield (
            tuple(before + (job + step) % LAYER for step in range(REQUIREMENTS))
            if before >= 0
            else ()
        )


def tree(size: int) -> Iterator[Requirements]:
    """A binary tree, the root first."""
    return (((job - 1) // 2,) if job else () for job in range(size))


def ladder(size: int) -> Iterator[Requirements]:
    """Diamonds one after the other: one job, then two that require it, then one that requires both."""
    for job in range(size):
        rung, place = divmod(job, 3)
        if place:
            yield (rung * 3,)
        else:
            yield (job - 2, job - 1) if job else ()


def tangled(size: int) -> Iterator[Requirements]:
    """A random graph, always the same: each job requires up to three of the 200 before it."""
    draw = random.Random(size)
    for job in range(size):
        yield tuple(
            {draw.randrange(max(0, job - 200), job) for _ in range(draw.randrange(4))}
            if job
            else ()
        )


SHAPES: Final[dict[str, Callable[[int], Iterator[Requirements]]]] = {
    "wide": wide,
    "chain": chain,
    "layered": layered,
    "tree": tree,
    "ladder": ladder,
    "random": tangled,
    "ten chains": chains,
}


@functools.lru_cache(maxsize=6)  # a graph of a million jobs takes 160 MB
def make(shape: str, size: int) -> Graph:
    return Graph(shape, list(SHAPES[shape](size)))
