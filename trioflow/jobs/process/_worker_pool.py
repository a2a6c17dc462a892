"""The worker processes of a run: started on demand, reused, and ended with the run."""

from __future__ import annotations

import multiprocessing.spawn
import os
import pickle
import socket
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from ... import _posix as posix
from ..posix._guard import Guard
from ..posix._process_groups import end_group, end_process
from ..posix._processes import Process, describe, renice, spawn
from ..posix._sockets import send_all
from . import _worker_main
from ._fork_server import ForkServer, can_fork, modules_to_import, own_output

if TYPE_CHECKING:
    from ...abc import AbstractJob, RunHandle

PIECE_BYTES: Final = 1 << 20
"""Bytes of one read."""
IMPORTED: Final = (
    "a worker process of a ProcessJob imports the main module, and that starts a run with a ProcessJob: "
    'put what is to happen once below `if __name__ == "__main__":`'
)


class WorkerDied(Exception):
    """The worker process has ended during a call."""


class WorkerProcess:
    """One worker process, and the controller's end of the socket to it.

    Args:
        run: the run that it works for.
        socket: the controller's end.
        process: the process.
        preparation: sent to it before the first request.
        server: the server that has forked it, if it is not a child of this program.
        output: its own channel for output, if it has one.

    Attributes:
        nice: the decrease of its priority from this program's.

    """

    nice: int = 0

    def __init__(
        self,
        run: RunHandle,
        socket: socket.socket,
        process: Process,
        preparation: Any,
        server: ForkServer | None = None,
        output: Any = None,
    ) -> None:
        self._output: Final = output
        self._run: Final = run
        self._socket: Final = socket
        self._process: Final = process
        self._server: Final = server
        self._unsent = _worker_main.pack(pickle.dumps(preparation))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Return whether the worker can still make calls."""
        return not self._process.has_exited()

    def begin(self, job: AbstractJob[Any]) -> None:
        """Assign the worker to a job; its output is shown as the job's."""
        if self._output is not None:
            self._output.begin(job)

    def renice(self, nice: int) -> None:
        """Set its priority, once: only root could raise it again.

        Raises:
            PermissionError: only root may raise a priority.

        """
        renice(self._process, nice)
        self.nice = nice

    async def call(self, request: bytes, memory: int, progress: Callable[[bytes], object]) -> bytes:
        """Send a request and return the answer; call `progress` with each earlier report.

        Args:
            request: a pickle of the call.
            memory: bytes of address space for the call; 0 for no limit.
            progress: a function of one argument.

        Raises:
            WorkerDied: the process ended before it answered.

        """
        try:
            await send_all(self._socket, self._unsent + _worker_main.pack(request, memory))
            self._unsent = b""
            while True:
                is_answer, size = _worker_main.ANSWER_HEADER.unpack(
                    await self._receive(_worker_main.ANSWER_HEADER.size)
                )
                message = await self._receive(size)
                if is_answer:
                    return message
                progress(message)
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerDied from None

    async def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self._socket.recv(min(size - len(data), PIECE_BYTES))
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            if not piece:
                raise WorkerDied
            data += piece
        return bytes(data)

    async def end(self, patience: float = 0.0) -> str:
        """Kill the process group after `patience` seconds, and return a description of how the process ended."""
        process, run = self._process, self._run
        self._socket.close()
        await end_process(run, process, patience)
        try:
            how = await self._reap()
            if process.has_left_others():
                process.signal(posix.SIGKILL)
                await end_group(run, process, run.clock(), run.sleep_until)
        finally:
            process.forget()
        return how

    async def _reap(self) -> str:
        """Reap the process, or let the server reap it, and return a description of how it ended."""
        if self._server is None:
            self._process.reap()
        elif not await self._run.outlast(partial(self._server.reap, self._process)):
            self._process.was_reaped(0)  # the system may have reaped it
            return "its exit code is unknown, because the process that had forked it has ended too"
        return describe(self._process.returncode or 0)


class WorkerPool:
    """The parked worker processes of an outermost run, and the server that forks them."""

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        run.shared(Guard)  # made before the pool, and so closed after it
        self._idle: Final[defaultdict[int, list[WorkerProcess]]] = defaultdict(list)  # the idle workers by `nice`
        self._server: ForkServer | None = None
        self._forks = can_fork()

    async def take(self, nice: int) -> WorkerProcess:
        """Return a parked process of this priority, or a new one.

        Raises:
            OSError: no more processes or descriptors are allowed, or a priority that is for root only.
            SystemExit: this program is itself a worker that is importing its main module.

        """
        idle = self._idle[nice]
        while idle:
            worker = idle.pop()
            if worker.is_alive():
                return worker
            await worker.end()
        preparation = _preparation_data()
        worker = (await self._fork(preparation) if self._forks else None) or self._spawn(preparation)
        if nice:
            try:
                worker.renice(nice)
            except PermissionError as error:
                await worker.end()
                raise PermissionError(f"nice={nice} is for root only") from error
        return worker

    def park(self, worker: WorkerProcess) -> None:
        """Park a process for the next job."""
        self._idle[worker.nice].append(worker)

    async def close(self) -> None:
        """End all processes of the pool."""
        try:
            for idle in self._idle.values():
                while idle:
                    await idle.pop().end()
        finally:
            if self._server is not None:
                await self._server.close()

    async def _fork(self, preparation: dict[str, Any]) -> WorkerProcess | None:
        """Return a process forked by the server, or None if the server cannot fork."""
        server = self._server
        if server is None:
            server = self._server = ForkServer(self._run, preparation["sys_path"], modules_to_import(preparation))
        if (forked := await server.fork()) is None:
            self._forks = False
            return None
        environment = self._run.shared(Guard).environment(None)
        if environment is not server.environment:
            preparation["environment"] = environment
        socket, process, output = forked
        return WorkerProcess(self._run, socket, process, preparation, server, output)

    def _spawn(self, preparation: dict[str, Any]) -> WorkerProcess:
        """Start a process as a new interpreter."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-P", _worker_main.__file__]
        try:
            with own_output() as (output, descriptors):
                stdout, stderr = descriptors or (None, None)
                process = spawn(self._run.shared(Guard), command, stdin=theirs.fileno(), stdout=stdout, stderr=stderr)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return WorkerProcess(self._run, ours, process, preparation, output=output)


def has_main_file() -> bool:
    """Return whether a worker can import this program's main module; a notebook or a prompt has none."""
    main = sys.modules["__main__"]
    return getattr(main, "__spec__", None) is not None or os.path.exists(getattr(main, "__file__", None) or "")


def _preparation_data() -> dict[str, Any]:
    """Return the data with which a worker finds this program's functions, in the form of `multiprocessing`."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(IMPORTED)  # a failed job is not enough: the whole program would run again in each worker
    preparation: dict[str, Any] = multiprocessing.spawn.get_preparation_data("trioflow worker")
    if not os.path.exists(preparation.get("init_main_from_path", "")):  # the program was read from a pipe
        preparation.pop("init_main_from_path", None)
    preparation.pop("authkey", None)  # it cannot be pickled, and workers do not need it
    return preparation
