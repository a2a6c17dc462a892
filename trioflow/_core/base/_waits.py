"""The causes for which a job waits, shared by `explain`, views and metrics.

To add a cause, add a member to `WaitCause`, its check to `WAIT_FUNCTIONS` in `scheduler/_explain`, and its texts to
`view/_state_styles`.
"""

import enum
from typing import NamedTuple


class WaitCause(enum.StrEnum):
    """The cause of a wait. Pictures stack the causes above the work in this order."""

    RESOURCE = "resource"
    """Too little of a resource is free."""
    THROTTLED = "throttled"
    """A job raised `Throttled`, so no job that needs this resource starts for some time."""
    RETRY = "retry"
    """The pause before the next attempt is not over."""
    RATE = "rate"
    """A `Rate` has not yet refilled to the needed amount."""
    SLOT = "slot"
    """All slots of the window are taken."""
    TOKEN = "token"
    """All tokens of a limiter are taken."""
    MACHINE = "machine"
    """The machine has no room for another process."""
    LOOP = "loop"
    """The job could start, but the event loop is busy."""
    JOBS = "jobs"
    """Jobs that the job requires, or awaits in its body, have not settled."""


class Waiting(NamedTuple):
    """The current wait of a job."""

    cause: WaitCause
    """The cause; if there are several, the one that is checked first."""
    resource: str = ""
    """The name of the missing resource; empty for causes without one."""
    text: str = ""
    """A short description, such as "gpu taken by 'train'"; empty if the job is about to start."""
