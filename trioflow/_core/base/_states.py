"""The states of a job and the steps between them, the phases of a run, and the reasons why a run stops.

A job's state is written by its run, along `TRANSITIONS`: by `Run.schedule`, `begin`, `requeue_throttled` and `settle`,
and for the simplest jobs by `Worker.work`, which does the same in its own frame. Only `AbstractJob` itself sets it back
to IDLE. A figure in the documentation and checks in the test suite are derived from this table.
"""

import enum
from typing import Final, Literal

OnTimeout = Literal["fail", "restart", "move_on"]
RunIf = Literal["settled", "succeeded", "failed"]


class JobState(enum.Enum):
    """The state of a job within a run."""

    IDLE = "idle"
    """Not reached: a requirement has not settled."""
    SCHEDULED = "scheduled"
    """All requirements have settled; the job waits for a slot of the window or a resource."""
    RUNNING = "running"
    """The job is running, or waits between two attempts."""
    SUCCEEDED = "succeeded"
    """The job ended, and has a result."""
    FAILED = "failed"
    """The job raised, or exceeded its timeout."""
    CANCELLED = "cancelled"
    """The run or `cancel()` ended the job, or kept it from starting."""
    BLOCKED = "blocked"
    """The job will not run: it needs the success of one that failed."""
    SKIPPED = "skipped"
    """The job need not run, by its rule."""

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
    """`drain()` kept further jobs from starting; the running ones ended by themselves."""


HOW_RUNS_END: Final = {
    StopReason.COMPLETED: "completed",
    StopReason.CRITICAL: "was stopped by a critical failure",
    StopReason.TIMEOUT: "timed out",
    StopReason.CANCELLED: "was cancelled",
    StopReason.INTERRUPTED: "was interrupted",
    StopReason.DRAINED: "was drained",
}
"""The end of a run in words, after "the run"."""


class RunPhase(enum.Enum):
    """The phase of a run. Phases follow each other in this order; STOPPING may follow each of them."""

    CHECKING = "is being checked"
    """The scenario is checked, and the jobs are reset. No task has been started."""
    LINKING = "counts who waits for whom"
    """The group of tasks is open, with the run's deadline. Jobs that were cancelled by its end settle then."""
    ENTERING = "makes the first jobs ready"
    """All jobs are linked: each has the count of its open requirements."""
    RUNNING = "runs"
    """Workers run jobs; jobs and requirements may be added."""
    DRAINING = "is draining"
    """No further jobs start; those that are running end by themselves."""
    STOPPING = "is stopping"
    """No further jobs start, except clean-up jobs."""


# Looking up a member of an enum would double the cost of the hot paths.
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
    ),  # SUCCEEDED without RUNNING: the result comes from a journal
    JobState.SCHEDULED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.SCHEDULED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),  # SCHEDULED again: it was throttled
    **dict.fromkeys([SUCCEEDED, JobState.FAILED, CANCELLED, JobState.BLOCKED, JobState.SKIPPED], frozenset[JobState]()),
}
"""The states that may follow each state within one run. A new run resets every job to IDLE."""
