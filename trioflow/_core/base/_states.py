"""The states of a job and the steps between them, the phases of a run, and the reasons why a run stops.

A job's state is written by its run, along `TRANSITIONS`: by `Run.schedule`, `begin`, `put_back` and `settle`, and for
the simplest jobs by `Worker.work`, which does the same in its own frame. Only `AbstractJob` itself sets it back to
IDLE. A figure in the documentation and checks in the test suite are derived from this table.
"""

import enum
from typing import Final, Literal

OnTimeout = Literal["fail", "restart", "move_on"]
RunIf = Literal["settled", "succeeded", "failed"]


class JobState(enum.Enum):
    """The state of a job: where it is in its life within a run."""

    IDLE = "idle"
    """It has not been reached: something that it requires has not settled."""
    SCHEDULED = "scheduled"
    """All that it requires has settled; it waits for a slot of the window, or for what it needs."""
    RUNNING = "running"
    """It is running, or waits between two attempts."""
    SUCCEEDED = "succeeded"
    """It ran to its end, and it has a result."""
    FAILED = "failed"
    """It raised, or did not end within its timeout."""
    CANCELLED = "cancelled"
    """It was ended, or kept from starting, by its run or by `cancel()`."""
    BLOCKED = "blocked"
    """It will not run, because something whose success it needs failed."""
    SKIPPED = "skipped"
    """It need not run, because its rule says so."""

    @property
    def is_settled(self) -> bool:
        """Whether this is a final state within a run."""
        return not TRANSITIONS[self]


class StopReason(enum.Enum):
    """Why a run stopped; the first reason wins."""

    COMPLETED = "completed"
    """All jobs but the forever jobs settled in time, and no critical job failed."""
    CRITICAL = "critical"
    """A critical job failed."""
    TIMEOUT = "timeout"
    """The scheduler's timeout passed."""
    CANCELLED = "cancelled"
    """The run was ended by `cancel()`, or by a cancellation from outside."""
    INTERRUPTED = "interrupted"
    """The run was ended by `KeyboardInterrupt`, `SystemExit` or another `BaseException`, or by a signal."""
    DRAINED = "drained"
    """No more jobs were to start, by `drain()`; those that were running ended by themselves."""


HOW_RUNS_END: Final = {
    StopReason.COMPLETED: "completed",
    StopReason.CRITICAL: "was stopped by a critical failure",
    StopReason.TIMEOUT: "timed out",
    StopReason.CANCELLED: "was cancelled",
    StopReason.INTERRUPTED: "was interrupted",
    StopReason.DRAINED: "was drained",
}
"""What people read of a run that has ended, after "the run"."""


class RunPhase(enum.Enum):
    """Where a run is in its life. The phases follow each other in this order, but STOPPING may follow each of them."""

    CHECKING = "is being checked"
    """The scenario is checked, and the jobs are reset. No task has been started."""
    LINKING = "counts who waits for whom"
    """The group of tasks is open, with the run's deadline. Jobs that were cancelled by its end settle then."""
    ENTERING = "makes the first jobs ready"
    """All jobs are linked: each knows what it waits for."""
    RUNNING = "runs"
    """Workers run jobs; jobs and requirements may be added."""
    DRAINING = "is draining"
    """No more jobs start, and those that are running go on to their own end."""
    STOPPING = "is stopping"
    """No more jobs start, except clean-up jobs."""


# To look up a member of an enumeration takes as long as all else that the shortest paths do with it.
IDLE: Final = JobState.IDLE
SCHEDULED: Final = JobState.SCHEDULED
RUNNING: Final = JobState.RUNNING
SUCCEEDED: Final = JobState.SUCCEEDED
CANCELLED: Final = JobState.CANCELLED
CHECKING: Final = RunPhase.CHECKING
LINKING: Final = RunPhase.LINKING
ENTERING: Final = RunPhase.ENTERING
DRAINING: Final = RunPhase.DRAINING
STOPPING: Final = RunPhase.STOPPING
COMPLETED: Final = StopReason.COMPLETED

TRANSITIONS: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.IDLE: frozenset(
        {JobState.SCHEDULED, JobState.SUCCEEDED, JobState.BLOCKED, JobState.SKIPPED, JobState.CANCELLED}
    ),  # SUCCEEDED at once: its result comes from a journal
    JobState.SCHEDULED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.SCHEDULED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),  # SCHEDULED again: it was throttled
    **dict.fromkeys([SUCCEEDED, JobState.FAILED, CANCELLED, JobState.BLOCKED, JobState.SKIPPED], frozenset[JobState]()),
}
"""Each state, with the states that may follow it within one run. A new run sets every job back to IDLE."""
