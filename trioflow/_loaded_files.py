"""The texts of the program's own files as they were loaded: all but the standard library, installed packages, trioflow.

Python keeps no text of the code that it has loaded, so the text is read before a file is mended. Whoever shows,
compares or mends code asks here for it: tracebacks, the digests of a journal, worker processes and a reload.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import linecache
import os
import struct
import sys
import time
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, NamedTuple

from . import _posix as posix
from ._core.base._user_code import STARTED_AT, library_prefixes


class LoadedFile(NamedTuple):
    """A file, and the modules that it was loaded as.

    Attributes:
        text: the text of the file.
        saved_at: the time of its last modification, in nanoseconds.
        is_certain: whether the text is certain to be the loaded text. It is not if the file may have been saved later.
        namespaces: the namespaces of its modules, by their identities. A script that is imported again has two modules.
        successors: the codes of functions that have got new ones, and the latest of these. Calls that have begun before
            go on to make functions of the old codes.

    """

    text: bytes
    saved_at: int
    is_certain: bool
    namespaces: dict[int, dict[str, Any]]
    successors: dict[CodeType, CodeType]


loaded: Final = dict[str, LoadedFile]()
"""The files that are known, by their names."""
code_names: Final = dict[str, str]()
"""The names of files in their code, where they differ: `trioflow run` compiles a file by the name that it was given."""
before_reload: Final = dict[Callable[[], None], None]()
"""The functions to call before mended code is taken. The calls in progress go on with the code of before."""
_specs: Final = dict[int, Any]()
"""The specs of modules, by the identities of their namespaces: `importlib.reload` gives a module another one."""
_remembered_at = STARTED_AT
"""When all files were known that had been loaded."""


def keep(file: str, as_loaded: LoadedFile) -> None:
    """Keep the text of a file as it was loaded. Tracebacks quote it from now on, whatever the file says."""
    loaded[file] = as_loaded
    if as_loaded.is_certain:
        with contextlib.suppress(SyntaxError, UnicodeDecodeError):
            lines = source_lines(as_loaded.text)
            for name in (file, code_names.get(file, file)):
                # Without a time, `linecache.checkcache` leaves an entry alone:
                # https://github.com/python/cpython/blob/v3.11.7/Lib/linecache.py#L64.
                linecache.cache[name] = len(as_loaded.text), None, lines, name


def source_lines(text: bytes) -> list[str]:
    """Return the lines of the text of a module.

    Raises:
        SyntaxError, UnicodeDecodeError: it cannot be decoded.

    """
    decoded = importlib.util.decode_source(text)
    return io.StringIO(
        decoded if decoded.endswith("\n") else f"{decoded}\n"
    ).readlines()


def text_of(code_file: str) -> bytes | None:
    """Return the text that was loaded from the file that code names, or None if it is not known for certain."""
    names = [file for file, name in code_names.items() if name == code_file]
    found = loaded.get(names[0] if names else code_file)
    return found.text if found is not None and found.is_certain else None


def certain_files() -> list[str]:
    """Return the names of the files whose loaded texts are known for certain."""
    return [file for file, found in loaded.copy().items() if found.is_certain]


def remember() -> None:
    """Read the files of the program's own modules that are not known yet, or that the user has loaded again."""
    global _remembered_at
    since = _remembered_at
    _remembered_at = time.time()
    for module in [*sys.modules.values()]:
        namespace = getattr(module, "__dict__", {})
        # Not getattr(), which could call a `__getattr__`.
        file = namespace.get("__file__")
        if (
            isinstance(file, str)
            and not file.startswith(library_prefixes())
            and not file.endswith((".so", ".pyd", ".pyc"))
        ):
            spec = namespace.get("__spec__")
            is_reloaded = _specs.get(id(namespace), spec) is not spec
            _specs[id(namespace)] = spec
            with contextlib.suppress(OSError):
                if is_reloaded or file not in loaded:
                    status = os.stat(file)
                    is_certain = status.st_mtime < since
                    if is_reloaded:
                        is_certain = _is_compiled(namespace.get("__cached__"), status)
                    text = posix.read_named(file)
                    keep(file, LoadedFile(text, status.st_mtime_ns, is_certain, {}, {}))
                loaded[file].namespaces[id(namespace)] = namespace


def _is_compiled(cached: str | None, status: os.stat_result) -> bool:
    """Return whether a file is as Python has compiled it last, to load it again: its bytecode, if any, has its time."""
    if cached is None or not os.path.exists(cached):
        return True
    # https://peps.python.org/pep-0552/: magic number, flags, time, size
    expected = struct.pack("<3I", 0, int(status.st_mtime), status.st_size)
    return posix.read_named(cached)[4:16] == expected


def changed_files(*, reads_all: bool = False) -> dict[str, LoadedFile]:
    """Return the files whose text has changed since they were loaded, as they are now.

    Args:
        reads_all: whether to read the files with their old times, too. A copy or a coarse clock may have restored them.

    """
    changed: dict[str, LoadedFile] = {}
    for file, before in loaded.copy().items():
        with contextlib.suppress(OSError):
            saved_at = os.stat(file).st_mtime_ns
            if saved_at == before.saved_at and not reads_all:
                continue
            text = posix.read_named(file)
            if text != before.text:
                changed[file] = before._replace(text=text, saved_at=saved_at)
    return changed
