"""Minimization of a run that violates an invariant: its plan is reduced to as few and as simple changes as possible.

Changes are left out by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
IEEE TSE 2002): first one half of them, then smaller and smaller parts. A smaller plan is accepted only if its run
violates the same invariant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from ._fault_plans import SHORT_DELAY, Change, Plan
from ._run_record import RunOutcome

MAX_SHRINK_RUNS: Final = 500
MAX_FIRST_TASKS: Final = 6
"""The maximum number of jobs that the shrinker tries to resume first in an iteration, and to begin late."""


class Shrinker:
    """Minimizes a run that violates an invariant.

    Args:
        broken: the outcome of the run.
        order_seed: the seed of the order of tasks in its iterations; None for the usual order.
        run: a function that runs a plan and returns the outcome.

    Attributes:
        smallest: the outcome of the smallest run so far that violates the same invariant.
        run_count: the number of runs that were tried.

    """

    def __init__(self, broken: RunOutcome, order_seed: int | None, run: Callable[[Plan], RunOutcome]) -> None:
        self._law: Final = broken.violated_invariant
        self._backend: Final = broken.plan.backend
        self._run_plan: Final = run
        self.smallest = broken
        self.run_count = 0
        self._order_seed: Final = order_seed

    def shrink(self) -> RunOutcome:
        """Return the outcome of the smallest run that was found to violate the same invariant.

        If the plan alone does not reproduce the violated invariant, return the original outcome.
        """
        original = self.smallest
        applied = [change for change in original.plan.changes if change in original.applied_changes]
        order_iterations = () if self._order_seed is None else original.task_order.chosen_orders
        order_changes = [Change("turn", "", iteration, float(self._order_seed or 0)) for iteration in order_iterations]
        if not self._still_breaks(applied) and not (order_changes and self._still_breaks([*order_changes, *applied])):
            return original
        changes = list(self.smallest.plan.changes)
        changes = self._leave_out_parts(changes)
        for index, change in enumerate(changes):
            for simpler in self._simpler_changes(change):
                candidate = [*changes[:index], simpler, *changes[index + 1 :]]
                if self._still_breaks(candidate):
                    changes = candidate
                    break
        self._leave_out_parts(changes)
        return self.smallest

    def _still_breaks(self, changes: Iterable[Change]) -> bool:
        """Run a plan with only these changes, and return whether it violates the same invariant.

        If so, keep its outcome as the smallest. After `MAX_SHRINK_RUNS` runs, return False without a run.
        """
        if self.run_count >= MAX_SHRINK_RUNS:
            return False
        self.run_count += 1
        outcome = self._run_plan(Plan(self._backend, tuple(changes)))
        if outcome.violated_invariant != self._law:
            return False
        self.smallest = outcome
        return True

    def _leave_out_parts(self, changes: Sequence[Change]) -> list[Change]:
        """Leave out as many changes as possible while the invariant is still violated; return the remaining changes."""
        remaining = list(changes)
        size = max(1, len(remaining) // 2)
        while remaining:
            for start in range(0, len(remaining), size):
                candidate = remaining[:start] + remaining[start + size :]
                if self._still_breaks(candidate):
                    remaining = candidate
                    size = min(size, max(1, len(remaining)))
                    break
            else:
                if size == 1:
                    break
                size = max(1, size // 2)
        return remaining

    def _simpler_changes(self, change: Change) -> Iterable[Change]:
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
            chosen = self.smallest.task_order.chosen_orders.get(change.at, [])
            names = list(dict.fromkeys(name for name in chosen if name))
            for name in names[:MAX_FIRST_TASKS]:
                yield Change("first", name, change.at)
            for name in list(self.smallest.wait_counts)[:MAX_FIRST_TASKS]:
                yield Change("late", name, 0, SHORT_DELAY)
        elif change.kind in ("stop", "cut") and change.value:
            yield replace(change, value=0.0)
