"""`JobSet`: an ordered set of jobs, and what it can be asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Unpack

from . import _checks, _graph
from ._jobs import AbstractJob
from ._options import JobOptions
from ._requirements import flatten

if TYPE_CHECKING:
    from ._members import Members

Jobs = AbstractSet[AbstractJob[Any]]


class JobSet(AbstractJob[bool]):
    """An ordered set of jobs, and itself a job."""

    _is_passed_as_it_is = True

    _jobs: dict[AbstractJob[Any], None]
    _nested: dict[Members, None]  # those of the jobs that are schedulers
    # Requirements of members that follow from the inputs of jobs nested in them; found by the last check.
    _implied: dict[AbstractJob[Any], dict[AbstractJob[Any], None]]
    _used_outside: set[AbstractJob[Any]]  # members whose results jobs in other schedulers use; found with `_implied`

    def __init__(self, **options: Unpack[JobOptions]) -> None:
        """Begin empty."""
        self._jobs = {}
        self._nested = {}
        self._implied = {}
        self._used_outside = set()
        super().__init__(**options)

    def topological_order(self) -> list[AbstractJob[Any]]:
        """Return the jobs so that each stands after all it requires; ties in the order added. Kahn 1962, O(V + E).

        Raises:
            CycleError: there is no such order.

        """
        _checks.imply_all(self)
        order = _graph.topological_order(self._jobs, self._waits_for)
        if len(order) < len(self._jobs):
            _checks.refuse_cycle(self)
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
                if nested and isinstance(job, JobSet):
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

    def _waits_for(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        """Return the members that must settle before `job`: what it requires, and what inputs inside it imply."""
        members = [one for one in job._required if one._scheduler is self]
        implied = self._implied.get(job)
        return members if implied is None else list(dict.fromkeys([*members, *implied]))

    def _followers(self) -> dict[AbstractJob[Any], list[AbstractJob[Any]]]:
        return _graph.backlinks(self._jobs, lambda job: job._required)

    def _own_requirements(self, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        return [one for one in job._required if one in self._jobs]

    def _own(self, jobs: Iterable[AbstractJob[Any]], what: str) -> list[AbstractJob[Any]]:
        found = list(jobs)
        for job in found:
            if job not in self._jobs:
                raise KeyError(f"{what}: {name_of(job)} is not in {self.label!r}")
        return found


def name_of(job: object) -> str:
    """Return how an error names a job, or what was given for one."""
    return repr(job.label) if isinstance(job, AbstractJob) else repr(job)
