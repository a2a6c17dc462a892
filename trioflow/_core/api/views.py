# pyright: reportUnusedImport=false
"""A run, its scheduler and its jobs, read-only: for views, simulations and instruments.

The functions below add to the public attributes of a job, such as `job.state`, `job.started_at` and `job.path`. Any
thread may call them, and gets values that may be slightly out of date. Those of `scheduler._checks` are an exception:
they are for the thread that builds the scenario, before a run. Only explorations use
`intercept_calls` and `interrupt`.
"""

from typing import TYPE_CHECKING

from ..admission._pool import Pool, ResourceView, copy_pool, resource_views
from ..admission._window import Adaptive, check_window, max_slots
from ..admission.policy._builtin_policies import PolicyName
from ..admission.policy._policy import Outlook, Policy, median_duration
from ..admission.policy._policy_validation import check_policy, name_of_policy
from ..backend import LOOP_PACKAGES, BackendName
from ..base._amounts import Amount, amount_of, amount_text, is_size
from ..base._graph_algorithms import backlinks, find_cycle, longest_path_lengths, reachable, topological_order
from ..base._logger import warn
from ..base._reprs import fit, headline, short_repr, truncate
from ..base._states import (
    MOVED_ON,
    RAN_TO_END,
    STOP_REASON_TEXTS,
    JobState,
    OnTimeout,
    ReportedState,
    RunIf,
    RunPhase,
    StopReason,
    WaitCause,
    Waiting,
)
from ..base._units import (
    MAX_LISTED_NAMES,
    duration_text,
    durations_in_column,
    join_names,
    listed_lines,
    percent_text,
    plural,
    size_text,
)
from ..base._user_code import (
    PACKAGE_PREFIX,
    describe_line,
    get_group_members,
    get_traceback,
    innermost_own,
    library_prefixes,
    shown_exception,
)
from ..job._ancestors import enclosing_schedulers, is_inside, outermost_scheduler
from ..job._errors import CycleError
from ..job._function import Job
from ..job._job import AbstractJob, AnyJob, is_scheduler, not_a_scheduler_error
from ..job._job_options import duration, file_path, flag
from ..job._job_queries import (
    Outcome,
    box_of,
    command_line_of,
    criticality,
    culprit_chain,
    end_facts,
    explicit_label,
    failed_attempts,
    failed_by_itself,
    failed_through_member,
    failure_of,
    find_run_resource,
    fraction_done,
    has_hard_timeout,
    inputs_of,
    intercept_calls,
    is_counted,
    is_one_job,
    is_ready,
    is_service,
    jobs_of_run,
    may_repeat,
    needs_as_given,
    outcome,
    ready_at,
    reason_not_restored,
    reported_state,
    restoration_of,
    root_failure,
    run_needs,
    run_resource_totals,
    runs_commands,
    runs_outside_loop,
    settled_only_for,
    slot_users,
    stored_result,
    takes_slot,
    throttled_attempts,
    throttled_intervals,
    worked_seconds,
)
from ..job._labels import paths_of, printable, shorten
from ..job._option_descriptors import set_run_need
from ..job._outcome import DROPPED, Failure, Restoration, failure_kind, one_line_error
from ..job._retry import Retry, longest_pauses
from ..job._service import Service
from ..job._trigger_rules import essential_requirements
from ..run._handle import RunInProgress, RunView, current_run, job_frames, run_times, runs_in_progress
from ..run._instruments import Instrument
from ..run._journaling import NOT_IN_JOURNAL_REASON, NOT_SAVED_REASON
from ..scheduler._base_scheduler import BaseScheduler, Incident, interrupt
from ..scheduler._checks import (
    check_late_input,
    check_may_run,
    check_needs,
    check_one_shot,
    check_requirement,
    check_scenario,
    reject_shared_pools,
    store_implied_requirements,
)
from ..scheduler._graph_queries import entry_jobs, exit_jobs
from ..scheduler._members import (
    all_requirements,
    expected_durations,
    first_options,
    insert_members,
    is_droppable,
    members_in_order,
    nested_schedulers,
    ranks_of,
)
from ..words._explain import READY_TEXT, get_status_text, open_requirements, waiting, waiting_since
from ..words._failures import culprit_text, failure_text

if TYPE_CHECKING:
    from ..admission._window import Window
