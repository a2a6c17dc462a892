"""`Restorer`: the files and the result of a job whose record matches. If they are as they were, the job is restored.

| what is compared | reason to run |
|---|---|
| the format of the result | `save=` has changed, or the result could not be stored |
| the files that it has written | one has changed, and no job that is restored has done it: see `_in_place` |
| the result | it cannot be read or loaded, `restore_if=` is against it, or the kind of the job rejects it |
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from .._core.job._job import AbstractJob, Restoration
from .._core.run._journaling import NotStored, Restored
from ._in_place import InPlace
from ._outputs import Outputs
from ._record_paths import RecordPaths
from ._requirement_forms import first_cause
from ._restore_if import Verdicts
from ._results import Unusable, save_format
from ._run_facts import RunFacts
from ._store import StoredJob

if TYPE_CHECKING:
    from .._core.job._job_options import OptionRecord, Save
    from .._core.job._work_spec import Work


class Restorer:
    """Restores the jobs of a run.

    Args:
        facts: the facts about the run.
        verdicts: the answers of `restore_if=`.
        in_place: says which job has left a file as it is.

    """

    def __init__(self, facts: RunFacts, verdicts: Verdicts, in_place: InPlace) -> None:
        self._facts: Final = facts
        self._verdicts: Final = verdicts
        self._in_place: Final = in_place

    def restore(
        self,
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
            find_taker = functools.partial(self._in_place.find_taker, job, paths)
            changed = self._facts.file_stamper.describe_changed_output(
                work, outputs.stamps, job.redact, find_taker
            )
            if changed is not None:
                return NotStored(changed, first_cause(job, changed))
        try:
            value, form = self._facts.results.load(record, save, job.redact)
        except Unusable as error:
            return NotStored(str(error))
        if options.restore_if is not None:
            against = self._verdicts.reason_against(
                job, options.restore_if, record, value
            )
            if against is not None:
                return against
        if work is not None and work.rejects is not None:
            why = work.rejects(value)
            if why is not None:
                return NotStored(why)
        self._facts.entries[job].form = form
        used = tuple(
            (name, amount) for name, amount in outputs.budgets.items() if amount >= 0
        )
        return Restored(value, Restoration(record.settled, record.took, used))
