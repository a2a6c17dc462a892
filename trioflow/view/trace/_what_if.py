"""`WhatIf`: simulated durations of a run with other policies, numbers of slots, or amounts of a resource."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from ..._core.api.views import duration_text, printable
from ..text._symbols import align_columns

MINUS_SIGN: Final = "\N{MINUS SIGN}"
NOISE_SHARE: Final = 0.03
"""A gain of less than this share of the time is noise, because two runs of the same jobs may differ by as much."""
OWN_POLICIES: Final = "own policies"
"""The value of `policy` for a run whose schedulers have different policies."""
MIN_REPORTED_DEVIATION: Final = 0.05
"""If the simulated duration of a run deviates from the measured one by more than this share, the text mentions it."""
ASSUMPTIONS: Final = (
    "It assumes that each job takes as long as it did, however many run at the same time, and that none fails or is "
    "throttled."
)
"""The sentence about the assumptions of every simulation."""


@final
@dataclass(frozen=True, slots=True)
class WhatIfPoint:
    """One simulated variant of a run, and its duration."""

    size: int | None
    """The number of slots, or the amount of the resource; None for no limit."""
    policy: str
    """The name of the policy of all schedulers, or "own policies" if the schedulers have different policies."""
    seconds: float
    """The duration, from the start of the run to the end of its last job other than forever jobs."""


@final
@dataclass(frozen=True, slots=True)
class WhatIf:
    """The durations of a run under other limits, simulated on a virtual clock with the same jobs and job durations.

    The results are realistic for jobs that wait, e.g. for a server or a device. They are too optimistic for jobs that
    compute, because these slow each other down when more of them share a processor.
    """

    resource: str | None
    """The name of the resource whose amount varies; None for the slots of the window."""
    points: tuple[WhatIfPoint, ...]
    """The simulated variants: for each policy, one for each size, in ascending order. The size None comes last."""
    bounds: tuple[tuple[int | None, float], ...]
    """For each size, a lower bound on the duration in seconds. No order of the jobs can be faster."""
    this_run: WhatIfPoint
    """The run itself, as measured."""
    simulated_seconds: float
    """The duration in seconds of a simulation of the run itself. The difference from `this_run.seconds` indicates how
    accurate the other simulations are."""
    rate_unit: str | None = None
    """The unit of the sizes if the resource is a rate, such as "requests per second"."""
    only_nested: bool = False
    """Whether only nested schedulers use the slots of the window, while their jobs use the slots of other windows."""
    worker_processes: int | None = None
    """The number of worker processes that ProcessJobs share, in the run and in each point. None if there are no such
    jobs."""
    cluster_threads: int | None = None
    """The number of threads that calls on a cluster share, in the run and in each point. None if there are no such
    calls."""

    @property
    def best(self) -> WhatIfPoint:
        """The point with the smallest size among those within 3 % of the fastest.

        If no point is more than 3 % faster than a simulation of the run, points with the run's policy are preferred.
        """
        fastest = min(point.seconds for point in self.points)
        candidates = [point for point in self.points if point.seconds <= fastest * (1 + NOISE_SHARE)]
        own_policy = self.this_run.policy
        if self.simulated_seconds <= fastest * (1 + NOISE_SHARE):
            candidates = [point for point in candidates if point.policy == own_policy] or candidates
        return min(
            candidates, key=lambda point: (_size_or_infinity(point.size), point.policy != own_policy, point.seconds)
        )

    @property
    def gain(self) -> float | None:
        """The share of the simulated duration of this run that `best` saves, e.g. 0.34. None if that duration is 0."""
        return None if not self.simulated_seconds else 1 - self.best.seconds / self.simulated_seconds

    def __str__(self) -> str:
        """Return the result in a few sentences, the last of which state the assumptions."""
        return " ".join([*self._sentences(), self.assumptions])

    @property
    def _has_better_point(self) -> bool:
        """Whether the best point is faster than a simulation of this run by more than `NOISE_SHARE`."""
        return not self.simulated_seconds or self.best.seconds * (1 + NOISE_SHARE) < self.simulated_seconds

    @property
    def assumptions(self) -> str:
        """One or more sentences that state the assumptions of the simulations."""
        sentences: list[str] = []
        if (count := self.worker_processes) is not None:
            sentences.append(f"ProcessJobs share {count} worker process{'es' * (count != 1)}, as in the run.")
        if (count := self.cluster_threads) is not None:
            sentences.append(f"Calls on the cluster share its {count} thread{'s' * (count != 1)}, as in the run.")
        return " ".join([*sentences, ASSUMPTIONS])

    def _sentences(self) -> Iterator[str]:
        best, unit, this_run = self.best, self.unit, self.this_run
        yield f"This run: {self.amount(this_run.size)}, {this_run.policy}, {duration_text(this_run.seconds)}."
        if self.simulated_seconds and abs(this_run.seconds / self.simulated_seconds - 1) > MIN_REPORTED_DEVIATION:
            duration = duration_text(self.simulated_seconds)
            yield f"A simulation of it takes {duration}: it ignores failures, throttling, load and adaptive windows."
        nested_note = "These slots are only for nested schedulers, whose jobs have their own windows."
        if not self._has_better_point:
            has_fewer = _size_or_infinity(best.size) < _size_or_infinity(this_run.size) and not self.only_nested
            enough_words = f"; {self.amount(best.size)} {'is' if best.size == 1 else 'are'} enough" * has_fewer
            yield f"No other {unit} or policy is faster{enough_words}."
            yield from [nested_note] * self.only_nested
            return
        gain_text = "" if self.gain is None else f" ({signed_percent(self.gain)})"
        has_more = any(_size_or_infinity(point.size) > _size_or_infinity(best.size) for point in self.points)
        more_words = "; more do not help" if has_more else ""
        scope_words = " in every scheduler" if this_run.policy == OWN_POLICIES != best.policy else ""
        setting = f"With {self.amount(best.size)} and {best.policy}{scope_words}"
        yield f"{setting}, it takes {duration_text(best.seconds)}{gain_text}{more_words}."
        yield from [nested_note] * self.only_nested

    @property
    def unit(self) -> str:
        """The name of the quantity that varies, such as "number of slots", "amount of gpu" or "rate of api"."""
        if self.resource is None:
            return "number of slots"
        return f"{'amount' if self.rate_unit is None else 'rate'} of {printable(self.resource)}"

    def amount(self, size: int | None) -> str:
        """Return the text for a size with its unit: "8 slots", "4 gpu", "5 requests per second" or "no limit"."""
        if size is None:
            return "no limit"
        if self.resource is None:
            return f"{size} slot{'s' * (size != 1)}"
        return f"{size} {printable(self.rate_unit or self.resource)}"

    def table(self) -> str:
        """Return a table in plain text, with the duration under each policy and the lower bound for each size.

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
            remarks = ["this run"] * (self.this_run.size == size)
            remarks += [f"best: {self.best.policy}"] * (self.best.size == size and self._has_better_point)
            times = [duration_text(seconds[size, policy]) for policy in policies]
            rows.append(["none" if size is None else str(size), *times, duration_text(bound), ", ".join(remarks)])
        return "\n".join(align_columns(rows, (len(rows[0]) - 1,)))

    def policies(self) -> list[str]:
        """Return the names of the simulated policies."""
        return list(dict.fromkeys(point.policy for point in self.points))


def _size_or_infinity(size: int | None) -> float:
    return float("inf") if size is None else size


def signed_percent(gain: float) -> str:
    """Format a gain, the share of the duration that is saved, as a change of the duration: 0.34 as -34 %.

    The minus is a Unicode minus. A gain of 0 gets one, too.
    """
    return f"{MINUS_SIGN if gain >= 0 else '+'}{abs(100 * gain):.0f} %"
