"""Error messages for commands that cannot be started, and the end of standard error of commands that fail."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ... import _posix as posix
from ._output_sinks import file_tail
from ._spawn_options import CommandOptions, is_path

if TYPE_CHECKING:
    from ._result import CommandResult

MAX_TAIL_BYTES: Final = 2000
"""The maximum size, in bytes, of the end of standard error that a `CommandError` shows."""
REAPED_MESSAGE: Final = "its exit code is unknown: this program ignores SIGCHLD, or other code in it reaped the child"
REAPED_ADVICE: Final = "other code must wait for its own children only"
RESOURCE_ERROR_MESSAGES: Final = {
    errno.EAGAIN: "too many processes (ulimit -u)",
    errno.ENOMEM: "not enough memory to start a process",
    errno.EMFILE: "too many open files (ulimit -n)",
    errno.ENFILE: "too many open files in the whole system",
}
RESOURCE_ADVICE: Final = "run fewer commands at once"


def not_permitted_message(group: int) -> str:
    return (
        f"process group {group} belongs to another user (sudo?), so it cannot be stopped and keeps running; "
        f"set a time limit as that user, for example: sudo timeout 60 COMMAND"
    )


def stream_error_message(error: OSError, *, redact: bool) -> tuple[str, str]:
    """Return the message about what a command needs before its program starts, and advice.

    With `redact`, the path is left out.
    """
    if error.errno in RESOURCE_ERROR_MESSAGES:
        return f"not started: {RESOURCE_ERROR_MESSAGES[error.errno]}", RESOURCE_ADVICE
    if error.filename is None:
        return f"not started: {error.strerror or error}", ""
    return f"not started: cannot open {'a file' if redact else repr(error.filename)}: {error.strerror}", ""


def start_error_message(
    error: OSError, command: Sequence[str | bytes], options: CommandOptions, *, redact: bool
) -> tuple[str, str]:
    """Return the message about a program that could not be started or waited for, and advice, which may be "".

    Args:
        error: the error raised by the start or by the wait.
        command: the program and its arguments.
        options: the options of the command.
        redact: whether to leave out the names of the program and of variables.

    """
    if isinstance(error, ChildProcessError):
        return REAPED_MESSAGE, REAPED_ADVICE
    reason, _, advice = _start_error_reason(error, command, options, redact).partition("\n")
    return f"not started: {reason}", advice


def _start_error_reason(error: OSError, command: Sequence[str | bytes], options: CommandOptions, redact: bool) -> str:
    """Return the reason for a failed start. If there is advice, it is the second line."""
    program, cwd = os.fsdecode(command[0]), options.cwd
    shown_name, missing_name = ("the program", "program") if redact else (repr(program), f"program {program!r}")
    if not program:
        return "the name of the program is empty"
    if error.errno in RESOURCE_ERROR_MESSAGES:
        return f"{RESOURCE_ERROR_MESSAGES[error.errno]}\n{RESOURCE_ADVICE}"
    if error.errno == errno.E2BIG:
        return _too_long_message(command, options.env, redact)
    if cwd is not None and error.filename is not None and os.fsdecode(error.filename) == os.fsdecode(cwd):
        return f"{'cwd' if redact else f'cwd={os.fsdecode(cwd)!r}'}: {error.strerror}"
    if error.errno == errno.ENOENT:
        if os.path.exists(os.path.join(os.fsdecode(cwd or "."), program)) and "/" in program:
            return f"{shown_name} exists, but the interpreter in its first line (#!) does not"
        return f"{missing_name} not found\ncheck its spelling" + (", and PATH" if "/" not in program else "")
    if error.errno == errno.EACCES and "/" in program and os.path.isdir(os.path.join(os.fsdecode(cwd or "."), program)):
        return f"{shown_name} is a directory, not a program"
    if error.errno == errno.EACCES:
        return f"{shown_name} is not executable\nrun chmod +x, or put its interpreter in front of it"
    if error.errno == errno.ENOEXEC:
        return f"{'it' if redact else shown_name} is not a program\na script must begin with a line such as #!/bin/sh"
    return f"{error.strerror}"


def _too_long_message(command: Sequence[str | bytes], environment: Mapping[bytes, bytes] | None, redact: bool) -> str:
    variables = posix.environb if environment is None else environment
    sizes = {f"argument {number}": len(os.fsencode(argument)) for number, argument in enumerate(command)}
    sizes |= {f"variable {os.fsdecode(name)!r}": len(name) + len(value) for name, value in variables.items()}
    longest = max(sizes, key=sizes.__getitem__)
    shown_name = "a variable" if redact and longest.startswith("variable") else longest
    return (
        f"its arguments and environment are too long: {sum(sizes.values())} bytes, {sizes[longest]} of them in "
        f"{shown_name}\npass large data in a file, or through stdin="
    )


def stderr_size(options: CommandOptions) -> int:
    """Return the current size of the file that receives standard error.

    The result is 0 if there is no such file, or if the size is not needed because every exit code counts as success.
    """
    if options.success_codes is not None and (path := _stderr_path(options)) is not None:
        return file_size(path)
    return 0


def file_size(path: Any) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def stderr_tail(result: CommandResult, options: CommandOptions, start: int) -> bytes | None:
    """Return the last bytes of a command's standard error; None if it was neither captured nor written to a file.

    Args:
        result: the result of the command.
        options: the options of the command.
        start: the size of the file for standard error before the command started.

    """
    is_merged = options.stderr == subprocess.STDOUT
    output = result._stdout if is_merged else result._stderr
    if output is not None:
        with result.open("stdout" if is_merged else "stderr") as file:
            file.seek(max(0, len(output) - MAX_TAIL_BYTES))
            return file.read(MAX_TAIL_BYTES)
    path = _stderr_path(options)
    return None if path is None else file_tail(path, MAX_TAIL_BYTES, start)


def _stderr_path(options: CommandOptions) -> Any:
    stream = options.stdout if options.stderr == subprocess.STDOUT else options.stderr
    name = stream if is_path(stream) else getattr(stream, "name", None)
    return name if is_path(name) else None  # the `name` of a file opened from a descriptor is a number
