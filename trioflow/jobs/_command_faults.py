"""Why a command could not be started, in words that say what to do; and the end of what one has complained."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ._command_options import is_path

if TYPE_CHECKING:
    from ._command_options import How
    from ._command_result import CommandResult

TAIL: Final = 2000
"""Bytes of the standard error that an error shows."""
REAPED: Final = (
    "nobody knows how it ended: this program ignores SIGCHLD, or something in it waits for any child, and took its "
    "exit code; let that wait for its own children only"
)
_FULL: Final = {
    errno.EAGAIN: "no more processes are allowed (ulimit -u): give the scheduler a smaller jobs_window",
    errno.ENOMEM: "there is not enough memory to start it: give the scheduler a smaller jobs_window",
    errno.EMFILE: "no more open files are allowed (ulimit -n): give the scheduler a smaller jobs_window",
    errno.ENFILE: "the system has no more open files: give the scheduler a smaller jobs_window",
}


def of_streams(error: OSError) -> str:
    """Say why a standard stream could not be opened."""
    if error.errno in _FULL:
        return f"not started: {_FULL[error.errno]}"
    if error.filename is None:
        return f"not started: {error}"
    return f"not started: {error.filename!r} can't be opened for it: {error.strerror}"


def of_start(error: OSError, command: Sequence[str | bytes], how: How) -> str:
    """Say why a program could not be started, or not be watched."""
    if isinstance(error, ChildProcessError):
        return REAPED
    return "not started: " + (_of_start(error, command, how) or f"{error.strerror}")


def _of_start(error: OSError, command: Sequence[str | bytes], how: How) -> str | None:
    program, cwd = os.fsdecode(command[0]), how.cwd
    if error.errno in _FULL:
        return _FULL[error.errno]
    if error.errno == errno.E2BIG:
        return _too_long(command, how.env)
    if cwd is not None and error.filename is not None and os.fsdecode(error.filename) == os.fsdecode(cwd):
        return f"cwd={os.fsdecode(cwd)!r}: {error.strerror}"
    if error.errno == errno.ENOENT:
        if os.path.exists(os.path.join(os.fsdecode(cwd or "."), program)) and "/" in program:
            return f"{program!r} is there, but the interpreter in its first line (#!) is not"
        return f"there is no program {program!r}: look at its spelling" + (", or at PATH" if "/" not in program else "")
    if error.errno == errno.EACCES:
        return f"{program!r} is not executable: it needs chmod +x, or its interpreter in front"
    if error.errno == errno.ENOEXEC:
        return f"{program!r} is no program: a script's first line must be like #!/bin/sh"
    return None


def _too_long(command: Sequence[str | bytes], environment: Mapping[bytes, bytes] | None) -> str:
    variables = os.environb if environment is None else environment
    sizes = {f"argument {number}": len(os.fsencode(argument)) for number, argument in enumerate(command)}
    sizes |= {f"variable {os.fsdecode(name)!r}": len(name) + len(value) for name, value in variables.items()}
    longest = max(sizes, key=sizes.__getitem__)
    return (
        f"its arguments and environment are too long: {sum(sizes.values())} bytes, {sizes[longest]} of them in "
        f"{longest}; hand over much data by a file, or by stdin="
    )


def size_of_file(how: How) -> int:
    """Return how much there is in the file of its standard error, before it starts."""
    if how.check and (path := _path_of_stderr(how)) is not None:
        with contextlib.suppress(OSError):
            return os.stat(path).st_size
    return 0


def tail(result: CommandResult, how: How, start: int) -> bytes | None:
    """Return the end of its standard error, where that was captured or went to a file; of a file from `start` on."""
    merged = how.stderr == subprocess.STDOUT
    kept = result._stdout if merged else result._stderr
    if kept is not None:
        with result.open("stdout" if merged else "stderr") as file:
            file.seek(max(0, len(kept) - TAIL))
            return file.read(TAIL)
    path = _path_of_stderr(how)
    if path is None:
        return None
    with contextlib.suppress(OSError), open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - TAIL))
        return file.read(TAIL)
    return None


def _path_of_stderr(how: How) -> Any:
    given = how.stdout if how.stderr == subprocess.STDOUT else how.stderr
    name = given if is_path(given) else getattr(given, "name", None)
    return name if is_path(name) else None  # a nameless file has a number for a name
