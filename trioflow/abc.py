"""The interfaces for users' own kinds of jobs, policies and instruments.

The functions here give instruments and views facts about runs and jobs that are not attributes of a job. Others help
kinds of jobs to check their options and to name things in messages.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from ._core.api import AbstractJob as AbstractJob
from ._core.api import BoxStyle as BoxStyle
from ._core.api import FunctionJob as FunctionJob
from ._core.api import Instrument as Instrument
from ._core.api import JobKind as JobKind
from ._core.api import JobOptions as JobOptions
from ._core.api import OnTimeout as OnTimeout
from ._core.api import Outlook as Outlook
from ._core.api import Policy as Policy
from ._core.api import RunHandle as RunHandle
from ._core.api import RunIf as RunIf
from ._core.api import ThreadEvent as ThreadEvent
from ._core.api import TimeLimit as TimeLimit
from ._core.api import arguments_of as arguments_of
from ._core.api import call_of as call_of
from ._core.api import callback as callback
from ._core.api import declare_run_resource as declare_run_resource
from ._core.api import duration as duration
from ._core.api import file_path as file_path
from ._core.api import fit as fit
from ._core.api import flag as flag
from ._core.api import is_among as is_among
from ._core.api import join_names as join_names
from ._core.api import label_inside as label_inside
from ._core.api import load_backend as load_backend
from ._core.api import loop_running as loop_running
from ._core.api import name_in_errors as name_in_errors
from ._core.api import name_of as name_of
from ._core.api import original_arguments_of as original_arguments_of
from ._core.api import plural as plural
from ._core.api import printable as printable
from ._core.api import propagate_env as propagate_env
from ._core.api import propagated_env as propagated_env
from ._core.api import reject_text as reject_text
from ._core.api import run_of as run_of
from ._core.api import set_run_need as set_run_need
from ._core.api import short_repr as short_repr
from ._core.api import shown_value as shown_value
from ._core.api import users_of as users_of
from ._core.api import whole_number as whole_number
from ._core.api.views import BackendName as BackendName
from ._core.api.views import PolicyName as PolicyName
from ._core.api.views import Restoration as Restoration
from ._core.api.views import RunPhase as RunPhase
from ._core.api.views import RunView as RunView
from ._core.api.views import WaitCause as WaitCause
from ._core.api.views import Waiting as Waiting
from ._core.api.views import accepts_jobs as accepts_jobs
from ._core.api.views import all_requirements as all_requirements
from ._core.api.views import amount_of as amount_of
from ._core.api.views import amount_text as amount_text
from ._core.api.views import check_scenario as check_scenario
from ._core.api.views import criticality as criticality
from ._core.api.views import current_run as current_run
from ._core.api.views import duration_text as duration_text
from ._core.api.views import enclosing_schedulers as enclosing_schedulers
from ._core.api.views import explicit_label as explicit_label
from ._core.api.views import failed_through_member as failed_through_member
from ._core.api.views import fraction_done as fraction_done
from ._core.api.views import incidents_of as incidents_of
from ._core.api.views import inputs_of as inputs_of
from ._core.api.views import is_ready as is_ready
from ._core.api.views import is_scheduler as is_scheduler
from ._core.api.views import is_service as is_service
from ._core.api.views import is_size as is_size
from ._core.api.views import name_of_policy as name_of_policy
from ._core.api.views import open_requirements as open_requirements
from ._core.api.views import paths_of as paths_of
from ._core.api.views import ranks_of as ranks_of
from ._core.api.views import reachable as reachable
from ._core.api.views import reason_not_restored as reason_not_restored
from ._core.api.views import reported_state as reported_state
from ._core.api.views import restoration_of as restoration_of
from ._core.api.views import size_text as size_text
from ._core.api.views import stored_result as stored_result
from ._core.api.views import waiting as waiting
from ._core.api.views import waiting_since as waiting_since

if _TYPE_CHECKING:  # at run time it would be `int`, because `fractions` is slow to import
    from ._core.api.views import Amount as Amount

if _TYPE_CHECKING:
    from ._core.api.journals import HashOnly as HashOnly
    from ._core.api.journals import LocalDirectory as LocalDirectory
    from ._core.api.journals import Work as Work


_JOURNAL_NAMES = ("HashOnly", "LocalDirectory", "Work")


def __getattr__(name: str) -> _Any:
    """Import the dataclasses for journals on first use (PEP 562): they take 8 ms, mostly to import `inspect`.

    Raises:
        AttributeError: there is no such name.

    """
    if name not in _JOURNAL_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._core.api import journals

    public = getattr(journals, name)
    public.__module__ = __name__
    globals()[name] = public
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), *_JOURNAL_NAMES})
