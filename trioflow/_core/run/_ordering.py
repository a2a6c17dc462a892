"""Which ready job of a run starts first: chooses the order, and keeps it right while the scenario grows.

If jobs need resources, it also says where these are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..base import _graph
from ..base._states import RunPhase
from ..job._job import AbstractJob
from ..limits._needs import Sharing
from ..limits._order import Order, Ranks
from ..limits._ready_jobs import RankedJobs, ReadyJobs, SharingJobs

if TYPE_CHECKING:
    from ..limits._order import Requirements
    from ..scheduler._scheduler import BaseScheduler
    from ._run import Run


class Ordering:
    """The order in which the ready jobs of one run start, by its scheduler's policy."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self._scheduler: Final = run.scheduler
        self._members: Final = run.members
        self._jobs: Final = run.queue.jobs
        # How long the nested schedulers take, for which nobody says so but their own jobs.
        self._inside: Final[dict[BaseScheduler, float]] = {}

    def prepare(self) -> Iterator[None]:
        """Choose the order, before any job is ready; yield where a pause is due. O(V + E), and nothing for fifo."""
        members, scheduler = self._members, self._scheduler
        if not (members.demanding or members.nested or scheduler._knows_durations()) and (
            scheduler.policy in ("auto", "fifo")
        ):
            return  # as it is with most small ones
        if members.nested and scheduler.policy in ("auto", "critical-path"):
            yield from self._look_inside()
        plain = not members.implied and not members.takes_from_outside  # each requirement is a member
        requirements: Requirements = (lambda job: job._required) if plain else members.waits_for
        yield from self._choose(requirements, members.behind)

    def note_new(self, job: AbstractJob[Any]) -> None:
        """Give a job that was added to the running scheduler its place in the order."""
        jobs, demand = self._jobs, job._demand
        if demand is None and not isinstance(jobs, RankedJobs):
            return
        order = jobs.order if isinstance(jobs, RankedJobs) else None
        seconds = self._scheduler._expected_durations([job]).get(job)
        ranked = order is not None and order.ranks is not None
        becomes_ranked = not ranked and self._scheduler.policy == "auto" and seconds is not None
        begins_to_share = bool(job._needs()) and not isinstance(jobs, SharingJobs)
        if becomes_ranked or begins_to_share or (order is None and job.priority):
            for _ in self._choose(self._members.waits_for, in_order=False):
                pass
        elif isinstance(jobs, RankedJobs):
            if job.priority and not jobs.order.priorities:
                jobs.use_priorities()
            if jobs.order.ranks is not None:
                jobs.order.ranks.note(job, seconds)
                jobs.order.touched.append(job)

    def note_requirements(self, job: AbstractJob[Any]) -> None:
        """Take in that an idle job requires more than before."""
        if isinstance(self._jobs, RankedJobs) and self._jobs.order.ranks is not None:
            self._jobs.order.touched.append(job)

    def _choose(self, requirements: Requirements, in_order: bool) -> Iterator[None]:
        """Choose the order; `in_order` says that each member stands behind all that it waits for."""
        scheduler, members = self._scheduler, self._members
        policy = scheduler.policy
        demands = [demand for job in members.demanding if (demand := job._demand) is not None]
        known = self._known(scheduler) if policy in ("auto", "critical-path") else {}
        if not demands and not known and policy in ("auto", "fifo") and type(self._jobs) is ReadyJobs:
            return
        priorities = any(demand.priority for demand in demands)
        ranks = None
        if policy == "critical-path" or known:
            ranks = Ranks(known)
            jobs = list(members.jobs) if in_order else _graph.topological_order(members.jobs, requirements)
            yield from ranks.find(jobs, requirements)
        shares = isinstance(self._jobs, SharingJobs) or any(demand.needs for demand in demands)
        if shares or ranks is not None or policy == "depth-first" or priorities:
            order = Order(members.waits_for, ranks=ranks, depth_first=policy == "depth-first", priorities=priorities)
            if shares:
                self._jobs.share(order, self._sharing(order))
            else:
                self._jobs.rank_by(order)

    def _sharing(self, order: Order) -> Sharing:
        run = self._run
        workers = run.workers
        return Sharing(
            run.grants.find,
            workers.has_free_slot,
            self._starts_at_once,
            run.grants.kept_around,
            self._wake,
            run.clock,
            run.group.call_at,
            run.backend.caller(),
            run.scheduler.backfill,
            order,
        )

    def _starts_at_once(self) -> int:
        return self._run.workers.starts_at_once() if self._run.phase is RunPhase.RUNNING else 0

    def _wake(self) -> None:
        """Look for jobs that can start. Before the run has begun, its jobs are not all linked, and none may start."""
        if self._run.phase is RunPhase.RUNNING:
            self._run.workers.ensure_searcher()

    def _known(self, scheduler: BaseScheduler) -> dict[AbstractJob[Any], float]:
        """Return the expected durations of the members of a scheduler, as far as they are known."""
        said = scheduler._expected_durations()
        if not self._inside:
            return said
        inside: dict[AbstractJob[Any], float] = {
            nested: self._inside[nested] for nested in scheduler._members.nested if nested in self._inside
        }
        return {**inside, **said}

    def _look_inside(self) -> Iterator[None]:
        """Find how long nested schedulers take if nobody says so: as long as the longest path through their jobs."""
        found: list[BaseScheduler] = list(self._members.nested)
        for nested in found:  # each after the one that it is in
            found.extend(nested._members.nested)
        for nested in reversed(found):
            known = self._known(nested)
            if known:
                members, ranks = nested._members, Ranks(known)
                order = _graph.topological_order(members.jobs, members.waits_for)
                yield from ranks.find(order, members.waits_for)
                self._inside[nested] = ranks.longest()
