# pyright: reportUnusedImport=false
"""The engine's interface for journals. This file suffices to write one that keeps results in PostgreSQL.

```
run(journal=J) ──► J.open_for(scheduler) ──► a RunJournal, which the run calls, in the event loop:

  job is ready ──► look_up(job): its result, or NotStored(why) ──► it is restored, or it runs
  job SUCCEEDED ──► record(job, value) ──► commit(), once in a turn of the loop, or after each job (commits_each)
  job is dropped, by keep_jobs=False ──► forget(job)
  a nested scheduler starts ──► nested(scheduler): the RunJournal for its run        at the end ──► close(...)
```

All other facts of a job are public: `label`, `required`, `state`, `elapsed`. The functions below add what identifies
its work and its record:

- its path, the key of its record: `PathCache`;
- whether it can be restored at all: `always_runs`; and its options: `journal_options`;
- its function and arguments, or another kind's description of its work (`AbstractJob.for_journal`), with placeholders
  for the jobs among them: `call_parts`, `substitute_inputs`;
- the result of an input: `result_for_journal`.
"""

from typing import TYPE_CHECKING

from ..base._logger import warn
from ..base._reprs import headline, is_among, short_repr, truncate
from ..base._states import JobState
from ..job._ancestors import enclosing_schedulers
from ..job._arguments import substitute_inputs
from ..job._errors import JournalError
from ..job._facts import SERVICE, always_runs, journal_options, result_for_journal
from ..job._function import FunctionJob, call_parts, input_at
from ..job._job import AbstractJob, is_scheduler
from ..job._job_options import SaveName, file_path, flag
from ..job._job_options import SlowPathOptions as SlowPathOptions
from ..job._job_options import save as checked_save
from ..job._labels import PathCache
from ..job._outcome import DROPPED
from ..job._work_spec import Depfile, HashOnly, OptionalFile, Work
from ..run._journaling import NOT_IN_JOURNAL, NOT_SAVED, JournalProtocol, NotStored, RunJournal
from ..scheduler._base_scheduler import BaseScheduler
from ..scheduler._failures import failed_through_member

if TYPE_CHECKING:
    from ..job._job_options import Save
