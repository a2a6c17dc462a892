"""`Members`: the jobs of one scheduler, in the order in which they were added.

The scheduler's public methods add, remove and find jobs by these methods. A run reads the attributes. Nothing here
starts a job.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from ..admission.policy._upward_ranks import median_duration
from ..base._graph_algorithms import longest_paths, topological_order
from ..base._reprs import short_repr
from ..base._states import JobState
from ..job._ancestors import enclosing_schedulers, is_inside, outermost_scheduler
from ..job._facts import inputs_of
from ..job._job import AbstractJob, is_scheduler
from ..job._requirements import flatten
from . import _checks

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler


class Members:
    """The ordered set of the jobs of one scheduler, `owner`, with what runs need to know about them."""

    def __init__(self, owner: BaseScheduler) -> None:
        self.owner: Final = owner
        self.jobs: Final[dict[AbstractJob[Any], None]] = {}
        # The nested schedulers among the jobs.
        self.nested: Final[dict[BaseScheduler, None]] = {}
        # The jobs whose class defines `co_shutdown`.
        self.shutting_down: Final[dict[AbstractJob[Any], None]] = {}
        # The services among the jobs.
        self.services: Final[dict[AbstractJob[Any], None]] = {}
        # The jobs with options about the start order or needs.
        self.with_scheduling: Final[dict[AbstractJob[Any], None]] = {}
        # The jobs that were added during a run, with the innermost run at that time. The next run removes them.
        self.added_during_run: Final[dict[AbstractJob[Any], Run]] = {}
        # Whether the set, or a requirement of a member, has changed since the last check.
        self.unchecked = True
        # How many FAILED jobs were dropped in the last run, because of `keep_jobs=False`.
        self.dropped_failures = 0
        # Whether a run has changed some of the jobs.
        self.needs_reset = False
        # ---- results of the last check, or of `find_all_implied`
        # Whether a check may have another result although the set is the same: a job may run only once, for example.
        self.may_change_unseen = True
        # Whether each job was added after all its requirements.
        self.is_ordered = False
        # Requirements of members that the inputs of jobs nested in them imply.
        self.implied: dict[AbstractJob[Any], dict[AbstractJob[Any], None]] = {}
        # Members whose results jobs in other schedulers use.
        self.used_outside: Final[set[AbstractJob[Any]]] = set()
        # Whether a member requires a job that is not a member.
        self.has_outside_requirements = False

    # ---- look-up

    def waits_for(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        """Return the members that must settle before `job`: its requirements, and those that nested inputs imply."""
        owner = self.owner
        members = [requirement for requirement in job._required if requirement._scheduler is owner]
        implied = self.implied.get(job)
        return members if implied is None else list(dict.fromkeys([*members, *implied]))

    def member_requirements(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        """Return the members that `job` requires itself."""
        return [requirement for requirement in job._required if requirement in self.jobs]

    def flatten_members(self, argument: Any, what: str) -> list[AbstractJob[Any]]:
        """Return the jobs in `argument` as a list; all of them must be members. Errors name the call `what`.

        Raises:
            TypeError: an argument is not a job.
            KeyError: a job is not a member.

        """
        jobs = list(flatten(argument, what, "_all_jobs"))
        for job in jobs:
            self.check_is_member(job, what)
        return jobs

    def check_is_member(self, job: object, what: str) -> None:
        """Reject a job that is not a member. The error names the call `what`.

        Raises:
            KeyError: it is not a member.

        """
        if not isinstance(job, AbstractJob) or job not in self.jobs:
            name = repr(job.label) if isinstance(job, AbstractJob) else short_repr(job)
            raise KeyError(f"{what}: {name} is not in {self.owner.label!r}")

    def iterate(self, nested: bool) -> Iterator[AbstractJob[Any]]:
        """Yield the jobs; with `nested`, the jobs of each nested scheduler follow it, at any depth."""
        stack = [iter(tuple(self.jobs))]
        while stack:
            for job in stack[-1]:
                yield job
                if nested and is_scheduler(job):
                    stack.append(iter(tuple(job._members.jobs)))
                    break
            else:
                stack.pop()

    # ---- changes

    def needs_check(self) -> bool:
        """Return whether an outermost run has to check the jobs: something may have changed since the last check."""
        return self.unchecked or self.may_change_unseen or bool(self.with_scheduling) or self.owner._pool is not None

    def admit(self, jobs: tuple[AbstractJob[Any], ...], what: str) -> None:
        """Add jobs, and those of their inputs that belong to no scheduler; if one is rejected, none is added."""
        owner, members = self.owner, self.jobs
        if owner._closed:
            raise RuntimeError(f"{what}: {owner.label!r} is closed; make a new Scheduler")
        run = owner._innermost_run()
        if run is None and (owner if owner._scheduler is None else outermost_scheduler(owner))._open_block is not None:
            raise RuntimeError(f"{what}: {owner.label!r} is draining, and accepts no jobs")
        foreign = [job for job in jobs if (job._scheduler is not None or job._is_scheduler) and job not in members]
        if foreign:
            self._check_foreign(foreign, {owner, *jobs} if run is None else set())
        for job in foreign:
            if job._scheduler is not None:
                job._scheduler._members.release_inputs(job)
        new: Collection[AbstractJob[Any]] = _with_inputs(jobs)
        if members:
            new = [job for job in new if job not in members]
        if run is None:
            self.unchecked = True
            self.insert(new)
        else:
            self._admit_late(list(new), run, what)

    def _admit_late(self, new: list[AbstractJob[Any]], run: Run, what: str) -> None:
        """Add jobs while the owner, or an enclosing scheduler, is running."""
        owner = self.owner
        run.check_growing(f"{what} of {owner.label!r}")
        is_running = owner._run is not None
        if not is_running and owner._state.is_settled:
            raise RuntimeError(f"{what}: {owner.label!r} has settled already in the run of {run.scheduler.label!r}")
        self.insert(new)
        try:
            _checks.check_new_needs(owner, new, run.scheduler)
            if is_running:
                _checks.check_new(self, new)
        except BaseException:
            for job in new:
                self.forget(job)
            raise
        for job in new if is_running else ():
            if job._has_run_state():
                job._reset()
        self.unchecked = True
        self.added_during_run.update(dict.fromkeys(new, run))
        if owner._run is not None:
            owner._run.admit(new)
            owner._extend_settled_iterators(new)

    def insert(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        """Add jobs that belong to no scheduler."""
        owner, members = self.owner, self.jobs
        for job in jobs:
            members[job] = None
            job._scheduler = owner
            if job._has_own_shutdown:
                self.shutting_down[job] = None
            if job._scheduling is not None:
                self.with_scheduling[job] = None
            if job._has_run_state():
                self.needs_reset = True
            if job._is_scheduler:
                self.nested[cast("BaseScheduler", job)] = None
            elif job._is_service:
                self.services[job] = None

    def update_scheduling_options(self, job: AbstractJob[Any]) -> None:
        """Record whether a member has options about the start order or needs."""
        if job._scheduling is not None:
            self.with_scheduling[job] = None
        else:
            self.with_scheduling.pop(job, None)

    def forget(self, job: AbstractJob[Any]) -> None:
        """Remove a job, which then belongs to no scheduler. Others may still require it."""
        self._discard(job)
        self.unchecked = True
        job._scheduler = None

    def may_drop(self, job: AbstractJob[Any]) -> bool:
        """Return whether a settled job is no longer needed, for a `co_shutdown` or the report of a critical failure."""
        failed = job._state is JobState.FAILED or job._state is JobState.BLOCKED
        return not (failed and job.is_critical()) and not (job._has_own_shutdown and job._needs_shutdown())

    def drop(self, job: AbstractJob[Any]) -> None:
        """Remove a settled job that never runs again, and its references to others; `job.scheduler` stays."""
        self.dropped_failures += job._state is JobState.FAILED
        self._discard(job)
        self.used_outside.discard(job)
        job._required, job._rule = (), None

    def _discard(self, job: AbstractJob[Any]) -> None:
        del self.jobs[job]
        records = (
            self.added_during_run,
            self.nested,
            self.shutting_down,
            self.with_scheduling,
            self.services,
            self.implied,
        )
        for known in records:
            known.pop(job, None)  # type: ignore[call-overload]

    def release_inputs(self, job: AbstractJob[Any]) -> None:
        """Remove an input, and those of its inputs that are members: they are about to move to another scheduler."""
        todo = [job]
        for moved in todo:
            if moved in self.jobs:
                self.forget(moved)
                todo += inputs_of(moved)

    def _check_foreign(self, foreign: list[AbstractJob[Any]], new_parents: set[AbstractJob[Any]]) -> None:
        """Reject jobs of other schedulers, except inputs that are, or will be, in one nested in `new_parents`."""
        users: dict[BaseScheduler, dict[AbstractJob[Any], AbstractJob[Any]]] = {}
        for job in foreign:
            other_scheduler = job._scheduler
            if other_scheduler is None:
                if self.owner is job or is_inside(self.owner, job):
                    raise ValueError(
                        f"the scheduler {job.label!r} cannot be inside itself: {self.owner.label!r} is in it"
                    )
                continue
            if other_scheduler not in users:
                users[other_scheduler] = {input_job: user for user in other_scheduler for input_job in inputs_of(user)}
            user, remedy = users[other_scheduler].get(job), "remove it there first"
            if user is not None:
                levels = [other_scheduler, *enclosing_schedulers(other_scheduler)]
                if other_scheduler._innermost_run() is None and not new_parents.isdisjoint(levels):
                    continue
                before = f", or add {levels[-1].label!r} before" if new_parents else ""
                remedy = f"it came there as an input of {user.label!r}; leave this add() of it out{before}"
            raise ValueError(
                f"{job.label!r} is in the scheduler {other_scheduler.label!r}; "
                f"it cannot be in {self.owner.label!r} too: {remedy}"
            )

    def forget_added(self) -> None:
        """Remove the jobs that were added during runs that have ended, and drop the requirements on them."""
        dropped = {job: None for job, run in self.added_during_run.items() if run.scheduler._run is not run}
        for job in dropped:
            self.forget(job)
        if dropped:
            self._drop_requirements(dropped.__contains__)

    def drop_foreign_requirements(self) -> list[tuple[AbstractJob[Any], AbstractJob[Any]]]:
        """Drop requirements that are neither members nor inputs; return pairs of a job and its former requirement."""
        return self._drop_requirements(lambda job: job._scheduler is not self.owner)

    def _drop_requirements(
        self, is_dropped: Callable[[AbstractJob[Any]], bool]
    ) -> list[tuple[AbstractJob[Any], AbstractJob[Any]]]:
        dropped: list[tuple[AbstractJob[Any], AbstractJob[Any]]] = []
        for job in self.jobs:
            foreign = [other for other in job._required if is_dropped(other) and other not in inputs_of(job)]
            if foreign:
                job._drop_requirements(foreign)
                dropped += [(job, other) for other in foreign]
        return dropped


def levels(scheduler: BaseScheduler) -> Iterator[BaseScheduler]:
    """Yield a scheduler and all schedulers nested in it, each one before those nested in it."""
    todo = [scheduler]
    for level in todo:
        yield level
        todo += level._members.nested


def waits_for(scheduler: BaseScheduler, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    """Return the members of `scheduler` that must settle before `job` may start.

    These are its requirements, and the members that contain an input of a job nested in it, whether they have settled
    or not.
    """
    return scheduler._members.waits_for(job)


def nested_schedulers(scheduler: BaseScheduler) -> list[BaseScheduler]:
    """Return the nested schedulers among the members, in the order added."""
    return list(scheduler._members.nested)


def is_droppable(scheduler: BaseScheduler, job: AbstractJob[Any]) -> bool:
    """Return whether a scheduler with `keep_jobs=False` drops a settled job, which is not needed for its end."""
    return not scheduler.keep_jobs and scheduler._members.may_drop(job)


def _with_inputs(jobs: Iterable[AbstractJob[Any]]) -> dict[AbstractJob[Any], None]:
    """Return the jobs, each after those of its inputs that belong to no scheduler, at any depth."""
    ordered: dict[AbstractJob[Any], None] = {}
    for job in jobs:
        rule = job._rule
        if rule is not None:
            for input_job in rule.inputs:
                if input_job._scheduler is None and input_job not in ordered:
                    _append_inputs_first(job, ordered)
        ordered[job] = None
    return ordered


def _append_inputs_first(job: AbstractJob[Any], ordered: dict[AbstractJob[Any], None]) -> None:
    entered: set[AbstractJob[Any]] = set()
    stack = [job]
    while stack:
        job = stack[-1]
        if job in ordered or job in entered or job._rule is None:
            ordered[stack.pop()] = None
            continue
        entered.add(job)
        stack += [other for other in reversed(job._rule.inputs) if other._scheduler is None and other not in ordered]


def expected_durations(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the known expected durations of the members, in seconds.

    The `durations` of the outermost scheduler take precedence over a member's own `expected_duration`.
    """
    return scheduler._expected_durations()


def learned_durations(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return `expected_durations`, or nothing if they are only the members' own `expected_duration`."""
    return scheduler._expected_durations() if scheduler._knows_durations() else {}


def in_order(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members, each after those for which it waits; jobs in cycles are left out. O(V + E).

    Unlike `scheduler.topological_order()`, this does not find implied requirements. It uses those that the last run, or
    `find_implied`, has found.
    """
    return topological_order(list(scheduler), scheduler._members.waits_for)


def ranks_of(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the rank of each member: the seconds of the longest path from its start to an exit.

    The policy "critical-path" starts jobs in the order of their ranks; see `Outlook.rank`. O(V + E).
    """
    known = expected_durations(scheduler)
    return longest_paths(in_order(scheduler), scheduler._members.waits_for, known, median_duration(known.values()))
