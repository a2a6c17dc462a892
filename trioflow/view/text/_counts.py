"""How many jobs are in which state, in the words and by the rule of all views.

Nested schedulers are not counted, but the jobs in them are. Forever jobs are background jobs, whatever state the run
ended them in, unless they failed or were blocked.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Final

from ..._core.door.reading import AnyJob, JobState, is_scheduler

BACKGROUND: Final = "background"
TROUBLE: Final = frozenset({JobState.FAILED, JobState.BLOCKED})
"""States in which a forever job is counted like any other."""


def state_of(state: JobState, forever: bool) -> JobState | str:
    """Return as what a job is counted."""
    return BACKGROUND if forever and state not in TROUBLE else state


def of_jobs(jobs: Iterable[AnyJob]) -> str:
    """Return `5 jobs: 3 succeeded (2 restored), 1 failed, 1 background`, without what there is none of."""
    counted = [job for job in jobs if not is_scheduler(job)]
    return in_words(((job.state, job.forever) for job in counted), sum(job.restored for job in counted))


def in_words(jobs: Iterable[tuple[JobState, bool]], restored: int = 0) -> str:
    """Return the same for jobs of which each has a state, and may be forever."""
    count = collections.Counter(state_of(state, forever) for state, forever in jobs)
    more = {JobState.SUCCEEDED: f" ({restored} restored)"} if restored else {}
    states = [f"{count[state]} {state.value}{more.get(state, '')}" for state in JobState if count[state]]
    if count[BACKGROUND]:
        states.append(f"{count[BACKGROUND]} {BACKGROUND}")
    number = count.total()
    return f"{number} job{'s' * (number != 1)}: {', '.join(states) or 'nothing to do'}"
