# pyright: reportUnusedImport=false
"""The API of the engine: the only modules of `_core` that the rest of the package may import.

The names below are for users, kinds of jobs included: `trioflow` and `trioflow.abc` re-export them, and
`trioflow._scheduler` builds on them; and the types in the signatures of kinds of jobs. There is a module for each other
purpose:

- `views`: read-only access to a run and its jobs, also for journals.
- `journals`: the work of a job as journals identify it.
"""

from typing import TYPE_CHECKING

from ..admission._budget import Budget
from ..admission._per_key import PerKey
from ..admission._pool import Pool
from ..admission._rate import Rate
from ..admission._window import Adaptive
from ..admission.policy._policy import Outlook, Policy
from ..backend import choose_isolation, load_backend, loop_running
from ..base._reprs import fit, is_among, name_in_errors, short_repr, shown_value
from ..base._signatures import find_by_name
from ..base._states import STOP_REASON_TEXTS, JobState, OnTimeout, RunIf, StopReason, parse_reported_state
from ..base._units import join_names, plural
from ..base._user_code import get_group_members, get_traceback, wrong_backend_remedy
from ..job._argument_types import (
    A,
    B,
    C,
    IterableFunction,
    JobOf,
    PlainFunction1,
    PlainFunction2,
    PlainFunction3,
    ValueOrJob,
)
from ..job._arguments import ref, reject_text, result_of
from ..job._decorator import job
from ..job._errors import (
    BudgetSpent,
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
from ..job._function import FunctionJob, Job, call_of, name_of
from ..job._job import AbstractJob, AnyJob, is_job
from ..job._job_options import (
    BoxStyle,
    JobOptions,
    callback,
    check_number,
    declare_run_resource,
    duration,
    file_path,
    flag,
    seconds,
    whole_number,
)
from ..job._kind import JobKind, arguments_of, original_arguments_of
from ..job._labels import label_inside, printable
from ..job._option_descriptors import Option, set_docs_and_signature, set_run_need
from ..job._retry import Retry
from ..job._service import Service
from ..parts._first_rule import winners_of
from ..run._current import current_job, current_scheduler, propagate_env, propagated_env
from ..run._handle import RunHandle, run_of
from ..run._idle_timeouts import ThreadEvent, TimeLimit
from ..run._instruments import Instrument
from ..run._journal_interface import RunJournal
from ..run._requirement_counts import users_of
from ..run._run import Run
from ..scheduler._base_scheduler import BaseScheduler
from ..scheduler._graph_queries import entry_jobs, exit_jobs, keep_only, predecessors, successors, topological_order
from ..scheduler._sequence import Sequence

if TYPE_CHECKING:
    from ..admission._window import Window
    from ..admission.policy._builtin_policies import PolicyName
    from ..backend import Backend
    from ..job._job_options import NestedJobOptions
    from ..job._requirements import Required
    from ..parts._settled_calls import SettledFunction
    from ..scheduler._base_scheduler import JournalSetting
