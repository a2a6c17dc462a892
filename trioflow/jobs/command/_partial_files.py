"""Output files that a command declares in `writes=`, and has left half-written: they are renamed to NAME.partial."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._spawn_options import CommandOptions

PARTIAL_SUFFIX: Final = ".partial"


class DeclaredOutputs:
    """The state of the output files of a command before it starts.

    Args:
        options: the options of the command.

    """

    def __init__(self, options: CommandOptions) -> None:
        self._reads: Final = options.reads
        self._states: Final = {path: list(_entry_states(path)) for path in options.writes}

    def set_aside_changed(self) -> None:
        """Rename the files that have changed since, because the command did not succeed."""
        for path, state in self._states.items():
            with contextlib.suppress(OSError):  # the failure of the command is reported
                if list(_entry_states(path)) != state:
                    set_aside(path, self._reads)


def set_aside(path: Any, reads: Iterable[Any]) -> None:
    """Rename a file or a directory to NAME.partial, replacing an earlier one, unless its command also reads it.

    Raises:
        OSError: the file cannot be renamed.

    """
    if not os.path.lexists(path) or os.path.realpath(path) in {os.path.realpath(read) for read in reads}:
        return
    name = os.fsdecode(path).rstrip("/") or "/"
    target = name + PARTIAL_SUFFIX
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    elif os.path.isdir(name) and os.path.lexists(target):
        os.unlink(target)
    os.replace(name, target)


def _entry_states(path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what changes when a file, or a file in a directory, is written."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        yield status.st_ino, status.st_size, status.st_mtime_ns
    walk: Iterator[tuple[str, list[str], list[str]]] = os.walk(path)
    for directory, _, names in walk:
        for name in sorted(names):
            with contextlib.suppress(OSError):
                status = os.stat(os.path.join(directory, name))
                yield directory, name, status.st_ino, status.st_size, status.st_mtime_ns
