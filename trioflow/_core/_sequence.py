"""`Sequence`: a chain of requirements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, final

from ._jobs import AbstractJob
from ._requirements import flatten

if TYPE_CHECKING:
    from ._scheduler import BaseScheduler


@final
class Sequence:
    """A chain: each job requires the one before it. It vanishes when it is added; its jobs remain.

    As a requirement it stands for its last job; what it requires itself, its first job requires.

    Args:
        jobs_or_sequences: in their order; None is skipped.
        required: what the first job requires.
        scheduler: a scheduler to add the jobs to, now and when some are appended.

    Raises:
        TypeError: something that is no job.

    Example:
        >>> a, b, c = (AbstractJob(label=label) for label in "abc")
        >>> Sequence(a, b, required=c).jobs
        [<AbstractJob `a` idle>, <AbstractJob `b` idle>]
        >>> b.required == {a} and a.required == {c}
        True

    """

    __slots__ = ("_first_requires", "_scheduler", "jobs")

    def __init__(self, *jobs_or_sequences: Any, required: Any = None, scheduler: BaseScheduler | None = None) -> None:
        self.jobs: list[AbstractJob[Any]] = []
        self._first_requires: list[Any] = []
        self._scheduler = scheduler
        self.requires(required)
        self.append(*jobs_or_sequences)

    def append(self, *jobs_or_sequences: Any) -> Self:
        """Let these follow the last job; they go into the scheduler given at creation.

        Returns:
            The sequence itself.

        Raises:
            TypeError: something that is no job.

        """
        new = list(flatten(jobs_or_sequences, "Sequence", "_members"))
        for job in new:
            if self.jobs:
                job.requires(self.jobs[-1])
            elif self._first_requires:
                job.requires(self._first_requires)
            self.jobs.append(job)
        if self._scheduler is not None:
            self._scheduler.update(new)
        return self

    def requires(self, *requirements: Any, remove: bool = False) -> Self:
        """Let the first job wait for these; of an empty sequence, the one that will be its first.

        Returns:
            The sequence itself.

        Raises:
            TypeError: something that is no job.
            KeyError: with `remove`, something that the first job does not require.

        """
        found = list(flatten(requirements, "requires() of a Sequence", "_last"))
        if self.jobs:
            self.jobs[0].requires(found, remove=remove)
        elif remove:
            self._first_requires = [job for job in self._first_requires if job not in found]
        else:
            self._first_requires += found
        return self

    def __len__(self) -> int:
        """Return the number of its jobs."""
        return len(self.jobs)

    def __bool__(self) -> bool:
        """Be true, with jobs and without."""
        return True

    def __repr__(self) -> str:
        """Show the jobs in their order."""
        return f"Sequence({', '.join(map(repr, self.jobs))})"

    def _members(self) -> Iterable[AbstractJob[Any]]:
        return tuple(self.jobs)

    def _last(self) -> Iterable[AbstractJob[Any]]:
        return tuple(self.jobs[-1:])
