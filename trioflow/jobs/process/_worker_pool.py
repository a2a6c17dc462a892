"""The worker processes of a run, which are started on demand, reused, and ended with the run.

Decided in docs/decisions: 34-worker-processes.
"""

from __future__ import annotations

import itertools
import multiprocessing.spawn
import multiprocessing.util
import os
import pickle
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio

from ... import _loaded_files
from ..._core.base import _user_code
from ...abc import AbstractJob, RunHandle
from ..posix._guard import Guard
from ..posix._processes import (
    REAPED_MESSAGE,
    Process,
    describe_exit,
    end_group,
    end_process,
    renice,
    spawn,
)
from . import _worker_main

RUN_DURING_IMPORT_MESSAGE: Final = (
    "a worker process of a ProcessJob imported the main module, which started a run with a ProcessJob: "
    'put code that must run only once under `if __name__ == "__main__":`'
)


REPORT_SECONDS: Final = 10.0
"""A run reports after this time, in seconds, that workers are still importing the program. `explain` and the views say
so at once. A line in the log for each program that imports pandas would be too much."""
START_TIMEOUT: Final = 600.0
"""A worker must have imported the program within this time, in seconds. It is for a worker that hangs: with a cold
cache and a file system on a network, imports of several minutes are no fault."""
EXIT_TIMEOUT: Final = 5.0
"""The time in seconds that a worker has to exit after its socket was closed, before it is killed."""
IMPORT_ADVICE: Final = (
    'put what only the program itself needs under `if __name__ == "__main__":`'
)
NO_PYTHON_MESSAGE: Final = (
    "there is no Python for worker processes, because this program is frozen or embeds Python: name one with "
    "multiprocessing.set_executable(), or give processes=ThreadPoolExecutor()"
)


class WorkerDied(Exception):
    """The exception raised when a worker process has ended during a call, or could not import the program."""


def _reported_files(_: RunHandle) -> set[str]:
    """Return the files of which a run has reported that its workers have other texts, at first none."""
    return set()


