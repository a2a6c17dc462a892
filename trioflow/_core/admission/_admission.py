"""Admission of the ready jobs of a run in which some jobs need resources, across all runs that share these resources.

Four words: **look** (`Line`, places) lets those waiting jobs start that can, a **round** (`Admission`) looks for all
runs, **admit** gives one job what it takes, and a result is **stale** when the next look needs another round.

Admission knows two things: the promises of a `Resource`, and the keys of jobs, which say who goes first. There are
three levels. A `WaitingGroup` has the waiting jobs of a run with equal needs. Only the first of them can start next. An
`OrderedPlaces` has the groups of a run, in the order of its policy. An `Admission` has the places of all runs that
share resources, and merges them: a higher priority comes first, then the job that became ready first.

A **round** admits the waiting jobs that can start, in this order: their run has a slot for them, and their needs can be
met. An admitted job gets both at once, and keeps them until it has settled. Each change that may let a job start
discards the result of the last round, by `Admission.is_stale`. The next round runs when the changed run passes on its
released amounts (see `Line.look`), or by a timer, if time alone lets a job start.

- **Backfill**: a first job that has to wait can be overtaken by later jobs that need one of its resources, but by at
  most `max_overtakes` of them. After that, it has a **reservation**: no later job that needs one of its resources
  starts before it. So it starts once enough running jobs have ended, and the next job of its group is the first.
  (Reservations come from batch systems: Lifka 1995, "The ANL/IBM SP scheduling system". There, users declare run times.
  Here, run times are unknown, so overtaking jobs are counted.)
- **A run without room leaves the admission** in the next round. It has no room if all its jobs need a slot and none is
  free. Until it has room and competes again, its jobs cannot be overtaken, and have no reservation.
- **A crowd of jobs decides nothing about resources.** If enough admitted jobs of a run have not started, a job whose
  needs can be met gets them and its slot all the same, unless the jobs before it that need nothing but a slot may take
  all that are free. Then it waits for its turn among these. A round follows as soon as the run takes a job.
- **A scan is bounded**: when `MAX_GROUPS_PER_RESOURCE` groups wait for a resource, later groups that need it are
  skipped, and not counted as overtaken. Slurm's option `bf_max_job_test` sets a similar bound.
- **Jobs whose key is taken are parked** with that resource, and have no reservation. See `_keys`. Jobs that could
  start but for a gate are parked, too. See `GatedResource`.
- Jobs inside a scheduler that itself has needs ignore reservations, because the job with the reservation may be waiting
  for that scheduler to end.
- When a run needs resources that belong to different admissions, these are merged.

Decided in docs/decisions: 15-backfill, 16-shared-pools.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

from ..base._states import SCHEDULED, RunPhase
from ..job._errors import BudgetSpent
from ..job._job import AnyJob, takes_slot
from ._resource import GatedResource, Grant, Needs, PoolEntry, Resource, budgets_used

if TYPE_CHECKING:
    from ._keys import Key, PerKeyResource
    from ._line import Line
    from ._policies import HeapEntry

    # Entries of sorted lists. A group is sorted by the key and the number of its first job. Places are sorted by the
    # priority and the number of the first job of the first group. All jobs have different numbers.
    GroupEntry = tuple[Any, int, "WaitingGroup"]
    PlacesEntry = tuple[float, int, "OrderedPlaces"]
    # The number, the places and the job, and the error that blocks it.
    Unaffordable = tuple[int, "OrderedPlaces", AnyJob, BudgetSpent]
    Timer = tuple[float, "OrderedPlaces | None", Callable[[], None]]

MAX_ADMITTED: Final = 12
"""The number of startable jobs in a run up to which more are admitted: about as many as there are workers that search
for jobs at the same time. Jobs that become ready later cannot overtake admitted jobs."""
MAX_GROUPS_PER_RESOURCE: Final = 64
"""The maximum number of groups that a scan looks at for each scarce resource."""
NOW: Final = -math.inf
"""The value of `Resource.available_at` for a need that can be met now."""
NO_TIMER: Final[Timer] = (math.inf, None, lambda: None)
NEEDS_NOTHING: Final = (False,)
"""The key of the group of jobs without needs that take no slot, and of those that have what they need, and a slot."""


class WaitingGroup:
    """The waiting jobs of a run with equal needs. Apart from a key, they may need nothing but a slot.

    Each job waits in exactly one heap: in `heap`, or parked with the key that it needs. The first entry of `heap`
    belongs to a waiting job, and `needs`, `resources` and `entry` always belong to the same job. See `update`.

    Args:
        places: the jobs of the run.
        key: the group's key in `OrderedPlaces.groups_by_needs`, which begins with whether its jobs need a slot.
        needs: the needs that all jobs of the group have in common.
        family: the `PerKeyResource` of which each of them needs a key, or None if there is none.

    """

    def __init__(
        self,
        places: OrderedPlaces,
        key: Any,
        needs: Needs,
        family: PerKeyResource | None,
    ) -> None:
        self.places: Final = places
        self.key: Final = key
        self.common_needs: Final = needs
        self.needs_slot: Final[bool] = key[0]
        self.family: Final = family
        self.needs: Needs = needs
        self.resources = frozenset([resource for resource, _ in needs])
        kind: frozenset[PoolEntry] = self.resources
        if family is not None:
            kind |= {family}
        # The resources that the group may lack. Groups with the same resources are of the same kind.
        self.kind: Final = kind
        # Entries like those of `OrderedPlaces._heap`.
        self.heap: Final[list[HeapEntry]] = []
        # Heaps of the jobs that wait for a key, or for a gate.
        self.parked: Final[dict[Any, list[HeapEntry]]] = {}
        # The entry of this group in `OrderedPlaces.group_entries`.
        self.entry: GroupEntry | None = None

    def update(self) -> None:
        """Take the place of the first job, which may have changed or settled. Leave if no job is left."""
        _drop_settled(self.heap)
        places = self.places
        first = self.heap[0] if self.heap else None
        if first is not None and self.entry is not None and first[1] == self.entry[1]:
            return
        entries = places.group_entries
        if self.entry is not None:
            del entries[bisect.bisect_left(entries, self.entry)]
        self.entry = None if first is None else (*first[:2], self)
        if self.entry is not None:
            bisect.insort(entries, self.entry)
        elif not self.parked and places.groups_by_needs.pop(self.key, None) is not None:
            places.count_group(self, -1)
        if first is not None and self.family is not None:
            job = first[2]
            amount = job._options.needs[self.family.name]
            self.needs = [*self.common_needs, self.family.resolve(amount, job)]
            self.resources = frozenset([resource for resource, _ in self.needs])
        if places.entry is not None:
            places.take_place()

    def park(self, key: Key | GatedResource) -> None:
        """Let the first job wait with its key, or at a gate, so that the next job is the first."""
        heapq.heappush(self.parked.setdefault(key, []), heapq.heappop(self.heap))
        key.parked[self] = None
        self.update()

    def unpark(self, key: Key | GatedResource, number: int = 1) -> None:
        """Let the first `number` jobs that are parked with a key compete again."""
        entries = self.parked.get(key, [])
        _drop_settled(entries)
        while entries and number:
            heapq.heappush(self.heap, heapq.heappop(entries))
            _drop_settled(entries)
            number -= 1
        if not entries and self.parked.pop(key, None) is not None:
            del key.parked[self]
        self.update()
        self.places.take_place()

    def forget(self, job: AnyJob) -> None:
        """Drop a job that has settled while it waited, and let the next job with its key compete."""
        key: Any
        for key, _ in self.needs_of(job):
            if key.parks or key in self.parked:
                self.unpark(key, 0)
                key.wake()
        self.update()

    def needs_of(self, job: AnyJob) -> Needs:
        """Return the needs of a job with their resources, without a key that nothing uses. Any thread may call this."""
        if self.family is not None:
            key = self.family.find_key(job)
            if key is not None:
                return [*self.common_needs, (key, self.family.unit_need)]
        return self.common_needs

    def find_blocker(self, job: AnyJob) -> AnyJob | None:
        """Return the job whose reservation keeps a job of the group from starting. Any thread may call this.

        It reads the findings of the last scan, because a new scan would change the state that the next round uses.
        """
        if self.places.is_inside_holder:
            return None
        reserved = self.places.admission.reserved
        for resource, _ in self.needs_of(job):
            other: AnyJob = reserved.get(resource, job)
            if other is not job and other._state is SCHEDULED:
                return other
        return None

    def entries(self) -> list[HeapEntry]:
        """Return the entries of all waiting jobs, in order. Any thread may call this."""
        entries = itertools.chain(list(self.heap), *list(self.parked.values()))
        return sorted(entry for entry in entries if entry[2]._state is SCHEDULED)


class OrderedPlaces:
    """The waiting jobs of a run in the order of their entries.

    As long as no job of the run needs resources, they wait in two heaps, and no other run has a say. From
    `use_admission` on, they wait in groups of equal needs, and rounds of an `Admission` admit them.

    Args:
        line: the line of the run, or of its clean-up jobs, which get their needs at once.

    """

    max_overtakes = 64
    """How many later jobs that need one of its resources may overtake a first job that waits for its needs."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.run = line.run
        self._heap: Final[list[HeapEntry]] = []
        # Jobs that take no slot, so they wait for none.
        self._slotless_heap: Final[list[HeapEntry]] = []
        # An `Admission`, or None as long as no job of the run needs resources.
        self.admission: Any = None
        # The groups that have waiting jobs, by `_group_key`.
        self.groups_by_needs: Final[dict[Any, WaitingGroup]] = {}
        # Groups with jobs in `heap`, by their first jobs.
        self.group_entries: Final[list[GroupEntry]] = []
        # All waiting jobs, and how many jobs overtook each.
        self.overtaken: Final[dict[AnyJob, int]] = {}
        # How many of the groups have jobs that take no slot.
        self.slotless_count = 0
        # The entry of these places in `Admission.places_in_order`, or None while the run does not compete.
        self.entry: PlacesEntry | None = None

    def use_admission(self) -> None:
        """Let jobs wait for resources, together with the runs that share them."""
        self.admission = Admission()
        self.admission.all_places[self] = None
        # Whether the run's scheduler or an enclosing scheduler has needs. If so, its jobs ignore reservations.
        self.is_inside_holder = self.run.pools.resource_holder is not None

    def detach(self) -> None:
        """Drop the references to the run, which has ended, and leave the admission for good."""
        del self.run, self.line
        if self.admission is not None:
            self.admission.all_places.pop(self, None)
            self.admission.crowded.pop(self, None)

    def has_room(self) -> bool:
        """Return whether the run can start another job."""
        if self.run.phase is not RunPhase.RUNNING or self.line.is_paused:
            return False
        return self.slotless_count > 0 or not self.line.is_full()

    def is_crowded(self) -> bool:
        """Return whether the run has admitted enough jobs that have not started."""
        return len(self.line.startable) >= MAX_ADMITTED

    # ---- the jobs

    def _group_key(self, job: AnyJob) -> Any:
        """Return the key of a job's group: jobs with equal needs, including a slot, have equal keys."""
        if job._grant() is not None:
            return NEEDS_NOTHING
        wanted = dict[str, Any](job._options.needs)
        for name in wanted:
            if self.run.pools.find(name).has_keys:
                wanted[name] = ""
        return (takes_slot(job), *sorted(wanted.items()))

    def _get_or_create_group(self, job: AnyJob) -> WaitingGroup:
        key = self._group_key(job)
        group = self.groups_by_needs.get(key)
        if group is None:
            needs: Needs = []
            family: Any = None
            for name, amount in key[1:]:
                entry = self.run.pools.find(name)
                if entry.has_keys:
                    # There is at most one.
                    family = entry
                else:
                    needs.append(entry.resolve(amount, job))
            group = WaitingGroup(self, key, needs, family)
            share_admission(self, group.kind)
            self.count_group(group, 1)
            self.groups_by_needs[key] = group
        return group

    def count_group(self, group: WaitingGroup, sign: int) -> None:
        """Record that a group is added (1) or removed (-1)."""
        if not group.needs_slot:
            self.slotless_count += sign
        for resource, need in group.common_needs:
            resource.update_wanted_amounts(need, sign)
        counts = self.admission.group_counts
        counts[group.kind] += sign
        if not counts[group.kind]:
            del counts[group.kind]

    def find_group(self, job: AnyJob) -> WaitingGroup | None:
        """Return the group of a waiting job, or None if the job does not wait here. Any thread may call this."""
        if job not in self.overtaken:
            return None
        return self.groups_by_needs.get(self._group_key(job))

    def push(self, job: AnyJob) -> None:
        self.insert(self.line.entry_of(job))

    def insert(self, entry: HeapEntry) -> None:
        job = entry[2]
        if self.admission is None:
            heap = self._heap
            if not takes_slot(job):
                heap = self._slotless_heap
            heapq.heappush(heap, entry)
            return
        # A new order of the waiting jobs keeps their counts.
        self.overtaken.setdefault(job, 0)
        group = self._get_or_create_group(job)
        heapq.heappush(group.heap, entry)
        group.update()
        # If it has no room, the next round removes it.
        self.mark_stale()

    def look(self, number: float) -> None:
        """Admit jobs in order until `number` of them are startable. A round may admit more, and jobs of other runs."""
        admission = self.admission
        if admission is not None:
            if self in admission.crowded and not self.is_crowded():
                admission.is_stale = True
            if self.has_room():
                self.take_place()
            admission.round(self)
            return
        line = self.line
        while len(line.startable) < number and not line.is_paused:
            heap = self._slotless_heap
            if self._heap and not line.is_full():
                if not heap or self._heap[0] < heap[0]:
                    heap = self._heap
            if not heap:
                return
            entry = heapq.heappop(heap)
            job = entry[2]
            if job._state is SCHEDULED:
                if job._options.needs:
                    self._grant_at_once(job)
                line.admit_job(entry)

    def _grant_at_once(self, job: AnyJob) -> None:
        """Grant a clean-up job its needs, even beyond the free amounts."""
        wanted = job._options.needs
        entries = [self.run.pools.find(name) for name in wanted]
        # The merge passes on the resources that the job gives back. A run with needs has ordered places.
        share_admission(self.run.line.places, entries)  # type: ignore[arg-type]
        needs = [entry.resolve(wanted[entry.name], job) for entry in entries]
        Grant(job, needs).let_accrue()

    def admit_first(self, group: WaitingGroup) -> None:
        """Let the first job of a group take its needs. In a crowded run, it then waits for its turn."""
        entry = heapq.heappop(group.heap)
        job = entry[2]
        if group.needs:
            Grant(job, group.needs, entry)
        del self.overtaken[job]
        group.update()
        if group.kind and self.is_crowded():
            if group.needs_slot:
                self.line.holders.add(job)
            self.insert(entry)
        else:
            self.line.admit_job(entry)

    def admit_granted(self) -> None:
        """Admit the jobs that wait for nothing but their turn."""
        while (group := self.groups_by_needs.get(NEEDS_NOTHING)) is not None:
            self.admit_first(group)

    def unaffordable_jobs(self) -> Iterator[Unaffordable]:
        """Yield the waiting jobs whose needs could not be met even if running jobs returned all they have.

        Each comes with its number in the order that they became ready.
        """
        if self.run.phase._is_ending:
            return
        for group in self.groups_by_needs.values():
            budget: Any
            for budget, need in group.common_needs:
                if not budget.can_ever_meet(need):
                    for _, age, job in group.entries():
                        yield age, self, job, budget.spent_error(job, need)

    def give_back(self, job: AnyJob) -> None:
        """Take back the grant of a job, or remove the job if it still waits. Amounts of rates are not taken back."""
        group = self.find_group(job)
        extras = job._extras
        if extras is not None and extras.grant is not None:
            used = None
            if self.admission.has_budgets:
                used = budgets_used(job) or None
            # A budget sees whether an earlier attempt has used some.
            extras.grant.give_back()
            extras.earlier_use = used
            extras.grant = None
        if group is not None:
            group.forget(job)
        self.overtaken.pop(job, None)
        self.mark_stale()

    def mark_stale(self) -> None:
        """Require a new round, and let this run compete in it."""
        self.admission.is_stale = True
        self.take_place()

    def entries(self) -> list[HeapEntry]:
        """Return the entries of the waiting jobs, in the order that they would start without limits."""
        entries = [*self._heap, *self._slotless_heap]
        for group in list(self.groups_by_needs.values()):
            entries += group.entries()
        return sorted(entry for entry in entries if entry[2]._state is SCHEDULED)

    def drop_settled(self) -> None:
        heaps = [self._heap, self._slotless_heap]
        for group in self.groups_by_needs.values():
            heaps += [group.heap, *group.parked.values()]
        for heap in heaps:
            heap[:] = [entry for entry in heap if entry[2]._state is SCHEDULED]
            heapq.heapify(heap)

    def clear(self) -> None:
        """Remove all waiting jobs, and leave the admission until the run competes again. Their counts remain."""
        self._heap.clear()
        self._slotless_heap.clear()
        keys: list[Any] = []
        for group in self.groups_by_needs.values():
            for key in group.parked:
                del key.parked[group]
            keys += group.parked
            self.count_group(group, -1)
        self.groups_by_needs.clear()
        self.group_entries.clear()
        self.take_place()
        for key in keys:
            key.wake()

    # ---- the place in the admission

    def take_place(self) -> None:
        """Take the place of the first job in the admission, where the next round finds it, or none if no job competes.

        The round removes the places of a run that has no room.
        """
        entry = None
        if self.group_entries:
            key, number, _ = self.group_entries[0]
            entry = (key[0], number, self)
        self.set_entry(entry)

    def set_entry(self, entry: PlacesEntry | None) -> None:
        if entry == self.entry:
            return
        self.admission.is_stale = True
        entries = self.admission.places_in_order
        if self.entry is not None:
            del entries[bisect.bisect_left(entries, self.entry)]
            self.entry = None
        if entry is not None:
            bisect.insort(entries, entry)
            self.entry = entry


