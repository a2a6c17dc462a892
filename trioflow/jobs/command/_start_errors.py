"""Messages and remedies for commands that cannot be started, and the end of the standard error of those that fail."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ... import _posix as posix
from ._spawn_options import is_path

if TYPE_CHECKING:
    from ._result import CommandResult
    from ._spawn_options import CommandOptions

TAIL_BYTES: Final = 2000
"""How much of the end of the standard error a `CommandError` shows, in bytes."""
REAPED: Final = (
    "its exit code is unknown: this program ignores SIGCHLD, or some code in it waits for any child and took the exit "
    "code; let that code wait for its own children only"
)
LACKING_RESOURCES: Final = {
    errno.EAGAIN: "no more processes are allowed (ulimit -u): run fewer commands at once",
    errno.ENOMEM: "there is not enough memory to start one: run fewer commands at once",
    errno.EMFILE: "no more open files are allowed (ulimit -n): run fewer commands at once",
    errno.ENFILE: "the system has no more open files: run fewer commands at once",
}
"""The reason and the remedy for each error number that means a lack of resources."""


def not_permitted_message(group: int) -> str:
    """Return the message about a process group that this program may not signal."""
    return (
        f"the process group {group} cannot be ended, because it belongs to another user (sudo?), and runs on; "
        f"set a time limit as that user, as in: sudo timeout 60 COMMAND"
    )


def stream_error_message(error: OSError) -> str:
    """Return the message about a standard stream that could not be opened."""
    if error.errno in LACKING_RESOURCES:
        return f"not started: {LACKING_RESOURCES[error.errno]}"
    if error.filename is None:
        return f"not started: {error}"
    return f"not started: {error.filename!r} cannot be opened for it: {error.strerror}"


def start_error_message(
    error: OSError, command: Sequence[str | bytes], options: CommandOptions, *, redact: bool
) -> str:
    """Return the message about a program that could not be started or waited for.

    Args:
        error: the error of the start.
        command: the program and its arguments.
        options: the options of the command.
        redact: whether to leave out the names of the program and of variables.

    """
    if isinstance(error, ChildProcessError):
        return REAPED
    return "not started: " + (_start_reason(error, command, options, redact) or f"{error.strerror}")


def _start_reason(error: OSError, command: Sequence[str | bytes], options: CommandOptions, redact: bool) -> str | None:
    program, cwd = os.fsdecode(command[0]), options.cwd
    shown, such = ("the program", "such program") if redact else (repr(program), f"program {program!r}")
    if not program:
        return "the name of the program is empty"
    if error.errno in LACKING_RESOURCES:
        return LACKING_RESOURCES[error.errno]
    if error.errno == errno.E2BIG:
        return _too_long_message(command, options.env, redact)
    if cwd is not None and error.filename is not None and os.fsdecode(error.filename) == os.fsdecode(cwd):
        return f"cwd={os.fsdecode(cwd)!r}: {error.strerror}"
    if error.errno == errno.ENOENT:
        if os.path.exists(os.path.join(os.fsdecode(cwd or "."), program)) and "/" in program:
            return f"{shown} is there, but the interpreter in its first line (#!) is not"
        return f"there is no {such}: look at its spelling" + (", or at PATH" if "/" not in program else "")
    if error.errno == errno.EACCES and "/" in program and os.path.isdir(os.path.join(os.fsdecode(cwd or "."), program)):
        return f"{shown} is a directory, not a program"
    if error.errno == errno.EACCES:
        return f"{shown} is not executable: it needs chmod +x, or its interpreter in front"
    if error.errno == errno.ENOEXEC:
        return f"{'it' if redact else shown} is not a program: a script's first line must be like #!/bin/sh"
    return None


def _too_long_message(command: Sequence[str | bytes], environment: Mapping[bytes, bytes] | None, redact: bool) -> str:
    variables = posix.environb if environment is None else environment
    sizes = {f"argument {number}": len(os.fsencode(argument)) for number, argument in enumerate(command)}
    sizes |= {f"variable {os.fsdecode(name)!r}": len(name) + len(value) for name, value in variables.items()}
    longest = max(sizes, key=sizes.__getitem__)
    shown = "a variable" if redact and longest.startswith("variable") else longest
    return (
        f"its arguments and environment are too long: {sum(sizes.values())} bytes, {sizes[longest]} of them in "
        f"{shown}; hand over much data by a file, or by stdin="
    )


def stderr_size(options: CommandOptions) -> int:
    """Return the current size of the file that receives the standard error; 0 if there is none, or it is not needed."""
    if options.allowed is not None and (path := _path_of_stderr(options)) is not None:
        return file_size(path)
    return 0


def file_size(path: Any) -> int:
    """Return the size of a file; 0 if the file does not exist."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def file_tail(path: Any, start: int) -> bytes | None:
    """Return the last bytes of a file, but none before position `start`; None if the file cannot be read."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return file.read(TAIL_BYTES)
    return None


def stderr_tail(result: CommandResult, options: CommandOptions, start: int) -> bytes | None:
    """Return the last bytes of a command's standard error; None if it was neither captured nor written to a file.

    Args:
        result: the result of the command.
        options: the options of the command.
        start: the size of the file for the standard error before the command started.

    """
    merged = options.stderr == subprocess.STDOUT
    kept = result._stdout if merged else result._stderr
    if kept is not None:
        with result.open("stdout" if merged else "stderr") as file:
            file.seek(max(0, len(kept) - TAIL_BYTES))
            return file.read(TAIL_BYTES)
    path = _path_of_stderr(options)
    return None if path is None else file_tail(path, start)


def _path_of_stderr(options: CommandOptions) -> Any:
    stream = options.stdout if options.stderr == subprocess.STDOUT else options.stderr
    name = stream if is_path(stream) else getattr(stream, "name", None)
    return name if is_path(name) else None  # the `name` of a file opened from a descriptor is a number
