"""The worker processes of a run, which are started on demand, reused, and ended with the run."""

from __future__ import annotations

import multiprocessing.spawn
import os
import pickle
import socket
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import anyio

from ...abc import AbstractJob, RunHandle
from ..command._start_errors import REAPED_MESSAGE
from ..posix._guard import Guard
from ..posix._processes import Process, describe_exit, end_group, end_process, renice, spawn
from . import _worker_main

RUN_DURING_IMPORT_MESSAGE: Final = (
    "a worker process of a ProcessJob imported the main module, which started a run with a ProcessJob: "
    'put code that must run only once under `if __name__ == "__main__":`'
)


class WorkerDied(Exception):
    """The exception raised when a worker process has ended during a call."""


class WorkerProcess:
    """One worker process, and the controller's end of the socket to it.

    Args:
        run: the run that the worker belongs to.
        socket: the controller's end of the socket.
        process: the process.
        preparation: the data for `_worker_main.prepare_process`, sent before the first request.
        output: the channel for the worker's output; None if the worker inherits the streams of this program.

    Attributes:
        nice: the number that was added to this program's niceness for the worker.

    """

    nice: int = 0

    def __init__(self, run: RunHandle, socket: socket.socket, process: Process, preparation: Any, output: Any) -> None:
        self._output: Final = output
        self._run: Final = run
        self._socket: Final = socket
        self._process: Final = process
        self.pid: Final = process.pid
        self._is_answer: bool | None = None  # whether the message that arrives is an answer; None before its header
        self._part = bytearray(_worker_main.ANSWER_HEADER.size)  # of a message: its header or its pickle
        self._received = 0  # how many bytes of the part have arrived
        message = pickle.dumps(preparation)
        self._unsent_preparation = _worker_main.REQUEST_HEADER.pack(len(message), 0) + message

    def is_alive(self) -> bool:
        """Return whether the worker has not exited, and so can make calls."""
        return not self._process.has_exited()

    def assign_job(self, job: AbstractJob[Any]) -> None:
        """Assign the worker to a job, so that its output is shown as the output of the job."""
        if self._output is not None:
            self._output.attribute_output_to(job)

    def renice(self, nice: int) -> None:
        """Set the niceness of the worker to that of this program plus `nice`.

        Call this at most once for each worker, because only root may reduce the niceness again.

        Raises:
            PermissionError: `nice` is below 0, which is for root only.

        """
        renice(self._process, nice)
        self.nice = nice

    async def send_request(
        self, request: bytes, memory_limit: int, on_progress: Callable[[bytearray], object]
    ) -> bytearray:
        """Send a request, call `on_progress` with each progress report, and return the answer.

        Args:
            request: a pickle of the call.
            memory_limit: the limit on the address space during the call, in bytes; 0 for no limit.
            on_progress: a function that takes a pickled progress report.

        Raises:
            WorkerDied: the process ended before it answered.

        """
        try:
            header = _worker_main.REQUEST_HEADER.pack(len(request), memory_limit)
            await self._send(self._unsent_preparation + header + request[: _worker_main.MAX_JOINED_BYTES])
            await self._send(memoryview(request)[_worker_main.MAX_JOINED_BYTES :])
            self._unsent_preparation = b""
            while (answer := self.poll_answer(on_progress)) is None:
                await anyio.wait_readable(self._socket)
            return answer
        except (BrokenPipeError, ConnectionResetError):  # while sending
            raise WorkerDied from None

    async def _send(self, data: bytes | memoryview) -> None:
        remaining = memoryview(data)
        while remaining:
            try:
                remaining = remaining[self._socket.send(remaining) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    def poll_answer(self, on_progress: Callable[[bytearray], object]) -> bytearray | None:
        """Call `on_progress` with each progress report that has arrived; return the answer, or None if it has not.

        Raises:
            WorkerDied: the process ended before it answered.

        """
        while True:
            while self._received < len(self._part):
                try:
                    size = self._socket.recv_into(memoryview(self._part)[self._received :])
                except BlockingIOError:
                    return None
                except ConnectionResetError:
                    size = 0
                if not size:
                    raise WorkerDied
                self._received += size
            part, is_answer, self._received = self._part, self._is_answer, 0
            if is_answer is None:
                self._is_answer, message_size = _worker_main.ANSWER_HEADER.unpack(part)
                self._part = bytearray(message_size)
                continue
            self._is_answer, self._part = None, bytearray(_worker_main.ANSWER_HEADER.size)
            if is_answer:
                return part
            on_progress(part)

    async def end(self, grace: float = 0.0) -> str:
        """Give the process `grace` seconds to exit, kill its group, and return a description of how it ended."""
        process, run = self._process, self._run
        self._socket.close()
        await end_process(run, process, grace)
        try:
            description = describe_exit(process.returncode or 0) if process.reap() else REAPED_MESSAGE
            await end_group(run, process, run.clock(), run.sleep_until)
        finally:
            process.unregister()
        return description


class WorkerPool:
    """The idle worker processes of an outermost run."""

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        run.shared(Guard)  # created before the pool, so that it is closed after the pool
        self._idle_workers: Final[defaultdict[int, list[WorkerProcess]]] = defaultdict(list)  # keyed by their `nice`

    async def take_worker(self, nice: int) -> WorkerProcess:
        """Return an idle worker with this `nice`, or start one.

        Raises:
            OSError: no more processes or descriptors are allowed.
            PermissionError: `nice` is below 0, which is for root only.
            SystemExit: this program is itself a worker that is importing its main module.

        """
        idle_workers = self._idle_workers[nice]
        while idle_workers:
            worker = idle_workers.pop()
            if worker.is_alive():
                return worker
            await worker.end()
        worker = self._start_worker(_preparation_data())
        if nice:
            try:
                worker.renice(nice)
            except PermissionError as error:
                await worker.end()
                raise PermissionError(f"nice={nice} requires root") from error
        return worker

    def give_back(self, worker: WorkerProcess) -> None:
        self._idle_workers[worker.nice].append(worker)

    async def close(self) -> None:
        for idle_workers in self._idle_workers.values():
            while idle_workers:
                await idle_workers.pop().end()

    def _start_worker(self, preparation: dict[str, Any]) -> WorkerProcess:
        controller_end, worker_end = socket.socketpair()
        controller_end.setblocking(False)
        # A live monitor has a channel for the output, so that it can show which job has printed a line.
        stream: Any = sys.stdout
        output = stream.open_output_pipe() if getattr(stream, "has_picture", False) else None
        stdout = None if output is None else output.write_end
        try:
            process = spawn(
                self._run.shared(Guard),
                [sys.executable, "-P", _worker_main.__file__],
                stdin=worker_end.fileno(),
                stdout=stdout,
                stderr=stdout if getattr(sys.stderr, "has_picture", True) else None,
            )
        except BaseException:
            controller_end.close()
            raise
        finally:
            worker_end.close()
            if stdout is not None:
                os.close(stdout)
        return WorkerProcess(self._run, controller_end, process, preparation, output)


def has_main_file() -> bool:
    """Return whether a worker can import this program's main module; False in a notebook and at a prompt."""
    main = sys.modules["__main__"]
    return getattr(main, "__spec__", None) is not None or os.path.exists(getattr(main, "__file__", None) or "")


def _preparation_data() -> dict[str, Any]:
    """Return the data that a worker needs to import this program's functions, as `multiprocessing` prepares it.

    Raises:
        SystemExit: this program is itself a worker that is importing its main module. A failed job would not be enough:
            the whole program would run again in each worker.
        FileNotFoundError: the working directory of this program has been removed.

    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(RUN_DURING_IMPORT_MESSAGE)
    try:
        preparation: dict[str, Any] = multiprocessing.spawn.get_preparation_data("trioflow worker")
    except FileNotFoundError as error:
        advice = "the working directory of this program has been removed: change to another one with os.chdir"
        raise FileNotFoundError(error.errno, f"a worker process could not be started: {advice}") from None
    if not os.path.exists(preparation.get("init_main_from_path", "")):  # the program was read from a pipe
        preparation.pop("init_main_from_path", None)
    # Proxies of a `multiprocessing.Manager` need the key. It is sent as bytes, because it refuses to be pickled itself.
    preparation["authkey"] = bytes(preparation["authkey"])
    return preparation
