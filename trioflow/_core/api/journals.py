# pyright: reportUnusedImport=false
"""The engine's interface for journals: everything that a journal with another storage, such as a database, needs.

```
run(journal=J) ──► J.open_for(scheduler) ──► a RunJournal, which the run calls, in the event loop:

  job is ready ──► look_up(job): Restored(result), or NotStored(why) ──► it is restored, or it runs
  a First is decided ──► record_winners(first, winners)
  job SUCCEEDED ──► record(job, value) ──► commit(), once per iteration of the loop, or after each job (commits_each)
  job is removed, because of keep_jobs=False ──► forget(job)
  a nested scheduler starts ──► nested(scheduler): the RunJournal for its run        at the end ──► close(...)
```

Other facts about a job are its public attributes, such as `label`, `required`, `state` and `elapsed`. The functions
below add those that identify the record of a job and tell whether it is still valid:

- `PathCache`: the path of the job, which is the key of its record. For a job that was added during the run
  (`was_added_during_run`), the path depends on the order of adding; `is_known_by_call` helps to find a key that does
  not.
- `always_runs`: whether the result of the job is never stored; `options_of`: its options.
- `call_parts` and `substitute_inputs`: its function and arguments, with placeholders for the jobs among them. Kinds of
  jobs without a function describe their work in `JobKind.for_journal`.
- `result_for_journal`: the result of an input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..base import _amounts
from ..base._logger import warn
from ..base._reprs import headline, is_among, short_repr, truncate
from ..base._signatures import find_by_name
from ..base._states import RAN_TO_END, JobState, ReportedState, StopReason, parse_reported_state
from ..base._units import join_names, plural, size_text
from ..job._ancestors import enclosing_schedulers
from ..job._arguments import substitute_inputs
from ..job._errors import JournalError
from ..job._function import FunctionJob, call_parts, input_at, is_found_by_name, unwrap_partial
from ..job._job import AbstractJob, AnyJob, is_scheduler
from ..job._job_options import OptionRecord as OptionRecord
from ..job._job_options import SaveName, file_path, flag
from ..job._job_options import check_save as check_save
from ..job._job_queries import (
    criticality,
    explicit_label,
    has_skipped_itself,
    inputs_of,
    is_counted,
    is_in_first,
    is_one_job,
    jobs_of_run,
)
from ..job._labels import PathCache, UniqueSiblingNames
from ..job._outcome import DROPPED, Restoration
from ..job._work_spec import HashOnly, Work
from ..run._handle import run_times
from ..run._journaling import NOT_IN_JOURNAL_REASON, NOT_SAVED_REASON, JournalProtocol, NotStored, Restored, RunJournal
from ..scheduler._base_scheduler import BaseScheduler
from ..scheduler._members import first_options
from ..words._failures import culprit_text

if TYPE_CHECKING:
    from ..job._job_options import Save


SERVICE: Final = object()
"""A placeholder for the result of a service, which a journal neither stores nor compares, as services run each time."""


def always_runs(job: AbstractJob[Any]) -> bool:
    """Return whether a journal never stores the result of a job: a scheduler, a service, or another forever job."""
    return job._is_scheduler or job._options.forever


def result_for_journal(job: AbstractJob[Any]) -> Any:
    """Return the stored result of a job that has succeeded; DROPPED if it was dropped; SERVICE for a service."""
    return SERVICE if job._is_service else job._outcome


def options_of(job: AbstractJob[Any]) -> OptionRecord:
    """Return the record of a job's options: to read several of them takes a tenth of the time."""
    return job._options


def was_added_during_run(job: AbstractJob[Any]) -> bool:
    """Return whether a job was added to its scheduler during the run in progress, so that its path may differ."""
    return job._scheduler is not None and job in job._scheduler._members.jobs_added_during_run


def is_known_by_call(job: AbstractJob[Any]) -> bool:
    """Return whether a job added during a run is identified by its call: it has no label, or `map` made the label."""
    return job._label is None or (job._extras is not None and job._extras.is_known_by_call)


def is_member(job: AbstractJob[Any]) -> bool:
    """Return whether a job is still in its scheduler, which has not dropped it because of `keep_jobs=False`."""
    return job._scheduler is not None and job in job._scheduler._members.jobs


def budget_use(job: AnyJob) -> dict[str, float]:
    """Return the amounts of budgets that a job which is about to settle has used in all its attempts, by name."""
    grant, earlier = job._grant(), {} if job._extras is None else job._extras.earlier_use or {}
    used: Mapping[str, Any] = {} if grant is None else grant.budget_amounts()
    return {name: _amounts.as_number(amount + earlier.get(name, 0)) for name, amount in used.items()}


def counted_state(scheduler: BaseScheduler, job: AbstractJob[Any]) -> ReportedState | None:
    """Return the state as which the summary of a run in a journal counts a job; None to leave the job out."""
    return scheduler._counted_state(job)
