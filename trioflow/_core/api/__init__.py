# pyright: reportUnusedImport=false
"""The API of the engine: all that the rest of the package may import of it. Nothing is defined here.

The names below are for users: `trioflow` and `trioflow.abc` re-export them, and `trioflow._scheduler` builds on them.
Each other use has a module:

- `kinds`: for a kind of job.
- `typed`: the types of functions and of their arguments.
- `views`: a run and its jobs, read-only.
- `journals`: for a journal.
- `testing`: for an exploration of a run.
"""

from typing import TYPE_CHECKING

from ..backend import take_the_plain_way
from ..base._states import JobState, StopReason
from ..job._call import ref
from ..job._decorator import job
from ..job._errors import (
    CycleError,
    JobCancelled,
    JobNotDone,
    JobSkipped,
    JobTimeout,
    JournalError,
    MissingRequirement,
    RequirementFailed,
    Throttled,
    TrioflowError,
)
from ..job._function import Job
from ..job._job import AbstractJob, AnyJob
from ..job._option import Option, describe
from ..job._service import Service
from ..limits._pool import Pool
from ..limits._rate import Rate
from ..limits._window import Adaptive
from ..limits.policy._policy import Outlook, Policy
from ..run._current import current_job
from ..run._durable import RunJournal
from ..run._observers import Instrument
from ..run._run import Run
from ..scheduler._scheduler import BaseScheduler, BaseSchedulerOptions
from ..scheduler._sequence import Sequence

if TYPE_CHECKING:
    from ..backend import Backend
    from ..job._requirements import Required
