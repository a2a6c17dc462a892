"""The causes of waiting, and the answer that `explain`, views and metrics share.

A new cause needs a member here, an entry in `CAUSES` of `scheduler/_explain`, which finds and explains it, and its
words in `view/_state_styles`.
"""

import enum
from typing import NamedTuple


class WaitCause(enum.StrEnum):
    """The cause of a wait, in the order in which pictures stack the causes above the work."""

    RESOURCE = "resource"
    """There is not enough of a resource."""
    THROTTLED = "throttled"
    """A job raised `Throttled`, and nothing starts on this resource for some time."""
    RATE = "rate"
    """The `Rate` has not accrued enough so far."""
    SLOT = "slot"
    """All slots of the window are taken."""
    TOKEN = "token"
    """All tokens of a limiter are taken."""
    MACHINE = "machine"
    """The system has no room for one more command."""
    LOOP = "loop"
    """The job can start; the event loop is busy."""
    JOBS = "jobs"
    """Jobs that it requires, or awaits in its body, have not settled."""


class Waiting(NamedTuple):
    """The current wait of a job."""

    cause: WaitCause
    """The cause; of several, the first that holds the job up."""
    resource: str = ""
    """The name of the missing resource; empty for causes without one."""
    text: str = ""
    """The wait in a few words, such as "gpu taken by 'train'"; empty if the job is about to start."""
