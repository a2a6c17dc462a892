"""`Policy`, the interface of user-defined policies, and `Outlook`, the facts about jobs that a policy may use."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

from ...job._job import AbstractJob


class Outlook(Protocol):
    """Facts that a policy can use about the jobs of one run, in addition to the attributes of the jobs."""

    starts: int
    """The number of job starts in this run so far. A job that was throttled counts again when it starts again."""

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        """Return the expected duration of a job in seconds; None if unknown.

        `Scheduler(durations=...)` takes precedence over the job's own `expected_duration`. A nested scheduler without
        either is expected to take as long as the longest path through its jobs, if any of their durations is known.
        """
        ...

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the length, in seconds, of the longest path from the start of a job to the end of an exit job.

        A job of unknown duration counts as the median of the known durations, or as 1 second if none is known.

        Raises:
            RuntimeError: the policy does not set `needs_ranks`.
            ValueError: `job` is not in this scheduler.

        """
        ...


class Policy(Protocol):
    """An order in which the ready jobs of a scheduler start.

    Derive a class from this one, define `key`, and pass an instance to `Scheduler(policy=...)` instead of a name. An
    object of another class must define all three members. Several schedulers can share one object. A job's `priority`
    takes precedence over the policy. Among jobs with the same key, the one that became ready first starts first.

    A policy must not change the scenario or the run. If `key` raises an exception, or returns an invalid key, the run
    ends CRITICAL. The error names the policy and the job; it is logged, shown by `debrief()`, and passed to instruments
    as an incident. An interruption such as `KeyboardInterrupt` ends the run as usual.

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

        The run calls this in its own thread when the job becomes ready, and again if added jobs change the order.

        Args:
            job: the job. In a simulation, this is the original job of the scenario, which stays IDLE.
            outlook: the facts about the jobs in this run.

        """
        ...

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        """Describe in a few words why other jobs start before a ready one, for `Scheduler.explain`.

        The default implementation names the class of the policy.
        """
        return f"by {type(self).__name__}"
