"""The names of asynciojobs 0.21 over trioflow: jobs, schedulers, sequences, watches.

A scheduler here keeps the parts that its program may change at any time: sets of jobs and of requirements, criticality,
labels. Each run builds a `trioflow.Scheduler` with one job for each of these, which does the work. Nested schedulers
run as jobs in the same way. `docs/coming-from/asynciojobs.md` lists the differences, and shows the same program in
trioflow's own words.

On asyncio, a job is cancelled as asyncio programs expect: once, so that a `finally` that awaits comes to its end. A job
that has not ended within `shutdown_timeout` is then cancelled at each await: `cancels_once=True` of the class of the
`trioflow.Scheduler`.

The public API has no way to do the following, so this module does not do it:

- A job that is added to a scheduler while that runs is not run; it waits for the next run.
- Instruments see a nested scheduler as one job.
"""

import sys

from trioflow.abc import load_backend as _load_backend

from .job import AbstractJob as AbstractJob
from .job import Job as Job
from .printjob import PrintJob as PrintJob
from .purescheduler import PureScheduler as PureScheduler
from .purescheduler import set_debug as set_debug
from .scheduler import Scheduler as Scheduler
from .sequence import Sequence as Sequence
from .watch import Watch as Watch

_load_backend("asyncio")  # so that the first run is not slower by 40 ms

__all__ = [
    "AbstractJob",
    "Job",
    "PrintJob",
    "PureScheduler",
    "Scheduler",
    "Sequence",
    "Watch",
    "__version__",
    "set_debug",
    "stand_in",
]

__version__ = "0.21.3"
"""The version of asynciojobs whose names and behaviour these are."""


def stand_in() -> None:
    """Make `import asynciojobs` mean this module, everywhere in this process: for libraries such as apssh.

    Call it before the first import of asynciojobs.

    Raises:
        RuntimeError: asynciojobs itself was imported already.

    """
    own = {name.replace(__name__, "asynciojobs", 1): sys.modules[name] for name in sys.modules if _is_here(name)}
    if any(name.startswith("asynciojobs.") and sys.modules[name] is not own.get(name) for name in sys.modules):
        raise RuntimeError("asynciojobs was imported already: call stand_in() before anything imports it")
    sys.modules.update(own)


def _is_here(module: str) -> bool:
    return module == __name__ or module.startswith(f"{__name__}.")


for _public in (AbstractJob, Job, PrintJob, PureScheduler, Scheduler, Sequence, Watch, set_debug):
    _public.__module__ = __name__
