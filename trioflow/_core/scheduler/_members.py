"""`Members`, the jobs of a scheduler in the order that they were added, and the graph that they form.

The public methods of a scheduler use the class to add, remove and find jobs. A run reads its attributes. The functions
of `trioflow.graph` answer the questions of users about the graph, and a `Sequence` is a chain in it.

Decided in docs/decisions: 23-inputs-across-schedulers, 24-open-schedulers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final, Never, Self, cast, final
from weakref import WeakKeyDictionary

from ..base import _graph_algorithms
from ..base._states import SUCCEEDED
from ..base._text_forms import short_repr
from ..job import _job_options
from ..job._ancestors import enclosing_schedulers, is_logged
from ..job._following import what_follows, with_makers
from ..job._job import (
    AbstractJob,
    AnyJob,
    is_job,
    is_scheduler,
    not_a_scheduler_error,
    state_of,
)
from ..job._labels import UNPLACED, MemberNames
from ..job._requirements import (
    ORDER_ONLY,
    SETTLED_ONLY,
    flagged,
    flatten,
    flatten_simple,
)
from ..words._job_queries import (
    CountKey,
    count_key,
    groups_of_run,
    has_own_failure,
    inputs_of,
    is_one_job,
    jobs_of_run,
)
from . import _checks, _life

if TYPE_CHECKING:
    from ..job._requirements import Required
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler

JobSet = AbstractSet[AnyJob]


class DroppedJobs:
    """What is known of jobs that were removed.

    Attributes:
        failures: how many jobs (True) and groups (False) failed whose failures are logged.
        counts: the counts of all jobs by state, whether forever, and whether tolerated.

    """

    def __init__(self) -> None:
        self.failures: Final[Counter[bool]] = Counter()
        self.counts: Final[Counter[CountKey]] = Counter()


NONE_DROPPED: Final = DroppedJobs()
"""The record of all schedulers that have removed no job. It stays empty."""


class Members:
    """The ordered set of the jobs of a scheduler, the `owner`, with facts about these jobs that runs need.

    Each of these flags saves a pass over the jobs:

    | flag | says | set by | cleared by |
    |---|---|---|---|
    | `is_unchecked` | the last check does not hold any more | each change of jobs, options, requirements | the check |
    | `needs_recheck` | it may not hold although nothing has changed here | the check | the next check |
    | `needs_reset` | jobs have a state of a run | each run, a job that comes with one | the next outermost run |
    | `has_outside_requirements` | members may require jobs that are no members | the check | the next check |
    """

    def __init__(self, owner: BaseScheduler) -> None:
        self.owner: Final = owner
        self.jobs: Final[dict[AnyJob, None]] = {}
        self.nested_schedulers: Final[dict[BaseScheduler, None]] = {}
        self.jobs_with_shutdown: Final[dict[AnyJob, None]] = {}
        self.services: Final[dict[AnyJob, None]] = {}
        # The jobs with an option that affects when they start: `needs`, `priority` or `expected_duration`.
        self.jobs_with_scheduling_options: Final[dict[AnyJob, None]] = {}
        # The jobs that were added during a run, each with the innermost run at that time. The next run removes them.
        self.jobs_added_during_run: Final[dict[AnyJob, Run]] = {}
        self.is_unchecked = True
        # Of the jobs that were removed during the last run, because of `keep_jobs=False`, and of the jobs in them.
        self.dropped: DroppedJobs = NONE_DROPPED
        # The last jobs that were removed because of `keep_jobs=False`, for each looking process.
        self.last_dropped: tuple[deque[AnyJob], ...] = ()
        # For each job that lost requirements because `keep_only` removed them, these.
        self.cut_requirements: Final[dict[AnyJob, list[AnyJob]]] = {}
        # Whether `keep_only` has removed jobs, which a later run may have.
        self.is_cut = False
        self.needs_reset = False
        # How many jobs runs in progress have put back to IDLE, ever.
        self.reopened_count = 0
        # ---- results of the last check, or of `store_implied_requirements`
        self.needs_recheck = True  # for instance, a job can run only once
        # Whether each job was added after all its requirements.
        self.is_ordered = False
        # For each member, the other members that it must also wait for, because they contain an input of the member or
        # of a job nested in it.
        self.implied_requirements: dict[AnyJob, dict[AnyJob, None]] = {}
        # The members whose results are used by jobs in other schedulers, with these, which they do not keep alive.
        self.users_outside: Final[dict[AnyJob, WeakKeyDictionary[AnyJob, None]]] = {}
        self.has_outside_requirements = False
        # Whether there may be jobs of kinds that declare files.
        self.has_kinds = False
        self._names: MemberNames | None = None

    # ---- look-up

    def names(self) -> MemberNames:
        """Return the names of the members in paths, which are counted when the first path is asked for."""
        if (names := self._names) is None:
            names = MemberNames()
            with names.lock:
                # Set first, so that none is missed that the run adds while another thread counts the members.
                self._names = names
                names.add(self.jobs)
        return names

    def all_requirements(self, job: AnyJob) -> list[AnyJob]:
        """Return the members that must settle before `job` starts: its requirements and the implied requirements.

        A job that was dropped because of `keep_jobs=False` is no longer a member.
        """
        members = self.member_requirements(job)
        if self.services and not self.owner.keep_jobs:
            # The others were dropped, but not the services that they have used.
            for other in tuple(job._required):
                if other not in self.jobs:
                    members += self.member_requirements(other)
        implied = self.implied_requirements.get(job)
        if implied is None:
            return members
        known = filter(self.jobs.__contains__, [*implied])
        return list(dict.fromkeys([*members, *known]))

    def jobs_to_repeat(self) -> Collection[AnyJob]:
        """Return the jobs that run again if their scheduler, which has run, is tried again, at any depth. O(V + E).

        These are all members that have not succeeded, or that last as long as a run. What was taken back is IDLE. Jobs
        that cleaned up after any of them do so again, and so do the jobs that follow. So do the jobs whose results any
        of these need, but were dropped.
        """
        again = {
            job: None
            for job in self.jobs
            if job._state is not SUCCEEDED or job._options.forever
        }
        clean_up: list[AnyJob] = []
        for job in self.jobs:
            if job._state is SUCCEEDED and job._options.run_if == "failed":
                if not again.keys().isdisjoint(self.all_requirements(job)):
                    clean_up.append(job)
        if clean_up:
            again |= what_follows(self.owner, clean_up)
        return with_makers(again)

    def competitors(
        self, requirements: Mapping[AnyJob, Iterable[AnyJob]]
    ) -> list[AnyJob]:
        """Return the members that decide a `First`: those that no other member requires, except for a fallback.

        Args:
            requirements: the requirements of each member.

        """
        needed = set[AnyJob]()
        for job, jobs in requirements.items():
            if job._options.run_if != "failed":
                needed.update(jobs)
        return [
            job for job in self.jobs if not job._options.forever and job not in needed
        ]

    def member_requirements(self, job: AnyJob) -> list[AnyJob]:
        # A copy, if it is a dict: another thread may ask, while the run adds requirements.
        required = tuple(job._required)
        return [requirement for requirement in required if requirement in self.jobs]

    def flatten_members(self, argument: Any, call_text: str) -> list[AnyJob]:
        """Return the jobs in an argument as a list, and check that all of them are members.

        Args:
            argument: a job, a Sequence, None, or a collection of these.
            call_text: the name of the public method, such as "keep_only()", for error messages.

        Raises:
            TypeError: an argument is not a job.
            KeyError: a job is not a member.

        """
        jobs = list(flatten(argument, call_text, "_all_jobs"))
        for job in jobs:
            self.check_is_member(job, call_text)
        return jobs

    def check_is_member(self, job: object, call_text: str) -> None:
        """Reject a job that is not a member.

        Args:
            job: the job.
            call_text: the name of the public method, such as "remove()", for the error message.

        Raises:
            KeyError: the job is not a member.

        """
        if not is_job(job) or job not in self.jobs:
            if is_job(job):
                name = repr(job.label)
            else:
                name = short_repr(job)
            raise KeyError(f"{call_text}: {name} is not in {self.owner.label!r}")

    def iterate(self, enters: Callable[[BaseScheduler], bool]) -> Iterator[AnyJob]:
        """Yield the jobs, and after each scheduler that it `enters` the jobs in that, at any depth."""
        stack = [iter(tuple(self.jobs))]
        while stack:
            for job in stack[-1]:
                yield job
                if is_scheduler(job) and enters(job):
                    stack.append(iter(tuple(job._members.jobs)))
                    break
            else:
                stack.pop()

    # ---- changes

    def needs_check(self) -> bool:
        """Return whether an outermost run must check the jobs, because the last check may no longer be valid."""
        has_needs = (
            bool(self.jobs_with_scheduling_options) or self.owner._pool is not None
        )
        return self.is_unchecked or self.needs_recheck or has_needs

    def add(self, argument: object, call_text: str) -> None:
        """Add jobs, and the inputs of these jobs that belong to no scheduler. If any job is rejected, add none of them.

        Args:
            argument: a job, a Sequence, None, or a collection of these.
            call_text: the name of the public method, such as "add()", for error messages.

        """
        members = self.jobs
        jobs = flatten_simple(argument, state_of)
        if jobs is None:
            purpose = f"{call_text} of {self.owner.label!r}"
            jobs = tuple(flatten((argument,), purpose, "_all_jobs"))
        run = self.check_open(call_text)
        to_check = [
            job
            for job in jobs
            if (job._scheduler is not None or job._is_scheduler) and job not in members
        ]
        if to_check:
            new_parents = set[AnyJob]()
            if run is None:
                new_parents = {self.owner, *jobs}
            self._reject_foreign_jobs(to_check, new_parents)
        for job in to_check:
            if job._scheduler is not None:
                job._scheduler._members.release_inputs(job)
        new_jobs: Collection[AnyJob] = _with_inputs(jobs)
        if members:
            new_jobs = [job for job in new_jobs if job not in members]
        if run is None:
            self.is_unchecked = True
            self.insert(new_jobs)
        else:
            self._add_during_run(list(new_jobs), run)

    def check_open(self, call_text: str) -> Run | None:
        """Return the innermost run around the jobs that may get more jobs now, if there is such a run.

        Raises:
            RuntimeError: the scheduler accepts no jobs.

        """
        owner = self.owner
        run = _life.ask(owner, "add", call_text)
        if run is not None:
            run.steering.check_growing(run, f"{call_text} of {owner.label!r}")
        return run

    def _add_during_run(self, new_jobs: list[AnyJob], run: Run) -> None:
        """Add jobs while the owner or an enclosing scheduler is running."""
        owner = self.owner
        is_running = owner._run is not None
        self.insert(new_jobs)
        try:
            _checks.check_new_needs(owner, new_jobs, run.scheduler)
            if is_running:
                _checks.check_new_jobs(self, new_jobs)
        except BaseException:
            for job in new_jobs:
                self.remove(job)
            raise
        for job in new_jobs:
            if is_running and job._has_run_state():
                job._reset()
        # The outermost run has reset none of these.
        self.needs_reset = True
        for job in new_jobs:
            if is_scheduler(job):
                job._members.needs_reset = True
        self.is_unchecked = True
        self.jobs_added_during_run.update(dict.fromkeys(new_jobs, run))
        if owner._run is not None:
            owner._run.add_jobs(new_jobs)
            owner._extend_settled_iterators(new_jobs)

    def insert(self, jobs: Collection[AnyJob]) -> None:
        """Add jobs that belong to no scheduler, without any checks."""
        members = self.jobs
        for job in jobs:
            members[job] = None
            job._scheduler = self.owner
            if job._has_own_shutdown:
                self.jobs_with_shutdown[job] = None
            if job._options.affects_order:
                self.jobs_with_scheduling_options[job] = None
            if job._has_run_state():
                self.needs_reset = True
            if job._is_scheduler:
                self.nested_schedulers[cast("BaseScheduler", job)] = None
            elif job._is_service:
                self.services[job] = None
        if self._names is not None:
            self._names.add(jobs)
        if UNPLACED:
            for job in jobs:
                UNPLACED.pop(id(job), None)

    def on_renamed(self, job: AnyJob) -> None:
        if self._names is not None:
            self._names.name_of(job)

    def on_options_changed(self, job: AnyJob) -> None:
        """Record that options of a member were set: it may be a forever job now, which no job may require."""
        self.is_unchecked = True
        if job._options.affects_order:
            self.jobs_with_scheduling_options[job] = None
        else:
            self.jobs_with_scheduling_options.pop(job, None)

    def remove(self, job: AnyJob) -> None:
        """Remove a job, which then belongs to no scheduler. Other jobs may still require it."""
        self._discard(job)
        self.is_unchecked = True
        job._scheduler = None

    def can_be_dropped(self, job: AnyJob) -> bool:
        """Return whether a settled job may be removed during a run.

        It is still needed if its `co_shutdown` has to be called, or if its failure has to be reported.
        """
        run = self.owner._run
        is_reported = run is not None and run.failures.keeps(job)
        return not (is_reported or (job._has_own_shutdown and job._needs_shutdown()))

    def drop_settled(self, job: AnyJob) -> None:
        """Remove a settled job that will never run again. Drop its references to requirements. Keep `job.scheduler`."""
        if self.dropped is NONE_DROPPED:
            self.dropped = DroppedJobs()
        groups: list[BaseScheduler] = []
        jobs = [job]
        if not is_one_job(job):
            scheduler = cast("BaseScheduler", job)
            groups = groups_of_run(scheduler)
            jobs += jobs_of_run(scheduler)
        for each in jobs:
            is_job = is_one_job(each)
            if has_own_failure(each) and is_logged(each):
                self.dropped.failures[is_job] += 1
            if is_job:
                self.dropped.counts[count_key(each)] += 1
        for group in groups:
            self.dropped.failures.update(group._members.dropped.failures)
            self.dropped.counts.update(group._members.dropped.counts)
        for dropped in self.last_dropped:
            dropped.append(job)
        services = tuple(filter(self.services.__contains__, self.all_requirements(job)))
        self._discard(job)
        self.users_outside.pop(job, None)
        job._required = services
        job._inputs = ()

    def forget_dropped(self) -> None:
        self.dropped = NONE_DROPPED
        self.last_dropped = ()

    def _discard(self, job: AnyJob) -> None:
        del self.jobs[job]
        collections = (
            self.jobs_added_during_run,
            self.nested_schedulers,
            self.jobs_with_shutdown,
            self.jobs_with_scheduling_options,
            self.services,
            self.implied_requirements,
            self.cut_requirements,
        )
        for jobs in collections:
            jobs.pop(job, None)  # type: ignore[call-overload]
        if self._names is not None:
            self._names.remove(job)

    def release_inputs(self, job: AnyJob) -> None:
        """Remove an input that moves to another scheduler, and its own inputs that are members."""
        todo = [job]
        for moved in todo:
            if moved in self.jobs:
                self.remove(moved)
                todo += inputs_of(moved)

    def _reject_foreign_jobs(
        self, jobs: list[AnyJob], new_parents: set[AnyJob]
    ) -> None:
        """Reject jobs that belong to other schedulers, the owner itself, and schedulers that contain the owner.

        While no run is in progress, inputs are accepted from schedulers that are in `new_parents` or nested in them.
        """
        users: dict[BaseScheduler, dict[AnyJob, AnyJob]] = {}
        for job in jobs:
            if (other_scheduler := job._scheduler) is None:
                may_contain = is_scheduler(job) and job._members.nested_schedulers
                if self.owner is job or (
                    may_contain
                    and any(job is each for each in enclosing_schedulers(self.owner))
                ):
                    raise ValueError(
                        f"{job.label!r} cannot be inside itself: it contains {self.owner.label!r}"
                    )
                continue
            if other_scheduler not in users:
                by_input = dict[AnyJob, AnyJob]()
                users[other_scheduler] = by_input
                for user in other_scheduler:
                    by_input.update(dict.fromkeys(inputs_of(user), user))
            remedy = "remove it there first"
            if job in users[other_scheduler]:
                user = users[other_scheduler][job]
                levels = [other_scheduler, *enclosing_schedulers(other_scheduler)]
                if (
                    other_scheduler._innermost_run() is None
                    and not new_parents.isdisjoint(levels)
                ):
                    continue
                alternative = ""
                if new_parents:
                    alternative = f", or add {levels[-1].label!r} first"
                remedy = f"it was added there as an input of {user.label!r}; remove this add(){alternative}"
            raise ValueError(
                f"{job.label!r} is in the scheduler {other_scheduler.label!r}; "
                f"it cannot be in {self.owner.label!r} too: {remedy}"
            )

    def remove_jobs_added_during_runs(self) -> None:
        """Remove the jobs that were added during runs that have ended, and drop the requirements on these jobs."""
        removed_jobs = {
            job: None
            for job, run in self.jobs_added_during_run.items()
            if run.scheduler._run is not run
        }
        for job in removed_jobs:
            self.remove(job)
        if removed_jobs:
            self._drop_requirements(removed_jobs.__contains__)

    def drop_foreign_requirements(
        self,
    ) -> list[tuple[AnyJob, AnyJob]]:
        """Drop requirements that are neither members nor inputs. Return them, as pairs of a job and its requirement."""
        return self._drop_requirements(lambda job: job._scheduler is not self.owner)

    def _drop_requirements(
        self, is_dropped: Callable[[AnyJob], bool]
    ) -> list[tuple[AnyJob, AnyJob]]:
        dropped_pairs: list[tuple[AnyJob, AnyJob]] = []
        for job in self.jobs:
            dropped = [
                other
                for other in job._required
                if is_dropped(other) and other not in inputs_of(job)
            ]
            if dropped:
                job._drop_requirements(dropped)
                dropped_pairs += [(job, requirement) for requirement in dropped]
        return dropped_pairs


def iterate_schedulers(scheduler: BaseScheduler) -> Iterator[BaseScheduler]:
    """Yield a scheduler and all schedulers nested in it at any depth, each scheduler before those nested in it."""
    todo = [scheduler]
    for scheduler in todo:
        yield scheduler
        todo += scheduler._members.nested_schedulers


def first_options(scheduler: BaseScheduler) -> tuple[int | None, float | None]:
    """Return the options `enough` and `stagger` of a `First`, or None and None for any other scheduler."""
    return scheduler._enough, scheduler._stagger


def _with_inputs(jobs: Iterable[AnyJob]) -> dict[AnyJob, None]:
    """Return the jobs, each preceded by its direct and indirect inputs that belong to no scheduler."""
    ordered: dict[AnyJob, None] = {}
    entered: set[AnyJob] = set()
    stack = [*jobs][::-1]
    while stack:
        job = stack[-1]
        if job in ordered or job in entered or not job._inputs:
            ordered[stack.pop()] = None
            continue
        entered.add(job)
        stack += [
            other
            for other in reversed(job._inputs)
            if other._scheduler is None and other not in ordered
        ]
    return ordered


def insert_members(scheduler: BaseScheduler, jobs: Collection[AnyJob]) -> None:
    """Add jobs that belong to no scheduler, without their inputs and without checks: a copy of a checked scenario."""
    scheduler._members.is_unchecked = True
    scheduler._members.insert(jobs)


def collect_dropped(scheduler: BaseScheduler, dropped: deque[AnyJob]) -> None:
    """Let a scheduler with `keep_jobs=False` append each job that it drops, from now to its next run, to `dropped`."""
    members = scheduler._members
    if all(collected is not dropped for collected in members.last_dropped):
        members.last_dropped += (dropped,)


def stop_collecting(scheduler: BaseScheduler, dropped: deque[AnyJob]) -> None:
    members = scheduler._members
    members.last_dropped = tuple(
        collected for collected in members.last_dropped if collected is not dropped
    )


# ---- the functions of `trioflow.graph`


def topological_order(scheduler: BaseScheduler, /) -> list[AbstractJob[Any]]:
    """Return the jobs of a scheduler so that each job comes after all its requirements.

    The entry jobs come first, in the order that they were added. The other jobs follow in the order that the
    last of their requirements is listed. This is Kahn's algorithm of 1962, which takes O(V + E) time.

    Raises:
        TypeError: `scheduler` is not a scheduler.
        CycleError: the requirements contain a cycle.

    Example:
        >>> from trioflow.graph import topological_order
        >>> first = AbstractJob(label="first")
        >>> scheduler = Scheduler(AbstractJob(label="last", required=first), first)
        >>> [job.label for job in topological_order(scheduler)]
        ['first', 'last']

    """
    members = _members(scheduler, "topological_order()")
    _checks.store_implied_requirements(scheduler)
    order = _graph_algorithms.topological_order(members.jobs, members.all_requirements)
    if len(order) < len(members.jobs):
        _checks.reject_cycle(members, members.jobs)
    return order


def entry_jobs(scheduler: BaseScheduler, /) -> list[AbstractJob[Any]]:
    """Return the jobs that require no other job of the scheduler, in the order that they were added.

    Raises:
        TypeError: `scheduler` is not a scheduler.

    """
    members = _members(scheduler, "entry_jobs()")
    return [job for job in members.jobs if not members.member_requirements(job)]


def exit_jobs(
    scheduler: BaseScheduler, /, *, discard_forever: bool = True
) -> list[AbstractJob[Any]]:
    """Return the jobs that no other job of the scheduler requires, in the order that they were added.

    Args:
        scheduler: the scheduler.
        discard_forever: whether to leave out forever jobs.

    Raises:
        TypeError: `scheduler` is not a scheduler, or `discard_forever` is not a bool.

    """
    members = _members(scheduler, "exit_jobs()")
    omits_forever = _job_options.flag(discard_forever, "discard_forever", "exit_jobs()")
    required = set[AnyJob]()
    for job in members.jobs:
        required.update(job._required)
    return [
        job
        for job in members.jobs
        if job not in required and not (omits_forever and job._options.forever)
    ]


def predecessors(scheduler: BaseScheduler, /, *jobs: Required) -> JobSet:
    """Return the members of a scheduler that these jobs require directly, as an ordered set.

    Args:
        scheduler: the scheduler.
        jobs: members, or collections of members.

    Raises:
        TypeError: `scheduler` is not a scheduler, or an argument is not a job.
        KeyError: a job is not a member.

    """
    members = _members(scheduler, "predecessors()")
    given = members.flatten_members(jobs, "predecessors()")
    found: dict[AnyJob, None] = {}
    for job in given:
        found.update(dict.fromkeys(members.member_requirements(job)))
    return found.keys()


def successors(scheduler: BaseScheduler, /, *jobs: Required) -> JobSet:
    """Return the members of a scheduler that require these jobs directly, as an ordered set. Takes O(V + E) time.

    Args:
        scheduler: the scheduler.
        jobs: members, or collections of members.

    Raises:
        TypeError: `scheduler` is not a scheduler, or an argument is not a job.
        KeyError: a job is not a member.

    """
    members = _members(scheduler, "successors()")
    requirements = set(members.flatten_members(jobs, "successors()"))
    return dict.fromkeys(
        job for job in members.jobs if not requirements.isdisjoint(job._required)
    ).keys()


def keep_only(scheduler: BaseScheduler, /, jobs: Iterable[Required]) -> None:
    """Remove all jobs from a scheduler but these, and drop their requirements on removed jobs. Inputs are kept.

    A journal takes removed requirements as they are: kept jobs are restored unless such a requirement has run since.

    Args:
        scheduler: the scheduler.
        jobs: the members to keep, or Sequences of members.

    Raises:
        TypeError: `scheduler` is not a scheduler, or an argument is not a job.
        KeyError: a job is not a member.
        RuntimeError: the scheduler is running.

    """
    members = _members(scheduler, "keep_only()")
    scheduler._reject_during_run("keep_only()")
    kept = set(members.flatten_members((jobs,), "keep_only()"))
    for job in tuple(members.jobs):
        if job not in kept:
            members.remove(job)
            members.is_cut = True
    for job, requirement in members.drop_foreign_requirements():
        members.cut_requirements.setdefault(job, []).append(requirement)


def _members(scheduler: BaseScheduler, call_text: str) -> Members:
    """Return the members of a scheduler.

    Raises:
        TypeError: `scheduler` is not a scheduler.

    """
    if not is_scheduler(scheduler):
        raise not_a_scheduler_error(scheduler, call_text)
    return scheduler._members


@final
class Sequence:
    """A chain of jobs. Each job requires the job before it.

    Use it for steps that follow each other and pass no results on.

    If you add a sequence to a scheduler, its jobs become members, but not the sequence itself. If a job requires a
    sequence, it requires the job that is last then. A sequence has the requirements of its first job.

    Args:
        jobs_or_sequences: the jobs, in order. None is skipped.
        required: the requirements of the first job.
        scheduler: a scheduler to which the jobs are added, including jobs that are appended later.
        order_only: whether each job requires its predecessor with `order_only=True`, so that a journal restores the job
            although the predecessor has changed.

    Raises:
        TypeError: an argument is not a job, `scheduler` is not a Scheduler, `order_only` is not a bool, or an option is
            unknown.

    Example:
        >>> a, b, c = (AbstractJob(label=label) for label in "abc")
        >>> Sequence(a, b, required=c).jobs
        [<AbstractJob a, idle>, <AbstractJob b, idle>]
        >>> b.required == {a} and a.required == {c}
        True

    """

    __slots__ = ("_order_only", "_scheduler", "_stand_in", "jobs")

    def __init__(
        self,
        *jobs_or_sequences: Required,
        required: Required = None,
        scheduler: BaseScheduler | None = None,
        order_only: bool = False,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise _job_options.unknown_option_error(
                "Sequence", "a Sequence", unknown, Sequence.__init__
            )
        self.jobs: list[AnyJob] = []
        # Has the requirements of the first job while there is none.
        self._stand_in: AnyJob = AbstractJob(label="the first job of a Sequence")
        if scheduler is not None and not is_scheduler(scheduler):
            raise not_a_scheduler_error(scheduler, "a Sequence")
        self._scheduler = scheduler
        self._order_only = _job_options.flag(order_only, "order_only", "a Sequence")
        self.requires(required)
        self._append(jobs_or_sequences, "Sequence")

    def append(self, *jobs_or_sequences: Required) -> Self:
        """Append jobs to the chain, and add them to the `scheduler` of the sequence, if any.

        Args:
            jobs_or_sequences: the jobs, in order. None is skipped.

        Returns:
            The sequence itself.

        Raises:
            TypeError: an argument is not a job.

        """
        self._append(jobs_or_sequences, "append() of a Sequence")
        return self

    def _append(self, jobs_or_sequences: Iterable[Required], subject: str) -> None:
        new_jobs = list(flatten(jobs_or_sequences, subject, "_all_jobs"))
        for job in new_jobs:
            if self.jobs:
                job.requires(self.jobs[-1], order_only=self._order_only)
            else:
                required = self._stand_in._required
                job.requires(required)
                job.requires(flagged(required, SETTLED_ONLY), settled=True)
                job.requires(flagged(required, ORDER_ONLY), order_only=True)
            self.jobs.append(job)
        if self._scheduler is not None:
            self._scheduler.update(new_jobs)

    def requires(
        self,
        *requirements: Required,
        remove: bool = False,
        settled: bool = False,
        order_only: bool = False,
    ) -> Self:
        """Make the first job require these jobs. In an empty sequence, this is the first job that is appended later.

        Args:
            requirements: jobs, Sequences, None, or collections of these.
            remove: whether to remove these requirements instead of adding them.
            settled: whether the job runs whatever becomes of these requirements, as with `requires` of a job.
            order_only: whether a journal ignores these requirements, as with `requires` of a job.

        Returns:
            The sequence itself.

        Raises:
            TypeError: an argument is not a job, or `remove`, `settled` or `order_only` is not a bool.
            KeyError: with `remove`, the first job does not require all of these jobs.

        """
        required = list(flatten(requirements, "requires() of a Sequence", "_last_jobs"))
        first = self.jobs[0] if self.jobs else self._stand_in
        first.requires(required, remove=remove, settled=settled, order_only=order_only)
        return self

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self.jobs)

    def __bool__(self) -> bool:
        """Return True, even if there are no jobs."""
        return True

    def __repr__(self) -> str:
        """Show the jobs in order."""
        return f"Sequence({', '.join(map(repr, self.jobs))})"

    def _all_jobs(self) -> Iterable[AnyJob]:
        return tuple(self.jobs)

    def _last_jobs(self) -> Iterable[AnyJob]:
        return tuple(self.jobs[-1:])
