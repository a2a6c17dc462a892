"""Limits for each key, `PerKey`, such as each host that a crawler visits.

The resource of a pool is a `PerKeyResource`. Jobs wait for the `Key` in it and take 1 of it, as of an ordinary
resource. A key exists while jobs wait for it or hold it, and until its rate is full or its gaps are over. So the memory
depends on the keys in use, not on all keys so far.

Jobs whose key is taken are **parked** with it, and no round of the admission looks at them. When the key is free for a
job, the first job of each group competes again. So a round costs the same, however many keys there are.

Decided in docs/decisions: 42-limits-by-key.
"""

from __future__ import annotations

import heapq
import itertools
import math
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, final
from weakref import WeakValueDictionary

from ..._hints import explain_form
from ..base import _amounts
from ..base._amounts import Amount, CheckedNeed
from ..base._states import WaitCause
from ..base._text_forms import clause, short_repr
from ..job._job import AnyJob
from ..job._labels import printable
from ._admission import WaitingGroup
from ._policies import ready_numbers
from ._rates import DEFAULT_KEY, Rate, RateResource
from ._resource import CountedResource, PoolEntry, Resource

LIMIT_ADVICE: Final = "give a whole number, 1 or more, or a Rate"


@final
class PerKey:
    """In a `Pool`, a separate limit for each key, such as each host that a crawler visits.

    Use it when each host, customer or file has a limit of its own.

    A job needs a single key, a string: `needs={"host": url.host}`. Keys need not be known before. Each has its own
    amount, which appears with its first use. A key that nothing uses takes no memory.

    Args:
        limit: the number of jobs that may have a key at once, or a `Rate` with a single key or with the key `requests`.
            Each job takes 1 of this key.
        gap: how many seconds must pass between the end of a job of a key and the start of the next job that takes its
            place. Only for a number.
        sizes: the limits of keys that differ from `limit`, by key, such as `{"slow.org": 1}`.

    Raises:
        TypeError: an argument has another type, or a rate has a gap.
        ValueError: a number is out of range, or a job could never take 1 of the rate.

    Example:
        >>> async def fetch(host):
        ...     await anyio.sleep(0)
        >>> jobs = [Job(fetch, host, needs={"host": host}) for host in ["a.org", "b.org", "a.org"]]
        >>> Scheduler(*jobs, pool=Pool(host=PerKey(1))).run()
        True

    """

    __slots__ = ("_gap", "_limit", "_sizes")

    @explain_form
    def __init__(
        self,
        limit: int | Rate,
        *,
        gap: float = 0.0,
        sizes: Mapping[str, int | Rate] = MappingProxyType({}),
    ) -> None:
        limit = _amounts.plain_number(limit)
        _check_limit(limit, f"PerKey({short_repr(limit)})")
        if gap and isinstance(limit, Rate):
            raise TypeError(
                f"PerKey({short_repr(limit)}): a Rate has no gap: give a number, or a Rate with burst=1"
            )
        if not isinstance(sizes, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"PerKey(sizes={short_repr(sizes)}): give a dict of limits by key"
            )
        self._sizes: Final[dict[str, int | Rate]] = {}
        for key, given in sizes.items():
            size = _amounts.plain_number(given)
            prefix = f"PerKey(sizes={{{short_repr(key)}: {short_repr(size)}}})"
            _check_limit(size, prefix)
            if isinstance(size, Rate) != isinstance(limit, Rate):
                advice = f"give a limit of the kind of {short_repr(limit)}"
                raise TypeError(f"{prefix}: {advice}")
            self._sizes[key] = size
        if not _amounts.is_number(gap) or not _amounts.is_finite(gap) or gap < 0:
            kind = ValueError if _amounts.is_number(gap) else TypeError
            raise kind(
                f"PerKey(gap={short_repr(gap)}): give a finite number of seconds, 0 or more"
            )
        self._limit: Final = limit
        self._gap: Final = float(gap)

    @property
    def limit(self) -> int | Rate:
        """How many jobs may have a key at once, or the rate of each key."""
        return self._limit

    @property
    def gap(self) -> float:
        """The seconds between the end of a job of a key and the start of the next job that takes its place."""
        return self._gap

    def _limit_of(self, key: str) -> int | Rate:
        """Return how many jobs may have this key at once, or its rate."""
        return self._sizes.get(key, self._limit)

    def __repr__(self) -> str:
        """Return the call that makes an equal limit."""
        return f"PerKey({self._limit!r}{clause(', gap={!r}', self._gap)}{clause(', sizes={!r}', self._sizes)})"


