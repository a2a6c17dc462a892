"""Writes that are complete, and temporary files whose errors say where they cannot be kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator

from ... import _posix as posix


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all data, and wait while a pipe is full, even if another program has made the descriptor non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            poll = posix.poll()  # unlike select(), poll() accepts descriptors above 1,023
            poll.register(descriptor, posix.POLLOUT)
            poll.poll()


@contextlib.contextmanager
def explain_temporary_file(contents: str) -> Generator[None]:
    """Give an error of the system the place of temporary files, and what to do.

    Raises:
        OSError: the same error, explained.

    """
    try:
        yield
    except OSError as error:
        place = f"in {tempfile.tempdir!r}" if tempfile.tempdir else "anywhere"
        advice = "free space there, or set TMPDIR to a folder with more"
        message = f"cannot keep {contents} {place}: {os.strerror(error.errno or 0)}; {advice}"
        raise OSError(error.errno, message) from None


def open_temporary_file(contents: str) -> int:
    """Return a descriptor of a new file without a name.

    Raises:
        OSError: it cannot be created. The error has the place, and what to do.

    """
    with explain_temporary_file(contents), tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())
