"""The worker processes of a run: started when they are needed, used again, gone when the run ends."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import socket
import sys
from multiprocessing import spawn as preparation
from typing import TYPE_CHECKING, Any, Final

import anyio

from .._core import _resources
from . import _process_worker, _waiting
from ._command_result import describe
from ._group_end import end_group
from ._guard import Guard
from ._processes import Process, spawn

if TYPE_CHECKING:
    from .._core._run import Run

PIECE: Final = 1 << 20
"""Bytes that are received at once."""


IMPORTED: Final = (
    "a worker process of a ProcessJob imports the main module, and that starts a run with a ProcessJob: "
    'put what is to happen once below `if __name__ == "__main__":`'
)


class WorkerDied(Exception):
    """The worker process has ended in the middle of its work."""


class PythonProcess:
    """One worker process, and this end of its socket."""

    def __init__(self, run: Run) -> None:
        """Start it.

        Raises:
            OSError: no more processes or descriptors.
            SystemExit: this is a worker itself, which imports its main module.

        """
        self._run: Final = run
        self._unsent = _process_worker.packed(pickle.dumps(_preparation()))
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        command = [sys.executable, "-P", _process_worker.__file__]
        try:
            guard = _resources.shared(run, Guard)
            self._process: Final[Process] = spawn(guard, command, stdin=theirs.fileno())
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Tell whether it could do some work."""
        return not self._process.has_exited()

    async def call(self, request: bytes) -> bytes:
        """Send a request and return the answer.

        Raises:
            WorkerDied: it has ended before there was an answer.

        """
        try:
            await self._send(self._unsent + _process_worker.packed(request))
            self._unsent = b""
            (size,) = _process_worker.LENGTH.unpack(await self._receive(_process_worker.LENGTH.size))
            return await self._receive(size)
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerDied from None

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    async def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self._socket.recv(min(size - len(data), PIECE))
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            if not piece:
                raise WorkerDied
            data += piece
        return bytes(data)

    async def end(self, patience: float = 0.0) -> str:
        """Kill it with all of its group, after so many seconds, and say how it has ended when nothing is left."""
        process, run = self._process, self._run
        self._socket.close()
        wait = _waiting.readable_on(run.backend.name)
        until = run.clock() + patience
        if not (patience and await _waiting.outlast(run, lambda: wait(process.exit_descriptor, until))):
            process.signal(signal.SIGKILL)
            await _waiting.outlast(run, lambda: wait(process.exit_descriptor, math.inf))
        try:
            process.reap()
            if process.has_left_others():
                process.signal(signal.SIGKILL)
                await end_group(run, process, run.clock(), run.backend.sleep_until)
        finally:
            process.forget()
        return describe(process.returncode or 0)


class Workers:
    """The idle workers of an outermost run."""

    def __init__(self, run: Run) -> None:
        """Begin with none."""
        self._run: Final = run
        _resources.shared(run, Guard)  # made before, and so closed behind these
        self._idle: Final[list[PythonProcess]] = []

    async def take(self) -> PythonProcess:
        """Return one that is idle, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():
                return worker
            await worker.end()
        return PythonProcess(self._run)

    def give_back(self, worker: PythonProcess) -> None:
        """Keep one for the next job."""
        self._idle.append(worker)

    async def close(self) -> None:
        """End all."""
        while self._idle:
            await self._idle.pop().end()


def _preparation() -> dict[str, Any]:
    """Return what a worker needs to find the functions of this program, as `multiprocessing` tells its own."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(IMPORTED)  # not just a job that fails: the program would run once more in each worker
    found: dict[str, Any] = preparation.get_preparation_data("trioflow worker")
    if not os.path.exists(found.get("init_main_from_path", "")):  # a program that came through a pipe
        found.pop("init_main_from_path", None)
    found.pop("authkey", None)  # for listeners of multiprocessing, which has it refuse to be sent
    return found
