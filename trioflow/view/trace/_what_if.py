"""`WhatIf`: how long a run would take with more or fewer slots, or of a resource, under one policy or another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from ..._core.api.views import duration_text, printable
from ..text._symbols import align_columns

MINUS: Final = "\N{MINUS SIGN}"
SAME: Final = 0.03
"""The share of the time below which a gain is noise: runs of the same jobs differ as much."""
OWN: Final = "own policies"
"""The name for a run whose schedulers have different policies."""
FAR: Final = 0.05
"""The share of the time from which a simulation counts as different from the run itself."""
ASSUMES: Final = (
    "It assumes that each job takes as long as it did, however many run beside it, and that none fails or is throttled."
)


@final
@dataclass(frozen=True, slots=True)
class WhatIfPoint:
    """One variant of the scenario, and its duration."""

    size: int | None
    """The number of slots, or the amount of the resource; None for no limit."""
    policy: str
    """Which job starts first, in all schedulers: a name; "own policies" if each has its own, and they differ."""
    seconds: float
    """From the start of the run to the end of its last job that is not forever."""


@final
@dataclass(frozen=True, slots=True)
class WhatIf:
    """The duration of a run under other limits: the same jobs with the same durations, on a virtual clock.

    That is right for jobs that wait: for a server, another machine, a device. Jobs that compute take longer when more
    of them share a processor, which no simulation knows.
    """

    resource: str | None
    """The name of the resource of which there is more or less; None for the slots of the window."""
    points: tuple[WhatIfPoint, ...]
    """Each policy with each size, in this order; those without a limit come last."""
    bounds: tuple[tuple[int | None, float], ...]
    """For each size, the seconds that no order can beat."""
    this: WhatIfPoint
    """The run itself, as measured."""
    simulated: float
    """The duration of this very run in a simulation: where it differs from `this`, so do the others."""
    rate: str | None = None
    """The unit of sizes for a rate: "requests per second"."""
    only_nested: bool = False
    """Whether the slots are for nested schedulers alone, in which jobs have other windows."""
    worker_processes: int | None = None
    """The number of worker processes that ProcessJobs share, in the run and in each point; None without such jobs."""

    cluster_threads: int | None = None
    """The number of threads that calls on a cluster share, in the run and in each point; None without such calls."""

    @property
    def best(self) -> WhatIfPoint:
        """The fastest point; of those within 3 %, the one with the smallest size.

        If nothing is faster than the run, it is one with the run's own policy.
        """
        fastest = min(point.seconds for point in self.points)
        good = [point for point in self.points if point.seconds <= fastest * (1 + SAME)]
        own = self.this.policy
        if self.simulated <= fastest * (1 + SAME):
            good = [point for point in good if point.policy == own] or good
        return min(good, key=lambda point: (_large(point.size), point.policy != own, point.seconds))

    @property
    def gain(self) -> float | None:
        """The share of the time that `best` gains over a simulation of this run: 0.34 for a third."""
        return None if not self.simulated else 1 - self.best.seconds / self.simulated

    def __str__(self) -> str:
        """Return the result in two or three sentences, the last of which states the assumptions."""
        return " ".join([*self._sentences(), self.assumes])

    @property
    def _is_better(self) -> bool:
        """Whether the best point is better than a simulation of this run."""
        return not self.simulated or self.best.seconds * (1 + SAME) < self.simulated

    @property
    def assumes(self) -> str:
        """The assumptions, in a sentence."""
        shared: list[str] = []
        if (number := self.worker_processes) is not None:
            shared.append(f"ProcessJobs share {number} worker process{'es' * (number != 1)}, as in the run.")
        if (number := self.cluster_threads) is not None:
            shared.append(f"Calls on the cluster share its {number} thread{'s' * (number != 1)}, as in the run.")
        return " ".join([*shared, ASSUMES])

    def _sentences(self) -> Iterator[str]:
        best, unit, this = self.best, self.unit, self.this
        yield f"This run: {self.amount(this.size)}, {this.policy}, {duration_text(this.seconds)}."
        if self.simulated and abs(this.seconds / self.simulated - 1) > FAR:
            took = duration_text(self.simulated)
            yield f"A simulation of it takes {took}: it knows no failures, throttles, load or adaptive windows."
        slots = "These slots are for nested schedulers alone, whose jobs have windows of their own."
        if not self._is_better:
            fewer = _large(best.size) < _large(this.size) and not self.only_nested
            enough = f"; {self.amount(best.size)} {'is' if best.size == 1 else 'are'} enough" * fewer
            yield f"No other {unit} or policy is faster{enough}."
            yield from [slots] * self.only_nested
            return
        gains = "" if self.gain is None else f" ({percent(self.gain)})"
        more = any(_large(point.size) > _large(best.size) for point in self.points)
        rest = "; more gain nothing" if more else ""
        everywhere = " in every scheduler" if this.policy == OWN != best.policy else ""
        how = f"With {self.amount(best.size)} and {best.policy}{everywhere}"
        yield f"{how}, it takes {duration_text(best.seconds)}{gains}{rest}."
        yield from [slots] * self.only_nested

    @property
    def unit(self) -> str:
        """The unit of the sizes, in words."""
        if self.resource is None:
            return "number of slots"
        return f"{'amount' if self.rate is None else 'rate'} of {printable(self.resource)}"

    def amount(self, size: int | None) -> str:
        """Return a size in words: "8 slots", "4 gpu", "5 requests per second", "no limit"."""
        if size is None:
            return "no limit"
        if self.resource is None:
            return f"{size} slot{'s' * (size != 1)}"
        return f"{size} {printable(self.rate or self.resource)}"

    def table(self) -> str:
        """Return a line for each size: how long the run would take under each policy, and what no order can beat.

        Example:
            >>> trace = Trace()
            >>> Scheduler(*(Job(anyio.sleep, 0.02) for _ in range(4)), jobs_window=1).run(instruments=[trace])
            True
            >>> trace.what_if(sizes=[1, 2, 4]).table().split()[:4]
            ['slots', 'fifo', 'critical-path', 'bound']

        """
        policies = self.policies()
        found = {(point.size, point.policy): point.seconds for point in self.points}
        rows = [["slots" if self.resource is None else printable(self.resource), *policies, "bound", ""]]
        for size, bound in self.bounds:
            marks = ["this run"] * (self.this.size == size)
            marks += [f"best: {self.best.policy}"] * (self.best.size == size and self._is_better)
            times = [duration_text(found[size, policy]) for policy in policies]
            rows.append(["none" if size is None else str(size), *times, duration_text(bound), ", ".join(marks)])
        return "\n".join(align_columns(rows, (len(rows[0]) - 1,)))

    def policies(self) -> list[str]:
        """Return the names of the policies."""
        return list(dict.fromkeys(point.policy for point in self.points))


def _large(size: int | None) -> float:
    return float("inf") if size is None else size


def percent(gain: float) -> str:
    """Return a share of the time that is gained, with its sign."""
    return f"{MINUS if gain >= 0 else '+'}{abs(100 * gain):.0f} %"
