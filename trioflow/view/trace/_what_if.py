"""`WhatIf`: simulated durations of a run with other numbers of slots, or amounts of a resource, and policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from ..._core.api.views import duration_text, printable
from ..text._symbols import align_columns

MINUS: Final = "\N{MINUS SIGN}"
NOISE: Final = 0.03
"""The share of the time below which a gain is noise: two runs of the same jobs differ as much."""
OWN_POLICIES: Final = "own policies"
"""The value of `policy` for a run whose schedulers have different policies."""
MIN_DEVIATION: Final = 0.05
"""The deviation of a simulation from the run itself, as a share of the time, from which it is mentioned."""
ASSUMPTIONS: Final = (
    "It assumes that each job takes as long as it did, however many run beside it, and that none fails or is throttled."
)


@final
@dataclass(frozen=True, slots=True)
class WhatIfPoint:
    """One simulated variant of a run, and its duration."""

    size: int | None
    """The number of slots, or the amount of the resource; None for no limit."""
    policy: str
    """The name of the policy of all schedulers; "own policies" if each has its own, and they differ."""
    seconds: float
    """The duration, from the start of the run to the end of its last job other than forever jobs."""


@final
@dataclass(frozen=True, slots=True)
class WhatIf:
    """The durations of a run under other limits, simulated on a virtual clock with the same jobs and job durations.

    The results are realistic for jobs that wait: for a server, another machine, a device. They are too optimistic for
    jobs that compute, which slow each other down when more of them share a processor.
    """

    resource: str | None
    """The name of the resource whose amount varies; None for the slots of the window."""
    points: tuple[WhatIfPoint, ...]
    """The simulated variants: for each policy, all sizes, with no limit as the last."""
    bounds: tuple[tuple[int | None, float], ...]
    """For each size, the seconds that no order of the jobs can beat."""
    this: WhatIfPoint
    """The run itself, as measured."""
    simulated: float
    """The duration of a simulation of the run itself; its deviation from `this` hints at the error of all points."""
    rate: str | None = None
    """The unit of the sizes if the resource is a rate, such as "requests per second"."""
    only_nested: bool = False
    """Whether the window's members are nested schedulers alone, whose jobs have windows of their own."""
    worker_processes: int | None = None
    """The number of worker processes that ProcessJobs share, in the run and in each point; None without such jobs."""
    cluster_threads: int | None = None
    """The number of threads that calls on a cluster share, in the run and in each point; None without such calls."""

    @property
    def best(self) -> WhatIfPoint:
        """The fastest point; if several are within 3 % of it, the one with the smallest size.

        If no point is faster than the run, the best one has the policy of the run, if possible.
        """
        fastest = min(point.seconds for point in self.points)
        good = [point for point in self.points if point.seconds <= fastest * (1 + NOISE)]
        own = self.this.policy
        if self.simulated <= fastest * (1 + NOISE):
            good = [point for point in good if point.policy == own] or good
        return min(good, key=lambda point: (_size_or_infinity(point.size), point.policy != own, point.seconds))

    @property
    def gain(self) -> float | None:
        """The share of the time that `best` saves, compared to a simulation of this run: 0.34 is about a third."""
        return None if not self.simulated else 1 - self.best.seconds / self.simulated

    def __str__(self) -> str:
        """Return the result in a few sentences, the last of which state the assumptions."""
        return " ".join([*self._sentences(), self.assumes])

    @property
    def _is_better(self) -> bool:
        """Whether the best point is faster than a simulation of this run, by more than noise."""
        return not self.simulated or self.best.seconds * (1 + NOISE) < self.simulated

    @property
    def assumes(self) -> str:
        """The assumptions of the simulations, in sentences."""
        shared: list[str] = []
        if (number := self.worker_processes) is not None:
            shared.append(f"ProcessJobs share {number} worker process{'es' * (number != 1)}, as in the run.")
        if (number := self.cluster_threads) is not None:
            shared.append(f"Calls on the cluster share its {number} thread{'s' * (number != 1)}, as in the run.")
        return " ".join([*shared, ASSUMPTIONS])

    def _sentences(self) -> Iterator[str]:
        best, unit, this = self.best, self.unit, self.this
        yield f"This run: {self.amount(this.size)}, {this.policy}, {duration_text(this.seconds)}."
        if self.simulated and abs(this.seconds / self.simulated - 1) > MIN_DEVIATION:
            took = duration_text(self.simulated)
            yield f"A simulation of it takes {took}: it knows no failures, throttles, load or adaptive windows."
        slots = "These slots are for nested schedulers alone, whose jobs have windows of their own."
        if not self._is_better:
            fewer = _size_or_infinity(best.size) < _size_or_infinity(this.size) and not self.only_nested
            enough = f"; {self.amount(best.size)} {'is' if best.size == 1 else 'are'} enough" * fewer
            yield f"No other {unit} or policy is faster{enough}."
            yield from [slots] * self.only_nested
            return
        gains = "" if self.gain is None else f" ({signed_percent(self.gain)})"
        more = any(_size_or_infinity(point.size) > _size_or_infinity(best.size) for point in self.points)
        rest = "; more gain nothing" if more else ""
        everywhere = " in every scheduler" if this.policy == OWN_POLICIES != best.policy else ""
        how = f"With {self.amount(best.size)} and {best.policy}{everywhere}"
        yield f"{how}, it takes {duration_text(best.seconds)}{gains}{rest}."
        yield from [slots] * self.only_nested

    @property
    def unit(self) -> str:
        """The name of the quantity that varies: "number of slots", "amount of gpu", "rate of api"."""
        if self.resource is None:
            return "number of slots"
        return f"{'amount' if self.rate is None else 'rate'} of {printable(self.resource)}"

    def amount(self, size: int | None) -> str:
        """Return a size with its unit: "8 slots", "4 gpu", "5 requests per second", "no limit"."""
        if size is None:
            return "no limit"
        if self.resource is None:
            return f"{size} slot{'s' * (size != 1)}"
        return f"{size} {printable(self.rate or self.resource)}"

    def table(self) -> str:
        """Return a table in plain text: for each size, the duration under each policy, and the bound for any order.

        Example:
            >>> trace = Trace()
            >>> Scheduler(*(Job(anyio.sleep, 0.02) for _ in range(4)), jobs_window=1).run(instruments=[trace])
            True
            >>> trace.what_if(sizes=[1, 2, 4]).table().split()[:4]
            ['slots', 'fifo', 'critical-path', 'bound']

        """
        policies = self.policies()
        seconds = {(point.size, point.policy): point.seconds for point in self.points}
        rows = [["slots" if self.resource is None else printable(self.resource), *policies, "bound", ""]]
        for size, bound in self.bounds:
            marks = ["this run"] * (self.this.size == size)
            marks += [f"best: {self.best.policy}"] * (self.best.size == size and self._is_better)
            times = [duration_text(seconds[size, policy]) for policy in policies]
            rows.append(["none" if size is None else str(size), *times, duration_text(bound), ", ".join(marks)])
        return "\n".join(align_columns(rows, (len(rows[0]) - 1,)))

    def policies(self) -> list[str]:
        """Return the names of the simulated policies."""
        return list(dict.fromkeys(point.policy for point in self.points))


def _size_or_infinity(size: int | None) -> float:
    return float("inf") if size is None else size


def signed_percent(gain: float) -> str:
    """Return the change of the duration for a gain, as a percentage with a sign: a gain is a minus."""
    return f"{MINUS if gain >= 0 else '+'}{abs(100 * gain):.0f} %"
