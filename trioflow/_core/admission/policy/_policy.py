"""`Policy`, the interface of users' orders of ready jobs, and `Outlook`, the facts about jobs that a policy may use."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ...job._job import AbstractJob


class Outlook(Protocol):
    """Facts about the jobs of one scheduler during a run, for a policy; other facts are attributes of the jobs."""

    starts: int
    """The number of starts in this run so far; a job that was throttled counts again at its next start."""

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        """Return the expected duration of a job in seconds; None if unknown.

        `Scheduler(durations=...)` takes precedence over the job's own `expected_duration`. A nested scheduler without
        either takes as long as the longest path through its jobs, if the duration of any of these is known.
        """
        ...

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the length of the longest path from the start of a job to the end of an exit job, in seconds.

        Jobs with an unknown duration count as the median of the others, or as 1 second if none is known.

        Raises:
            RuntimeError: the policy does not set `needs_ranks`.
            ValueError: `job` is not in this scheduler.

        """
        ...


class Policy(Protocol):
    """An order in which the ready jobs of a scheduler start.

    Derive a class from it, define `key`, and give an instance to `Scheduler(policy=...)` in place of a name. An object
    of another class needs all three members. One object may be the policy of several schedulers. A job's `priority`
    takes precedence over the policy; among jobs with the same key, the one that became ready first starts first.

    A policy must not change the scenario or the run. If `key` raises an exception, or returns no key,
    the run ends CRITICAL; the error, which names the policy and the job, is in the log, in `debrief()` and in an
    incident for instruments. An interruption such as `KeyboardInterrupt` ends the run as always.

    Example:
        >>> class ShortestFirst(Policy):
        ...     def key(self, job, outlook):
        ...         return outlook.expected_duration(job) or 0.0
        ...     def reason(self, job, outlook):
        ...         return "the shortest job first"
        >>> started = []
        >>> async def work(name):
        ...     started.append(name)
        >>> jobs = [Job(work, name, expected_duration=seconds) for name, seconds in (("b", 2), ("c", 3), ("a", 1))]
        >>> Scheduler(*jobs, jobs_window=1, policy=ShortestFirst()).run(), started
        (True, ['a', 'b', 'c'])

    """

    needs_ranks: bool = False
    """Whether `key` or `reason` uses `Outlook.rank`. Ranks cost a pass over all jobs and requirements."""

    @abstractmethod
    def key(self, job: AbstractJob[Any], outlook: Outlook) -> float | tuple[float, ...]:
        """Return the sort key of a ready job: a number, or a tuple of numbers. The smallest starts first.

        The run calls it, in its own thread, when the job becomes ready, and again when its rank has changed.

        Args:
            job: the job. Under `simulate`, this is the job of the scenario, which stays idle.
            outlook: the facts about the jobs in this run.

        """
        ...

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        """Describe in a few words why other jobs start before a ready one, for `Scheduler.explain`.

        By default, this names the class of the policy.
        """
        return f"by {type(self).__name__}"
