"""The fork server of a run: one new interpreter that forks all worker processes of the run.

This program itself must not fork them, because it has threads: a lock that another thread holds at the fork would stay
locked in the child. The fork server of `multiprocessing` is not used, because it is started once per program, keeps
the environment and the standard streams with which it was started, and does not end with a run.

```
this program ── socket: requests to fork a worker or to reap one ───────────► server
    │                                                                         │ fork
    ├── socket: functions, results ─────────────────────────────────────────► worker
    └── pidfd: becomes readable when the worker has exited ─────────────────► worker
```

A worker is not a child of this program, so the server reaps it on request. Until the worker is reaped, its pid is not
reused, and its group can be signaled like that of a child.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Final, cast

import anyio

from ... import _posix as posix
from ...abc import RunHandle
from ..posix._guard import Guard
from ..posix._processes import Process, spawn
from ..posix._sockets import send_with_descriptors
from ..posix._termination import end_process
from . import _worker_main

PROCESS_JOB_MODULE: Final = f"{__package__}._process_job"
"""The module of `ProcessJob`. Every main module that uses ProcessJobs imports it, so the server imports it first."""
CLOSE_TIMEOUT: Final = 1.0
"""The time in seconds that the server has to reap unused workers at the end, before it is killed."""


def can_fork() -> bool:
    """Return whether workers can be forked on this system.

    Forking needs `/proc`, to count the server's threads, and a pidfd, to watch a process that is not a child. Only
    Linux has both. On macOS, moreover, system libraries start their own threads.
    """
    try:
        os.close(posix.pidfd_open(os.getpid()))
    except (NotImplementedError, OSError):
        # The system is not Linux, the kernel is older than 5.3, or a sandbox forbids the call.
        return False
    return os.path.isdir(_worker_main.THREADS_DIRECTORY)


class ForkServer:
    """The server process, and the controller's end of the socket to it.

    Args:
        run: the run that the workers belong to.
        sys_path: the `sys.path` of the workers.
        module_names: the modules that the server imports before it forks workers.

    Raises:
        OSError: no more processes or descriptors are allowed.

    """

    def __init__(self, run: RunHandle, sys_path: Sequence[str], module_names: Sequence[str]) -> None:
        self._run: Final = run
        self._guard: Final = run.shared(Guard)
        self._socket_lock: Final = anyio.Lock()  # held from the sending of a request until its answer has arrived
        # For each worker that was requested, but whose pid has not arrived yet: its socket and its output channel.
        self._unanswered_requests: Final[list[tuple[socket.socket, Any]]] = []
        self.environment: Final = self._guard.marked_environment(None)  # the environment that forked workers inherit
        self._server_socket, server_end = socket.socketpair(posix.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server_socket.setblocking(False)
        try:
            self._server_socket.send(pickle.dumps((list(sys_path), list(module_names), self._guard.has_terminal)))
            command = [sys.executable, "-P", _worker_main.__file__, "server"]
            self._process: Final[Process] = spawn(self._guard, command, stdin=server_end.fileno())
        except BaseException:
            self._server_socket.close()
            raise
        finally:
            server_end.close()

    async def fork_worker(self) -> tuple[socket.socket, Process, Any] | None:
        """Fork a worker, and return its socket, its process and its output channel.

        Return None if the server has ended, or cannot fork safely.

        Raises:
            OSError: no more processes or descriptors are allowed.

        """
        request = self._unanswered_requests.pop() if self._unanswered_requests else await self._request_worker()
        if request is None:
            return None
        worker_socket, output = request
        try:
            answer = await self._receive_packed_number(worker_socket)
        except BaseException:  # if this call is cancelled, the next call returns the requested worker
            self._unanswered_requests.append(request)
            raise
        try:
            pid = _worker_main.NUMBER_FORMAT.unpack(answer)[0] if answer else _worker_main.UNSAFE_TO_FORK
            if pid < 0:
                raise OSError(-pid, f"{os.strerror(-pid)}: a worker process could not be forked")
            if pid != _worker_main.UNSAFE_TO_FORK:
                return worker_socket, Process(self._guard, pid, is_child=False), output
        except BaseException:
            worker_socket.close()
            raise
        worker_socket.close()
        return None

    async def _request_worker(self) -> tuple[socket.socket, Any] | None:
        """Request a worker, and return its socket and its output channel; return None if the server has ended."""
        controller_end, worker_end = socket.socketpair()
        try:
            controller_end.setblocking(False)
            with open_output_channel() as (output, descriptors):
                async with self._socket_lock:
                    await send_with_descriptors(self._server_socket, b"", [worker_end.fileno(), *descriptors])
            return controller_end, output
        except ConnectionError:
            controller_end.close()
            return None
        except BaseException:
            controller_end.close()
            raise
        finally:
            worker_end.close()

    async def reap_worker(self, process: Process) -> bool:
        """Reap a worker that has exited. Return False if the server has ended, so that the exit status is unknown."""
        async with self._socket_lock:
            with contextlib.suppress(ConnectionError):
                await send_with_descriptors(self._server_socket, _worker_main.NUMBER_FORMAT.pack(process.pid), [])
                # If a cancellation interrupted this, the next caller would get the answer for this worker.
                if answer := await self._run.outlast(partial(self._receive_packed_number, self._server_socket)):
                    process.record_exit_code(os.waitstatus_to_exitcode(_worker_main.NUMBER_FORMAT.unpack(answer)[0]))
                    return True
        return False

    async def _receive_packed_number(self, source: socket.socket) -> bytes:
        """Receive a packed number from a socket; return empty bytes if the other end is closed."""
        while True:
            try:
                return source.recv(_worker_main.NUMBER_FORMAT.size)
            except BlockingIOError:
                await anyio.wait_readable(source)
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        """End the server. All workers that `fork_worker` has returned must already have been reaped."""
        process = self._process
        self._server_socket.close()
        grace = CLOSE_TIMEOUT if self._unanswered_requests else 0.0
        while self._unanswered_requests:
            self._unanswered_requests.pop()[0].close()
        await end_process(self._run, process, grace)
        try:
            process.reap()
        finally:
            process.unregister()


@contextlib.contextmanager
def open_output_channel() -> Generator[tuple[Any, list[int]]]:
    """Yield the channel for a worker's output, and a list with the descriptors for its standard output and error.

    A live monitor provides such channels, so that it can show which job has printed a line. If there is no live
    monitor, the channel is None and there are no descriptors, so the worker inherits the streams of this program.
    """
    output, stdout, stderr = None, cast(Any, sys.stdout), sys.stderr
    if getattr(stdout, "has_picture", False):
        output = stdout.open_output_pipe()
    if output is None:
        yield None, []
        return
    try:
        yield output, [output.write_end, output.write_end if getattr(stderr, "has_picture", True) else 2]
    finally:
        os.close(output.write_end)


def modules_to_import(preparation: dict[str, Any]) -> list[str]:
    """Return the names of the modules that the server imports before forking.

    They are `PROCESS_JOB_MODULE`, if workers will import the main module, and the modules that the program has passed
    to `multiprocessing.set_forkserver_preload`.
    """
    will_import_main = "init_main_from_name" in preparation or "init_main_from_path" in preparation
    stdlib_server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    preloaded_names: list[str] = getattr(stdlib_server, "_preload_modules", [])
    return [PROCESS_JOB_MODULE] * will_import_main + [name for name in preloaded_names if name != "__main__"]
