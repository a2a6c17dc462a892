"""The interface of asynciojobs 0.21, implemented on trioflow: jobs, schedulers, sequences, watches.

As in asynciojobs, the program may change a scheduler's jobs, their requirements and their settings at any time. So each
run builds a new `trioflow.Scheduler`, with a trioflow job for each job. The trioflow job of a nested scheduler builds
another `trioflow.Scheduler`. `docs/coming-from/asynciojobs.md` lists the differences, and shows the same program
written for trioflow.

Two features are missing, because trioflow's public API does not support them:

- A job that is added to a running scheduler does not run until the next run.
- Instruments see a nested scheduler as a single job.
"""

import sys

from trioflow._core.backend import load_backend as _load_backend

from .job import AbstractJob as AbstractJob
from .job import Job as Job
from .printjob import PrintJob as PrintJob
from .purescheduler import PureScheduler as PureScheduler
from .purescheduler import set_debug as set_debug
from .scheduler import Scheduler as Scheduler
from .sequence import Sequence as Sequence
from .watch import Watch as Watch

# Takes 40 ms, which would delay the first run.
_load_backend("asyncio")

__all__ = [
    "AbstractJob",
    "Job",
    "PrintJob",
    "PureScheduler",
    "Scheduler",
    "Sequence",
    "Watch",
    "set_debug",
    "stand_in",
]

__version__ = "0.21.3"
"""The version of asynciojobs that this module is compatible with."""


def stand_in() -> None:
    """Make `import asynciojobs` import this module in the whole process, for libraries such as apssh.

    Call this function before any module imports asynciojobs.

    Raises:
        RuntimeError: asynciojobs has already been imported.

    """
    names = [name for name in sys.modules if f"{name}.".startswith(f"{__name__}.")]
    own = {
        name.replace(__name__, "asynciojobs", 1): sys.modules[name] for name in names
    }
    if any(
        name.startswith("asynciojobs.") and sys.modules[name] is not own.get(name)
        for name in sys.modules
    ):
        raise RuntimeError(
            "asynciojobs was imported already: call stand_in() before anything imports it"
        )
    sys.modules.update(own)


for _public in (
    AbstractJob,
    Job,
    PrintJob,
    PureScheduler,
    Scheduler,
    Sequence,
    Watch,
    set_debug,
):
    _public.__module__ = __name__