class WorkerProcess:
    """A worker process, and the controller's end of the socket to it.

    Args:
        run: the run that the worker belongs to.
        socket: the controller's end of the socket.
        process: the process.
        preparation: the data for `_worker_main.prepare_process`.
        output: the channel for the worker's output, or None if the worker inherits the streams of this program.

    Attributes:
        nice: the number that was added to this program's niceness for the worker.
        reload_count: how many times mended code was taken before the worker imported the program.
        problem: the error that keeps it from use, or None if there is none.

    """

    nice: int = 0
    problem: Exception | None = None
    _is_loaded = False

    def __init__(
        self,
        run: RunHandle,
        socket: socket.socket,
        process: Process,
        preparation: Any,
        output: Any,
    ) -> None:
        self._output: Final = output
        self._run: Final = run
        self._socket: Final = socket
        self._process: Final = process
        self.pid: Final = process.pid
        # Whether the message that arrives is an answer, or None before its header.
        self._is_answer: bool | None = None
        # The part of a message that arrives: the header, or the pickle.
        self._part = bytearray(_worker_main.ANSWER_HEADER.size)
        # How many bytes of the part have arrived.
        self._received = 0
        message = pickle.dumps(preparation)
        self._unsent = memoryview(
            _worker_main.REQUEST_HEADER.pack(len(message), 0) + message
        )
        # A worker takes real time, also if the run's clock is virtual.
        self.reload_count: Final = _user_code.reload_count
        self.started_at: Final = time.monotonic()

    def is_alive(self) -> bool:
        """Return whether the worker has not exited, and so can make calls."""
        return not self._process.has_exited()

    def assign_job(self, job: AbstractJob[Any]) -> None:
        """Assign the worker to a job, so that its output is shown as the output of the job."""
        if self._output is not None:
            self._output.attribute_output_to(job)

    def renice(self, nice: int) -> None:
        """Set the niceness of the worker to this program's niceness plus `nice`.

        Call this at most once for each worker, because only root may reduce the niceness again.
        """
        self.nice = nice
        try:
            renice(self._process, nice)
        except PermissionError:
            self.problem = PermissionError(f"nice={nice} requires root")

    async def becomes_ready(self, seconds: float) -> bool:
        """Wait until the worker has imported the program. Return False if it has not, `seconds` after its start.

        Raises:
            WorkerDied: the process ended before.

        """
        await self._send()
        while (stamps := self.poll_answer(bytes)) is None:
            if not await self._wait_for_message(self.started_at + seconds):
                return False
        self._compare_files(stamps)
        return True

    async def _wait_for_message(self, deadline: float) -> bool:
        """Wait until a message arrives, or shorter. Return False if it is later than `deadline`, in real time."""
        left = deadline - time.monotonic()
        if left > 0:
            await self._run.wait_readable(
                self._socket.fileno(), self._run.clock() + left
            )
        return left > 0

    def _compare_files(self, stamps: bytearray) -> None:
        """Report once each file that the worker has imported with another text than this program has loaded."""
        if stamps:
            found: dict[str, tuple[int, int]] = pickle.loads(stamps)
        else:
            found = {}
        for file, stamp in found.items():
            text = _loaded_files.text_of(file)
            is_other = text is not None and _worker_main.stamp_of_text(text) != stamp
            reported = self._run.shared(_reported_files)
            if is_other and file not in reported:
                reported.add(file)
                self._run.report(
                    f"a worker process has imported {os.path.basename(file)}, which has changed since this program "
                    f"loaded it: only what runs there is the new code; `trioflow steer {os.getpid()} reload` takes it "
                    f"here, too, or says why not"
                )

    async def load_call(
        self,
        request: bytes,
        memory_limit: int,
        on_progress: Callable[[bytearray], object],
    ) -> bytearray | None:
        """Send a request, and wait until the worker has loaded the call, which may import modules.

        Return the answer, if it has come already, as when the call cannot be loaded, and otherwise None.

        Args:
            request: a pickle of the call.
            memory_limit: the limit on the address space during the call, in bytes, or 0 for no limit.
            on_progress: a function that takes a pickled progress report.

        Raises:
            WorkerDied: the process ended before, or has not loaded the call in time.

        """
        self._is_loaded = False
        header = _worker_main.REQUEST_HEADER.pack(len(request), memory_limit)
        self._unsent = memoryview(header + request[: _worker_main.MAX_JOINED_BYTES])
        await self._send()
        self._unsent = memoryview(request)[_worker_main.MAX_JOINED_BYTES :]
        await self._send()
        deadline = time.monotonic() + START_TIMEOUT
        while (answer := self.poll_answer(on_progress)) is None and not self._is_loaded:
            if not await self._wait_for_message(deadline):
                raise WorkerDied(
                    f"its process has not imported the modules of the call in {START_TIMEOUT:g} s"
                )
        return answer

    async def receive_answer(
        self, on_progress: Callable[[bytearray], object]
    ) -> bytearray:
        """Wait for the answer of a call that is loaded.

        Raises:
            WorkerDied: the process ended before it answered.

        """
        while (answer := self.poll_answer(on_progress)) is None:
            await anyio.wait_readable(self._socket)
        return answer

    async def _send(self) -> None:
        while self._unsent:
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except (BrokenPipeError, ConnectionResetError):
                raise WorkerDied from None

    def poll_answer(
        self, on_progress: Callable[[bytearray], object]
    ) -> bytearray | None:
        """Call `on_progress` with each progress report that has arrived. Return the answer, or None if it has not.

        Raises:
            WorkerDied: the process ended before it answered.

        """
        while True:
            while self._received < len(self._part):
                try:
                    size = self._socket.recv_into(
                        memoryview(self._part)[self._received :]
                    )
                except BlockingIOError:
                    return None
                except ConnectionResetError:
                    size = 0
                if not size:
                    raise WorkerDied
                self._received += size
            part = self._part
            is_answer = self._is_answer
            self._received = 0
            if is_answer is None:
                self._is_answer, message_size = _worker_main.ANSWER_HEADER.unpack(part)
                self._part = bytearray(message_size)
                continue
            self._is_answer = None
            self._part = bytearray(_worker_main.ANSWER_HEADER.size)
            if is_answer:
                return part
            if self._is_loaded:
                on_progress(part)
            else:
                self._is_loaded = True
                self._compare_files(part)

    def request_end(self) -> None:
        """Let the worker exit after its current call, if it is making a call."""
        self._socket.close()

    async def end(self, grace: float = 0.0) -> str:
        """Give the process `grace` seconds to exit, kill its group, and return a description of how it ended."""
        process = self._process
        run = self._run
        self._socket.close()
        await end_process(run, process, grace)
        try:
            description = REAPED_MESSAGE
            if process.reap():
                description = describe_exit(process.returncode or 0)
            await end_group(run, process, run.clock(), run.sleep_until)
        finally:
            process.unregister()
        return description


