"""The states of a job and their transitions, the phases of a run, why a run stops, and the causes of waits.

`AbstractJob._initialize` and `AbstractJob._reset` make a job IDLE. Then its run moves it along `TRANSITIONS`:
`_steps.ready` makes it SCHEDULED, `Worker.work` RUNNING, and `_steps.settle` gives it its final state. For another
attempt, `_steps.requeue` makes it SCHEDULED again. A job that is tried again is reset, too. `_reopening.wait_again`
makes a job IDLE that was SCHEDULED, and that waits for a requirement again, which had succeeded. Tests compare this
list with all functions that write a state. They also compare the figure and the table of the states in the
documentation with `TRANSITIONS` and the texts below.
"""

import enum
from typing import Final, Literal, NamedTuple, TypeAlias

OnTimeout = Literal["fail", "move_on"]
RunIf = Literal["settled", "succeeded", "failed"]


class JobState(enum.StrEnum):
    """The state of a job within a run."""

    IDLE = "idle"
    """The job waits for its requirements to settle, or for a run to begin."""
    SCHEDULED = "scheduled"
    """The job waits for a slot of the window, for what it needs, or for its next attempt."""
    RUNNING = "running"
    """The job is running."""
    SUCCEEDED = "succeeded"
    """The job ran to its end, or was restored from a journal."""
    FAILED = "failed"
    """The job raised, or ran into its timeout or `idle_timeout`."""
    CANCELLED = "cancelled"
    """The job was ended or kept from starting, by the run or by `cancel()`."""
    BLOCKED = "blocked"
    """The job will not run, because something that it requires failed, or a budget is spent."""
    SKIPPED = "skipped"
    """The job need not run, because its rule says so."""

    @property
    def is_settled(self) -> bool:
        """Whether this is a final state within a run, which a job leaves only to be tried again."""
        return self in SETTLED


class MovedOn(enum.StrEnum):
    """The member `MOVED_ON`, which reports give in place of SUCCEEDED for a job that its timeout cut short."""

    MOVED_ON = "moved on"
    """The job has `on_timeout="move_on"`, and its timeout ended it, so it has no result but None."""

    @property
    def is_settled(self) -> bool:
        return True


MOVED_ON: Final = MovedOn.MOVED_ON
ReportedState: TypeAlias = JobState | MovedOn
"""The state of a job in counts, symbols and colors."""


def parse_reported_state(text: str) -> ReportedState:
    """Return the state with this value, e.g. "failed" or "moved on". Raise `ValueError` if there is none."""
    if text == MOVED_ON.value:
        return MOVED_ON
    return JobState(text)


class StopReason(enum.StrEnum):
    """The reason why a run stopped. If there are several, the first reason counts."""

    COMPLETED = "completed"
    """All jobs except forever jobs settled in time, and no failure counts."""
    FAILED = "failed"
    """All jobs except forever jobs settled in time, and at least one failure counts."""
    CRITICAL = "critical"
    """A critical job failed."""
    TIMEOUT = "timeout"
    """The scheduler's timeout passed."""
    CANCELLED = "cancelled"
    """The run was ended by `cancel()`, or by a cancellation from outside."""
    INTERRUPTED = "interrupted"
    """The run was ended by `KeyboardInterrupt`, `SystemExit` or another `BaseException`, or by a signal."""
    DRAINED = "drained"
    """`drain()` kept further jobs from starting. The running jobs ended by themselves."""


STOP_REASON_TEXTS: Final = {
    StopReason.COMPLETED: "completed",
    StopReason.FAILED: "failed",
    StopReason.CRITICAL: "was stopped by a critical failure",
    StopReason.TIMEOUT: "timed out",
    StopReason.CANCELLED: "was cancelled",
    StopReason.INTERRUPTED: "was interrupted",
    StopReason.DRAINED: "was drained",
}
"""The end of a run as the predicate of a sentence about the run."""


class RunPhase(enum.Enum):
    """The phase of a run. The phases follow each other in this order, except that each may lead to STOPPING.

    What a call does in each phase stands in `scheduler/_life`, with the stages of a scheduler.
    """

    # Whether no further jobs start, except clean-up jobs. It is no property, because workers ask for each job.
    _is_ending: bool

    def __init__(self, _words: str) -> None:
        self._is_ending = False

    CHECKING = "is being checked"
    """The run checks the scenario and resets the jobs. It has not started any task."""
    LINKING = "counts who waits for whom"
    """The run, now under its deadline, counts each job's open requirements."""
    ENTERING = "makes the first jobs ready"
    """The requirements of all jobs are counted. The run schedules the jobs without open requirements."""
    RUNNING = "runs"
    """Workers run jobs; jobs and requirements may be added."""
    DRAINING = "is draining"
    """No further jobs start. The running jobs end by themselves."""
    STOPPING = "is stopping"
    """No further jobs start, except clean-up jobs."""


