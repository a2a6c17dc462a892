"""What a kind of job asks of the engine and of its run."""

from typing import TYPE_CHECKING

from ..backend import by_name as backend_by_name
from ..backend import current as current_backend
from ..backend import loop_running
from ..base._graph import topological_order
from ..base._states import JobState
from ..job._call import Search
from ..job._errors import JobCancelled, JobTimeout, TrioflowError
from ..job._function import FunctionJob, Job, check_function, name_of
from ..job._job import RAISE, AbstractJob, AnyJob, D, Look, T
from ..job._labels import DEPTH, of_job_inside, printable, without_middle
from ..job._options import JobOptions, duration, whole, with_advice
from ..job._outcome import Failure
from ..run._attempts import as_often
from ..run._current import current as current_worker
from ..run._idle import OUTPUT, Watch
from ..run._observers import Instrument
from ..run._run import Run
from ..run._worker import Worker
from ..scheduler._scheduler import BackendName, BaseScheduler

if TYPE_CHECKING:
    from ..job._options import Retry as Retry

__all__ = (
    "DEPTH",
    "OUTPUT",
    "RAISE",
    "AbstractJob",
    "AnyJob",
    "BackendName",
    "BaseScheduler",
    "D",
    "Failure",
    "FunctionJob",
    "Instrument",
    "Job",
    "JobCancelled",
    "JobOptions",
    "JobState",
    "JobTimeout",
    "Look",
    "Run",
    "Search",
    "T",
    "TrioflowError",
    "Watch",
    "Worker",
    "as_often",
    "backend_by_name",
    "check_function",
    "current_backend",
    "current_worker",
    "duration",
    "loop_running",
    "name_of",
    "of_job_inside",
    "printable",
    "topological_order",
    "whole",
    "with_advice",
    "without_middle",
)
