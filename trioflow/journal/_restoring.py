"""`restore`: the files and the result of a job whose record matches. If they are as they were, the job is restored.

| what is compared | reason to run |
|---|---|
| the format of the result | `save=` has changed, or the result could not be stored |
| the files that it has written | one has changed, and no job that is restored has done it: see below |
| the result | it cannot be read or loaded, `restore_if=` is against it, or the kind of the job rejects it |

Several jobs may change a file, one after the other. An example: `link` writes `program`, and `strip`, which requires
`link`, makes it smaller in place.

```
run 1:   link writes program (100 kB) ──► its stamp is recorded     strip writes program (60 kB) ──► its stamp, too
run 2:   link is looked up: its output is not 100 kB, but 60 kB. Has somebody else changed it?
         No: 60 kB is what `strip` has left, and `strip` will be restored if `link` is. So all is as it was.
run 3:   an option of strip has changed, so that strip will run again: on a program that it has stripped already.
         So `link` runs again, too: "its output 'program' has changed, by 'strip'".
```

So the look-up of `link` has to know of `strip`, which is not ready yet, whether it will be restored. It **restores in
thought**: it takes `link` and each job between the two in their order, and asks of each what its own look-up will ask,
as if those before were restored. Rules:

1. Nothing is decided: what is found of a job is taken back, and its own look-up asks again.
2. In doubt the answer is no, and the first writer runs again. That is never wrong, only slow.
3. Only stamps that take no time are taken here, in the event loop: a slow one is a doubt.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Final

from .._core.base._graph_algorithms import reachable, topological_order
from .._core.job._job import AbstractJob, Restoration
from .._core.run._journaling import NotStored, Restored
from .._core.words import _job_queries
from ._fingerprint import describe_work
from ._matching import find_change, path_of_work
from ._record_paths import RecordPaths
from ._requirement_forms import Counted, first_cause
from ._restore_if import reason_against
from ._results import Unusable, save_format
from ._run_facts import RunFacts
from ._serialization import NotSerializable
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
    loaded = _load(facts, job, options, record, save, work)
    if isinstance(loaded, NotStored):
        return loaded
    value, form = loaded
    facts.entries[job].form = form
    used = tuple(
        (name, amount) for name, amount in outputs.budgets.items() if amount >= 0
    )
    return Restored(value, Restoration(record.settled, record.took, used))


def _load(
    facts: RunFacts,
    job: AbstractJob[Any],
    options: OptionRecord,
    record: StoredJob,
    save: Save,
    work: Work | None,
) -> tuple[Any, str] | NotStored:
    """Return the result in a record and its form, or why it does not count."""
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
    return value, form


# ---- files that several jobs change


def find_taker(
    facts: RunFacts, job: AbstractJob[Any], paths: RecordPaths, path: str, stamp: str
) -> str | None:
    """Find another job that has left an output of `job` as it is.

    Args:
        facts: the facts about the run.
        job: the job that is looked up.
        paths: the paths of the members of its scheduler.
        path: the output.
        stamp: the stamp that the output has now.

    Returns:
        "" if that job waits for `job`, and will be restored, with all that it still waits for, if `job` is: then
        all is as it was. Otherwise its label, because it would change the file twice, or None if there is no such
        job.

    """
    takers: list[AbstractJob[Any]] = []
    for writer in facts.writers.get(path, ()):
        if writer is job or writer.scheduler is not job.scheduler:
            continue
        place = paths.find(writer)
        if place is not None and facts.find_outputs(place).stamps.get(path) == stamp:
            takers.append(writer)
    restoring = InThought(facts, job, path, paths)
    is_as_it_was = False
    with contextlib.suppress(NotSerializable, TypeError):
        # Reported when the job is looked up.
        for taker in takers:
            waiting = reachable([taker], _open_requirements)
            waits = topological_order(waiting, _open_requirements)
            if job in waits and restoring.are_all_restored(waits):
                is_as_it_was = True
    restoring.take_back()
    if is_as_it_was:
        return ""
    if takers:
        return takers[0].label
    return None


def _open_requirements(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    return [each for each in job.required if not each.is_settled()]


class InThought:
    """The jobs that will be restored if `first` is, and what is known of them.

    Args:
        facts: the facts about the run.
        first: the job that is looked up, whose record matches: all its outputs count as unchanged.
        path: the output that is looked at: it counts as unchanged for each job.
        paths: the paths of the members of its scheduler.

    """

    def __init__(
        self, facts: RunFacts, first: AbstractJob[Any], path: str, paths: RecordPaths
    ) -> None:
        self._facts: Final = facts
        self._first: Final = first
        self._path: Final = path
        self._paths: Final = paths
        self._restored: Final[dict[AbstractJob[Any], Counted]] = {}

    def are_all_restored(self, jobs: list[AbstractJob[Any]]) -> bool:
        """Restore jobs in thought, each after those that it requires. Return whether all will be restored.

        Raises:
            NotSerializable: a fingerprint cannot be computed.
            TypeError: another program has changed a result.

        """
        return all(job in self._restored or self._restore(job) for job in jobs)

    def _restore(self, job: AbstractJob[Any]) -> bool:
        facts = self._facts
        save = facts.save_of(job)
        place = self._paths.find(job)
        options = _job_queries.options_of(job)
        if place is None or save is None or _job_queries.always_runs(job):
            return False
        if job in self._paths.interchangeable:
            return False
        if job is not self._first and _job_queries.is_kept_from_running(job):
            return False
        work = describe_work(job)
        if work is not None:
            files = (*work.reads, *work.writes, *work.appends)
            if facts.file_stamper.is_slow(files):
                return False
        own = facts.fingerprint_builder.compute(job, work, options)[0]
        place, _ = path_of_work(facts, place, own)
        record = facts.find_record(place)
        if record is None or record.saved != save_format(save):
            return False
        required: Counted | None = None
        identity = f"{job.label} {own}"
        if options.key is None:
            required = facts.requirement_forms.of_requirements(job, self._restored)
            identity = own
        if find_change(facts, job, record, own, required) is not None:
            return False
        if work is not None:
            stamps = Outputs.parse(record.outputs).stamps

            def is_unchanged(output: str, _stamp: str) -> str | None:
                if job is self._first or output == self._path:
                    return ""
                return None

            if facts.file_stamper.describe_changed_output(
                work, stamps, job.redact, is_unchanged
            ):
                return False
        loaded = _load(facts, job, options, record, save, work)
        if isinstance(loaded, NotStored):
            return False
        # The jobs after it find its result.
        facts.entries[job].form = loaded[1]
        self._restored[job] = Counted(identity, 1, (record.run, record.settled))
        return True

    def take_back(self) -> None:
        for job in self._restored:
            self._facts.entries[job].form = None
