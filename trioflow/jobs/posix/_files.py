"""Files: operations that may block and their replacements, complete writes, and temporary files with clear errors."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

from ... import _posix as posix
from ...abc import ThreadEvent

T = TypeVar("T")


def event_at_end(future: Future[Any]) -> ThreadEvent:
    """Return an event that is set when a future is done, in whatever thread."""
    event = ThreadEvent()
    future.add_done_callback(lambda _: event.set())
    return event


async def call_in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function that would block the event loop in a thread, and wait for its end, despite a cancellation."""
    # Imported here, because few programs need it.
    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(1, "trioflow files")
    outcome = executor.submit(function, *arguments)
    executor.shutdown(wait=False)
    await event_at_end(outcome).outlast()
    try:
        return outcome.result()
    finally:
        # Breaks a reference cycle: it refers to the exception, whose traceback refers to this frame.
        del outcome


def may_wait_for_writer(file: Any) -> bool:
    """Return whether a file is a pipe, a socket or a device: reading it may last until another program writes.

    Args:
        file: a path, a descriptor, or an open file.

    """
    is_name = isinstance(file, (int, str, bytes, os.PathLike))
    name: Any = file
    if not is_name:
        name = file.fileno()
    mode = os.stat(name).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def is_named_pipe(path: Any) -> bool:
    """Return whether opening this file waits until another program opens the other end."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        # Opening it raises an error with the path.
        return False


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all data, and wait while a pipe is full, even if another program has made the descriptor non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            posix.is_ready(descriptor, posix.POLLOUT, None)


@contextlib.contextmanager
def explain_temporary_file(contents: str) -> Generator[None]:
    """Add to an error of the system the place of temporary files, and the remedy.

    Raises:
        OSError: the same error, explained.

    """
    try:
        yield
    except OSError as error:
        place = "anywhere"
        if tempfile.tempdir:
            place = f"in {tempfile.tempdir!r}"
        advice = "free space there, or set TMPDIR to a folder with more"
        message = (
            f"cannot keep {contents} {place}: {os.strerror(error.errno or 0)}; {advice}"
        )
        raise OSError(error.errno, message) from None


def open_temporary_file(contents: str) -> int:
    """Return a descriptor of a new file without a name.

    Raises:
        OSError: it cannot be created. The error has the place and the remedy.

    """
    with explain_temporary_file(contents), tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())
