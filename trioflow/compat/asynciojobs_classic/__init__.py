"""The interface of early versions of asynciojobs, for old notebooks: `Engine`, `SchedulerJob`, `orchestrate`.

Jobs are not critical by default, a run returns False after a failure and never raises its exception, and `run` and
`orchestrate` take `timeout`, `jobs_window` and `loop`. All else is as in `trioflow.compat.asynciojobs`.
"""

from ..asynciojobs import Watch as Watch
from ..asynciojobs import set_debug as set_debug
from .engine import AbstractJob as AbstractJob
from .engine import Engine as Engine
from .engine import Job as Job
from .engine import PrintJob as PrintJob
from .engine import Scheduler as Scheduler
from .engine import SchedulerJob as SchedulerJob
from .engine import Sequence as Sequence

__all__ = [
    "AbstractJob",
    "Engine",
    "Job",
    "PrintJob",
    "Scheduler",
    "SchedulerJob",
    "Sequence",
    "Watch",
    "set_debug",
]

for _public in (AbstractJob, Engine, Job, PrintJob, Scheduler, SchedulerJob, Sequence):
    _public.__module__ = __name__
