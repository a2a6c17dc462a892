"""What a journal needs: what to keep of a job, and how to give it back."""

from typing import TYPE_CHECKING

from ..base._log import warn
from ..job._call import Call, DirectArguments, Search
from ..job._errors import JournalError
from ..job._function import FunctionJob
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import Names
from ..job._outcome import DROPPED, RareFacts
from ..job._work import Hidden, Work
from ..run._durable import NOT_KEPT, NOT_STORED, NOT_THERE, RunJournal
from ..scheduler._scheduler import BaseScheduler

if TYPE_CHECKING:
    from ..job._options import Save as Save

__all__ = (
    "DROPPED",
    "NOT_KEPT",
    "NOT_STORED",
    "NOT_THERE",
    "AbstractJob",
    "BaseScheduler",
    "Call",
    "DirectArguments",
    "FunctionJob",
    "Hidden",
    "JournalError",
    "Names",
    "RareFacts",
    "RunJournal",
    "Search",
    "Work",
    "is_scheduler",
    "warn",
)
