"""The engine: no terminal, no drawing, no processes, no environment, no print.

The names below are those that most of the package needs; everything else is imported from where it is defined.
"""

from .base._states import JobState, StopReason
from .job._call import Search
from .job._function import FunctionJob, check_function, name_of
from .job._job import AbstractJob, AnyJob, Kind, T, is_scheduler
from .job._labels import printable, shortened
from .job._options import JobOptions
from .job._outcome import DROPPED, Failure
from .run._observers import Instrument
from .scheduler._scheduler import BaseScheduler, Incident

__all__ = (
    "DROPPED",
    "AbstractJob",
    "AnyJob",
    "BaseScheduler",
    "Failure",
    "FunctionJob",
    "Incident",
    "Instrument",
    "JobOptions",
    "JobState",
    "Kind",
    "Search",
    "StopReason",
    "T",
    "check_function",
    "is_scheduler",
    "name_of",
    "printable",
    "shortened",
)
