"""What a job and a run can be: states, the steps between them, and why a run stopped.

A job's state is written in `_run` and `_worker` alone, and only along `TRANSITIONS`; the figure in the documentation
and the checks of the test suite are made from that table.
"""

import enum
from typing import Final, Literal

OnTimeout = Literal["fail", "restart", "move_on"]
RunIf = Literal["settled", "succeeded", "failed"]


class JobState(enum.Enum):
    """Where a job is in its life."""

    IDLE = "idle"
    """Not reached yet: something that it requires has not settled."""
    SCHEDULED = "scheduled"
    """All that it requires has settled; it waits for a slot of the window."""
    RUNNING = "running"
    """It runs, or waits between two attempts."""
    SUCCEEDED = "succeeded"
    """It ran to its end and has a result."""
    FAILED = "failed"
    """It raised, or ran out of its time."""
    CANCELLED = "cancelled"
    """It was ended, or kept from starting, by the run or by somebody."""
    BLOCKED = "blocked"
    """It will not run: something it builds on failed."""
    SKIPPED = "skipped"
    """It need not run: its rule says so."""

    @property
    def is_settled(self) -> bool:
        """Whether this is a final state of a run."""
        return not TRANSITIONS[self]


class StopReason(enum.Enum):
    """Why a run came to its end; the first reason wins."""

    COMPLETED = "completed"
    """Every job that does not run for ever settled in time, and no critical one failed."""
    CRITICAL = "critical"
    """A critical job failed."""
    TIMEOUT = "timeout"
    """The scheduler's timeout passed."""
    CANCELLED = "cancelled"
    """`cancel()`, or a cancellation from outside."""
    INTERRUPTED = "interrupted"
    """`KeyboardInterrupt`, `SystemExit`, or a signal."""


TRANSITIONS: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.IDLE: frozenset({JobState.SCHEDULED, JobState.BLOCKED, JobState.SKIPPED, JobState.CANCELLED}),
    JobState.SCHEDULED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.BLOCKED: frozenset(),
    JobState.SKIPPED: frozenset(),
}
"""Each state with those that may follow it within one run; a new run takes every job back to IDLE."""
