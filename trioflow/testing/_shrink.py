"""Minimize a broken run: no change of its plan can be left out, and each is as simple as possible.

Changes are left out by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
IEEE TSE 2002): halves first, then ever smaller parts. A smaller plan counts only if its run breaks the same law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from ._explored_run import Outcome
from ._fault_plans import SHORT_DELAY, Change, Plan

MAX_RUNS: Final = 500
FEW_NAMES: Final = 6
"""The number of tasks of an iteration that are tried as the one that has to go first."""


class Shrinking:
    """Minimizes one broken run.

    Args:
        broken: the run.
        every: the seed of the order in its iterations, or None.
        run: runs a plan.

    """

    def __init__(self, broken: Outcome, every: int | None, run: Callable[[Plan], Outcome]) -> None:
        self._law: Final = broken.broken
        self._backend: Final = broken.plan.backend
        self._run: Final = run
        self.smallest = broken
        self.runs = 0
        self._every: Final = every

    def shrink(self) -> Outcome:
        """Return the smallest run that breaks the same law."""
        first = self.smallest
        applied = [change for change in first.plan.changes if change in first.applied]
        turns = [] if first.turns is None or self._every is None else list(first.turns.chosen)
        in_turns = [Change("turn", "", number, float(self._every or 0)) for number in turns]
        if not self._still_breaks(applied) and not (in_turns and self._still_breaks([*in_turns, *applied])):
            return first  # the failure depends on something outside the plan
        changes = list(self.smallest.plan.changes)
        changes = self._without_parts(changes)
        for place, change in enumerate(changes):
            for plainer in self._simpler_changes(change):
                tried = [*changes[:place], plainer, *changes[place + 1 :]]
                if self._still_breaks(tried):
                    changes = tried
                    break
        self._without_parts(changes)
        return self.smallest

    def _still_breaks(self, changes: Iterable[Change]) -> bool:
        """Make a run with only these changes; if it breaks the same law, keep it and return True."""
        if self.runs >= MAX_RUNS:
            return False
        self.runs += 1
        outcome = self._run(Plan(self._backend, tuple(changes)))
        if outcome.broken != self._law:
            return False
        self.smallest = outcome
        return True

    def _without_parts(self, changes: Sequence[Change]) -> list[Change]:
        """Leave out parts as long as the law is still broken."""
        left = list(changes)
        size = max(1, len(left) // 2)
        while left:
            for start in range(0, len(left), size):
                tried = left[:start] + left[start + size :]
                if self._still_breaks(tried):
                    left = tried
                    size = min(size, max(1, len(left)))
                    break
            else:
                if size == 1:
                    break
                size = max(1, size // 2)
        return left

    def _simpler_changes(self, change: Change) -> Iterable[Change]:
        """Yield simpler changes, the simplest first."""
        if change.kind == "late" and change.value > SHORT_DELAY:
            yield replace(change, value=SHORT_DELAY)
            yield replace(change, value=1.0)
            yield replace(change, value=float(round(change.value) + 1))
        elif change.kind == "fail" and change.value:
            yield replace(change, value=0.0)
            yield replace(change, value=2.0)
        elif change.kind == "rank":
            yield replace(change, value=-1.0)
            yield replace(change, value=1.0)
        elif change.kind == "turn":
            chosen = self.smallest.turns.chosen.get(change.at, []) if self.smallest.turns is not None else []
            names = list(dict.fromkeys(name for name in chosen if name))
            for name in names[:FEW_NAMES]:
                yield Change("first", name, change.at)
            for name in list(self.smallest.steps)[:FEW_NAMES]:
                yield Change("late", name, 0, SHORT_DELAY)
        elif change.kind in ("stop", "cut") and change.value:
            yield replace(change, value=0.0)