def _check_limit(limit: Any, prefix: str) -> None:
    if isinstance(limit, Rate):
        unit = DEFAULT_KEY
        if DEFAULT_KEY not in limit.limits:
            unit = next(iter(limit.limits))
        if (unit != DEFAULT_KEY and len(limit.limits) > 1) or limit.burst[unit] < 1:
            raise ValueError(
                f"{prefix}: a job takes 1 request: give the Rate requests=, and a burst of 1 or more"
            )
    elif isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"{prefix}: {LIMIT_ADVICE}")
    elif limit < 1:
        raise ValueError(f"{prefix}: {LIMIT_ADVICE}")


class Key(Resource):
    """A key of a `PerKey`, with an amount of its own. It has no slots, because two bases with slots do not mix."""

    parks = True

    def __init__(self, family: PerKeyResource, key: str) -> None:
        super().__init__(family.name, family.settings._limit_of(key))
        self.family: Final = family
        self.key: Final = key
        # The groups with jobs that are parked with this key.
        self.parked: Final[dict[WaitingGroup, None]] = {}
        # The time of this key in `Admission.timed_keys`, or infinity for none.
        self.timed_at = math.inf
        self.clock = family.clock
        if family.outer_key is not None:
            self.cooldown = family.outer_key.cooldown

    @property
    def shown_name(self) -> str:
        return f"{self.name} '{printable(self.key)}'"

    def wake(self) -> None:
        """Let the first parked job of each group compete again if 1 is free, or when time alone has made it free."""
        if not self.parked:
            return
        admission = self.family.admission
        # Some of the parked jobs may fit now.
        assert admission is not None
        when = self.available_at(self.family.unit_need)
        if when == -math.inf:
            for group in list(self.parked):
                group.unpark(self)
        elif when != self.timed_at:
            self.timed_at = when
            heapq.heappush(admission.timed_keys, (when, next(ready_numbers), self))
        admission.is_stale = True

    def throttle(self, seconds: float) -> None:
        """Delay all jobs that need this key for `seconds` from now, unless they are already delayed for longer."""
        super().throttle(seconds)
        self.family.keep(self)

    def public_share(self, need: object, share: object) -> Any:
        return self.key

    @abstractmethod
    def used_until(self) -> float:
        """Return the time when the key becomes as good as new, if no job holds it."""


class CountedKey(Key, CountedResource):
    """A key that a number of jobs may hold at once, each followed by a gap."""

    def __init__(self, family: PerKeyResource, key: str) -> None:
        super().__init__(family, key)
        # When the places of ended jobs are free again, ascending.
        self.rest_ends: Final[deque[float]] = deque()
        # The jobs that are about to give back their places without having started.
        self.unstarted: Final[set[AnyJob]] = set()

    def free_at(self, need: Amount) -> float:
        """Return the time when enough gaps are over, or infinity if too few jobs have ended."""
        when = super().free_at(need)
        if when < math.inf:
            return when
        ends = list(self.rest_ends)[int(need - self.free) - 1 :]
        return ends[0] if ends else math.inf

    def take(self, job: AnyJob, need: Amount) -> None:
        while self.rest_ends and self.has_come(self.rest_ends[0]):
            self.rest_ends.popleft()
            self.free += 1
        super().take(job, need)
        self.wake()

    def give_back(self, job: AnyJob, share: Any) -> None:
        """Take back the place of a job. It is free after the gap."""
        super().give_back(job, share)
        if self.family.settings.gap and job not in self.unstarted:
            self.free -= 1
            self.rest_ends.append(self.clock() + self.family.settings.gap)
            self.family.keep(self)
        self.unstarted.discard(job)
        self.wake()

    def refund(self, job: AnyJob, share: Any) -> None:
        self.unstarted.add(job)

    def public_free(self) -> float:
        """Return the free places. Places whose gap is over are only counted when a job takes a place."""
        return super().public_free() + sum(map(self.has_come, list(self.rest_ends)))

    def used_until(self) -> float:
        if not self.rest_ends:
            return self.cooldown.ends_at
        return max(self.cooldown.ends_at, self.rest_ends[-1])

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        for _ in range(len(self.rest_ends)):
            self.rest_ends.append(self.rest_ends.popleft() + shift)

    def describe_shortage(self, need: Amount, before: int) -> tuple[WaitCause, str]:
        # Any thread may ask, while gaps end.
        ends = list(self.rest_ends)
        if not ends:
            return super().describe_shortage(need, before)
        text = f"{self.shown_name}: gap, {self.delay_text(ends[0])} left"
        return WaitCause.RATE, text

    def make_member_resource(  # type: ignore[override]
        self, need: Amount, share: object = None
    ) -> PerKeyResource:
        """Return a resource with this key alone, one job at a time, for the members of a nested scheduler."""
        return PerKeyResource(self.name, PerKey(1), self)