class Admission:
    """The places of all runs that share resources, and the rounds in which their jobs are admitted."""

    def __init__(self) -> None:
        # The places that compete, in the order of service.
        self.places_in_order: list[PlacesEntry] = []
        # The places of all runs in progress.
        self.all_places: Final = WeakKeyDictionary[OrderedPlaces, None]()
        self.resources: Final[WeakSet[PoolEntry]] = WeakSet()
        # A heap of the times when keys with parked jobs may be free by time alone, each with a sequence number.
        self.timed_keys: list[tuple[float, int, Key]] = []
        # Whether any of the resources is, or was, a budget.
        self.has_budgets = False
        # How many groups there are by `kind`.
        self.group_counts: Final = Counter[frozenset[PoolEntry]]()
        # Whether something has changed since the last round.
        self.is_stale = True
        # Whether jobs that a budget cannot meet any more are being blocked.
        self._is_blocking = False
        # The findings of the last scan: the groups before its result that have to wait, the reserved resources, each
        # with the first job that has a reservation of it, the places whose runs have no room, and those of crowded runs
        # with jobs that need nothing, with the number of these that wait for a slot.
        self._passed: list[WaitingGroup] = []
        self.reserved: dict[Resource, AnyJob] = {}
        self._without_room: list[OrderedPlaces] = []
        self.crowded: dict[OrderedPlaces, int] = {}
        # The earliest time when a job that is not parked will be able to start without any other event, and the places
        # of the job. The timer has such a pair, too, and a function that cancels it.
        self._earliest_start: tuple[float, OrderedPlaces | None] = (math.inf, None)
        self._timer: Timer = NO_TIMER

    def merge(self, other: Admission) -> None:
        """Move the runs and resources of another admission to this one. Its timer is set again by the next round."""
        for places in other.all_places:
            places.admission = self
        for resource in other.resources:
            resource.admission = self
        self.all_places.update(other.all_places)
        self.resources.update(other.resources)
        self.has_budgets |= other.has_budgets
        self.group_counts.update(other.group_counts)
        self.timed_keys = sorted(self.timed_keys + other.timed_keys)
        self.places_in_order = sorted(self.places_in_order + other.places_in_order)
        other._timer[2]()
        self.is_stale = True

    def has_timer(self) -> bool:
        return self._timer is not NO_TIMER

    def round(self, caller: OrderedPlaces | None = None) -> None:
        """Admit all jobs that can start, in order, and wake workers for them, except in the run of `caller`.

        If time alone will let another job start, set a timer. An error ends all runs.
        """
        try:
            if self.is_stale:
                self._take_round(caller)
        except BaseException as fault:
            for places in list(self.all_places):
                places.run.interrupt(fault)

    def _take_round(self, caller: OrderedPlaces | None) -> None:
        served: dict[OrderedPlaces, None] = {}
        # The keys and gates where jobs have been parked in this round.
        parked: dict[Any, None] = {}
        while True:
            self._wake_timed_keys()
            found = self.scan()
            for places in self._without_room:
                places.set_entry(None)
            if found is None:
                break
            group, key = found
            if key is not None:
                group.park(key)
                parked[key] = None
            else:
                for other in self._passed:
                    if not other.resources.isdisjoint(group.resources):
                        other.places.overtaken[other.heap[0][2]] += 1
                group.places.admit_first(group)
                served[group.places] = None
        for group in self._passed:
            for resource, need in group.needs:
                if not resource.is_returnable:
                    resource.note_shortage(need)
        for key in parked:
            # Wake a key when it will be free, or at once if it was only reserved. Open a gate.
            key.wake()
        self.is_stale = False
        self._set_timer()
        for places in served:
            if places is not caller:
                places.run.crew.ensure_searcher()
        if self.has_budgets and not self._is_blocking:
            self._block_unaffordable_jobs()

    def _wake_timed_keys(self) -> None:
        while self.timed_keys:
            when, _, key = self.timed_keys[0]
            if not key.has_come(when):
                break
            heapq.heappop(self.timed_keys)
            key.timed_at = math.inf
            key.wake()

    def _block_unaffordable_jobs(self) -> None:
        for places in self.all_places:
            if places.run.ends.depth:
                places.run.ends.waiting.append(self._block_unaffordable_jobs)
                return
        # Blocking a job may end a nested run, which leads to another round: this loop, not that round, blocks the next.
        self._is_blocking = True
        try:
            while found := self._unaffordable_jobs():
                for _, places, job, error in found:
                    if job in places.overtaken:
                        places.run.block(job, error)
        finally:
            self._is_blocking = False

    def _unaffordable_jobs(self) -> list[Unaffordable]:
        found = map(OrderedPlaces.unaffordable_jobs, list(self.all_places))
        return sorted(itertools.chain(*found), key=lambda each: each[0])

    def scan(self) -> tuple[WaitingGroup, Any] | None:
        """Find the first group, in order, whose first job can start, or must be parked.

        Returns:
            The group, and the place where its first job must be parked: a `Key` that is taken or reserved, or a
            resource that is free, but whose gate is closed. The place is None if the job can start. None if there is no
            such group.

        A scan changes no line and no resource. The private fields of the admission record its findings. Before it
        looks at a group, this holds for the groups before it:

        - None of their first jobs can start. It lacks something, needs a resource that is reserved, or for which too
        many groups wait, has a run without room, or needs nothing in a crowded run, or a slot for which such jobs wait.
        - `_passed` has the groups with needs that have to wait, except those for which too many wait.
        - A later group can start or be parked only if none of its resources is saturated, and not all of them are
          exhausted. If no kind of group is left, the scan is over. A reserved resource keeps a group from starting,
          unless the group ignores reservations.

        So the result is the first group that can start. It overtakes the groups in `_passed` that share a resource with
        it. These have no reservation, or are overtaken by jobs that ignore it.
        """
        # Resources that enough groups wait for.
        saturated = set[PoolEntry]()
        # Resources that have too little for any waiting job.
        exhausted = set[PoolEntry]()
        # How many of the groups before wait for each resource.
        waiting_counts = dict[Resource, int]()
        bound_count = 0
        self.reserved = reserved = dict[Resource, AnyJob]()
        self._passed = passed = list[WaitingGroup]()
        self._without_room = []
        self.crowded = {}
        self._earliest_start = (math.inf, None)
        for group in self._groups_in_order():
            resources = group.resources
            places = group.places
            if places.slotless_count and group.needs_slot and places.line.is_full():
                continue
            if not group.kind:
                if not places.is_crowded():
                    return group, None
                self.crowded.setdefault(places, 0)
                if group.needs_slot:
                    self.crowded[places] += len(group.heap)
                continue
            if group.needs_slot and places.line.is_full(self.crowded.get(places, 0)):
                continue
            if not resources.isdisjoint(saturated):
                continue
            lacking: dict[Resource, float] = {}
            for resource, need in group.needs:
                when = resource.available_at(need)
                if when > NOW:
                    lacking[resource] = when
            kept: Collection[Resource] = ()
            if not places.is_inside_holder:
                kept = resources & reserved.keys()
            waits_for: Collection[Resource] = lacking or kept
            if not waits_for:
                gate = _closed_gate(group)
                if gate is not None and gate.is_crowded():
                    continue
                return group, gate
            for resource in waits_for:
                if resource.parks:
                    return group, resource
            passed.append(group)
            available_at = max(lacking.values(), default=math.inf)
            if available_at < self._earliest_start[0]:
                self._earliest_start = available_at, places
            first = group.heap[0][2]
            if places.overtaken[first] >= places.max_overtakes:
                reserved.update(dict.fromkeys(resources - reserved.keys(), first))
            for resource in waits_for:
                waiting_counts[resource] = count = waiting_counts.get(resource, 0) + 1
                if count >= MAX_GROUPS_PER_RESOURCE:
                    saturated.add(resource)
                if resource.is_exhausted():
                    exhausted.add(resource)
            bounds = len(saturated) + len(exhausted)
            if bounds != bound_count and not self._can_any_start(saturated, exhausted):
                break
            bound_count = bounds
        return None

    def _can_any_start(
        self, saturated: set[PoolEntry], exhausted: set[PoolEntry]
    ) -> bool:
        """Return whether a group of any kind could start, as far as these resources show."""
        return any(
            kind.isdisjoint(exhausted) and kind.isdisjoint(saturated)
            for kind in self.group_counts
        )

    def _groups_in_order(self) -> Iterator[WaitingGroup]:
        """Yield the groups of all runs that have room, in order. Add the places of other runs to `_without_room`.

        The groups of a run are in the order of its policy. Of the next groups of all runs, that with the highest
        priority comes first, then that whose first job became ready first.
        """
        # A heap of the next group of each run, with the priority and the number of its first job, and its index.
        heads: list[tuple[float, int, OrderedPlaces, int]] = []
        entries: Iterable[Any] = itertools.chain(self.places_in_order, [(math.inf,)])
        for entry, following in itertools.pairwise(entries):
            places: OrderedPlaces = entry[2]
            if places.has_room():
                heapq.heappush(heads, (*entry, 0))
            else:
                self._without_room.append(places)
            while heads and heads[0] < following:
                _, _, places, index = heads[0]
                yield places.group_entries[index][2]
                if index + 1 < len(places.group_entries):
                    key, number, _ = places.group_entries[index + 1]
                    heapq.heapreplace(heads, (key[0], number, places, index + 1))
                else:
                    heapq.heappop(heads)

    def _set_timer(self) -> None:
        """Let a timer begin the next round when time alone lets a job start. Cancel a timer for another time."""
        when, places = self._earliest_start
        while self.timed_keys and not self.timed_keys[0][2].parked:
            heapq.heappop(self.timed_keys)[2].timed_at = math.inf
        if self.timed_keys and self.timed_keys[0][0] < when:
            when, _, key = self.timed_keys[0]
            places = next(iter(key.parked)).places
        if self._timer[:2] != (when, places):
            self._timer[2]()
            if places is None:
                self._timer = NO_TIMER
            else:
                self._timer = (when, places, places.run.call_at(when, self._on_timer))

    def _on_timer(self) -> None:
        self._timer = NO_TIMER
        self.begin_round()
        for places in list(self.all_places):
            places.run.standstill.suspect(places.run)

    def begin_round(self) -> None:
        """Begin a round because of an event outside of the runs."""
        self.is_stale = True
        self.round()


