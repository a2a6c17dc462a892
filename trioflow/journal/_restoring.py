"""`Restorer`: the files and the result of a job whose record matches. If they are as they were, the job is restored.

| what is compared | reason to run |
|---|---|
| the format of the result | `save=` has changed, or the result could not be stored |
| the files that it has written | one has changed, and no job that is restored has done it: see `_in_place` |
| the result | it cannot be read or loaded, or the kind of the job rejects it |

Stamps of large files take time: `read_files` takes them in a thread, before the look-up.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from .._core.job._job import AbstractJob, Restoration, is_scheduler
from .._core.run._journaling import NotStored, Restored
from .._core.words import _job_queries
from .._core.words._job_queries import is_one_job
from ..jobs.posix._files import call_in_thread
from . import _file_stamps
from ._in_place import InPlace
from ._outputs import Outputs
from ._record_paths import RecordPaths
from ._requirement_forms import first_cause
from ._results import Unusable, save_format
from ._run_facts import RunFacts
from ._serialization import NotSerializable
from ._store import StoredJob
from ._work import describe_work

if TYPE_CHECKING:
    from .._core.job._job_options import Save
    from .._core.job._work_spec import Work


class Restorer:
    """Restores the jobs of a run.

    Args:
        facts: the facts about the run.
        in_place: says which job has left a file as it is.

    """

    def __init__(self, facts: RunFacts, in_place: InPlace) -> None:
        self._facts: Final = facts
        self._in_place: Final = in_place

    def read_files(self, job: AbstractJob[Any]) -> Callable[[], Awaitable[None]] | None:
        """Return a function that reads the files of a job in a thread, or None if that takes no time."""
        entry = self._facts.entries[job]
        entry.stamps = None
        stamper = self._facts.file_stamper
        works = [*self._works_to_read(job)]
        if not stamper.is_slow(path for work in works for path in _file_stamps.files_of(work)):
            return None

        async def read() -> None:
            entry.stamps = await call_in_thread(stamper.take, works)

        return read

    def _works_to_read(self, job: AbstractJob[Any]) -> Iterator[Work]:
        """Yield the work of a job that is about to be recorded, or of all jobs whose files a look-up of the job judges.

        These are the job, or all jobs of a `First`, and jobs that require one of these and write the same file.
        """
        if job.is_running():
            running = self._facts.entries[job].running
            if running is not None and running.work is not None:
                yield running.work
            return
        jobs = [job]
        if is_scheduler(job) and is_one_job(job):
            jobs += job.iterate_jobs()
        for current in jobs:
            if _job_queries.always_runs(current) or self._facts.save_of(current) is None:
                continue
            try:
                work = describe_work(current)
            except NotSerializable:
                # `find` reports it.
                continue
            if work is None:
                continue
            yield work
            for path in _file_stamps.outputs_of(work):
                writers = self._in_place.writers.get(_file_stamps.path_text(path, current.redact), ())
                jobs += [each for each in writers if current in each.required and each not in jobs]

    def restore(
        self, job: AbstractJob[Any], record: StoredJob, save: Save, work: Work | None, paths: RecordPaths
    ) -> Restored | NotStored:
        """Return the result in a record that matches, or a `NotStored` if there is none, or it cannot be used."""
        if record.saved is None:
            return NotStored(f"the journal could not store its result: {record.why}")
        if record.saved != save_format(save):
            return NotStored(f"its result was stored as {record.saved}, but save= is now {save_format(save)}")
        outputs = Outputs.parse(record.outputs)
        if work is not None:
            find_taker = functools.partial(self._in_place.find_taker, job, paths)
            changed = self._facts.file_stamper.describe_changed_output(work, outputs.stamps, job.redact, find_taker)
            if changed is not None:
                return NotStored(changed, first_cause(job, changed))
        try:
            value, form = self._facts.results.load(record, save, job.redact)
        except Unusable as error:
            return NotStored(str(error))
        if work is not None and work.rejects is not None:
            why = work.rejects(value)
            if why is not None:
                return NotStored(why)
        self._facts.entries[job].form = form
        used = tuple((name, amount) for name, amount in outputs.budgets.items() if amount >= 0)
        return Restored(value, Restoration(record.settled, record.took, used))
