"""A directory of results: for each command one, named after its arguments, with what it has written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import BinaryIO

from ._errors import BatchError


def place(directory: str, arguments: Sequence[str]) -> str:
    r"""Return the directory for some arguments: the number of each source, and in it the argument, and so on.

    A `/` in an argument is written `\_`, and a `\` twice. What would name no directory below, nothing, `.` and `..`,
    has a `\.` before it.

    Example:
        >>> place("results", ["a/b", "", ".."])
        'results/1/a\\_b/2/\\./3/\\...'

    """
    parts = [part for number, argument in enumerate(arguments, 1) for part in (str(number), _name(argument))]
    return os.path.join(directory, *parts)


def _name(argument: str) -> str:
    if argument in ("", ".", ".."):
        return "\\." + argument
    return argument.replace("\\", "\\\\").replace("/", "\\_")


def save(directory: str, sequence: int, outputs: tuple[BinaryIO, BinaryIO]) -> None:
    """Write the files `seq`, `stdout` and `stderr`.

    Raises:
        BatchError: they cannot be written.

    """
    try:
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "seq"), "w", encoding="ascii") as file:
            file.write(str(sequence))
        for name, output in zip(("stdout", "stderr"), outputs, strict=True):
            with open(os.path.join(directory, name), "wb") as target:
                shutil.copyfileobj(output, target)
    except OSError as error:
        raise BatchError(f"cannot write the results in {directory!r}: {error.strerror}") from None
