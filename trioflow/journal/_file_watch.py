"""Detection of changes to a journal's files by other programs during a run: moves, truncations and overwrites.

Before each commit, the database and its log must be the files that are open, and neither may be shorter than after the
previous commit. If the modification time of the database has changed, its contents are checked as well.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

RESTART_HINT: Final = "rename it back if it was renamed, and start the run again"


class FileWatch:
    """A watch on a database and its log, which detects changes by other programs since the last commit.

    Args:
        path: the path of the database, with links resolved.
        database: a descriptor of the database.
        check: checks the contents of the database, and raises an exception if they are damaged.

    """

    def __init__(self, path: Path, database: int, check: Callable[[], object]) -> None:
        self._path: Final = path
        self._log_path: Final = path.with_name(path.name + "-wal")
        self._database_descriptor: Final = database
        self._check_contents: Final = check
        self._database_state = os.fstat(database)
        self._log_state = _stat_or_none(self._log_path)

    def record_state(self) -> None:
        self._database_state = os.fstat(self._database_descriptor)
        log = _stat_or_none(self._log_path)
        if _describe_file_change(self._log_state, log) is None:  # otherwise keep the old state, for `find_change`
            self._log_state = log

    def find_change(self) -> str | None:
        """Describe a change by another program, with the remedy; return None if there is no change."""
        database_state = _stat_or_none(self._path)
        change = _describe_file_change(self._database_state, database_state) or _describe_file_change(
            self._log_state, _stat_or_none(self._log_path), self._log_path.name
        )
        if change is not None or database_state is None:
            return change
        if database_state.st_mtime_ns == self._database_state.st_mtime_ns:
            return None
        try:
            self._check_contents()
        except Exception as error:
            return f"it was overwritten while the run was writing to it ({error}); restore an earlier copy"
        return None

    def can_checkpoint(self) -> bool:
        """Return whether SQLite may checkpoint and remove its log: only if no other program has changed the files.

        The database may have been moved.
        """
        database = os.fstat(self._database_descriptor)
        changed = _describe_file_change(self._database_state, database) or _describe_file_change(
            self._log_state, _stat_or_none(self._log_path)
        )
        return changed is None and database.st_mtime_ns == self._database_state.st_mtime_ns


def _stat_or_none(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.stat(path)
    return None


def _describe_file_change(
    old: os.stat_result | None, new: os.stat_result | None, log_name: str | None = None
) -> str | None:
    if old is None:
        return None  # the log did not exist yet
    subject = "it" if log_name is None else f"its log {log_name!r}"
    if new is None:
        return f"{subject} was removed or renamed while the run was writing to it; {RESTART_HINT}"
    if (new.st_dev, new.st_ino) != (old.st_dev, old.st_ino):
        return f"{subject} was replaced by another file while the run was writing to it; {RESTART_HINT}"
    if new.st_size < old.st_size:
        return f"{subject} was truncated while the run was writing to it; restore an earlier copy"
    return None
