"""`Journal`: the file that stores the results of jobs, with its options. `JournalSession` is its use by a run.

```
job is ready ──► fingerprint ──► stored under its path, with this fingerprint? ──► yes: the stored result, restored
                                    │ no: the reason is kept for `explain`
                                    ▼
                 it runs ──► SUCCEEDED ──► its serialized result, in the buffer ──► commit
```

Before a job that writes files starts, its start is recorded and committed. If the process is killed, this record tells
a later run that the files may be half-written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, final, get_args

from .._core.job._errors import JournalError
from .._core.job._job_options import SaveName, check_save, choice_of, file_path, flag
from .._core.run._journaling import RunJournal
from ._serialization import IS_INSTALLED
from ._session import JournalSession

if TYPE_CHECKING:
    from .._core.job._job_options import Save
    from .._core.run._journaling import JournalProtocol
    from .._core.scheduler._base_scheduler import BaseScheduler

Durability = Literal["group", "each"]


@final
class Journal:
    """A file that stores the results of jobs. A later run with the same journal continues from there.

    Use it when a run that was killed should go on where it stopped. A path is enough, unless you set an option.

    Give it to `Scheduler.run(journal=...)`, or give just the path. A job is restored instead of run if it succeeded in
    an earlier run, under the same path (`job.path`), and if its fingerprint is the same. The fingerprint consists of
    the name of the job's function, its arguments, the results of its inputs, its `version=`, the files that it reads,
    the directory of a command, and its requirements, unless with `order_only=True`. If the job has `key=`, its
    fingerprint is the key alone. The journal does not see a change of code: change `version=`, too.

    A nested scheduler always runs, and its jobs are restored one by one. Services always run. Jobs that only their
    order would distinguish are not stored, and the log names them.

    Args:
        path: the file, which is created if it is missing.
        durable: "group" commits once in each turn of the event loop. If the process is killed, the results of the last
            turn are lost. "each" commits each job, and syncs it to the disk, before any job that requires it starts.
            Committed results then survive a power cut, too.
        save: the default for jobs without `save=`: "json", "pickle", a pair (dump, load), or None.
        hash: whether to compare files by their contents instead of by size and modification time.

    Raises:
        ValueError: `durable` or `save` has an unknown value.
        JournalError: msgspec is not installed.

    Example:
        >>> import tempfile
        >>> async def double(number):
        ...     return 2 * number
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for _ in range(2):
        ...         job = Job(double, 21)
        ...         scheduler = Scheduler(job)
        ...         scheduler.run(journal=Journal(directory + "/run.db")), job.result(), job.restored
        (True, 42, False)
        (True, 42, True)

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durable: Durability = "group",
        save: Save = "json",
        hash: bool = False,
    ) -> None:
        """Check the options, and that msgspec is installed. The file is opened by a run."""
        if not IS_INSTALLED:
            raise JournalError(
                "a journal needs msgspec: pip install 'trioflow[journal]'"
            )
        check_save(save, "save", "a Journal", get_args(SaveName))
        self.path: Final = Path(file_path(path, "path", "a Journal"))
        self.durable: Final[Durability] = choice_of(Durability)(
            durable, "durable", "a Journal"
        )
        self.save: Final[Save] = save
        self.hash: Final = flag(hash, "hash", "a Journal")

    def open_for(self, scheduler: BaseScheduler) -> RunJournal:
        """Open the journal for a run of `scheduler`. The run calls this method.

        Raises:
            JournalError: the file cannot be used, or another run uses it.

        """
        commits_each = self.durable == "each"
        return JournalSession(
            self.path,
            scheduler,
            save=self.save,
            compares_contents=self.hash,
            commits_each=commits_each,
        )

    def __repr__(self) -> str:
        return f"<Journal {os.fspath(self.path)!r}>"


def open_journal(
    journal: JournalProtocol | str, scheduler: BaseScheduler
) -> RunJournal:
    """Open a journal for a run of `scheduler`.

    Args:
        journal: a `Journal`, a path, or another `JournalProtocol`, as `check_journal` has returned it.
        scheduler: the outermost scheduler of the run.

    Raises:
        JournalError: the file cannot be used, another run uses it, or msgspec is not installed.

    """
    if isinstance(journal, str):
        journal = Journal(journal)
    return journal.open_for(scheduler)
