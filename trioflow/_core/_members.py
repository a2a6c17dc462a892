"""`Members`: the set of jobs that a scheduler is, how it changes, and what it can be asked; nothing runs here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from . import _checks, _graph, _growth
from ._jobs import AbstractJob
from ._options import JobOptions
from ._requirements import flatten

if TYPE_CHECKING:
    from ._run import Run
    from ._sequence import Sequence

J = TypeVar("J", bound="AbstractJob[Any] | Sequence")
Jobs = AbstractSet[AbstractJob[Any]]


class Members(AbstractJob[bool]):
    """An ordered set of jobs, and itself a job: all of a scheduler but its running."""

    _jobs: dict[AbstractJob[Any], None]
    _nested: dict[Members, None]  # those of the jobs that are schedulers
    _added_during_run: list[AbstractJob[Any]]
    _run: Run | None  # there while it runs
    _closed: bool
    _unchecked: bool  # changed since it was last checked
    _watched: bool  # somebody has waited for one of the jobs: they must be told when a run does not reach it

    def __init__(self, *jobs_or_sequences: Any, **options: Unpack[JobOptions]) -> None:
        """Begin with these jobs."""
        self._jobs = {}
        self._nested = {}
        self._added_during_run = []
        self._run = None
        self._closed = self._watched = False
        self._unchecked = True
        super().__init__(**options)
        try:
            self.update(jobs_or_sequences)
        except BaseException:
            if self._scheduler is not None and self._scheduler._run is None:
                self._scheduler.remove(self)
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
        self._admit(list(flatten((job,), f"add() of {self.label!r}", "_members")), "add()")
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
        self._admit(list(flatten((jobs,), f"update() of {self.label!r}", "_members")), "update()")
        return self

    def _admit(self, jobs: list[AbstractJob[Any]], what: str) -> None:
        if self._closed:
            raise RuntimeError(f"{what}: {self.label!r} is closed for good; make a new Scheduler")
        new = [job for job in dict.fromkeys(jobs) if job not in self._jobs]
        for job in new:
            self._refuse_stranger(job)
        if self._run is not None:
            self._run.check_growing(f"{what} of {self.label!r}")
            _growth.check_new(self, new)
        self._unchecked = True
        for job in new:
            self._jobs[job] = None
            job._scheduler = self  # type: ignore[assignment]
            if isinstance(job, Members):
                self._nested[job] = None
        if self._run is not None:
            self._added_during_run += new
            self._run.admit(new)

    def _refuse_stranger(self, job: AbstractJob[Any]) -> None:
        if job._scheduler is not None:
            raise ValueError(
                f"{job.label!r} is in the scheduler {job._scheduler.label!r}; it can't be in {self.label!r} too: "
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
            raise KeyError(f"remove(): {_name(job)} is not in {self.label!r}")
        self._forget(job)
        return self

    def _forget(self, job: AbstractJob[Any]) -> None:
        del self._jobs[job]
        self._nested.pop(job, None)  # type: ignore[call-overload]
        job._scheduler = None

    def _forget_added(self) -> None:
        """Take out what was added while a run was under way, with the requirements on it."""
        dropped = dict.fromkeys(job for job in self._added_during_run if job in self._jobs)
        self._added_during_run = []
        for job in dropped:
            self._forget(job)
        for job in self._jobs if dropped else ():
            strange = [one for one in job._required if one in dropped]
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
        for follower in self.successors(job):
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
            strange = [one for one in job._required if one._scheduler is not self]
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

    # ---- asking it

    def rain_check(self) -> bool:
        """Tell whether a run could start: no cycle, no missing requirement, nothing that could not run. O(V + E)."""
        try:
            self._check_may_run()
            for _ in _checks.check(self):
                pass
        except (ValueError, RuntimeError):
            return False
        return True

    def topological_order(self) -> list[AbstractJob[Any]]:
        """Return the jobs so that each stands after all it requires; ties in the order added. Kahn 1962, O(V + E).

        Raises:
            CycleError: there is no such order.

        """
        order = _graph.topological_order(self._jobs, lambda job: job._required)
        if len(order) < len(self._jobs):
            _checks.refuse_cycle(self._jobs)
        return order

    def entry_jobs(self) -> list[AbstractJob[Any]]:
        """Return the jobs that require no other member, in the order added."""
        return [job for job in self._jobs if not self._own_requirements(job)]

    def exit_jobs(self, *, discard_forever: bool = True) -> list[AbstractJob[Any]]:
        """Return the jobs that no member requires, in the order added; those that run for ever only on request."""
        required = {requirement for job in self._jobs for requirement in job._required}
        return [job for job in self._jobs if job not in required and not (discard_forever and job._forever)]

    def predecessors(self, *jobs: Any) -> Jobs:
        """Return what these jobs require directly, as an ordered set of members.

        Raises:
            TypeError: not a job.
            KeyError: one is no member.

        """
        given = self._own(flatten(jobs, "predecessors()", "_members"), "predecessors()")
        return dict.fromkeys(one for job in given for one in self._own_requirements(job)).keys()

    def successors(self, *jobs: Any) -> Jobs:
        """Return the members that require these jobs directly, as an ordered set. O(V + E).

        Raises:
            TypeError: not a job.
            KeyError: one is no member.

        """
        given = set(self._own(flatten(jobs, "successors()", "_members"), "successors()"))
        return dict.fromkeys(job for job in self._jobs if not given.isdisjoint(job._required)).keys()

    def iterate_jobs(self, nested: bool = True) -> Iterator[AbstractJob[Any]]:
        """Yield the jobs in the order added; with `nested`, behind each nested scheduler its jobs, to any depth."""
        stack = [iter(tuple(self._jobs))]
        while stack:
            for job in stack[-1]:
                yield job
                if nested and isinstance(job, Members):
                    stack.append(iter(tuple(job._jobs)))
                    break
            else:
                stack.pop()

    def __contains__(self, job: object) -> bool:
        """Tell whether a job is a member; nested schedulers' own members are not."""
        return job in self._jobs

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._jobs)

    def __bool__(self) -> bool:
        """Be true, with members and without."""
        return True

    def __iter__(self) -> Iterator[AbstractJob[Any]]:
        """Go through the members in the order added."""
        return iter(tuple(self._jobs))

    # ---- for the house

    def _followers(self) -> dict[AbstractJob[Any], list[AbstractJob[Any]]]:
        return _graph.backlinks(self._jobs, lambda job: job._required)

    def _own_requirements(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        return [one for one in job._required if one in self._jobs]

    def _own(self, jobs: Iterable[AbstractJob[Any]], what: str) -> list[AbstractJob[Any]]:
        found = list(jobs)
        for job in found:
            if job not in self._jobs:
                raise KeyError(f"{what}: {_name(job)} is not in {self.label!r}")
        return found

    def _refuse_change(self, what: str) -> None:
        if self._run is not None:
            raise RuntimeError(f"{what} of {self.label!r}: not while it runs; only add, update and requires may then")

    def _check_may_run(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self.label!r} is closed for good; make a new Scheduler")
        if self._run is not None:
            raise RuntimeError(f"{self.label!r} is running already; wait for that run to end")


def _name(job: object) -> str:
    return repr(job.label) if isinstance(job, AbstractJob) else repr(job)
