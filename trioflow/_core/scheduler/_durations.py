"""The expected durations of the members of a scheduler, and their ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..admission.policy._upward_ranks import usual
from ..base._graph_algorithms import longest_paths, topological_order

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ._base_scheduler import BaseScheduler


def expected_durations(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the known expected durations of the members in the present run, in seconds.

    `durations` of the outermost scheduler takes precedence over the members' own `expected_duration`.
    """
    return scheduler._expected_durations()


def learned_durations(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the same if the run has durations besides the members' own options; otherwise nothing."""
    return scheduler._expected_durations() if scheduler._knows_durations() else {}


def in_order(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members, each after those that it waits for; jobs in cycles are left out. O(V + E).

    Unlike `scheduler.topological_order()`, this finds no implied requirements: it uses those that the last run, or
    `find_implied`, has found.
    """
    return topological_order(list(scheduler), scheduler._members.waits_for)


def ranks_of(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return the rank of each member: the seconds of the longest path from its start to an exit.

    It is the order of the policy "critical-path"; see `Outlook.rank`. O(V + E).
    """
    known = expected_durations(scheduler)
    return longest_paths(in_order(scheduler), scheduler._members.waits_for, known, usual(known.values()))
