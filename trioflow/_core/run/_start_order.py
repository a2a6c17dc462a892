"""The order in which the ready jobs of a run start: its choice, and the places of jobs that are added later.

If jobs have needs, it also sets up their admission. An exception of a user's policy is kept here until the run may
end: a job that is just becoming ready is in no queue yet, where the end of the run would find it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..admission._admission import AdmissionQueue
from ..admission._heap_keys import HeapKeys
from ..admission._priority_queues import FifoQueue, HeapQueue, SharedQueue
from ..admission.policy import _policy_validation
from ..admission.policy._builtin_policies import NAMED
from ..admission.policy._upward_ranks import Ranks
from ..base import _graph_algorithms
from ..base._states import STOPPING
from ..job import _errors
from ..job._job import AbstractJob
from ..job._outcome import add_note, interruption_in

if TYPE_CHECKING:
    from ..admission.policy._upward_ranks import Requirements
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run


def may_need_order(run: Run) -> bool:
    """Return whether the ready jobs of a run may need another order than that in which they became ready.

    Most small runs do not, and have no `StartOrder`.
    """
    members, policy = run.members, run.scheduler._policy
    if members.with_demands or members.nested or not isinstance(policy, str) or run.scheduler._knows_durations():
        return True
    return NAMED[policy].effective_policy(False).needs_heap


class StartOrder:
    """The order in which the ready jobs of one run start, by its scheduler's policy."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self._scheduler: Final = run.scheduler
        self._policy: Final = _policy_validation.for_run(run.scheduler._policy, self._note_fault)
        self._members: Final = run.members
        self._jobs: Final = run.queue.jobs
        # The durations of nested schedulers that follow only from their own jobs.
        self._nested_durations: Final[dict[BaseScheduler, float]] = {}
        self._admission_queue: AdmissionQueue | None = None
        # The first exception of a user's policy, with the job whose key it computed.
        self._fault: tuple[AbstractJob[Any], BaseException] | None = None

    def prepare(self) -> Iterator[None]:
        """Choose the order, before any job is ready; yield where a pause is due. O(V + E)."""
        members, policy = self._members, self._policy
        if members.nested and policy.effective_policy(True).needs_durations:
            yield from self._estimate_nested()
        plain = not members.implied and not members.has_outside_requirements  # each requirement is a member
        requirements: Requirements = (lambda job: job._required) if plain else members.waits_for
        yield from self._choose(requirements, members.is_ordered)

    def note_new(self, jobs: list[AbstractJob[Any]]) -> None:
        """Put jobs that were added together to the running scheduler into the order."""
        ranked = self._jobs if isinstance(self._jobs, HeapQueue) else None
        if ranked is None and all(job._demand is None for job in jobs):
            return
        known = self._scheduler._expected_durations(jobs)
        before = self._policy.effective_policy(False) if ranked is None else ranked.order.policy
        changes = bool(known) and before is not self._policy.effective_policy(True)
        begins_to_share = not isinstance(ranked, SharedQueue) and any(job._needs() for job in jobs)
        compares = ranked is not None and ranked.order.priorities
        if changes or begins_to_share or (not compares and any(job.priority for job in jobs)):
            for _ in self._choose(self._members.waits_for, in_order=False):
                pass
        elif ranked is not None:
            ranked.order.note_new(jobs, known, self._members.waits_for)

    def detach(self) -> None:
        """Release the run, which is over."""
        if self._admission_queue is not None:
            self._admission_queue.detach()

    def _note_fault(self, job: AbstractJob[Any], error: BaseException) -> None:
        """End the run because of an exception from a user's policy, as soon as the job is in its queue."""
        if self._fault is None:
            self._fault = job, error
            self._run.backend.threadsafe_caller()(self.check)

    def check(self) -> None:
        """End the run if a user's policy has raised an exception."""
        if self._fault is None or self._run.phase is STOPPING:
            return
        job, error = self._fault
        _, failure = self._run.backend.split(error)
        interruption = None if failure is None else interruption_in(failure)
        if interruption is not None:
            self._run.interrupt(interruption)
            return
        policy = f"the policy {_policy_validation.name_of_policy(self._scheduler.policy)} of {self._scheduler.label!r}"
        if not isinstance(failure, Exception):
            failure = _errors.JobCancelled(f"{policy} raised a cancellation that was not requested")
        add_note(failure, f"raised by {policy} in the key of {job.label!r}")
        self._run.fail(failure, job, f"{policy} has no key for {job.label!r}, so the run ends")

    def _choose(self, requirements: Requirements, in_order: bool) -> Iterator[None]:
        """Choose the order; with `in_order` each member comes after all that it waits for."""
        scheduler, members = self._scheduler, self._members
        demands = [demand for job in members.with_demands if (demand := job._demand) is not None]
        known = self._known_durations(scheduler) if self._policy.effective_policy(True).needs_durations else {}
        policy = self._policy.effective_policy(bool(known))
        shares = isinstance(self._jobs, SharedQueue) or any(demand.needs for demand in demands)
        priorities = shares or any(demand.priority for demand in demands)
        if not (priorities or policy.needs_heap) and type(self._jobs) is FifoQueue:
            return
        ranks = None
        if policy.needs_ranks:
            ranks = Ranks(known)
            jobs = list(members.jobs) if in_order else _graph_algorithms.topological_order(members.jobs, requirements)
            yield from ranks.find(jobs, requirements)
        order = HeapKeys(policy, known=known, ranks=ranks, priorities=priorities)
        if isinstance(self._jobs, HeapQueue):
            order.outlook.starts = self._jobs.order.outlook.starts
        tokens = self._run.workers.tokens
        if tokens is not None:
            tokens.requeue_waiting()
        if shares and self._admission_queue is None:
            self._admission_queue = AdmissionQueue(self._run)
        self._jobs.rank_by(order, self._admission_queue)

    def _known_durations(self, scheduler: BaseScheduler) -> dict[AbstractJob[Any], float]:
        """Return the known expected durations of the members of a scheduler."""
        own = scheduler._expected_durations()
        if not self._nested_durations:
            return own
        inside: dict[AbstractJob[Any], float] = {
            nested: self._nested_durations[nested]
            for nested in scheduler._members.nested
            if nested in self._nested_durations
        }
        return {**inside, **own}

    def _estimate_nested(self) -> Iterator[None]:
        """Compute the unknown durations of nested schedulers: each takes the longest path through its jobs."""
        learned = self._scheduler._knows_durations()
        found: list[BaseScheduler] = list(self._members.nested)
        for nested in found:  # each after its enclosing scheduler
            found.extend(nested._members.nested)
        for nested in reversed(found):
            members = nested._members
            if not (learned or members.with_demands or members.nested):
                continue  # the durations of all its jobs are unknown
            known = self._known_durations(nested)
            if known:
                ranks = Ranks(known)
                order = _graph_algorithms.topological_order(members.jobs, members.waits_for)
                yield from ranks.find(order, members.waits_for)
                self._nested_durations[nested] = ranks.longest()
