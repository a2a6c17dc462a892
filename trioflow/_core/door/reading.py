"""A run, its scheduler and its jobs, to look at: what views and simulations need."""

from ..base._amounts import Amount, is_size
from ..base._amounts import amount as amount_of
from ..base._amounts import shown as shown_amount
from ..base._amounts import size as size_of
from ..base._graph import backlinks, find_cycle, reachable, topological_order
from ..base._log import warn
from ..base._states import JobState, StopReason
from ..job._errors import CycleError, JobTimeout, JournalError, TrioflowError
from ..job._function import Job
from ..job._job import AbstractJob, AnyJob, is_scheduler
from ..job._labels import paths as paths_of
from ..job._labels import percent, printable, shortened
from ..job._options import Rule, duration
from ..job._outcome import DROPPED, Failure
from ..limits._order import POLICIES, Policy
from ..limits._order import checked as checked_policy
from ..limits._pool import Pool
from ..limits._window import Adaptive
from ..limits._window import slots as slots_of
from ..limits._window import window as checked_window
from ..run._current import current_job
from ..run._durable import NOT_KEPT, NOT_STORED, NOT_THERE
from ..run._observers import Instrument
from ..scheduler._checks import _check_one_shot as check_one_shot
from ..scheduler._checks import check as check_scenario
from ..scheduler._checks import check_late_input, check_requirement, common, imply_all
from ..scheduler._explain import in_few_words
from ..scheduler._failures import failed_through_member
from ..scheduler._plain_code import SignalWatch, in_cell
from ..scheduler._scheduler import BaseScheduler, Incident

__all__ = (
    "DROPPED",
    "NOT_KEPT",
    "NOT_STORED",
    "NOT_THERE",
    "POLICIES",
    "AbstractJob",
    "Adaptive",
    "Amount",
    "AnyJob",
    "BaseScheduler",
    "CycleError",
    "Failure",
    "Incident",
    "Instrument",
    "Job",
    "JobState",
    "JobTimeout",
    "JournalError",
    "Policy",
    "Pool",
    "Rule",
    "SignalWatch",
    "StopReason",
    "TrioflowError",
    "amount_of",
    "backlinks",
    "check_late_input",
    "check_one_shot",
    "check_requirement",
    "check_scenario",
    "checked_policy",
    "checked_window",
    "common",
    "current_job",
    "duration",
    "failed_through_member",
    "find_cycle",
    "imply_all",
    "in_cell",
    "in_few_words",
    "is_scheduler",
    "is_size",
    "paths_of",
    "percent",
    "printable",
    "reachable",
    "shortened",
    "shown_amount",
    "size_of",
    "slots_of",
    "topological_order",
    "warn",
)
