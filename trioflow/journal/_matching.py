"""`RecordMatcher`: whether the record of a path is of the job that is looked up, and what differs if it does not match.

The path of a job names its record. Two other facts may let the record be of another work: in one program, jobs may get
a path a second time, and a program may run the same jobs in another directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from .._core.job import _ancestors
from .._core.job._job import AbstractJob
from .._core.job._labels import escape_label
from .._core.run._journaling import NotStored
from .._core.words import _job_queries
from .._core.words._job_queries import has_cut_requirements
from ._fingerprint import describe_difference, path_in_directory, read_parts
from ._record_paths import RecordPaths
from ._requirement_forms import CUT_PART, Counted, first_cause
from ._run_facts import RunFacts
from ._store import AMBIGUOUS_PREFIX, StoredJob

if TYPE_CHECKING:
    from .._core.scheduler._base_scheduler import BaseScheduler
    from ._recorder import Recorder


class RecordMatcher:
    """Compares jobs of a run with their records.

    Args:
        facts: the facts about the run.
        recorder: says which jobs run, and which records the next commit writes.

    """

    def __init__(self, facts: RunFacts, recorder: Recorder) -> None:
        self._facts: Final = facts
        self._recorder: Final = recorder

    def path_in_directory(self, path: str, own: str) -> tuple[str, str | None]:
        """Return the path of the record of a job, and None.

        If the record at `path` is that of its work in another directory, return another path, and that directory.
        """
        if '"w":' not in own:
            return path, None
        record = self._facts.find_record(path)
        if record is None:
            return path, None
        stored = read_parts(record.fingerprint).get("w")
        directory = read_parts(own).get("w")
        if directory is None or stored in (None, directory):
            return path, None
        return path_in_directory(path, directory), stored

    def is_ambiguous(
        self,
        job: AbstractJob[Any],
        path: str,
        record: StoredJob | None,
        paths: RecordPaths,
        by_name_only: bool,
    ) -> bool:
        if record is not None and record.fingerprint.startswith(AMBIGUOUS_PREFIX):
            return True
        if paths.used is not None:
            return paths.used.setdefault(path, job) is not job
        earlier = self._recorder.running_paths.get(path)
        if earlier is job:
            # It is tried again.
            return False
        if earlier is None:
            return self._recorder.was_used_in_run(path, record)
        # If a job has failed, another job may have its name, unless both could have the same fingerprint.
        return by_name_only or not earlier.is_settled()

    def find_change(
        self,
        job: AbstractJob[Any],
        record: StoredJob,
        own: str,
        required: Counted | None,
    ) -> NotStored | None:
        """Return the reason why a record does not match, or None if it does.

        Args:
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
        if not has_cut_requirements(job):
            old = read_parts(record.fingerprint).get("q")
        cause = self._find_cut_run(job, record.run)
        if cause is None:
            cause = self._facts.requirement_forms.describe_change(
                job, old, required, ran
            )
        if cause is None:
            return None
        return NotStored(cause, cause)

    def _find_cut_run(self, job: AbstractJob[Any], run: int) -> str | None:
        """Describe the requirement, left out of this run, that has run after the run `run`, if there is any."""
        for level in (job, *_ancestors.enclosing_schedulers(job))[:-1]:
            outer = cast("BaseScheduler", level.scheduler)
            prefix = ""
            if outer.scheduler is not None:
                prefix = f"{outer.path}/"
            for cut in _job_queries.cut_requirements(level):
                if self._facts.store.last_run(prefix + escape_label(cut.label)) > run:
                    return f"{cut.label!r} has run since"
        return None
