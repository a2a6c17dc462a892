"""The model's resources: amounts, named things, rates, budgets and keys; and `Adaptive` windows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING
from .clock import SAME, World
from .scenario import Resource

if TYPE_CHECKING:
    from .jobs import ModelJob
    from .schedulers import ModelScheduler


class ModelResource:
    """One entry of a pool, or what a nested scheduler keeps of one for its members."""

    def __init__(
        self, world: World, plan: Resource, outer: ModelResource | None = None
    ) -> None:
        self.world = world
        self.plan = plan
        self.outer = outer
        self.free = plan.burst or plan.total if plan.kind == "rate" else plan.total
        self.has_window = plan.kind == "rate" and not plan.burst
        # In the window of a rate: when, infinity if not yet, and the amounts.
        self.started: list[list[float]] = []
        self.reserved = 0.0  # of a budget: what running jobs have reserved or used, which is not in `free`
        self.keys: dict[str, float] = {}  # how many jobs have each key
        # When the gaps after other jobs with a key are over.
        self.rests: dict[str, list[float]] = {}
        self.rates: dict[str, ModelResource] = {}  # of keys
        self.unstarted = 0.0  # of a rate: what jobs have that wait for a token; it accrues again only from their start
        self.level_at = world.now  # of a rate: when `free` was right
        # When and of which schedulers.
        self.taken_by: list[tuple[float, float | str, ModelScheduler]] = []
        self.closed_until: dict[str, float] = (
            outer.closed_until if outer is not None else {}
        )

    def refill(self) -> None:
        """Rates refill steadily up to their burst; those without one have what started within `per` seconds."""
        if self.has_window:
            self.started = [
                each
                for each in self.started
                if each[0] + self.plan.per > self.world.now + SAME
            ]
            self.free = self.plan.total - sum(amount for _, amount in self.started)
        elif self.plan.kind == "rate":
            gained = (self.world.now - self.level_at) * self.plan.total / self.plan.per
            self.free = min(self.plan.burst - self.unstarted, self.free + gained)
            self.level_at = self.world.now

    def available_at(self, need: float | str) -> float:
        """Return when a need can be met: `-inf` for now, infinity if that depends on other jobs."""
        key = need if isinstance(need, str) else ""
        if self.is_closed(key):
            return self.closed_until[key]
        if isinstance(need, str) and self.plan.of_rates:
            return self.rate_of(need).available_at(1.0)
        if isinstance(need, str):
            places = int(self.plan.total - self.keys.get(need, 0))
            rests = self.resting(need)
            if not places:
                return math.inf
            if len(rests) < places:
                return -math.inf
            return rests[len(rests) - places]
        self.refill()
        if need <= self.free + SAME:
            return -math.inf
        if self.has_window:
            free = self.free
            for when, amount in sorted(self.started):
                free += amount
                if need <= free + SAME:
                    return when + self.plan.per
            return math.inf
        if self.plan.kind == "rate":
            return self.world.now + (need - self.free) * self.plan.per / self.plan.total
        return math.inf

    def is_closed(self, key: str) -> bool:
        """Return whether nothing starts on a key, because a job was throttled."""
        return self.closed_until.get(key, -math.inf) > self.world.now + SAME

    def rate_of(self, key: str) -> ModelResource:
        rate = replace(self.plan, kind="rate", of_rates=False)
        return self.rates.setdefault(key, ModelResource(self.world, rate))

    def resting(self, key: str) -> list[float]:
        """Return when the gaps after jobs with a key will be over."""
        return sorted(
            when for when in self.rests.get(key, ()) if when > self.world.now + SAME
        )

    def can_ever_meet(self, need: float | str) -> bool:
        """A job waits for a budget as long as what running jobs have reserved could come back."""
        return (
            self.plan.kind != "budget"
            or isinstance(need, str)
            or need <= self.free + self.reserved + SAME
        )

    def take(self, need: float | str) -> None:
        """Take a need, even beyond what is free."""
        self.refill()
        if isinstance(need, str) and self.plan.of_rates:
            self.rate_of(need).take(1.0)
            return
        if isinstance(need, str):
            self.keys[need] = self.keys.get(need, 0) + 1
            return
        self.free -= need
        self.reserved += need
        if self.has_window:
            self.started.append([self.world.now, need])

    def count_unstarted(self, need: float, sign: int) -> None:
        """What a job has of a rate accrues again only from its start."""
        self.refill()
        self.unstarted += sign * need
        if self.has_window:
            since = self.world.now
            until = math.inf
            if sign < 0:
                since, until = until, since
            taken = next(each for each in self.started[::-1] if each == [since, need])
            taken[0] = until

    def give_back(self, need: float | str, share: float) -> None:
        """Needs are released however the job ends; budgets and rates are not given back."""
        if isinstance(need, str) and self.plan.of_rates:
            return
        if isinstance(need, str):
            self.keys[need] -= 1
            if self.plan.gap and share:
                self.rests.setdefault(need, []).append(self.world.now + self.plan.gap)
        elif self.plan.kind == "budget":
            self.reserved -= share
        elif self.plan.kind != "rate":
            self.free += share
            self.reserved -= share

    def correct(self, share: float, used: float, since: float) -> None:
        """`used` corrects an amount in both directions: more is taken now, and less since the start."""
        self.refill()
        if self.has_window:
            back = share - used
            if back < 0:
                self.started.append([self.world.now, -back])
            for each in self.started:
                if back > 0 and abs(each[0] - since) <= SAME:
                    less = min(back, each[1])
                    each[1] -= less
                    back -= less
            return
        self.free -= used - share
        self.reserved += used - share

    @property
    def used(self) -> float:
        """What members of a scheduler have used of its budget."""
        return self.plan.total - self.free - self.reserved


class ModelAdaptive:
    """A window that follows the capacity of a server, as those of TCP do (Chiu and Jain 1989, CUBIC)."""

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.size = minimum
        self.shrunk_at = -math.inf
        self.forget()
        self.lowest = math.inf
        self.ratio = 1.0

    def forget(self) -> None:
        """Begin to count anew."""
        self.successes, self.was_full = 0, False
        self.latencies: list[float] = []

    def has_succeeded(self, began: float, now: float, is_full: bool) -> None:
        """It grows by one for each window's worth of successes while the latency holds steady."""
        if began < self.shrunk_at:
            return
        self.successes += 1
        self.was_full = self.was_full or is_full
        self.latencies.append(now - began)
        if len(self.latencies) >= max(10, self.size):
            mean = sum(self.latencies) / len(self.latencies)
            self.latencies = []
            self.lowest = min(self.lowest, mean)
            self.ratio = mean / self.lowest
            if self.ratio > 2.0:
                self.shrink(int(self.size * max(0.5, 1.5 / self.ratio)), now)
        if self.successes >= self.size:
            if self.was_full and self.ratio <= 1.5:
                self.size = min(self.maximum, self.size + 1)
            self.successes, self.was_full = 0, False

    def is_overloaded(self, began: float, now: float) -> bool:
        """It shrinks by a fraction on `slower_on`, once for all that ran in the larger window."""
        if began < self.shrunk_at:
            return False
        self.shrink(min(self.size - 1, int(self.size * 0.7)), now)
        return True

    def shrink(self, size: int, now: float) -> None:
        self.size = max(self.minimum, size)
        self.shrunk_at = now
        self.ratio = 1.0
        self.forget()


class ModelLimiter:
    """A `CapacityLimiter`: outermost runs take turns, and in each, tokens go round in the order of asking."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.holders: set[ModelJob] = set()
        # When the last job that waits has asked, and in which group.
        self.asked_at = -1.0
        self.asked_last: ModelScheduler | None = None
        self.passed_at = -1.0  # when the last job that waited got a token
        # The outermost runs in the limiter's queue, each with its groups that wait, as often as they have asked.
        self.queue: dict[ModelScheduler, list[ModelScheduler]] = {}

    def pop_ticket(self) -> ModelScheduler:
        """Serve the outermost run whose turn it is: the group that asked first; it stands at the end again."""
        outermost = next(iter(self.queue))
        tickets = self.queue.pop(outermost)
        group = tickets.pop(0)
        if tickets:
            self.queue[outermost] = tickets
        return group

    def drop_ticket(self, outermost: ModelScheduler, group: ModelScheduler) -> None:
        """Drop the last turn of a group, of which a job waits no longer."""
        tickets = self.queue[outermost]
        del tickets[max(place for place, other in enumerate(tickets) if other is group)]
        if not tickets:
            del self.queue[outermost]
