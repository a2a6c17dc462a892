"""The reasons why a command cannot be started, each with its remedy.

An error of a redacted job names neither programs nor files nor variables. So each function here gets `show`, which
returns the text that an error may show: `show("'/opt/tool'", "the program")` is "the program" for a redacted job.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ... import _posix as posix
from ._resource_limits import RESOURCE_ADVICE, RESOURCE_ERROR_MESSAGES

Show = Callable[[str, str], str]
Words = Sequence[str | bytes]


class Reason(NamedTuple):
    """The reason for an error, and the remedy."""

    problem: str
    remedy: str = ""


def reason_before_start(error: OSError, show: Show, stdin: object) -> Reason:
    """Return why something that the command needs before its program starts was not there, such as its `stdin`."""
    if error.errno in RESOURCE_ERROR_MESSAGES:
        return Reason(RESOURCE_ERROR_MESSAGES[error.errno], RESOURCE_ADVICE)
    if error.filename is None:
        return Reason(error.strerror or str(error))
    problem = f"cannot open {show(repr(error.filename), 'a file')}: {error.strerror}"
    if (
        error.errno == errno.ENOENT
        and isinstance(stdin, str)
        and error.filename == stdin
    ):
        return Reason(
            problem,
            "stdin= is the name of a file; for the text itself, give bytes: stdin=text.encode()",
        )
    return Reason(problem)


def reason_for_failed_start(
    error: OSError,
    command: Words,
    cwd: str | bytes | None,
    environment: Mapping[bytes, bytes] | None,
    show: Show,
) -> Reason:
    """Return why a program could not be started."""
    number = error.errno or 0
    program = os.fsdecode(command[0])
    is_searched = "/" not in program
    path = os.path.join(os.fsdecode(cwd or "."), program)
    shown = show(repr(program), "the program")
    if not program:
        return Reason("the name of the program is empty")
    if number in RESOURCE_ERROR_MESSAGES:
        return Reason(RESOURCE_ERROR_MESSAGES[number], RESOURCE_ADVICE)
    if number == errno.E2BIG:
        return _reason_for_length(command, environment, show)
    if (
        cwd is not None
        and error.filename is not None
        and os.fsdecode(error.filename) == os.fsdecode(cwd)
    ):
        return Reason(f"{show(f'cwd={os.fsdecode(cwd)!r}', 'cwd')}: {error.strerror}")
    if number == errno.ENOENT and not is_searched and os.path.exists(path):
        return Reason(
            f"{shown} exists, but the interpreter in its first line (#!) does not"
        )
    if number == errno.ENOENT:
        remedy = "check its spelling"
        if is_searched:
            remedy = "check its spelling, and PATH"
        return Reason(f"{show(f'program {program!r}', 'program')} not found", remedy)
    if number == errno.EACCES and not is_searched and os.path.isdir(path):
        return Reason(f"{shown} is a directory, not a program")
    if number == errno.EACCES:
        return Reason(
            f"{shown} is not executable",
            "run chmod +x, or put its interpreter in front of it",
        )
    if number == errno.ENOEXEC:
        return Reason(
            f"{show(shown, 'it')} is not a program",
            "a script must begin with a line such as #!/bin/sh",
        )
    return Reason(str(error.strerror))


def _reason_for_length(
    command: Words, environment: Mapping[bytes, bytes] | None, show: Show
) -> Reason:
    sizes = [
        (len(os.fsencode(word)), f"argument {number}")
        for number, word in enumerate(command)
    ]
    variables = environment
    if variables is None:
        variables = posix.environb
    for name, value in variables.items():
        place = show(f"variable {os.fsdecode(name)!r}", "a variable")
        sizes.append((len(name) + len(value), place))
    longest, place = max(sizes)
    total = sum(size for size, _ in sizes)
    return Reason(
        f"its arguments and environment are too long: {total} bytes, {longest} of them in {place}",
        "pass large data in a file, or through stdin=",
    )