def jobs_waiting_for(resource: PoolEntry) -> list[AnyJob]:
    """Return the waiting jobs that need a resource, whatever else they lack. Any thread may call this."""
    if resource.admission is None:
        return []
    found: list[AnyJob] = []
    # Copied in one step, since the loop may add others.
    all_places = [each() for each in resource.admission.all_places.keyrefs()]
    for places in filter(None, all_places):
        for group in list(places.groups_by_needs.values()):
            if resource in group.kind:
                found += [job for _, _, job in group.entries()]
    return found


def share_admission(places: OrderedPlaces, resources: Iterable[PoolEntry]) -> None:
    """Put places and these resources into the same admission. Merge the admissions that they already have."""
    for resource in resources:
        if resource.admission is None:
            resource.admission = places.admission
            places.admission.resources.add(resource)
            places.admission.has_budgets |= resource.is_budget
        elif resource.admission is not places.admission:
            # Most often, this admission is a new run's and has no other resources.
            resource.admission.merge(places.admission)


def _closed_gate(group: WaitingGroup) -> Any:
    """Return the gate that keeps the first job of a group, whose needs can be met, from starting, or None."""
    job = group.heap[0][2]
    gate: Any
    for gate in group.resources:
        if gate.is_closed_to(job):
            waits_for_token = group.needs_slot and group.places.line.free < 1
            # It comes to the gate when it gets the token.
            return None if waits_for_token and job not in gate.due else gate
    return None


def _drop_settled(entries: list[HeapEntry]) -> None:
    """Remove settled jobs from the front of a heap."""
    while entries and entries[0][2]._state is not SCHEDULED:
        heapq.heappop(entries)
