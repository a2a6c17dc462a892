"""`Policy`, which says which of several ready jobs starts first, and `Outlook`: what it is told about them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ...job._job import AbstractJob


class Outlook(Protocol):
    """What a policy is told about the jobs of one scheduler during a run, besides what each job says itself."""

    starts: int
    """How many jobs of the scheduler have been started so far in this run, each attempt after a throttle too."""

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        """Return how many seconds a job is expected to take; None if nobody knows.

        What `Scheduler(durations=...)` knows goes before the job's own `expected_duration`. A nested scheduler for
        which neither says anything takes as long as the longest path through its jobs, if any of these is known.
        """
        ...

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the seconds of the longest path from the start of a job to an exit, its own duration included.

        Jobs of which nothing is known count as the median of the others, or as 1 second if nothing is known of any.

        Raises:
            RuntimeError: the policy has not said that it needs ranks.
            ValueError: it is not a job of this scheduler.

        """
        ...


class Policy(Protocol):
    """Which of several ready jobs of a scheduler starts first. Derive from it, define `key`, and give an object of it.

    `Scheduler(policy=...)` takes such an object in place of a name. Any object with these three members will do. One
    object may be the policy of several schedulers. A job's `priority` comes before the policy; between jobs with the
    same key the one that became ready first starts first.

    A policy only looks: it must not change the scenario or the run. If `key` raises an exception, or returns no key,
    the job starts after all that have one. The run goes on, and reports the first such error of each scheduler: in the
    log, to instruments as an incident, and in `debrief()`. An interruption such as `KeyboardInterrupt` ends the run.

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
    """Whether `key` or `reason` asks for `Outlook.rank`. To find ranks takes a pass over all jobs and requirements."""

    @abstractmethod
    def key(self, job: AbstractJob[Any], outlook: Outlook) -> float | tuple[float, ...]:
        """Return what a ready job is compared by: a number, or a tuple of numbers. The smallest starts first.

        It is called in the thread of the run when the job becomes ready, and again when its rank has changed.

        Args:
            job: the job. Under `simulate` it is the scenario's own job, which is idle then.
            outlook: what is expected of the jobs, in this run.

        """
        ...

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        """Return in a few words why jobs go before a ready one, for `Scheduler.explain`: by default, the class."""
        return f"by {type(self).__name__}"
