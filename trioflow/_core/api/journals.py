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

from typing import TYPE_CHECKING

from ..base._logger import warn
from ..base._reprs import headline, is_among, short_repr, truncate
from ..base._signatures import find_by_name
from ..base._states import RAN_TO_END, JobState, ReportedState, StopReason, parse_reported_state
from ..base._units import join_names, plural, size_text
from ..job._ancestors import enclosing_schedulers
from ..job._arguments import substitute_inputs
from ..job._errors import JournalError
from ..job._function import FunctionJob, call_parts, input_at, is_found_by_name, unwrap_partial
from ..job._job import AbstractJob, is_scheduler
from ..job._job_options import OptionRecord as OptionRecord
from ..job._job_options import SaveName, file_path, flag
from ..job._job_options import check_save as check_save
from ..job._job_queries import (
    SERVICE,
    always_runs,
    budget_use,
    criticality,
    explicit_label,
    has_skipped_itself,
    inputs_of,
    is_counted,
    is_in_first,
    is_known_by_call,
    is_member,
    is_one_job,
    jobs_of_run,
    options_of,
    result_for_journal,
    was_added_during_run,
)
from ..job._labels import PathCache, UniqueSiblingNames
from ..job._outcome import DROPPED, Restoration
from ..job._work_spec import HashOnly, Work
from ..run._handle import run_times
from ..run._journaling import NOT_IN_JOURNAL_REASON, NOT_SAVED_REASON, JournalProtocol, NotStored, Restored, RunJournal
from ..scheduler._base_scheduler import BaseScheduler
from ..scheduler._members import counted_state, first_options
from ..words._failures import culprit_text

if TYPE_CHECKING:
    from ..job._job_options import Save
