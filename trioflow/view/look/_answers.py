"""The answer of a program to `trioflow look`: from a thread, so that it also answers while a job blocks the event loop.

A program in which `trioflow.look.enable()` was called, or that has the environment variable TRIOFLOW_LOOK, answers on a
socket whose name contains the number of its process. A client gets the record of the process as JSON, if the kernel
reports the same user at the other end; another user gets nothing. From Python 3.14 on, `trioflow look` needs no socket:
it lets the program call `answer_in_file`.

On Linux the socket is in the abstract namespace: it has no file that another user could replace, or that a killed
program would leave behind. Elsewhere, it is a file in the user's directory for temporary files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Generator
from typing import Final

from ... import _posix as posix
from ..._core.api.views import warn
from . import _process_record

SEND_TIMEOUT: Final = 10.0
"""How long, in seconds, a client may take to read the answer."""

MAX_TRIES: Final = 3


def socket_address(pid: int) -> str:
    """Return the address of the socket on which a process answers."""
    name = f"trioflow-look-{pid}"
    if sys.platform == "linux":
        return f"\0{name}"
    import tempfile

    return os.path.join(tempfile.gettempdir(), f"{name}.sock")


def peer_of(connection: socket.socket) -> tuple[int | None, int | None]:
    """Return the process and the user at the other end of a connection; None for what the system does not tell."""
    if sys.platform != "linux":
        return None, None
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, user


class AnswerThread:
    """The thread that answers, from `start` to `stop`. Starting it twice has no effect."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def start(self) -> bool:
        """Start to answer; return False if the thread runs already.

        Raises:
            NotImplementedError: the system has no Unix sockets.
            OSError: the socket cannot be created.

        """
        with self._lock:
            if self._pid == os.getpid():  # a forked process has the socket, but not the thread, of its parent
                return False
            posix.require("trioflow.look.enable()", "use Python 3.14 or newer, where it is not needed")
            listener = socket.socket(posix.AF_UNIX)
            address = socket_address(os.getpid())
            if not address.startswith("\0"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)
            listener.bind(address)
            listener.listen(1)
            self._listener, self._pid = listener, os.getpid()
            self._thread = threading.Thread(
                target=self._answer_all, args=(listener,), name="trioflow look", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as error:  # there are too many processes
                self._pid = 0
                listener.close()
                raise OSError(errno.EAGAIN, str(error)) from None
            return True

    def stop(self) -> None:
        """Stop to answer, and wait until the thread has ended."""
        with self._lock:
            if self._pid != os.getpid() or self._listener is None or self._thread is None:
                return
            self._pid = 0
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # lets `accept` raise
            self._listener.close()
            self._thread.join()
            address = socket_address(os.getpid())
            if not address.startswith("\0"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)

    def _answer_all(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # `stop` has closed the listener
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(SEND_TIMEOUT)
                if peer_of(connection)[1] in (None, posix.geteuid()):
                    connection.sendall(answer())


def answer() -> bytes:
    """Return the record of this process as JSON; if making it fails, an object with the error."""
    problem = ""
    for _ in range(MAX_TRIES):
        try:
            return json.dumps(_process_record.describe_process(), default=str).encode()
        except Exception as error:  # the run may have changed a dict during an iteration
            problem = f"{type(error).__name__}: {error}"
    return json.dumps({"error": problem}).encode()


def answer_in_file(path: str) -> None:
    """Write the answer to a file, which appears when it is complete."""
    with open(f"{path}.part", "wb") as file:
        file.write(answer())
    os.replace(f"{path}.part", path)


answer_thread: Final = AnswerThread()


def start_or_warn() -> None:
    """Start to answer; if the system cannot, log it once."""
    global has_warned
    try:
        answer_thread.start()
    except (NotImplementedError, OSError) as error:
        if not has_warned:
            warn(f"`trioflow look` cannot look into this program: {error}")
        has_warned = True


has_warned = False


@contextlib.contextmanager
def answering() -> Generator[None]:
    """Answer during the body of the `with` statement, if the system can."""
    is_started = False
    with contextlib.suppress(NotImplementedError, OSError):
        is_started = answer_thread.start()
    try:
        yield
    finally:
        if is_started:
            answer_thread.stop()
