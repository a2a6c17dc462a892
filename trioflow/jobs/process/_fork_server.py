"""The server of a run's worker processes: one new interpreter that forks them, instead of one interpreter for each.

This program itself cannot fork them: it has threads and an event loop, and a lock that another thread holds at the
fork would stay locked in the child. `multiprocessing` has a server too, but that is started once per program, with
the environment and the standard streams of that time, and does not end with a run.

```
this program ── socket: fork a worker for this socket; reap that one ───────► server
    │                                                                         │ fork
    ├── socket: functions, results ─────────────────────────────────────────► worker
    └── pidfd: has it exited? ──────────────────────────────────────────────► worker
```

A worker is not a child of this program, so the server reaps it on request. Until then its pid is not reused, and its
group can be signalled like that of a child.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from ... import _posix as posix
from ..posix._guard import Guard
from ..posix._process_groups import end_process
from ..posix._processes import Process, spawn
from ..posix._sockets import send_with_descriptors
from . import _worker_main

if TYPE_CHECKING:
    from ...abc import RunHandle

PROCESS_JOB_MODULE: Final = f"{__package__}._process_job"
"""The module that a main module with a ProcessJob imports."""
PATIENCE: Final = 1.0
"""Seconds for the server to reap workers that were forked but never used, before it is killed."""


def can_fork() -> bool:
    """Return whether workers may be forked on this system.

    This needs `/proc`, to count the server's threads, and a pidfd, to watch a process that is not a child; only Linux
    has both. On macOS, moreover, system libraries start their own threads.
    """
    try:
        os.close(posix.pidfd_open(os.getpid()))
    except (NotImplementedError, OSError):  # not Linux, or a kernel before 5.3, or a sandbox
        return False
    return os.path.isdir(_worker_main.THREADS)


class ForkServer:
    """The server process, and the controller's end of the socket to it.

    Args:
        run: the run of the workers.
        path: sys.path of the workers.
        modules: names of the modules to import before forking.

    Raises:
        OSError: no more processes or descriptors are allowed.

    """

    def __init__(self, run: RunHandle, path: Sequence[str], modules: Sequence[str]) -> None:
        self._run: Final = run
        self._guard: Final = run.shared(Guard)
        self._turn: Final = anyio.Lock()  # guards the socket
        self._begun: Final[list[tuple[socket.socket, Any]]] = []  # workers whose pids were not received yet
        self.environment: Final = self._guard.environment(None)
        self._control, theirs = socket.socketpair(posix.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        try:
            self._control.send(pickle.dumps((list(path), list(modules), self._guard.has_terminal)))
            command = [sys.executable, "-P", _worker_main.__file__, "server"]
            self._process: Final[Process] = spawn(self._guard, command, stdin=theirs.fileno())
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()

    async def fork(self) -> tuple[socket.socket, Process, Any] | None:
        """Fork a worker, and return its socket, its process and its output; None if the server cannot fork.

        Raises:
            OSError: no more processes or descriptors are allowed.

        """
        begun = self._begun.pop() if self._begun else await self._request()
        if begun is None:
            return None
        ours, output = begun
        try:
            answer = await self._received(ours)
        except BaseException:  # cancelled; the next call returns this worker
            self._begun.append(begun)
            raise
        try:
            pid = _worker_main.PACKED_NUMBER.unpack(answer)[0] if answer else _worker_main.UNSAFE_TO_FORK
            if pid < 0:
                raise OSError(-pid, f"{os.strerror(-pid)}: a worker process could not be forked")
            if pid != _worker_main.UNSAFE_TO_FORK:
                return ours, Process(self._guard, pid, is_child=False), output
        except BaseException:
            ours.close()
            raise
        ours.close()
        return None

    async def _request(self) -> tuple[socket.socket, Any] | None:
        """Request a worker, and return its socket and its output; None if the server has ended."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with own_output() as (output, descriptors):
                async with self._turn:
                    await send_with_descriptors(self._control, b"", [theirs.fileno(), *descriptors])
            return ours, output
        except ConnectionError:
            ours.close()
            return None
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    async def reap(self, process: Process) -> bool:
        """Reap a worker that has exited; return False if the server has ended, so that its exit status is unknown."""
        async with self._turn:
            with contextlib.suppress(ConnectionError):
                await send_with_descriptors(self._control, _worker_main.PACKED_NUMBER.pack(process.pid), [])
                # Shielded from cancellation, because otherwise the next caller would get this answer.
                if answer := await self._run.outlast(partial(self._received, self._control)):
                    process.was_reaped(os.waitstatus_to_exitcode(_worker_main.PACKED_NUMBER.unpack(answer)[0]))
                    return True
        return False

    async def _received(self, own: socket.socket) -> bytes:
        """Return a packed number from a socket, or an empty message at its end."""
        while True:
            try:
                return own.recv(_worker_main.PACKED_NUMBER.size)
            except BlockingIOError:
                await anyio.wait_readable(own)
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        """End the server; all workers in use have been reaped."""
        process = self._process
        self._control.close()
        patience = PATIENCE if self._begun else 0.0
        while self._begun:
            self._begun.pop()[0].close()
        await end_process(self._run, process, patience)
        try:
            process.reap()
        finally:
            process.forget()


@contextlib.contextmanager
def own_output() -> Generator[tuple[Any, list[int]]]:
    """Yield the channel for a worker's output and its descriptors 1 and 2, or None and none for this program's.

    A monitor that displays a picture provides such channels on standard output, to show which job has printed.
    """
    output, stdout, stderr = None, cast(Any, sys.stdout), sys.stderr
    if getattr(stdout, "has_picture", False):
        output = stdout.open_output()
    if output is None:
        yield None, []
        return
    try:
        yield output, [output.descriptor, output.descriptor if getattr(stderr, "has_picture", True) else 2]
    finally:
        os.close(output.descriptor)


def modules_to_import(preparation: dict[str, Any]) -> list[str]:
    """Return the modules for a server to import: ours if the main module will, and those named by the program.

    Programs name them by `multiprocessing.set_forkserver_preload`.
    """
    imports_main = "init_main_from_name" in preparation or "init_main_from_path" in preparation
    theirs = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    named: list[str] = getattr(theirs, "_preload_modules", [])
    return [PROCESS_JOB_MODULE] * imports_main + [name for name in named if name != "__main__"]
