"""`EndQueue`: no step of the engine is taken inside another, in an outermost run and all runs in it.

While hooks are told of a step, one may cancel a job, stop a run, or add jobs. While a failure stops a run, the jobs
that wait are cancelled. All these ends, and what is told of jobs that were added, come after the step that causes them,
and get their time then. So the times of the ends that a reader is told never fall. A chain of steps, each caused by the
one before, takes no recursion.

Decided in docs/decisions: 46-steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final


class EndQueue:
    """The steps that wait until another is over. In the body of a `with` block, each further step waits."""

    __slots__ = ("_is_settling", "depth", "waiting")

    def __init__(self) -> None:
        # How many steps are being told, or about to be. More than 1: a failure stops the run, and hooks are told of it.
        self.depth = 0
        # Functions that settle jobs, unless these have settled before, let jobs begin that were added, or let a crew
        # look for jobs that may start.
        self.waiting: Final[deque[Callable[[], None]]] = deque()
        # Whether a call of `settle_waiting` goes on: it also settles what the ends that it tells cause.
        self._is_settling = False

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.depth -= 1
        if error is None and self.waiting:
            self.settle_waiting()

    def recover(self) -> None:
        """Settle the jobs whose ends wait, in a turn of the loop in which no end is told: an error has left them."""
        self.depth, self._is_settling = 0, False
        self.settle_waiting()

    def follow(self, step: Callable[[], None]) -> None:
        """Take a step, after those that are being taken."""
        self.waiting.append(step)
        self.settle_waiting()

    def settle_waiting(self) -> None:
        """Settle the jobs whose ends wait, unless an end is being told."""
        if self._is_settling or self.depth:
            return
        self._is_settling = True
        try:
            while self.waiting:
                self.waiting.popleft()()
        finally:
            self._is_settling = False
