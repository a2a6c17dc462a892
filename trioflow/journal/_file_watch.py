"""Detection of changes from outside to a journal's files during a run: moved, truncated or overwritten files.

Before each commit, the file under the name of the journal must be the one that is open, and so must its log; neither
may be shorter than it was after the last commit. If the time of the database has changed, its contents are read anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

RESTART: Final = "rename it back if it was renamed, and start the run again"


class FileWatch:
    """The database and its log, as the last commit has left them.

    Args:
        path: the database, without links.
        database: a descriptor of it.
        check: called to read the database as another program would; it raises if that finds it damaged.

    """

    def __init__(self, path: Path, database: int, check: Callable[[], object]) -> None:
        self._path: Final = path
        self._log: Final = path.with_name(path.name + "-wal")
        self._database: Final = database
        self._check: Final = check
        self._database_state = os.fstat(database)
        self._log_then = _stat_or_none(self._log)

    def remember(self) -> None:
        """Record the state of the files after a commit, for later checks."""
        self._database_state = os.fstat(self._database)
        log = _stat_or_none(self._log)
        if _difference(self._log_then, log) is None:  # else it was moved just now: the next check finds it
            self._log_then = log

    def fault(self) -> str | None:
        """Return the change from outside to the files, with the remedy; None if there is none."""
        now = _stat_or_none(self._path)
        difference = _difference(self._database_state, now) or _difference(
            self._log_then, _stat_or_none(self._log), self._log.name
        )
        if difference is not None or now is None or now.st_mtime_ns == self._database_state.st_mtime_ns:
            return difference
        try:
            self._check()
        except Exception as error:
            return f"it was overwritten while the run was writing into it ({error}); take a copy of an earlier state"
        return None

    def may_be_completed(self) -> bool:
        """Return whether SQLite may checkpoint and remove its log: both files are unchanged from outside."""
        database = os.fstat(self._database)
        changed = _difference(self._database_state, database) or _difference(self._log_then, _stat_or_none(self._log))
        return changed is None and database.st_mtime_ns == self._database_state.st_mtime_ns


def _stat_or_none(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.stat(path)
    return None


def _difference(then: os.stat_result | None, now: os.stat_result | None, log: str | None = None) -> str | None:
    if then is None:
        return None  # no log was there yet
    it = "it" if log is None else f"its log {log!r}"
    if now is None:
        return f"{it} was removed or renamed while the run was writing into it; {RESTART}"
    if (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
        return f"another file is in its place, put there while the run was writing into {it}; {RESTART}"
    if now.st_size < then.st_size:
        return f"{it} was cut short while the run was writing into it; take a copy of an earlier state"
    return None
