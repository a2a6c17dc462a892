"""The links between jobs: each job counts its open requirements, and knows its successors.

When a job settles, its successors are counted down. Their rules may settle some of them immediately, and so on: one
failure may block a chain of a million jobs. So they are queued, and counted down one by one, without recursion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..base._states import SCHEDULED
from ..job import _trigger_rules
from ..job._job import NO_LIMITS, AbstractJob

if TYPE_CHECKING:
    from ._run import Run

    Successors: TypeAlias = AbstractJob[Any] | tuple[AbstractJob[Any], ...] | list[AbstractJob[Any]] | None

MAX_IN_TUPLE: Final = 4
"""The most successors in a tuple, which takes half as much memory as a list."""


def add_successor(requirement: AbstractJob[Any], job: AbstractJob[Any]) -> None:
    """Record that `job` waits for `requirement`."""
    successors = requirement._successors
    if successors is None:
        requirement._successors = job
    elif isinstance(successors, list):
        successors.append(job)
    elif isinstance(successors, tuple):
        requirement._successors = (*successors, job) if len(successors) < MAX_IN_TUPLE else [*successors, job]
    else:
        requirement._successors = (successors, job)


def link(job: AbstractJob[Any], requirements: Iterable[AbstractJob[Any]]) -> None:
    """Make a job wait for the `requirements` that have not settled and are not ready services."""
    job._pending = max(job._pending, 0)
    for requirement in requirements:
        if not (requirement._state.is_settled or requirement._is_ready()):
            job._pending += 1
            add_successor(requirement, job)


def count_consumer(job: AbstractJob[Any]) -> None:
    """Record a job as a consumer of the results of those inputs that do not keep them."""
    rule = job._rule
    assert rule is not None
    rule.drops_results = False
    for requirement in rule.inputs:
        if requirement._rule is not None and not requirement._rule.keep_result:
            requirement._extras().consumers += 1
            rule.drops_results = True
            job._limits = job._limits or NO_LIMITS  # results are dropped as soon as the call has them


def successors_of(job: AbstractJob[Any]) -> Iterable[AbstractJob[Any]]:
    """Return the jobs that wait for `job`."""
    successors = job._successors
    if successors is None:
        return ()
    return successors if isinstance(successors, (list, tuple)) else (successors,)


def users_of(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    """Return the jobs with the result of a running job as an argument, of those that wait for it in its scheduler."""
    return [user for user in successors_of(job) if user._rule is not None and job in user._rule.inputs]


class RequirementCounts:
    """The links between the jobs of one run."""

    __slots__ = ("_run", "counting_down", "queued")

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # Successors of settled jobs, still to be counted down: one entry for each such requirement.
        self.queued: Final[deque[AbstractJob[Any]]] = deque()
        self.counting_down = False  # whether a call counts them down already, and will reach later entries

    def link(self, jobs: Collection[AbstractJob[Any]], undecided: list[AbstractJob[Any]]) -> None:
        """Count each job's requirements, add it to their successors, and schedule the entry jobs.

        Entry jobs whose rule does not let them run go to `undecided` instead.
        """
        run, members = self._run, self._run.members
        if run.closes_scheduler:
            for job in jobs:
                job._extras().runs_once = True
        plain = not members.implied and not members.has_outside_requirements  # each requirement is a member
        is_kept = run.journal_writer is not None
        successors: Any
        entries: list[AbstractJob[Any]] = []
        forever = 0
        for job in jobs:
            rule = job._rule
            if rule is not None and rule.inputs:
                count_consumer(job)
            if job._forever:
                forever += 1
            required = job._required if plain else members.waits_for(job)
            if not required:
                job._pending = 0
                if is_kept or (rule is not None and _trigger_rules.judge(job, rule)[0] is not SCHEDULED):
                    undecided.append(job)
                else:
                    entries.append(job)
                continue
            job._pending = len(required)
            for requirement in required:  # `add_successor`, inlined: a call costs a tenth of an empty job
                successors = requirement._successors
                if successors is None:
                    requirement._successors = job
                elif successors.__class__ is list:
                    successors.append(job)
                elif successors.__class__ is tuple:
                    requirement._successors = (
                        (*successors, job) if len(successors) < MAX_IN_TUPLE else [*successors, job]
                    )
                else:
                    requirement._successors = (successors, job)
        run.count(len(jobs) - forever, forever)
        run.schedule(entries)

    def release(self, successors: Iterable[AbstractJob[Any]] | AbstractJob[Any]) -> None:
        """Count down the successors of a job."""
        self.queued.extend((successors,) if isinstance(successors, AbstractJob) else successors)
        if not self.counting_down:
            self.count_down_queued()

    def queue_ready(self, jobs: Collection[AbstractJob[Any]]) -> None:
        """Queue jobs without open requirements; the caller has to call `count_down_queued`."""
        for job in jobs:
            job._pending = 1
        self.queued.extend(jobs)
        self.counting_down = True

    def count_down_queued(self) -> None:
        """Count down the successors in the queue, one after the other."""
        run = self._run
        self.counting_down = True
        number = 0
        while self.queued and not run.starts_no_more:
            number += 1
            if run.journal_writer is not None and run.journal_writer.defer_if_late(number):
                return
            successor = self.queued.popleft()
            successor._pending -= 1
            if not successor._pending:
                run.make_ready(successor)
        self.queued.clear()
        self.counting_down = False