# Module globals for the hot paths, whose cost would double if they looked up the members of the enums.
IDLE: Final = JobState.IDLE
SCHEDULED: Final = JobState.SCHEDULED
RUNNING: Final = JobState.RUNNING
SUCCEEDED: Final = JobState.SUCCEEDED
CANCELLED: Final = JobState.CANCELLED
FAILED: Final = JobState.FAILED
BLOCKED: Final = JobState.BLOCKED
SKIPPED: Final = JobState.SKIPPED
CHECKING: Final = RunPhase.CHECKING
DRAINING: Final = RunPhase.DRAINING
STOPPING: Final = RunPhase.STOPPING
DRAINING._is_ending = STOPPING._is_ending = True
COMPLETED: Final = StopReason.COMPLETED
TIMEOUT: Final = StopReason.TIMEOUT
FURTHER_CAUSES: Final = (StopReason.CANCELLED, StopReason.INTERRUPTED)
"""The stop reasons that let a stopping run cancel its jobs again."""
RAN_TO_END: Final = frozenset({StopReason.COMPLETED, StopReason.FAILED})
"""The stop reasons of runs that nothing stopped early."""

REOPENABLE: Final = (FAILED, BLOCKED, CANCELLED)
"""The states of settled jobs that keep what another try needs."""

TRANSITIONS: Final[dict[JobState, dict[str, JobState]]] = {
    IDLE: {
        "ready": SCHEDULED,
        "restored": SUCCEEDED,
        "blocked": BLOCKED,
        "skipped": SKIPPED,
        "cancelled": CANCELLED,
    },
    SCHEDULED: {
        "got a slot": RUNNING,
        "cancelled": CANCELLED,
        "budget spent": BLOCKED,
        "waits again": IDLE,
    },
    RUNNING: {
        "throttled or retried": SCHEDULED,
        "returned": SUCCEEDED,
        "raised": FAILED,
        "cancelled": CANCELLED,
    },
    **{state: {"tried again": IDLE} for state in (SUCCEEDED, *REOPENABLE, SKIPPED)},
}
"""The events that may follow each state within one run, and the states to which they lead. A new run resets each job.
The figure of the states has these edges, with these labels."""
SETTLED: Final = frozenset(
    state for state, edges in TRANSITIONS.items() if {*edges.values()} <= {IDLE}
)


class CancelCause(enum.Enum):
    """Why the engine has cancelled a worker. The first cause is kept."""

    JOB = enum.auto()
    """A call of the job's `cancel()`."""
    END_OF_RUN = enum.auto()
    """The run ends and cancels its forever jobs. A ready service counts as succeeded."""
    STOP = enum.auto()
    """The whole run stops, or its clean-up does."""


class WaitCause(enum.StrEnum):
    """The cause of a wait. Pictures stack the causes above the work in this order."""

    # A new cause also needs its check in `_find_wait` of `words/_explain`, and its texts in `view/_state_styles`.

    RESOURCE = "resource"
    """Too little of a resource is free."""
    THROTTLED = "throttled"
    """A job raised `Throttled`, so no job that needs this resource starts for some time."""
    PAUSE = "pause"
    """The run is paused."""
    RETRY = "retry"
    """The backoff before the next attempt is not over."""
    HELD = "held"
    """The job had failed, or was blocked, and nobody had tried it again yet."""
    RATE = "rate"
    """A `Rate` has not yet refilled to the needed amount."""
    SLOT = "slot"
    """All slots of the window are taken."""
    TOKEN = "token"
    """All tokens of a limiter are taken."""
    MACHINE = "machine"
    """The machine has no room for another process."""
    LOADING = "loading"
    """The code of the job is imported in its worker process, or a journal reads its files. No timeout runs."""
    LOOP = "loop"
    """The job could start, but the event loop is busy."""
    JOBS = "jobs"
    """Jobs that the job requires, or awaits in its body, have not settled."""


class Waiting(NamedTuple):
    """The current wait of a job."""

    cause: WaitCause
    """The cause. If there are several causes, this is the cause that is checked first."""
    resource: str = ""
    """The name of the missing resource, or empty for other causes."""
    text: str = ""
    """A short description, such as "gpu: 1 of 1 taken by 'train'", or empty if the job is about to start."""


NO_WAIT: Final = Waiting(WaitCause.LOOP)
"""The wait of a job that is about to start."""
