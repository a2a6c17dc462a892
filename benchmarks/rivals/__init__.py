"""The rivals: other ways to run a graph of jobs, one small function each, and trioflow's own.

A rival takes a graph, a body and a window, builds what it can in advance, and returns what runs it all: an async
function, or a plain one for threads. It is written by somebody who knows the library well and needs no more than this:
every job once, each after all that it requires, and no more at a time than the window allows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ..bodies import Body
from ..graphs import Graph

Build = Callable[[Graph, Body, int | None], Callable[[], Any]]

OURS: Final = "trioflow"


@dataclass(frozen=True, slots=True)
class Rival:
    """One way to run a graph."""

    name: str
    backend: str
    build: Build
    takes_window: bool
    only_shapes: tuple[str, ...]  # empty: all
    max_size: int  # larger graphs would take too long
    needs: str | None  # a library that may not be installed
    slow: bool  # never the best; left out when time is short
    counts: bool  # as somebody's best effort by hand; otherwise it is only there to learn from

    def enters(self, shape: str, size: int, window: int | None) -> bool:
        """Return whether it can run such a graph in such a window, in reasonable time."""
        return (
            (not self.only_shapes or shape in self.only_shapes)
            and size <= self.max_size
            and (window is None or self.takes_window)
        )

    @property
    def is_installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


_rivals: Final[list[Rival]] = []


def rival(
    name: str,
    backend: str,
    *,
    takes_window: bool = True,
    only_shapes: tuple[str, ...] = (),
    max_size: int = 1_000_000,
    needs: str | None = None,
    slow: bool = False,
    counts: bool = True,
) -> Callable[[Build], Build]:
    """Enter a function as a rival."""

    def enter(build: Build) -> Build:
        _rivals.append(
            Rival(
                name,
                backend,
                build,
                takes_window,
                only_shapes,
                max_size,
                needs,
                slow,
                counts,
            )
        )
        return build

    return enter


def all_rivals() -> list[Rival]:
    """Return all rivals, installed or not, trioflow first on each backend."""
    from . import on_asyncio, on_threads, on_trio, ours  # noqa: F401 - they enter themselves

    return sorted(_rivals, key=lambda rival: (rival.backend, rival.name != OURS))


def find(name: str, backend: str) -> Rival:
    return next(
        rival
        for rival in all_rivals()
        if (rival.name, rival.backend) == (name, backend)
    )
