"""Functions on the members of a scheduler, for views, journals, simulations and control channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..admission.policy._policy import median_duration
from ..base._graph_algorithms import longest_path_lengths, topological_order
from ..run._run import SteeringIncident
from ._job_queries import groups_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..base._states import JobState, ReportedState
    from ..job._job import AbstractJob, AnyJob
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job_queries import CountKey


def accepts_jobs(scheduler: BaseScheduler) -> bool:
    """Return whether `add` is possible now, in this thread: the scheduler is not closed, draining or stopping.

    A control channel asks this before it adds a job.

    Example:
        >>> from trioflow.abc import accepts_jobs
        >>> s = Scheduler()
        >>> accepts_jobs(s), s.close(), accepts_jobs(s)
        (True, None, False)

    """
    try:
        scheduler._members.check_open("accepts_jobs()")
    except RuntimeError:
        return False
    return True


def all_requirements(scheduler: BaseScheduler, job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    """Return the members of `scheduler` that must settle before `job` may start, even if they have settled already.

    These are the requirements of `job`, and the members that contain an input of `job` or of a job nested in it.
    """
    return scheduler._members.all_requirements(job)


def nested_schedulers(scheduler: BaseScheduler) -> list[BaseScheduler]:
    return list(scheduler._members.nested_schedulers)


def ends_with_steering(scheduler: BaseScheduler) -> bool:
    """Return whether the last incident is a word from outside the program, so that nothing went wrong."""
    return isinstance(scheduler._incidents[-1], SteeringIncident)


def dropped_counts(scheduler: BaseScheduler) -> Iterator[tuple[CountKey, int]]:
    """Yield how many jobs `keep_jobs=False` has removed, by their keys of `count_key`."""
    for group in groups_of_run(scheduler):
        yield from group._members.dropped_counts.items()


def expected_durations(scheduler: BaseScheduler, jobs: Iterable[AnyJob] | None = None) -> dict[AnyJob, float]:
    """Return the known expected durations of the members of a scheduler, or of some of them, in seconds.

    The option `durations` of the outermost scheduler takes precedence over `expected_duration` of a member.
    """
    return scheduler._expected_durations(jobs)


def members_in_order(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members of a scheduler, each after the members that it waits for.

    Jobs in cycles are left out, and so are jobs that wait for them, directly or indirectly.

    Takes O(V + E) time. Unlike `trioflow.graph.topological_order`, this does not look for implied requirements. It uses
    those that the last run or `store_implied_requirements` has stored.
    """
    return topological_order(list(scheduler), scheduler._members.all_requirements)


def ranks_of(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the rank of each member: the expected duration of the longest path from its start to the end of the graph.

    Ranks are in seconds. Members of unknown duration are assumed to take as long as `median_duration` returns.

    The policy "critical-path" starts jobs in the order of their ranks; see `Outlook.rank`. Takes O(V + E) time.
    """
    durations = expected_durations(scheduler)
    default = median_duration(durations.values())
    return longest_path_lengths(members_in_order(scheduler), scheduler._members.all_requirements, durations, default)


def counted_state(scheduler: BaseScheduler, job: AbstractJob[Any]) -> ReportedState | None:
    """Return the state as which a journal and a look count a job; None for what is no job of the user's."""
    return scheduler._counted_state(job)


def all_counts(scheduler: BaseScheduler) -> Mapping[JobState, int] | None:
    """Return the number of jobs by state, as the scheduler itself has counted them, or None if it has not."""
    return scheduler._all_counts()
