"""`Members`: the jobs of one scheduler, in the order in which they were added, and how this set changes.

Nothing runs here. A run reads what it needs to know about the set from the fields. The scheduler's public methods call
the methods with the same names here.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

from ..base import _graph
from ..base._shown import shown
from ..base._states import JobState
from ..job import _errors
from ..job._around import is_inside
from ..job._job import AbstractJob, is_scheduler
from ..job._requirements import flatten
from . import _checks

if TYPE_CHECKING:
    from ..run._run import Run
    from ._scheduler import BaseScheduler

Jobs = AbstractSet[AbstractJob[Any]]


class Members:
    """The jobs of one scheduler."""

    __slots__ = (
        "_followers",
        "_places",
        "_unused_places",
        "added_during_run",
        "adopted",
        "behind",
        "demanding",
        "dropped_failures",
        "implied",
        "jobs",
        "needs_reset",
        "nested",
        "owner",
        "shutting_down",
        "takes_from_outside",
        "unchecked",
        "used_outside",
    )

    def __init__(self, owner: BaseScheduler) -> None:
        self.owner: Final = owner
        self.jobs: Final[dict[AbstractJob[Any], None]] = {}
        # The jobs that are schedulers.
        self.nested: Final[dict[BaseScheduler, None]] = {}
        # The jobs whose class defines a `co_shutdown`.
        self.shutting_down: Final[dict[AbstractJob[Any], None]] = {}
        # The jobs that ask something of the order in which jobs start.
        self.demanding: Final[dict[AbstractJob[Any], None]] = {}
        # The jobs that were added during a run, with the innermost such run. The next run removes them.
        self.added_during_run: Final[dict[AbstractJob[Any], Run]] = {}
        # Inputs that were added along with a job that uses them. Until the next run they may still be added elsewhere.
        self.adopted: Final[set[AbstractJob[Any]]] = set()
        # Whether the set has changed since the last check.
        self.unchecked = True
        # How many jobs that FAILED were dropped in the last run.
        self.dropped_failures = 0
        # Whether a run has changed some of the jobs.
        self.needs_reset = False
        # ---- found by the last check, or by `imply_all`
        # Whether each job stands behind all that it waits for.
        self.behind = False
        # Requirements of members that follow from the inputs of jobs nested in them.
        self.implied: dict[AbstractJob[Any], dict[AbstractJob[Any], None]] = {}
        # Members whose results are used by jobs in other schedulers.
        self.used_outside: Final[set[AbstractJob[Any]]] = set()
        # Whether a member requires a job that is not a member.
        self.takes_from_outside = False

        # ---- made when first needed
        # Each job with the jobs that require it, until somebody changes the set or a requirement.
        self._followers: dict[AbstractJob[Any], dict[AbstractJob[Any], None]] | None = None
        # The places of the jobs in the order in which they were added, and the next ones.
        self._places: dict[AbstractJob[Any], int] | None = None
        self._unused_places: Final = itertools.count()

    # ---- what it can be asked

    def place(self, job: AbstractJob[Any]) -> int:
        """Return a number that grows in the order in which the jobs were added. O(V) once."""
        if self._places is None:
            self._places = dict(zip(self.jobs, self._unused_places, strict=False))
        return self._places[job]

    def topological_order(self) -> list[AbstractJob[Any]]:
        """Return the jobs, each after all that it requires; see `Scheduler.topological_order`."""
        _checks.imply_all(self)
        order = _graph.topological_order(self.jobs, self.waits_for)
        if len(order) < len(self.jobs):
            _checks.refuse_cycle(self)
        return order

    def waits_for(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        """Return the members that must settle before `job`: those that it requires, and those implied by its inputs."""
        owner = self.owner
        members = [one for one in job._required if one._scheduler is owner]
        implied = self.implied.get(job)
        return members if implied is None else list(dict.fromkeys([*members, *implied]))

    def own_requirements(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        """Return the members that `job` requires."""
        return [one for one in job._required if one in self.jobs]

    def own(self, given: Any, what: str) -> list[AbstractJob[Any]]:
        """Return the jobs that the user gave to `what`; all of them must be members.

        Raises:
            TypeError: something is not a job.
            KeyError: a job is not a member.

        """
        found = list(flatten(given, what, "_all"))
        for job in found:
            self.check_is_member(job, what)
        return found

    def check_is_member(self, job: object, what: str) -> None:
        """Refuse a job that is not a member; `what` is the call that the error names.

        Raises:
            KeyError: it is not a member.

        """
        if not isinstance(job, AbstractJob) or job not in self.jobs:
            name = repr(job.label) if isinstance(job, AbstractJob) else shown(job)
            raise KeyError(f"{what}: {name} is not in {self.owner.label!r}")

    def followers(self) -> dict[AbstractJob[Any], list[AbstractJob[Any]]]:
        """Return each job with the members that require it."""
        return _graph.backlinks(self.jobs, lambda job: job._required)

    def iterate(self, nested: bool) -> Iterator[AbstractJob[Any]]:
        """Yield the jobs; with `nested`, each nested scheduler is followed by its own jobs, to any depth."""
        stack = [iter(tuple(self.jobs))]
        while stack:
            for job in stack[-1]:
                yield job
                if nested and is_scheduler(job):
                    stack.append(iter(tuple(job._members.jobs)))
                    break
            else:
                stack.pop()

    # ---- changing it

    def note_change(self) -> None:
        """Record that the set, or a requirement of a member, is about to change."""
        self.unchecked = True
        self._followers = None

    def admit(self, jobs: tuple[AbstractJob[Any], ...], what: str) -> None:
        """Add jobs, and their inputs that belong to no scheduler yet; if one is refused, none is added."""
        owner, members = self.owner, self.jobs
        if owner._closed:
            raise RuntimeError(f"{what}: {owner.label!r} is closed for good; make a new Scheduler")
        found = _with_inputs(jobs)
        new = [job for job in found if job not in members] if members else list(found)
        for job in new:
            if job._scheduler is not None or job._is_scheduler:
                self._refuse_stranger(job)
        run = owner._innermost_run()
        if run is None:
            self._adopt(jobs, found, new)
            for job in new:
                self.take_in(job)
            self._note_new(new, None)
        else:
            self._admit_late(jobs, found, new, run, what)

    def _admit_late(
        self,
        jobs: tuple[AbstractJob[Any], ...],
        found: Collection[AbstractJob[Any]],
        new: list[AbstractJob[Any]],
        run: Run,
        what: str,
    ) -> None:
        """Add jobs while the owner, or a scheduler around it, is running."""
        owner = self.owner
        run.check_growing(f"{what} of {owner.label!r}")
        if owner._run is None:
            if owner._state.is_settled:
                raise RuntimeError(f"{what}: {owner.label!r} has settled already in the run of {run.scheduler.label!r}")
            self._adopt(jobs, found, new)
            for job in new:
                self.take_in(job)
            self._note_new(new, run)
            return
        homes = {job: job._scheduler for job in new}
        was_adopted = self.adopted.intersection(found)
        self._adopt(jobs, found, new)
        for job in new:
            self.take_in(job)
        try:
            _checks.check_new(self, new)
        except BaseException:
            self._undo(homes)
            self.adopted.difference_update(found)
            self.adopted.update(was_adopted)
            raise
        for job in new:
            if job._was_in_a_run():
                job._reset()
        self._note_new(new, run)
        owner._run.admit(new)
        owner._notify_streams(new)

    def _adopt(
        self, jobs: tuple[AbstractJob[Any], ...], found: Collection[AbstractJob[Any]], new: list[AbstractJob[Any]]
    ) -> None:
        """Record which of the new jobs are added only because others use their results."""
        if self.adopted or len(found) > len(jobs):
            given = set(jobs)
            self.adopted.difference_update(given)
            self.adopted.update(job for job in new if job not in given)

    def _note_new(self, new: list[AbstractJob[Any]], run: Run | None) -> None:
        self.note_change()
        if run is not None:
            self.added_during_run.update(dict.fromkeys(new, run))
        if any(job._was_in_a_run() for job in new):
            self.needs_reset = True

    def _undo(self, homes: dict[AbstractJob[Any], BaseScheduler | None]) -> None:
        """Put jobs that were refused back into the schedulers that they came from."""
        for job, home in homes.items():
            self.forget(job)
            self.implied.pop(job, None)
            if home is not None:
                home._members.take_in(job)
                home._members.adopted.add(job)

    def take_in(self, job: AbstractJob[Any]) -> None:
        """Put a job into this set, and remove it from the set that it is in."""
        if job._scheduler is not None:
            job._scheduler._members.forget(job)
        self.jobs[job] = None
        if self._places is not None:
            self._places[job] = next(self._unused_places)
        job._scheduler = self.owner
        if job._shuts_down:
            self.shutting_down[job] = None
        if job._demand is not None:
            self.demanding[job] = None
        if is_scheduler(job):
            self.nested[job] = None

    def note_demand(self, job: AbstractJob[Any]) -> None:
        """Record whether a member asks something of the order in which jobs start."""
        if job._demand is not None:
            self.demanding[job] = None
        else:
            self.demanding.pop(job, None)

    def forget(self, job: AbstractJob[Any]) -> None:
        """Remove a job, whether or not others require it."""
        del self.jobs[job]
        if self._places is not None:
            del self._places[job]
        self.adopted.discard(job)
        self.added_during_run.pop(job, None)
        self.note_change()
        self.nested.pop(job, None)  # type: ignore[call-overload]
        self.shutting_down.pop(job, None)
        self.demanding.pop(job, None)
        job._scheduler = None

    def may_drop(self, job: AbstractJob[Any]) -> bool:
        """Return whether nobody needs a job that has settled: its shutdown, or a critical failure, may be needed."""
        failed = job._state is JobState.FAILED or job._state is JobState.BLOCKED
        return not (failed and job.is_critical()) and not (job._shuts_down and job._has_shutdown())

    def drop(self, job: AbstractJob[Any]) -> None:
        """Remove a job that has settled and never runs again, and what it refers to; it keeps its scheduler."""
        self.dropped_failures += job._state is JobState.FAILED
        del self.jobs[job]
        records = self.added_during_run, self.nested, self.shutting_down, self.demanding, self.implied
        for known in (*records, self._places or {}):
            known.pop(job, None)  # type: ignore[call-overload]
        self.adopted.discard(job)
        self.used_outside.discard(job)
        job._required, job._rule = (), None

    def _refuse_stranger(self, job: AbstractJob[Any]) -> None:
        home = job._scheduler
        if home is not None and not (job in home._members.adopted and home._innermost_run() is None):
            raise ValueError(
                f"{job.label!r} is in the scheduler {home.label!r}; it cannot be in {self.owner.label!r} too: "
                f"remove it there first"
            )
        if self.owner is job or is_inside(self.owner, job):
            raise ValueError(f"the scheduler {job.label!r} cannot be inside itself: {self.owner.label!r} is in it")

    def forget_added(self, still_under_way: Collection[Run]) -> None:
        """Remove what was added during runs that have ended, and the requirements on it."""
        dropped = {job: None for job, run in self.added_during_run.items() if run not in still_under_way}
        for job in dropped:
            self.forget(job)
        for job in self.jobs if dropped else ():
            inputs = job._rule.inputs if job._rule is not None else ()
            strange = [one for one in job._required if one in dropped and one not in inputs]
            if strange:
                job._drop_requirements(strange)

    def keep_only(self, kept: set[AbstractJob[Any]]) -> None:
        """Remove all jobs but these, and drop the requirements on the removed ones."""
        for job in [job for job in self.jobs if job not in kept]:
            self.forget(job)
        self.drop_strange_requirements()

    def between(self, starts: list[AbstractJob[Any]], ends: list[AbstractJob[Any]]) -> set[AbstractJob[Any]]:
        """Return the jobs between `starts` and `ends`; see `Scheduler.keep_only_between`."""
        followers = self.followers()
        after = _graph.reachable(starts, followers.__getitem__) if starts else self.jobs
        before = _graph.reachable(ends, self.own_requirements) if ends else self.jobs
        return {job for job in self.jobs if job in after and job in before}

    def bypass_and_remove(self, job: AbstractJob[Any]) -> None:
        """Remove a job, and let the jobs that required it require what it required."""
        if self._followers is None:
            everything = _graph.backlinks(self.jobs, lambda one: one._required)
            self._followers = {one: dict.fromkeys(followers) for one, followers in everything.items()}
        known = self._followers  # kept up to date here, so that taking out many jobs is not quadratic
        for follower in known[job]:
            follower._refuse_dropping([job])
            if follower in job._required:
                raise _errors.CycleError([follower, job])
        for requirement in job._required:
            if requirement in known:
                del known[requirement][job]
                known[requirement].update(known[job])
        for follower in known.pop(job):
            follower.requires(job, remove=True)
            follower.requires(*job._required)
        self.forget(job)
        self._followers = known

    def drop_strange_requirements(self) -> list[tuple[AbstractJob[Any], AbstractJob[Any]]]:
        """Drop the requirements that are not members, but not inputs; return what was dropped."""
        dropped: list[tuple[AbstractJob[Any], AbstractJob[Any]]] = []
        for job in self.jobs:
            inputs = job._rule.inputs if job._rule is not None else ()
            strange = [one for one in job._required if one._scheduler is not self.owner and one not in inputs]
            if strange:
                job._drop_requirements(strange)
                dropped += [(job, one) for one in strange]
        return dropped


def _with_inputs(jobs: Iterable[AbstractJob[Any]]) -> dict[AbstractJob[Any], None]:
    """Return the jobs, each after those of its inputs that belong to no scheduler, and these after their own inputs."""
    found: dict[AbstractJob[Any], None] = {}
    for job in jobs:
        rule = job._rule
        if rule is not None:
            for one in rule.inputs:
                if one._scheduler is None and one not in found:
                    _put_inputs_first(job, found)
        found[job] = None
    return found


def _put_inputs_first(job: AbstractJob[Any], found: dict[AbstractJob[Any], None]) -> None:
    entered: set[AbstractJob[Any]] = set()
    stack = [job]
    while stack:
        job = stack[-1]
        if job in found or job in entered or job._rule is None:
            found[stack.pop()] = None
            continue
        entered.add(job)
        stack += [one for one in reversed(job._rule.inputs) if one._scheduler is None and one not in found]
