"""The texts of the program's own files as they were loaded: all but the standard library, installed packages, trioflow.

Python keeps no text of what it has loaded, so it is read before a file is mended.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Final, NamedTuple

from ... import _posix as posix
from ..._core.base._user_code import STARTED_AT, library_prefixes


class LoadedFile(NamedTuple):
    """A file, and the modules that it was loaded as.

    Attributes:
        text: the text of the file.
        saved_at: the time of its last modification, in nanoseconds.
        is_certain: whether the text is what was loaded. It is not if the file was saved after the program had started.
        namespaces: the namespaces of its modules, by their identities. A script that is imported again has two modules.

    """

    text: bytes
    saved_at: int
    is_certain: bool
    namespaces: dict[int, dict[str, Any]]


loaded: Final[dict[str, LoadedFile]] = {}
"""The files that are known, by their names."""


def remember() -> None:
    """Read the files of the program's own modules that are not known yet."""
    for module in [*sys.modules.values()]:
        namespace = getattr(module, "__dict__", {})
        file = namespace.get("__file__")  # not getattr(), which could call a `__getattr__`
        if (
            isinstance(file, str)
            and not file.endswith((".so", ".pyd", ".pyc"))
            and not file.startswith(library_prefixes())
        ):
            with contextlib.suppress(OSError):
                loaded[file] = loaded.get(file) or _read(file, {})
                loaded[file].namespaces[id(namespace)] = namespace


def _read(file: str, namespaces: dict[int, dict[str, Any]]) -> LoadedFile:
    """Return a file as it is now.

    Raises:
        OSError: the file cannot be read.

    """
    saved_at = os.stat(file).st_mtime_ns
    return LoadedFile(posix.read_named(file), saved_at, saved_at < STARTED_AT * 1e9, namespaces)


def changed_files() -> dict[str, LoadedFile]:
    """Return the files whose text has changed since they were loaded, as they are now."""
    changed: dict[str, LoadedFile] = {}
    for file, before in loaded.copy().items():
        with contextlib.suppress(OSError):
            if os.stat(file).st_mtime_ns != before.saved_at:
                now = _read(file, before.namespaces)
                changed |= {file: now} if now.text != before.text else {}
    return changed
