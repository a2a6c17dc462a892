"""A directory of results: for each command one, named after its arguments, with what it has written."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from typing import BinaryIO, Final

from ._errors import BatchError

LONGEST: Final = 255
"""Bytes that the name of a file may have, on all file systems in common use."""


def place(directory: str, arguments: Sequence[str]) -> str:
    r"""Return the directory for some arguments: the number of each source, and in it the argument, and so on.

    A `/` in an argument is written `\_`, and a `\` twice. What would name no directory below, nothing, `.` and `..`,
    has a `\.` before it. Of what is too long for the name of a file, the end is written as a digest of all of it.

    Example:
        >>> place("results", ["a/b", "", ".."])
        'results/1/a\\_b/2/\\./3/\\...'

    """
    parts = [part for number, argument in enumerate(arguments, 1) for part in (str(number), _name(argument))]
    return os.path.join(directory, *parts)


def _name(argument: str) -> str:
    if argument in ("", ".", ".."):
        return "\\." + argument
    name = os.fsencode(argument.replace("\\", "\\\\").replace("/", "\\_"))
    return os.fsdecode(name if len(name) <= LONGEST else _shortened(name))


def _shortened(name: bytes) -> bytes:
    digest = b"~" + hashlib.sha256(name).hexdigest()[:16].encode()
    return name[: LONGEST - len(digest)] + digest


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
