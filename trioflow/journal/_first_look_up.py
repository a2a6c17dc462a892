"""`find_first`: whether a `First` is restored as a whole, from the record of its winners.

A `First` has no result of its own in the journal: its record names the winners, and the records of these have their
results. It is restored if each winner would be, and each job of the `First` whose result a winner takes. Otherwise it
runs, its jobs are looked up one by one, and the winners of this run are recorded. See `_record_paths`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, cast

from .._core.job._ancestors import enclosing_schedulers
from .._core.job._job import AbstractJob, Restoration, is_scheduler
from .._core.run._journaling import NotStored, Restored
from .._core.scheduler._members import first_options
from .._core.words import _job_queries
from ._fingerprint import describe_work, with_requirements
from ._judgement import Evidence, Finding, judge
from ._matching import find_change, path_of_work
from ._record_paths import PathsInside, RecordPaths, budgets_needed_around
from ._requirement_forms import CUT_PART, NEVER, Counted, RunTime
from ._restoring import restore
from ._run_facts import Found, RunFacts
from ._serialization import NotSerializable, comparison_form, dumps
from ._store import END_OF_FIRST, Outputs, StoredJob

if TYPE_CHECKING:
    from .._core.scheduler._base_scheduler import BaseScheduler
    from ._recorder import Recorder

ITS_JOBS_RUN: Final = Found(NotStored())
"""The `First` runs, and each of its jobs is looked up."""
FIRST_FINGERPRINT: Final = "{" + END_OF_FIRST


def find_first(
    facts: RunFacts, recorder: Recorder, first: AbstractJob[Any], paths: RecordPaths
) -> Found:
    """Return the stored result of a `First`. If there is none, prepare to record its winners."""
    try:
        members = paths.nested(cast("BaseScheduler", first))
    except NotSerializable:
        # Its own run reports that.
        return ITS_JOBS_RUN
    path = members.prefix[:-1]
    record = facts.find_record(path)
    counted, required = _count(facts, first)
    is_cut = _job_queries.has_cut_requirements(first)
    part = CUT_PART if is_cut else required.part
    fingerprint = with_requirements(FIRST_FINGERPRINT, part)
    is_ambiguous = recorder.is_ambiguous(first, path, record, paths, False)
    was_used = recorder.was_used_in_run(path, record)
    finding = judge(
        Evidence(record, fingerprint, required, is_cut, is_ambiguous, was_used)
    )
    if finding is Finding.AMBIGUOUS:
        return ITS_JOBS_RUN
    facts.budget_use.begin(first)
    entry = facts.entries[first]
    entry.undecided = members, fingerprint
    entry.path = path
    if record is None or finding not in (Finding.MATCHES, Finding.DIFFERS):
        return ITS_JOBS_RUN
    if finding is Finding.DIFFERS:
        changed = find_change(facts, first, record, FIRST_FINGERPRINT, required)
        if changed is not None:
            counted.cause = changed.cause
            return ITS_JOBS_RUN
    try:
        restored = _restore(facts, first, record, members, counted)
    except (LookupError, NotSerializable):
        return ITS_JOBS_RUN
    return Found(restored, record=record, first=fingerprint)


def _restore(
    facts: RunFacts,
    first: AbstractJob[Any],
    record: StoredJob,
    members: RecordPaths,
    counted: Counted,
) -> Restored:
    """Return the result of a `First` whose record matches, and let its share count as that of its winners.

    Raises:
        LookupError, NotSerializable: a job that it depends on has to run.

    """
    value, ran = _stored_result(facts, first, members)
    counted.ran = ran
    counted.cause = None
    needed = budgets_needed_around(first)
    budgets = Outputs.parse(record.outputs).budgets
    used = {
        name: amount
        for name, amount in budgets.items()
        if name in needed and amount >= 0
    }
    facts.budget_use.decide(first, used)
    return Restored(
        value, Restoration(record.settled, record.took, tuple(used.items()))
    )


def _stored_result(
    facts: RunFacts, first: AbstractJob[Any], members: RecordPaths
) -> tuple[Any, RunTime]:
    """Return the stored result of a `First`, and when the last job that it depends on ran.

    Raises:
        LookupError, NotSerializable: a job that it depends on has to run.

    """
    paths = PathsInside(members)
    # The groups of each winner: see `Winners`.
    groups: dict[AbstractJob[Any], dict[str, bool]] = {}

    def find_parts(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        """Return the jobs that the result of a job depends on."""
        if not is_scheduler(job):
            inputs: list[AbstractJob[Any]] = []
            for item in _job_queries.inputs_of(job):
                around: list[Any] = [*enclosing_schedulers(item)]
                if not item.forever and first in around:
                    inputs.append(item)
            return inputs
        jobs = paths.jobs_in(job)
        if not _job_queries.is_one_job(job):
            if jobs.keys() != groups[job].keys():
                raise LookupError
            return [member for path, member in jobs.items() if groups[job][path]]
        winners = facts.find_outputs(paths.of_members(job).prefix[:-1]).winners
        if len(winners) != first_options(job)[0] or not jobs.keys() >= winners.keys():
            raise LookupError
        groups.update({jobs[path]: group for path, group in winners.items()})
        return [jobs[path] for path in winners]

    parts: dict[AbstractJob[Any], list[AbstractJob[Any]]] = {}
    values: dict[AbstractJob[Any], Any] = {}
    ran = NEVER
    todo = [first]
    # Each job after its parts.
    while todo:
        job = todo[-1]
        if job not in parts:
            parts[job] = find_parts(job)
            todo += parts[job]
            continue
        todo.pop()
        if job in values:
            continue
        if not is_scheduler(job):
            found, value = _restore_job(facts, job, paths.of_members(job.scheduler))
            values[job] = value
            ran = max(ran, (found.run, found.settled))
        elif not _job_queries.is_one_job(job):
            values[job] = True
        else:
            results = [values[part] for part in parts[job]]
            values[job] = results if len(results) > 1 else results[0]
            facts.entries[job].form = comparison_form(dumps(values[job]))
    return values[first], ran


def _restore_job(
    facts: RunFacts, job: AbstractJob[Any], paths: RecordPaths
) -> tuple[StoredJob, Any]:
    """Return the record of a job in a `First`, and its result.

    Raises:
        LookupError, NotSerializable: it has to run.

    """
    path = paths.find(job)
    save = facts.save_of(job)
    if path is None or save is None or job in paths.interchangeable:
        raise LookupError
    work = describe_work(job)
    options = _job_queries.options_of(job)
    own = facts.fingerprint_builder.compute(job, work, options)[0]
    path, _ = path_of_work(facts, path, own)
    record = facts.find_record(path)
    if record is None or find_change(facts, job, record, own, None) is not None:
        raise LookupError
    restored = restore(facts, job, options, record, save, work, paths)
    if isinstance(restored, NotStored):
        raise LookupError
    # For `discard`.
    facts.entries[job].path = record.path
    return record, restored.value


def _count(facts: RunFacts, first: AbstractJob[Any]) -> tuple[Counted, Counted]:
    """Add the share of a `First`: the work of its jobs, whichever wins. Return it, and its requirements' share."""
    required = facts.requirement_forms.of_requirements(first)
    texts: list[str] = []
    facts.counted_first = first
    for job in cast("BaseScheduler", first).iterate_jobs():
        if _job_queries.always_runs(job) or facts.save_of(job) is None:
            continue
        with contextlib.suppress(NotSerializable):
            # Reported when the job is looked up.
            work = describe_work(job)
            own = facts.fingerprint_builder.compute(
                job, work, _job_queries.options_of(job)
            )[0]
            texts.append(own)
    facts.counted_first = None
    counted = Counted(" ".join(sorted(texts)), 1, required.ran, required.cause)
    facts.requirement_forms.add(first, counted)
    return counted, required
