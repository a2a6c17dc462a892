"""Which ready job of a run starts first: chooses the order, and keeps it right while the scenario grows.

If jobs need resources, it also says where these are found. What a user's policy raises is kept here until the run may
be told: a job that is just becoming ready is in no queue, where the end of the run would find it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..base import _graph
from ..base._states import RunPhase
from ..job import _errors
from ..job._job import AbstractJob
from ..job._outcome import interruption_in
from ..limits._needs import Sharing
from ..limits._order import Order
from ..limits._ready_jobs import RankedJobs, ReadyJobs, SharingJobs
from ..limits.policy import _given
from ..limits.policy._named import NAMED
from ..limits.policy._outlook import Ranks

if TYPE_CHECKING:
    from ..limits.policy._outlook import Requirements
    from ..scheduler._scheduler import BaseScheduler
    from ._run import Run


def may_need_order(run: Run) -> bool:
    """Return whether the ready jobs of a run may have to start in another order than that in which they became ready.

    For most small runs the answer is no: they have no `Ordering`.
    """
    members, policy = run.members, run.scheduler._policy
    if members.demanding or members.nested or not isinstance(policy, str) or run.scheduler._knows_durations():
        return True
    return NAMED[policy].in_force(False).needs_heap


class Ordering:
    """The order in which the ready jobs of one run start, by its scheduler's policy."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self._scheduler: Final = run.scheduler
        self._policy: Final = _given.for_run(run.scheduler._policy, self._note_error)
        self._members: Final = run.members
        self._jobs: Final = run.queue.jobs
        # How long the nested schedulers take, for which nobody says so but their own jobs.
        self._inside: Final[dict[BaseScheduler, float]] = {}
        self._shares: RunOfSharing | None = None
        # What a user's policy has raised first, with the job that it was asked about, and an interruption; until told.
        self._untold: tuple[AbstractJob[Any], BaseException] | None = None
        self._interruption: BaseException | None = None
        self._has_failed = False

    def prepare(self) -> Iterator[None]:
        """Choose the order, before any job is ready; yield where a pause is due. O(V + E)."""
        members, policy = self._members, self._policy
        if members.nested and policy.in_force(True).needs_durations:
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
        before = self._policy.in_force(False) if order is None else order.policy
        changes = seconds is not None and before is not self._policy.in_force(True)
        begins_to_share = bool(job._needs()) and not isinstance(jobs, SharingJobs)
        if changes or begins_to_share or (order is None and job.priority):
            for _ in self._choose(self._members.waits_for, in_order=False):
                pass
        elif isinstance(jobs, RankedJobs):
            if job.priority and not jobs.order.priorities:
                jobs.use_priorities()
            jobs.order.note(job, seconds)

    def note_requirements(self, job: AbstractJob[Any]) -> None:
        """Take in that an idle job requires more than before."""
        if isinstance(self._jobs, RankedJobs):
            self._jobs.order.note_requirements(job)

    def part_from_run(self) -> None:
        """Give up the run, which is over."""
        if self._shares is not None:
            self._shares.part_from_run()

    def tell(self) -> None:
        """Tell the run what a user's policy has raised, if it has since the last time."""
        run, error, interruption = self._run, self._untold, self._interruption
        self._untold = self._interruption = None
        if error is not None:
            job, raised = error
            run.report(
                job,
                f"the policy {_given.name_of_policy(self._scheduler.policy)} of {self._scheduler.label!r} has no key "
                f"for {job.label!r}, which starts after all that have one; of such errors only the first is reported",
                raised,
            )
        if interruption is not None:
            run.interrupt(interruption)

    def _note_error(self, job: AbstractJob[Any], error: BaseException) -> None:
        """Keep what a user's policy has raised, and tell the run soon."""
        _, failure = self._run.backend.split(error)
        interruption = None if failure is None else interruption_in(failure)
        if interruption is not None:
            self._interruption = self._interruption or interruption
        elif not self._has_failed:
            self._has_failed = True
            self._untold = (
                job,
                failure or _errors.JobCancelled("a policy raised a cancellation: nobody asked for it"),
            )
        else:
            return
        self._run.backend.caller()(self.tell)

    def _choose(self, requirements: Requirements, in_order: bool) -> Iterator[None]:
        """Choose the order; `in_order` says that each member stands behind all that it waits for."""
        scheduler, members = self._scheduler, self._members
        demands = [demand for job in members.demanding if (demand := job._demand) is not None]
        known = self._known(scheduler) if self._policy.in_force(True).needs_durations else {}
        policy = self._policy.in_force(bool(known))
        priorities = any(demand.priority for demand in demands)
        shares = isinstance(self._jobs, SharingJobs) or any(demand.needs for demand in demands)
        if not (shares or priorities or policy.needs_heap) and type(self._jobs) is ReadyJobs:
            return
        ranks = None
        if policy.needs_ranks:
            ranks = Ranks(known)
            jobs = list(members.jobs) if in_order else _graph.topological_order(members.jobs, requirements)
            yield from ranks.find(jobs, requirements)
        order = Order(members.waits_for, policy, known=known, ranks=ranks, priorities=priorities)
        if isinstance(self._jobs, RankedJobs):
            order.outlook.starts = self._jobs.order.outlook.starts
        if shares:
            self._shares = RunOfSharing(self._run)
            self._jobs.share(order, Sharing(self._shares, order))
        else:
            self._jobs.rank_by(order)

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
        learned = self._scheduler._knows_durations()
        found: list[BaseScheduler] = list(self._members.nested)
        for nested in found:  # each after the one that it is in
            found.extend(nested._members.nested)
        for nested in reversed(found):
            members = nested._members
            if not (learned or members.demanding or members.nested):
                continue  # nobody says how long one of its jobs takes
            known = self._known(nested)
            if known:
                ranks = Ranks(known)
                order = _graph.topological_order(members.jobs, members.waits_for)
                yield from ranks.find(order, members.waits_for)
                self._inside[nested] = ranks.longest()


class RunOfSharing:
    """A run as `Sharing` asks it; most of what it asks is a method of something else, and is called as often as any."""

    def __init__(self, run: Run) -> None:
        self._run: Run | None = run
        self.backfill = run.scheduler.backfill
        self.clock = run.clock
        self.call_in_loop = run.backend.caller()
        self.call_at = run.group.call_at
        self.resource = run.grants.find
        self.kept_around = run.grants.kept_around
        self.has_slot = run.workers.has_free_slot

    def starts_at_once(self) -> int:
        """Return how many more jobs would start as soon as the run looks for them."""
        run = self._run
        return run.workers.starts_at_once() if run is not None and run.phase is RunPhase.RUNNING else 0

    def stands_in_line(self) -> bool:
        """Return whether a worker that will look for jobs may stand in the line for a turn."""
        run = self._run
        return run is not None and bool(run.turn.line) and run.workers.searchers > 0

    def wake(self) -> None:
        """Look for jobs that can start. Before the run has begun, its jobs are not all linked, and none may start."""
        if self._run is not None and self._run.phase is RunPhase.RUNNING:
            self._run.workers.ensure_searcher()

    def part_from_run(self) -> None:
        """Give up the run, which is over: no job waits in it any more."""
        self._run = None
        del self.call_at, self.resource, self.kept_around, self.has_slot
