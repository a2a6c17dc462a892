"""The arguments of a command: their validation, the substitution of jobs, and their display as a command line."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable
from typing import Any, Final

from ...abc import AbstractJob, flag, label_inside, without_middle
from ...abc import short_repr as shown_value
from ._granted import granted
from ._output_sinks import Spool
from ._result import CommandResult

REDACTED: Final = "command …"
"""The text that replaces a redacted command in labels and logs."""
LABEL_LENGTH: Final = 60
"""The maximum length of the command line in a default label, in characters."""
PATH_LIKE: Final[Any] = os.PathLike
IN_MEMORY: Final[Any] = (bytes, bytearray, memoryview)
JOB: Final[Any] = AbstractJob
SHELL: Final = "/bin/sh"
LABEL_ARGUMENTS: Final = 20
"""How many of the first and of the last arguments a default label takes into account."""


def check_arguments(command: Any, shell: bool, subject: str) -> tuple[Any, ...]:
    """Check the user's command, and return its arguments, with jobs unchanged.

    Raises:
        TypeError: the command is not a list, or an element cannot be an argument.
        ValueError: the command is empty, or an argument contains a NUL.

    """
    if flag(shell, "shell", subject):
        if not isinstance(command, (str, bytes, JOB)):
            raise TypeError(f"{subject}: with shell=True give the command as one string, not {shown_value(command)}")
        if isinstance(command, (str, bytes)) and not command.strip():
            raise ValueError(f"{subject}: the command is empty: give a line for the shell")
        command = SHELL, "-c", command
    elif isinstance(command, (str, bytes, PATH_LIKE, JOB)) or not hasattr(command, "__iter__"):
        is_one = isinstance(command, (str, bytes, PATH_LIKE, JOB))
        such = f"CommandJob({display(command).split()!r})" if is_one else f"not {shown_value(command)}"
        raise TypeError(f"{subject}: give a list, {such}, or a shell's line with shell=True")
    arguments: tuple[Any, ...] = tuple(command)
    if not arguments:
        raise ValueError(f"{subject}: the command is empty: give a program and its arguments")
    for number, argument in enumerate(arguments):
        if not isinstance(argument, (JOB, granted)):
            argument_text(argument, number, subject)
    if arguments[0] in ("", b""):
        raise ValueError(f"{subject}: argument 0 is empty: give the name of a program")
    return arguments


def argument_text(argument: Any, number: int | str, subject: str) -> str | bytes:
    """Convert an argument to a string or bytes; a `CommandResult` becomes its output, as in a shell's `$(...)`.

    Args:
        argument: the argument, without placeholders.
        number: its position, for errors.
        subject: the name of the job, for errors.

    """
    value: Any = argument
    result: Any = argument
    if isinstance(argument, CommandResult):
        result = _captured_output(argument, number, subject)
    elif isinstance(argument, (int, float)) and not isinstance(argument, bool):
        result = str(argument)
    elif isinstance(argument, PATH_LIKE):
        result = os.fspath(value)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(result, (str, bytes)):
        raise TypeError(
            f"{subject}: argument {number} is {shown_value(argument)}, a {type(argument).__name__}: "
            f"give a string, bytes, a path, a number, or a job whose result is one"
        )
    if b"\0" in os.fsencode(result):
        raise ValueError(f"{subject}: argument {number} has a NUL in it, which no program can be given")
    return result


def _captured_output(result: CommandResult, number: int | str, subject: str) -> bytes:
    output = result.stdout
    if output is None:
        raise not_captured_error(f"{subject}: argument {number}")
    return output.rstrip(b"\n")


def not_captured_error(what: str) -> TypeError:
    """Return the error for a `CommandResult` whose output is needed but was not captured."""
    return TypeError(
        f"{what} is the result of a command whose output was not captured: give that one stdout=subprocess.PIPE"
    )


def fill_arguments(arguments: Iterable[Any], job: AbstractJob[Any]) -> list[str | bytes]:
    """Convert the arguments of a job to strings or bytes, with its granted resources filled in."""
    arguments = [value.text(job) if isinstance(value, granted) else value for value in arguments]
    return [
        argument if type(argument) is str and "\0" not in argument else argument_text(argument, number, repr(job.label))
        for number, argument in enumerate(arguments)
    ]


def check_input(value: Any, job: AbstractJob[Any]) -> Any:
    """Return the standard input of a command unchanged; raise a TypeError if it cannot be read."""
    if value is None or isinstance(value, (*IN_MEMORY, Spool, int, str, PATH_LIKE)):
        return value
    with contextlib.suppress(AttributeError, OSError):
        value.fileno()  # io.BytesIO has the method but no descriptor
        return value
    raise TypeError(
        f"stdin of {job.label!r}: {display(value)}, a {type(value).__name__}: "
        f"give bytes, a path, an open file, or a job"
    )


def join_command(arguments: Iterable[str | bytes], shell: bool) -> str:
    """Join a command's arguments to a line for a shell, with quotes."""
    words = [os.fsdecode(argument) for argument in arguments]
    return words[2] if shell else shlex.join(words)


def shell_line(command: Any, shell: bool) -> str:
    """Join the user's command to a line for a shell, with jobs replaced by their labels."""
    return display(command) if shell else " ".join(map(_quote, command))


def default_label(command: Any, shell: bool, depth: int) -> str:
    """Return the default label of a command: its shortened command line, with jobs nested at most `depth` deep."""
    words = (command,) if shell else tuple(command)
    if len(words) > 2 * LABEL_ARGUMENTS:
        words = (*words[:LABEL_ARGUMENTS], "…", *words[-LABEL_ARGUMENTS:])
    return shorten(" ".join(display(word, depth) if shell else _quote(word, depth) for word in words))


def shorten(text: str) -> str:
    """Shorten a command line to `LABEL_LENGTH` characters by omitting its middle, and put it on one line."""
    around = 2 * LABEL_LENGTH
    text = text if len(text) <= 2 * around else f"{text[:around]}…{text[-around:]}"
    return without_middle(" ".join(text.split()), LABEL_LENGTH)


def _quote(argument: Any, depth: int | None = None) -> str:
    text = display(argument, depth)
    return text if isinstance(argument, (JOB, granted)) or text == "…" else shlex.quote(text)


def display(argument: Any, depth: int | None = None) -> str:
    """Return an argument as text; for a job its label or, with a depth, its form inside of a default label."""
    if isinstance(argument, JOB):
        return f"<{argument.label if depth is None else label_inside(argument, depth)}>"
    return os.fsdecode(argument) if isinstance(argument, (bytes, PATH_LIKE)) else str(argument)
