"""What is compared: sets of scenarios, with the best makespans that are known, and what others have reached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from trioflow import Scheduler, simulate

POLICIES = ("fifo", "critical-path")


class Case(NamedTuple):
    """A scenario, its window, and what its makespan is compared with."""

    scheduler: Scheduler
    window: int | None
    best: float | None
    """The best makespan that is known; None: the lower bound of the simulation."""

    def ratio(self, policy: str) -> float:
        """Return the makespan under a policy / the best that is known."""
        found = simulate(self.scheduler, jobs_window=self.window, policy=policy)
        return found.makespan / (found.lower_bound if self.best is None else self.best)


@dataclass(frozen=True)
class Set:
    """Scenarios whose ratios, taken together, are compared with published ones."""

    name: str
    cases: list[Case]
    published: Mapping[str, tuple[float, ...]]
    """What is to be reached, by policy: the mean, and the worst if that is known too."""

    def lines(self) -> Iterable[str]:
        """Measure, and yield a line for each policy."""
        known = sum(case.best is not None for case in self.cases)
        bounds = f", {len(self.cases) - known} of them by their lower bound" if known < len(self.cases) else ""
        yield f"{self.name}: {len(self.cases)} scenarios{bounds}"
        for policy in POLICIES:
            ratios = [case.ratio(policy) for case in self.cases]
            published = " / ".join(f"{number:.3f}" for number in self.published.get(policy, ()))
            yield f"  {policy:<13}  {geometric_mean(ratios):.3f} / {max(ratios):.3f}   {published}".rstrip()


def geometric_mean(numbers: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, numbers)) / len(numbers))
