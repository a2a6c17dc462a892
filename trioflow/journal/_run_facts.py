"""`RunFacts`: what a run with a journal knows of its jobs. `LookUp` and `Recorder` share it.

| who writes | what |
|---|---|
| `LookUp` | `path`, `form`, `stamps`, `verdict` and `undecided` of an entry, the shares of requirements |
| `Recorder` | `running`, `outdated` and `mark` of an entry, and `form` once the job has its result |

The entry of a job begins with its first look-up, and ends as its scheduler drops the job.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from .._core.job import _ancestors
from .._core.job._errors import DROPPED
from .._core.job._job import AbstractJob
from .._core.run import _journaling
from .._core.run._journaling import NotStored, Restored
from .._core.words import _job_queries
from ..abc import ThreadEvent
from . import _file_stamps, _record_paths
from ._end_notes import EndNotes
from ._fingerprint import FingerprintBuilder
from ._record_paths import RecordPaths
from ._requirement_forms import Counted, RequirementForms
from ._results import ResultStore, StoredResult
from ._serialization import NotSerializable, comparison_form, dumps, hide_if
from ._store import NO_FACTS, JournalStore, Outputs, StoredJob

if TYPE_CHECKING:
    from .._core.job._job_options import Save
    from .._core.job._work_spec import Work
    from .._core.scheduler._base_scheduler import BaseScheduler

ALWAYS_RUNS: Final = NotStored()
NO_RECORD: Final = NotStored(_journaling.NOT_IN_JOURNAL_REASON)
RAN_BEFORE: Final = NotStored(_journaling.TRIED_AGAIN_REASON)
AMBIGUOUS: Final = "several jobs have had this name"
UNSTORED_FORM: Final = "unstored"
"""The form of a missing result, or of a result that cannot be stored and need not be, because of `save=None`."""


@dataclasses.dataclass(slots=True)
class RunningJob:
    """A job that runs or is about to run, if its result will be recorded."""

    path: str
    fingerprint: str
    save: Save
    why: NotStored
    """Why the job was not restored, without a reason if it had no record."""
    work: Work | None
    by_name_only: bool
    """Whether the fingerprint identifies the function by its name alone."""
    function: Any
    """The function whose code is part of the work, or None if there is none, or `version=` or `key=` stand for it."""
    stamps_before: dict[str, str] | None = None
    """The stamps of its files before its attempt, while a record says that this has begun."""
    prepared: tuple[Any, StoredResult] | None = None
    """The result that `prepare` has stored, and its place."""
    code_before: tuple[int, str | None] = (0, None)
    """The number of the attempt, as `begun_attempts` counts, that ran as mended code was taken, and the digest of its
    code, if that is known."""


class UnaskedFunction(NamedTuple):
    """A `restore_if=` that a look-up has come to, and that has not been asked about the result in the record."""

    job: AbstractJob[Any]
    record: StoredJob
    value: object
    function: Callable[[Any], Any]


class Verdict(NamedTuple):
    """The answer of a job's `restore_if=` about the result of one run."""

    about: tuple[str, int, float]
    """The path of the record, the number of the run, and when the job settled."""
    against: NotStored | None
    """Why the result does not hold any more, or None if it does."""


@dataclasses.dataclass(slots=True)
class JobEntry:
    """What a session knows of a job: from its first look-up, or its first result, until its scheduler drops it.

    | the job | `path` | `running` | `form` |
    |---|---|---|---|
    | has not been looked up, or is not stored | None | None | of its result, once a job that takes this asks |
    | was restored | its path | None | of the stored result |
    | runs, or is about to | its path | the facts for its record | None |
    | was recorded | its path | None | of the result, if that could be stored |
    | has succeeded, and runs anew | "" until it is looked up | None | None |
    """

    path: str | None = None
    form: str | None = None
    """The text that represents its result in the fingerprints of jobs that take the result as input."""
    running: RunningJob | None = None
    stamps: _file_stamps.Stamps | None = None
    """The stamps of its files that `read_files` has taken, until they are used."""
    outdated: tuple[str, str] | None = None
    """The path and fingerprint of a record that counts no more once an attempt of the job has begun."""
    mark: StoredJob | None = None
    """The record that the job leaves as it ends, because another job has had its path meanwhile."""
    undecided: tuple[RecordPaths, str] | None = None
    """Of a `First` that runs: the paths of its members, and its fingerprint."""
    verdict: Verdict | None = None
    """The answer of its `restore_if=`, once that has been asked."""
    asking: ThreadEvent | None = None
    """Set when its `restore_if=`, which is being asked, has answered."""


class AskedJob(NamedTuple):
    """A job that is looked up, and what identifies its record."""

    own: str
    """Its fingerprint, without its requirements."""
    required: Counted | None
    """The share of its requirements, or None if they do not count."""
    counted: Counted
    """Its share in the fingerprints of the jobs that require it."""
    moved: NotStored | None
    """The reason if its work was recorded in another directory."""
    running: RunningJob
    """The facts for the record of its result, if it runs."""


