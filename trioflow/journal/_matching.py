"""Where the record of a job is, and what differs if the record does not match.

The path of a job names its record. But a program may run the same jobs in another directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .._core.job import _ancestors
from .._core.job._job import AbstractJob
from .._core.job._labels import escape_label
from .._core.run._journaling import NotStored
from .._core.words import _job_queries
from ._fingerprint import describe_difference, path_in_directory, read_parts
from ._requirement_forms import CUT_PART, Counted, first_cause
from ._run_facts import RunFacts
from ._store import StoredJob

if TYPE_CHECKING:
    from .._core.scheduler._base_scheduler import BaseScheduler


def path_of_work(facts: RunFacts, path: str, own: str) -> tuple[str, str | None]:
    """Return the path of the record of a job, and None.

    If the record at `path` is that of its work in another directory, return another path, and that directory.
    """
    if '"w":' not in own:
        return path, None
    record = facts.find_record(path)
    if record is None:
        return path, None
    stored = read_parts(record.fingerprint).get("w")
    directory = read_parts(own).get("w")
    if directory is None or stored in (None, directory):
        return path, None
    return path_in_directory(path, directory), stored


def find_change(
    facts: RunFacts,
    job: AbstractJob[Any],
    record: StoredJob,
    own: str,
    required: Counted | None,
) -> NotStored | None:
    """Return the reason why a record does not match, or None if it does.

    Args:
        facts: the facts about the run.
        job: the job.
        record: the record.
        own: the job's fingerprint, without its requirements.
        required: the count of its requirements, or None if they do not count.

    """
    ran = record.run, record.settled
    changed = describe_difference(record.fingerprint, own, job)
    if changed is not None:
        # What it requires may have made the change, as by writing a file.
        followed: str | None = None
        if required is not None and required.ran > ran:
            followed = required.cause
        return NotStored(changed, followed or first_cause(job, changed))
    if required is None:
        return None
    old: str | None = CUT_PART
    if not _job_queries.has_cut_requirements(job):
        old = read_parts(record.fingerprint).get("q")
    cause = _find_cut_run(facts, job, record.run)
    if cause is None:
        cause = facts.requirement_forms.describe_change(job, old, required, ran)
    if cause is None:
        return None
    return NotStored(cause, cause)


def _find_cut_run(facts: RunFacts, job: AbstractJob[Any], run: int) -> str | None:
    """Describe the requirement, left out of this run, that has run after the run `run`, if there is any."""
    for level in (job, *_ancestors.enclosing_schedulers(job))[:-1]:
        outer = cast("BaseScheduler", level.scheduler)
        prefix = ""
        if outer.scheduler is not None:
            prefix = f"{outer.path}/"
        for cut in _job_queries.cut_requirements(level):
            if facts.store.last_run(prefix + escape_label(cut.label)) > run:
                return f"{cut.label!r} has run since"
    return None