class WorkerPool:
    """The worker processes of an outermost run that make no call. It is the gate of the run's worker processes.

    ```
    open ──► starting ──► idle ──► claimed ──► a call ──► idle ──► ended with the run
                 │                    │
                 └──► an error ───────┴──► raised in the job
    ```

    A job claims its worker when it is admitted. A job that does not wait there opens the gate itself: a forever job, a
    clean-up job, or a job that another job calls.
    """

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        # Created before the pool, so that it is closed after the pool.
        run.shared(Guard)
        self._starting: Final = list[WorkerProcess]()
        # Workers that have imported the program, and errors in place of those that could not, by their `nice`.
        self._idle: Final = dict[int, list[WorkerProcess | BaseException]]()
        self._claimed: Final = dict[AbstractJob[Any], WorkerProcess | BaseException]()
        # Held while waiting for workers: only one task at a time may wait for a socket.
        self._lock: Final = anyio.Lock()
        self._was_reported = False

    # ---- the gate

    def is_closed_to(self, job: AbstractJob[Any]) -> bool:
        return not self._idle.get(_nice_of(job))

    async def open(self, jobs: Sequence[AbstractJob[Any]]) -> None:
        """Start a worker for each of the jobs, and wait until the first job has its worker."""
        while self.is_closed_to(jobs[0]):
            for nice, number in Counter(map(_nice_of, jobs)).items():
                starting = [worker for worker in self._starting if worker.nice == nice]
                ready = self._idle.get(nice, ())
                for _ in range(number - len(starting) - len(ready)):
                    self._start(nice)
            async with self._lock:
                if self.is_closed_to(jobs[0]):
                    async with anyio.create_task_group() as group:
                        for worker in self._starting:
                            group.start_soon(self._take_in, worker, group.cancel_scope)

    def _start(self, nice: int) -> None:
        """Start a worker. If that is not possible, a job gets the error in its place."""
        try:
            self._starting.append(self._start_worker(nice))
        except (Exception, SystemExit) as error:
            self._idle.setdefault(nice, []).append(error)

    async def _take_in(self, worker: WorkerProcess, scope: anyio.CancelScope) -> None:
        """Add a worker to the idle ones when it has imported the program, or the error that keeps it from that."""
        found: WorkerProcess | Exception = worker
        try:
            if worker.problem is not None:
                raise worker.problem
            if not await worker.becomes_ready(REPORT_SECONDS):
                if not self._was_reported:
                    self._was_reported = True
                    still = f"worker processes still import {_program()} after {REPORT_SECONDS:g} s"
                    self._run.report(f"{still}; {IMPORT_ADVICE}")
                if not await worker.becomes_ready(START_TIMEOUT):
                    late = f"its process has not imported {_program()} in {START_TIMEOUT:g} s"
                    raise WorkerDied(f"{late}; {IMPORT_ADVICE}")
        except Exception as error:
            has_died = isinstance(error, WorkerDied) and not str(error)
            how = await worker.end(EXIT_TIMEOUT if has_died else 0.0)
            found = error
            if has_died:
                found = WorkerDied(f"its process has died: {how}")
        self._starting.remove(worker)
        self._idle.setdefault(worker.nice, []).append(found)
        scope.cancel()

    def enter(self, job: AbstractJob[Any]) -> None:
        """Claim a worker for a job that is admitted, if a worker is free."""
        if idle := self._idle.get(_nice_of(job)):
            self._claimed[job] = idle.pop()

    def leave(self, job: AbstractJob[Any]) -> None:
        """Take back the worker of a job that was admitted, but has not begun."""
        if (worker := self._claimed.pop(job, None)) is not None:
            self._idle[_nice_of(job)].append(worker)

    # ---- the workers

    async def take_worker(self, job: AbstractJob[Any]) -> WorkerProcess:
        """Return the worker that a job has claimed, an idle worker, or a new worker that has imported the program.

        Raises:
            OSError: no more processes or descriptors are allowed.
            PermissionError: `nice` is below 0, which is for root only.
            RuntimeError: there is no Python for a worker.
            WorkerDied: the worker has died, or has not answered in time.
            SystemExit: this program is itself a worker that is importing its main module.

        """
        idle = self._idle.setdefault(_nice_of(job), [])
        while True:
            worker = self._claimed.pop(job, None)
            if worker is None and idle:
                worker = idle.pop()
            if worker is None:
                await self.open([job])
            elif isinstance(worker, BaseException):
                raise worker
            elif worker.is_alive() and worker.reload_count == _user_code.reload_count:
                return worker
            else:
                await worker.end(EXIT_TIMEOUT)

    def give_back(self, worker: WorkerProcess) -> None:
        self._idle.setdefault(worker.nice, []).append(worker)

    async def close(self) -> None:
        """Let idle workers exit as Python does, which calls `atexit`. Kill workers that take long, or still import."""
        # A job that has claimed a worker has ended before, and has given it back.
        idle = [
            worker
            for worker in itertools.chain(*self._idle.values())
            if isinstance(worker, WorkerProcess)
        ]
        for worker in idle:
            worker.request_end()
        deadline = self._run.clock() + EXIT_TIMEOUT
        for worker in self._starting:
            await worker.end()
        for worker in idle:
            await worker.end(max(0.0, deadline - self._run.clock()))

    def _start_worker(self, nice: int) -> WorkerProcess:
        # Whatever may fail comes before the start of the process: after an error, nothing would wait for the process.
        preparation = _preparation_data()
        controller_end, worker_end = socket.socketpair()
        controller_end.setblocking(False)
        # A live monitor has a channel for the output, so that it can show which job has printed a line.
        stream: Any = sys.stdout
        output = None
        if getattr(stream, "has_picture", False):
            output = stream.open_output_pipe()
        stdout = None if output is None else output.write_end
        try:
            process = spawn(
                self._run.shared(Guard),
                _worker_command(),
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
        worker = WorkerProcess(self._run, controller_end, process, preparation, output)
        if nice:
            worker.renice(nice)
        return worker


def _nice_of(job: Any) -> int:
    return job._nice or 0


def _worker_command() -> Sequence[str | bytes]:
    """Return the command of a worker, with the options of this interpreter, as `multiprocessing` has them.

    Python caches the bytecode of a module, but not of a script. A module is also found in a zip.

    Raises:
        RuntimeError: this program is no Python, and has not named a Python.

    """
    executable: str | bytes | None = multiprocessing.spawn.get_executable()
    if not executable or (
        getattr(sys, "frozen", False) and os.fsdecode(executable) == sys.executable
    ):
        raise RuntimeError(NO_PYTHON_MESSAGE)
    directory, name = os.path.split(_worker_main.__file__)
    code = f"import sys; sys.path.append({directory!r}); import {name.partition('.')[0]} as worker; worker.main()"
    util: Any = multiprocessing.util
    options: list[str] = util._args_from_interpreter_flags()
    return [executable, *options, "-P", "-c", code]


PROGRAM_RUNNERS: Final = frozenset({"__main__", "cProfile", "profile", "trace"})
"""Main modules that run a program which is not the main module itself, as `python -m cProfile FILE` does."""


def is_main_imported() -> bool:
    """Return whether workers import this program's main module.

    They do not in a notebook, at a prompt, of a package, or of a program from a pipe.
    """
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return not (spec.name in PROGRAM_RUNNERS or spec.name.endswith(".__main__"))
    file = getattr(main, "__file__", None) or ""
    return os.path.exists(file) and not re.match(r"/dev/(stdin|fd/)|/proc/", file)


def _program() -> str:
    return os.path.basename(
        getattr(sys.modules["__main__"], "__file__", None) or "the program"
    )


def _preparation_data() -> dict[str, Any]:
    """Return the data that a worker needs to import this program's functions, as `multiprocessing` prepares it.

    Raises:
        SystemExit: this program is itself a worker that is importing its main module. A failed job would not be enough:
            the whole program would run again in each worker.
        FileNotFoundError: the working directory of this program has been removed.

    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(RUN_DURING_IMPORT_MESSAGE)
    main = sys.modules["__main__"]
    # A debugger may have left it out.
    vars(main).setdefault("__spec__", None)
    try:
        preparation: dict[str, Any] = multiprocessing.spawn.get_preparation_data(
            "trioflow worker"
        )
    except FileNotFoundError as error:
        advice = "the working directory of this program has been removed: change to another one with os.chdir"
        raise FileNotFoundError(
            error.errno, f"a worker process could not be started: {advice}"
        ) from None
    if not os.path.exists(preparation.get("init_main_from_path", "")):
        # The program was read from a pipe:
        # https://github.com/python/cpython/blob/v3.11.7/Lib/multiprocessing/spawn.py#L202.
        preparation.pop("init_main_from_path", None)
    # Proxies of a `multiprocessing.Manager` need the key. It is sent as bytes, because it refuses to be pickled itself:
    # https://github.com/python/cpython/blob/v3.11.7/Lib/multiprocessing/process.py#L349.
    preparation["authkey"] = bytes(preparation["authkey"])
    return {
        **preparation,
        "main_name": main.__name__,
        "own_files": _loaded_files.certain_files(),
    }