class Found(NamedTuple):
    """The end of a look-up: the answer for the run, and for the recorder what it was about."""

    answer: Restored | NotStored
    asked: AskedJob | None = None
    """The job, if it is recorded once it has run."""
    record: StoredJob | None = None
    """The record of its path. Without `asked`, it is of a job that is not recorded."""
    first: str | None = None
    """The fingerprint of a `First` that is restored."""
    is_ambiguous: bool = False
    """Whether another job has the path, too, so that neither is stored."""


@final
class RunFacts:
    """The entries of the jobs, and what identifies jobs, files and results.

    Args:
        scheduler: the outermost scheduler of the run.
        store: the open file of the journal.
        run_number: the number of the run in the journal.
        save: the default for jobs without `save=`.
        compares_contents: whether to compare files by their contents.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        store: JournalStore,
        run_number: int,
        save: Save,
        compares_contents: bool,
    ) -> None:
        self.scheduler: Final = scheduler
        self.store: Final = store
        self.find_record: Final = store.find_undamaged_job
        self.run_number: Final = run_number
        self.default_save: Final = save
        self.entries: Final = defaultdict[AbstractJob[Any], JobEntry](JobEntry)
        self.results: Final = ResultStore(store)
        self.file_stamper: Final = _file_stamps.FileStamper(
            compares_contents, store.own_paths
        )
        directory = str(store.file.parent)
        self.fingerprint_builder: Final = FingerprintBuilder(
            self.result_form, self.file_stamper, directory
        )
        self.requirement_forms: Final = RequirementForms()
        # The paths of the jobs of each scheduler that runs.
        find_identity = self.fingerprint_builder.find_ambiguous_identity
        self.record_paths: Final[dict[object, RecordPaths]] = {
            scheduler: RecordPaths(scheduler, find_identity)
        }
        self.budget_use: Final = _record_paths.BudgetUse()
        self.notes: Final = EndNotes()
        # Whether paths may be used twice, because jobs were added during the run.
        self.has_added_jobs = False
        # The `First` whose jobs are counted: as it begins, none of them has a result, whatever it has kept.
        self.counted_first: AbstractJob[Any] | None = None
        # The first function that a look-up has come to since `LookUp` has looked for one.
        self.unasked: UnaskedFunction | None = None
        self._last_time = 0.0  # see `now`

    @functools.cached_property
    def writers(self) -> dict[str, list[AbstractJob[Any]]]:
        """The jobs that write each file that an option `writes` names."""
        writers = defaultdict[str, list[AbstractJob[Any]]](list)
        for job in self.scheduler.iterate_jobs():
            for path in job.writes:
                writers[_file_stamps.path_text(path, job.redact)].append(job)
        return writers

    def now(self) -> float:
        """Return the time, in seconds since 1970. It never decreases, even if the clock was set back."""
        self._last_time = max(self._last_time, time.time())
        return self._last_time

    def save_of(self, job: AbstractJob[Any]) -> Save:
        save = _job_queries.options_of(job).save
        if save == "default":
            return self.default_save
        return save

    def find_outputs(self, path: str) -> Outputs:
        record = self.find_record(path)
        if record is None:
            return NO_FACTS
        return Outputs.parse(record.outputs)

    def result_form(self, job: AbstractJob[Any]) -> str:
        """Return the text that represents a job's result in the fingerprints of jobs that take the result as input.

        Raises:
            NotSerializable: the result has been dropped, or cannot be stored.

        """
        if any(
            level is self.counted_first
            for level in _ancestors.enclosing_schedulers(job)
        ):
            return UNSTORED_FORM
        form: str | None = None
        if job in self.entries:
            form = self.entries[job].form
        if form is None:
            value = _job_queries.result_for_journal(job)
            if value is _job_queries.SERVICE:
                return "service"
            if not job.is_settled():
                # In a `First` that is looked up.
                return UNSTORED_FORM
            form = self._form_of_value(job, value)
            # For a job that is no member any more, `forget` has been called already.
            if job.scheduler is not None and job in job.scheduler:
                self.entries[job].form = form
        return hide_if(job.redact and not form.startswith("~"), form)

    def _form_of_value(self, job: AbstractJob[Any], value: object) -> str:
        if value is DROPPED:
            raise NotSerializable(
                f"the result of {job.label!r}, which has been dropped"
            )
        try:
            return comparison_form(dumps(value))
        except NotSerializable as error:
            if self.save_of(job) is not None:
                raise NotSerializable(
                    f"the result of {job.label!r}, {error.shown(job.redact)}"
                ) from None
            return UNSTORED_FORM
