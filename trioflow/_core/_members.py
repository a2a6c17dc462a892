"""`Members`: the set of jobs that a scheduler is, how it changes, and what it can be asked; nothing runs here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from . import _checks, _graph, _growth
from ._job_set import JobSet, name_of
from ._jobs import AbstractJob
from ._options import JobOptions
from ._requirements import flatten, plainly

if TYPE_CHECKING:
    from ._run import Run
    from ._sequence import Sequence

J = TypeVar("J", bound="AbstractJob[Any] | Sequence")
Jobs = AbstractSet[AbstractJob[Any]]


class Members(JobSet):
    """An ordered set of jobs that can be changed: all of a scheduler but its running."""

    _added_during_run: dict[AbstractJob[Any], Run]  # with the innermost run that was under way
    _shutting_down: dict[AbstractJob[Any], None]  # those of a kind that defines a `co_shutdown`
    _needs_reset: bool  # a run has written to some of the jobs
    _run: Run | None  # there while it runs
    _closed: bool
    _unchecked: bool  # changed since it was last checked
    _takes_from_outside: bool  # a member has an input that is no member; found by the last check
    # Inputs that came in with a job that uses them: until the next run they may still be added elsewhere.
    _adopted: set[AbstractJob[Any]]
    _watched: bool  # somebody has waited for one of the jobs: they must be told when a run does not reach it

    def __init__(self, *jobs_or_sequences: Any, **options: Unpack[JobOptions]) -> None:
        """Begin with these jobs."""
        self._added_during_run = {}
        self._shutting_down = {}
        self._needs_reset = False
        self._run = None
        self._closed = self._watched = self._takes_from_outside = False
        self._adopted = set()
        self._unchecked = True
        super().__init__(**options)
        try:
            self.update(jobs_or_sequences)
        except BaseException:
            if self._scheduler is not None:
                self._scheduler._forget(self)
            raise

    # ---- changing it

    def add(self, job: J) -> J:
        """Add a job, or the jobs of a Sequence, and return what was given. Adding a member again does nothing.

        While the scheduler runs, from the run's own thread: what the job requires must be a member already, and the
        job starts as soon as that has settled. The next run forgets it.

        Raises:
            TypeError: not a job.
            ValueError: it is in another scheduler, or would contain itself.
            MissingRequirement: while it runs, a requirement that is no member.
            RuntimeError: it is closed or stopping, or another thread.

        Example:
            >>> s = Scheduler()
            >>> s.add(AbstractJob(label="a"))
            <AbstractJob `a` idle>

        """
        plain = plainly(job, AbstractJob)
        if plain is None:
            plain = tuple(flatten((job,), f"add() of {self.label!r}", "_members"))
        self._admit(plain, "add()")
        return job

    def update(self, jobs: Iterable[Any]) -> Self:
        """Add several at once: jobs, Sequences, None, or collections of these; all of them or, if one is refused, none.

        While the scheduler runs they may require each other.

        Raises:
            TypeError: not a job.
            ValueError: one is in another scheduler, or would contain itself.
            CycleError: while it runs, they require each other in a circle.
            MissingRequirement: while it runs, a requirement that is no member.
            RuntimeError: it is closed or stopping, or another thread.

        """
        plain = plainly(jobs, AbstractJob)
        if plain is None:
            plain = tuple(flatten((jobs,), f"update() of {self.label!r}", "_members"))
        self._admit(plain, "update()")
        return self

    def _admit(self, jobs: tuple[AbstractJob[Any], ...], what: str) -> None:
        if self._closed:
            raise RuntimeError(f"{what}: {self.label!r} is closed for good; make a new Scheduler")
        found = with_inputs(jobs)
        new = [job for job in found if job not in self._jobs] if self._jobs else list(found)
        for job in new:
            if job._scheduler is not None or isinstance(job, Members):
                self._refuse_stranger(job)
        run = self._innermost_run()
        if run is not None:
            self._refuse_late(run, what)
        homes: dict[AbstractJob[Any], Members | None] = {job: job._scheduler for job in new} if self._run else {}
        was_adopted = self._adopted.copy()
        if self._adopted or len(found) > len(jobs):
            given = set(jobs)
            self._adopted -= given
            self._adopted.update(job for job in new if job not in given)
        for job in new:
            self._take_in(job)
        if self._run is None:
            self._note_new(new, run)
            return
        try:
            _growth.check_new(self, new)
        except BaseException:
            self._undo(homes)
            self._adopted = was_adopted
            raise
        for job in new:
            if job._was_in_a_run():
                job._reset()
        self._note_new(new, run)
        self._run.admit(new)

    def _note_new(self, new: list[AbstractJob[Any]], run: Run | None) -> None:
        self._unchecked = True
        if run is not None:
            self._added_during_run.update(dict.fromkeys(new, run))
        if any(job._was_in_a_run() for job in new):
            self._needs_reset = True

    def _undo(self, homes: dict[AbstractJob[Any], Members | None]) -> None:
        """Put jobs that were refused back where they came from."""
        for job, home in homes.items():
            self._forget(job)
            self._implied.pop(job, None)
            if home is not None:
                home._take_in(job)
                home._adopted.add(job)

    def _take_in(self, job: AbstractJob[Any]) -> None:
        if job._scheduler is not None:
            job._scheduler._forget(job)
        self._jobs[job] = None
        job._scheduler = self  # type: ignore[assignment]
        if job._shuts_down:
            self._shutting_down[job] = None
        if isinstance(job, Members):
            self._nested[job] = None

    def _innermost_run(self) -> Run | None:
        """Return the run under way of this scheduler, or else of the nearest one around it."""
        scheduler: AbstractJob[Any] | None = self
        while isinstance(scheduler, Members):
            if scheduler._run is not None:
                return scheduler._run
            scheduler = scheduler._scheduler
        return None

    def _refuse_late(self, run: Run, what: str) -> None:
        _growth.check_growing(run, f"{what} of {self.label!r}")
        if self._run is None and self._state.is_settled:
            raise RuntimeError(f"{what}: {self.label!r} has settled already in the run of {run.scheduler.label!r}")

    def _refuse_stranger(self, job: AbstractJob[Any]) -> None:
        home = job._scheduler
        if home is not None and not (job in home._adopted and home._innermost_run() is None):
            raise ValueError(
                f"{job.label!r} is in the scheduler {home.label!r}; it can't be in {self.label!r} too: "
                f"remove it there first"
            )
        outer: AbstractJob[Any] | None = self
        while outer is not None:
            if outer is job:
                raise ValueError(f"the scheduler {job.label!r} can't be inside itself, by way of {self.label!r}")
            outer = outer._scheduler

    def remove(self, job: AbstractJob[Any]) -> Self:
        """Take a job out. What required it still does, until `sanitize()`; `bypass_and_remove` mends that.

        Raises:
            KeyError: it is no member.
            RuntimeError: the scheduler runs.

        """
        self._refuse_change("remove()")
        if job not in self._jobs:
            raise KeyError(f"remove(): {name_of(job)} is not in {self.label!r}")
        self._forget(job)
        return self

    def _forget(self, job: AbstractJob[Any]) -> None:
        del self._jobs[job]
        self._adopted.discard(job)
        self._added_during_run.pop(job, None)
        self._unchecked = True
        self._nested.pop(job, None)  # type: ignore[call-overload]
        self._shutting_down.pop(job, None)
        job._scheduler = None

    def _forget_added(self, still_under_way: Collection[Run]) -> None:
        """Take out what was added while other runs were under way, with the requirements on it."""
        dropped = {job: None for job, run in self._added_during_run.items() if run not in still_under_way}
        for job in dropped:
            self._forget(job)
        for job in self._jobs if dropped else ():
            inputs = job._rule.inputs if job._rule is not None else ()
            strange = [one for one in job._required if one in dropped and one not in inputs]
            if strange:
                job._drop_requirements(strange)

    def keep_only(self, jobs: Iterable[Any]) -> Self:
        """Take out all members but these; requirements on those that went are dropped.

        Raises:
            TypeError: not a job.
            KeyError: one is no member.
            RuntimeError: the scheduler runs.

        """
        self._refuse_change("keep_only()")
        kept = set(self._own(flatten((jobs,), "keep_only()", "_members"), "keep_only()"))
        for job in [job for job in self._jobs if job not in kept]:
            self._forget(job)
        self._drop_strange_requirements()
        return self

    def keep_only_between(self, starts: Iterable[Any] = (), ends: Iterable[Any] = ()) -> Self:
        """Take out all that is not between `starts` and `ends`, these included; without starts or ends, from or to all.

        A job is between if it is a start or requires one, at whatever remove, and is an end or is required by one.

        Raises:
            TypeError: not a job.
            KeyError: one is no member.
            RuntimeError: the scheduler runs.

        """
        self._refuse_change("keep_only_between()")
        first = self._own(flatten((starts,), "keep_only_between()", "_members"), "keep_only_between()")
        last = self._own(flatten((ends,), "keep_only_between()", "_members"), "keep_only_between()")
        followers = self._followers()
        after = _graph.reachable(first, followers.__getitem__) if first else self._jobs
        before = _graph.reachable(last, self._own_requirements) if last else self._jobs
        return self.keep_only([job for job in self._jobs if job in after and job in before])

    def bypass_and_remove(self, job: AbstractJob[Any]) -> Self:
        """Take a job out and let those that required it require what it required.

        Raises:
            KeyError: it is no member.
            RuntimeError: the scheduler runs.

        """
        self._refuse_change("bypass_and_remove()")
        self._own([job], "bypass_and_remove()")
        followers = self.successors(job)
        for follower in followers:
            follower._refuse_dropping([job])
        for follower in followers:
            follower.requires(job, remove=True)
            follower.requires(*job._required)
        self._forget(job)
        return self

    def sanitize(self) -> list[tuple[AbstractJob[Any], AbstractJob[Any]]]:
        """Drop the requirements that are not in the same scheduler, here and in nested ones.

        Returns:
            What was dropped: pairs of a job and what it required.

        Raises:
            RuntimeError: the scheduler runs.

        """
        self._refuse_change("sanitize()")
        dropped = self._drop_strange_requirements()
        for job in self.iterate_jobs():
            if isinstance(job, Members):
                dropped += job._drop_strange_requirements()
        return dropped

    def _drop_strange_requirements(self) -> list[tuple[AbstractJob[Any], AbstractJob[Any]]]:
        dropped: list[tuple[AbstractJob[Any], AbstractJob[Any]]] = []
        for job in self._jobs:
            inputs = job._rule.inputs if job._rule is not None else ()
            strange = [one for one in job._required if one._scheduler is not self and one not in inputs]
            if strange:
                job._drop_requirements(strange)
                dropped += [(job, one) for one in strange]
        return dropped

    def close(self) -> None:
        """Close it for good, and with it the coroutine objects of its jobs that never ran; results stay readable.

        Raises:
            RuntimeError: it runs.

        """
        self._refuse_change("close()")
        self._closed = True
        for job in self._jobs:
            job.close()

    # ---- for the house

    def rain_check(self) -> bool:
        """Tell whether a run could start: no cycle, no missing requirement, nothing that could not run. O(V + E)."""
        try:
            self._check_may_run()
            for _ in _checks.check(self):
                pass
        except (ValueError, RuntimeError):
            return False
        return True

    def _refuse_change(self, what: str) -> None:
        if self._innermost_run() is not None:
            raise RuntimeError(f"{what} of {self.label!r}: not while it runs; only add, update and requires may then")

    def _check_may_run(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self.label!r} is closed for good; make a new Scheduler")
        if self._run is not None:
            raise RuntimeError(f"{self.label!r} is running already; wait for that run to end")


def with_inputs(jobs: Iterable[AbstractJob[Any]]) -> dict[AbstractJob[Any], None]:
    """Return the jobs, each behind those of its inputs that belong to no scheduler; their own inputs first."""
    found: dict[AbstractJob[Any], None] = {}
    for job in jobs:
        rule = job._rule
        if rule is not None:
            for one in rule.inputs:
                if one._scheduler is None and one not in found:
                    _put_inputs_first(job, found)
                    break
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