class RateKey(Key, RateResource):
    def on_change(self) -> None:
        """Keep the key, and let the next job, which need not wait until this job starts, compete."""
        self.family.keep(self)
        self.wake()

    def used_until(self) -> float:
        full_at = max(bucket.full_at for bucket in self.buckets.values())
        return max(self.cooldown.ends_at, full_at)


class PerKeyResource(PoolEntry):
    """A `PerKey` in a pool, or the single key of it that a nested scheduler has taken for its members.

    Args:
        name: the name in the pool.
        settings: the `PerKey`.
        outer_key: the key that the scheduler has taken.

    """

    has_keys = True

    def __init__(
        self, name: str, settings: PerKey, outer_key: CountedKey | None = None
    ) -> None:
        super().__init__(name, settings)
        limit: Any = settings.limit
        self.outer_key: Final = outer_key
        self.is_returnable = not isinstance(limit, Rate)
        self.unit_need: Any = 1
        if isinstance(limit, Rate):
            self.unit_need = RateResource(name, limit).parse_amounts(1, name)
        # The keys that are in use.
        self.keys: Final[WeakValueDictionary[str, Key]] = WeakValueDictionary()
        # Those that may be in use although no job refers to them, that which was checked last at the end.
        self._kept: Final[OrderedDict[Key, None]] = OrderedDict()
        if outer_key is not None:
            self.clock = outer_key.clock

    def need(self, amount: CheckedNeed, job: AnyJob) -> str:
        """Check the entry for this resource in a job's `needs`, and return the key.

        Raises:
            ValueError: it is not a string, or not the key that the scheduler of the job has taken.

        """
        if not isinstance(amount, str):
            problem = ", which is a PerKey: give the key, a string"
        elif self.outer_key is None or amount == self.outer_key.key:
            return amount
        else:
            problem = f", but an enclosing scheduler has needs, and only the key '{printable(self.outer_key.key)}'"
        raise self.need_error(job, _amounts.need_text(amount), problem)

    def key(self, key: str) -> Key:
        """Return the resource of a key. Only the thread of the event loop may call this."""
        resource = self.keys.get(key)
        if resource is None:
            kind = CountedKey if self.is_returnable else RateKey
            self.keys[key] = resource = kind(self, key)
        return resource

    def find_key(self, job: AnyJob) -> Key | None:
        """Return the key that a job needs, or None if nothing uses it. Any thread may call this."""
        return self.keys.get(str(job._options.needs[self.name]))

    def resolve(self, amount: CheckedNeed, job: AnyJob) -> tuple[Resource, Any]:
        return self.key(self.need(amount, job)), self.unit_need

    def keep(self, key: Key) -> None:
        """Keep a key until its rate is full and its gaps and throttles are over.

        Each call checks two keys, so that more are forgotten than come.
        """
        self._kept[key] = None
        for checked in list(itertools.islice(self._kept, 2)):
            del self._kept[checked]
            if checked.used_until() > self.clock():
                self._kept[checked] = None

    def make_member_resource(self, need: str) -> PerKeyResource:
        """Return the resource of the members of a nested scheduler that needs a key, for a check before the run."""
        return PerKeyResource(self.name, self.settings, CountedKey(self, need))

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        for key in list(self.keys.values()):
            key.change_clock(clock, shift)

    def public_total(self) -> Any:
        limit: Any = self.settings.limit
        return limit.burst if isinstance(limit, Rate) else limit

    def public_free(self) -> dict[str, Any]:
        free = dict[str, Any]()
        # Any thread may ask, while keys come and go.
        for reference in self.keys.valuerefs():
            resource = reference()
            if resource is not None:
                free[resource.key] = resource.public_free()
        return free

    def describe(self) -> str:
        return (
            f"{self.name}={self.settings.limit} for each key, {len(self.keys)} in use"
        )
