"""`restore`: the files and the result of a job whose record matches. If they are as they were, the job is restored.

| what is compared | reason to run |
|---|---|
| the format of the result | `save=` has changed, or the result could not be stored |
| the files that it has written | one has changed, and no job that is restored has done it: see `_in_place` |
| the result | it cannot be read or loaded, `restore_if=` is against it, or the kind of the job rejects it |
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from .._core.job._job import AbstractJob, Restoration
from .._core.run._journaling import NotStored, Restored
from ._in_place import find_taker
from ._record_paths import RecordPaths
from ._requirement_forms import first_cause
from ._restore_if import reason_against
from ._results import Unusable, save_format
from ._run_facts import RunFacts
from ._store import Outputs, StoredJob

if TYPE_CHECKING:
    from .._core.job._job_options import OptionRecord, Save
    from .._core.job._work_spec import Work


def restore(
    facts: RunFacts,
    job: AbstractJob[Any],
    options: OptionRecord,
    record: StoredJob,
    save: Save,
    work: Work | None,
    paths: RecordPaths,
) -> Restored | NotStored:
    """Return the result in a record that matches, or a `NotStored` if there is none, or it cannot be used."""
    if record.saved is None:
        return NotStored(f"the journal could not store its result: {record.why}")
    if record.saved != save_format(save):
        return NotStored(
            f"its result was stored as {record.saved}, but save= is now {save_format(save)}"
        )
    outputs = Outputs.parse(record.outputs)
    if work is not None:
        takes_over = functools.partial(find_taker, facts, job, paths)
        changed = facts.file_stamper.describe_changed_output(
            work, outputs.stamps, job.redact, takes_over
        )
        if changed is not None:
            return NotStored(changed, first_cause(job, changed))
    try:
        value, form = facts.results.load(record, save, job.redact)
    except Unusable as error:
        return NotStored(str(error))
    if options.restore_if is not None:
        against = reason_against(facts, job, options.restore_if, record, value)
        if against is not None:
            return against
    if work is not None and work.rejects is not None:
        why = work.rejects(value)
        if why is not None:
            return NotStored(why)
    facts.entries[job].form = form
    used = tuple(
        (name, amount) for name, amount in outputs.budgets.items() if amount >= 0
    )
    return Restored(value, Restoration(record.settled, record.took, used))
