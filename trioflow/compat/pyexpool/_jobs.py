"""The work of a pool: `Job`, a program, with its `Process` and its outcome, `JobInfo`, and `Task`, a group of jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import EllipsisType
from typing import IO, Any, BinaryIO, Final, Literal

from ... import CommandResult
from ... import _posix as posix
from ..._core.job._job_options import callback, duration
from ._callbacks import Latch, call_logged, logger

StreamTarget = str | os.PathLike[str] | int | IO[Any] | None
"""The target of output: a file name, `PIPE`, `STDOUT`, `DEVNULL` or an open file, or None for the target of `print`."""
StreamTargetOption = StreamTarget | EllipsisType
"""The target of output as an option: a target, or `...` if the user gave none."""
Callback = Callable[[Any], object]
"""A callback, which gets the job or task."""


_warned_options: Final = set[str]()
_counts_lock: Final = threading.RLock()
"""Protects the counts of all tasks, because jobs are created in one thread and end in another. The lock is reentrant,
because a signal handler may interrupt its holder and create jobs."""


def check_name(value: object, kind: str) -> str:
    """Check the name of a job, task or pool, and return it.

    Raises:
        TypeError: the name is not a string.
        ValueError: the name is empty.

    """
    if not isinstance(value, str):
        raise TypeError(f"{kind}: the name must be a string, not {value!r}")
    if not value:
        raise ValueError(f"{kind}: the name is empty: give one, which the log will use")
    return value


def warn_if_ineffective(
    value: object, default: object, option: str, subject: str
) -> None:
    """Log that an argument has no effect, unless it has its default value. Log this only once for each option."""
    if value != default and option not in _warned_options:
        _warned_options.add(option)
        logger.warning(
            "%s=%r of %s has no effect here: jobs of one category are not ended together, and a job's size is not "
            "compared; put related jobs in a Task with a timeout (reported once)",
            option, value, subject,
        )  # fmt: skip


def reject_unsupported(
    value: object, default: object, option: str, subject: str, hint: str
) -> None:
    """Reject an option that is not supported, because a limit must not be ignored silently.

    Raises:
        ValueError: the option does not have its default value.

    """
    if value != default:
        raise ValueError(f"{option}={value!r} of {subject} is not supported: {hint}")


class Unit:
    """The common base of jobs and tasks."""

    def __init__(
        self,
        kind: str,
        name: str,
        timeout: float,
        onstart: Callback | None,
        ondone: Callback | None,
        onfinish: Callback | None,
        params: object,
        task: Task | None,
        stdout: StreamTargetOption,
        stderr: StreamTargetOption,
    ) -> None:
        """Check the arguments. `kind` is "job" or "task", for errors."""
        self.name: str = check_name(name, kind.title())
        subject = f"{kind} {name!r}"
        self.timeout: float = duration(timeout, "timeout", subject)
        self.onstart: Callback | None = onstart
        self.ondone: Callback | None = ondone
        self.onfinish: Callback | None = onfinish
        for option in ("onstart", "ondone", "onfinish"):
            callback(getattr(self, option), option, subject)
        if task is not None and not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"task={task!r} of {subject}: give a Task, or None")
        self.task: Task | None = task
        self.params: Any = (
            task.params if params is None and task is not None else params
        )
        self.stdout: StreamTarget = (
            (task or sys).stdout if isinstance(stdout, EllipsisType) else stdout
        )
        self.stderr: StreamTarget = (
            (task or sys).stderr if isinstance(stderr, EllipsisType) else stderr
        )
        self.tstart: float | None = None
        self.tstop: float | None = None


class Task(Unit):
    """A group of jobs and subtasks, which fails if any of them fails.

    A job or task that is created with `task=` belongs to that task. The first such job or task starts the task. The
    task is over when all its jobs and subtasks are over, but not before `ExecPool.join` is called, because until then
    more may be added.

    Args:
        name: the name of the task.
        timeout: the time limit in seconds for the whole task, from the first `execute` of a job in it, or 0 for no
            limit. After the timeout, its jobs are terminated, and no more are started.
        onstart: called with the task when its first job or subtask is created, in the thread that creates it.
        ondone: called with the task when it is over, if all jobs and subtasks succeeded.
        params: any object, for callbacks. It is the default for the `params` of its jobs and subtasks.
        stdout: the default target of the standard output of its jobs. See `Job`.
        stderr: the default target of the standard error of its jobs. See `Job`.
        onfinish: called with the task when it is over, whether it succeeded or not.
        task: the outer task that the task belongs to.
        latency: has no effect. It is accepted for compatibility.

    Attributes:
        tstart: the time of the start, as returned by `time.time`, or None before the start.
        tstop: the time of the end, after `ondone`, or None before the end.
        numadded: the number of jobs and subtasks that were added directly.
        numdone: the number of direct jobs and subtasks that have succeeded.
        numterm: the number of direct jobs and subtasks that have failed or were terminated.

    Raises:
        TypeError, ValueError: an argument is invalid.

    Example:
        >>> from trioflow.compat.pyexpool import ExecPool, Job, Task
        >>> task = Task("both", ondone=lambda task: print(task.name, "are done"))
        >>> pool = ExecPool(2)
        >>> for name in "ab":
        ...     _ = pool.execute(Job(name, args=["true"], task=task))
        >>> pool.join(), task.numdone
        both are done
        (True, 2)

    """

    tstart: float | None

    def __init__(
        self,
        name: str,
        timeout: float = 0,
        onstart: Callback | None = None,
        ondone: Callback | None = None,
        params: object = None,
        stdout: StreamTargetOption = ...,
        stderr: StreamTargetOption = ...,
        *,
        onfinish: Callback | None = None,
        task: Task | None = None,
        latency: float | None = 1.5,
    ) -> None:
        super().__init__(
            "task",
            name,
            timeout,
            onstart,
            ondone,
            onfinish,
            params,
            task,
            stdout,
            stderr,
        )
        self.latency: float | None = latency
        self.numadded: int = 0
        self.numdone: int = 0
        self.numterm: int = 0
        # The end of the timeout on the clock `time.monotonic`, set when the first job is executed.
        self._deadline: float | None = None
        self._has_timed_out = False
        # Whether the task is over, and has been counted in its outer task.
        self._is_closed = False
        if task is not None:
            task.add(self)

    def add(self, subtask: Job | Task) -> None:
        """Count a new job or subtask. Jobs and tasks that are created with `task=` call this method themselves.

        Args:
            subtask: the new job or subtask.

        """
        with _counts_lock:
            first = self.tstart is None
            if first:
                self.tstart = time.time()
            self.numadded += 1
            self._is_closed, self.tstop = False, None
        if first:
            call_logged(self.onstart, self, "onstart")

    def finished(self, subtask: Job | Task, succeed: bool) -> None:
        """Count a job or subtask that is over. The pool calls this method.

        Args:
            subtask: the job or subtask.
            succeed: whether it succeeded.

        """
        with _counts_lock:
            if succeed:
                self.numdone += 1
            else:
                self.numterm += 1

    def _close_if_over(self) -> bool:
        """Close the task if all its jobs and subtasks are over. Return whether this call has closed it."""
        with _counts_lock:
            is_over = (
                not self._is_closed and self.numdone + self.numterm == self.numadded
            )
            self._is_closed = self._is_closed or is_over
            return is_over

    @property
    def _has_succeeded(self) -> bool:
        return not self.numterm and not self._has_timed_out

    def _call_end_callbacks(self) -> None:
        if self._has_succeeded:
            call_logged(self.ondone, self, "ondone")
        self.tstop = time.time()
        call_logged(self.onfinish, self, "onfinish")

    def __repr__(self) -> str:
        """Show the numbers of jobs and subtasks."""
        return f"<Task {self.name!r} {self.numdone} done, {self.numterm} terminated of {self.numadded}>"


def with_outer_tasks(task: Task | None) -> Iterator[Task]:
    """Yield a task and its outer tasks, the innermost first."""
    while task is not None:
        yield task
        task = task.task


class Job(Unit):
    r"""A program with its arguments, which an `ExecPool` runs once.

    Callbacks are functions of a single argument, the job. A thread of the pool calls them one after the other.
    `onstart` may change its job. If a callback raises, the exception is logged.

    Args:
        name: the name of the job.
        workdir: the working directory of the process, or None for this program's directory.
        args: the program and its arguments. If this is None or empty, the job starts no process, but its callbacks are
            called.
        timeout: the process is terminated after this time in seconds. 0 is no limit. A restarted
            process has the full time again.
        ontimeout: whether to start the job again after its timeout, instead of letting it fail.
        task: the task that the job belongs to.
        startdelay: the number of seconds to wait after the job has started. Only then does `execute` return, and the
            next job starts.
        onstart: called before each start of the process. If it raises, the process is not started.
        ondone: called if the exit code is 0. It can read `proc.stdout`.
        params: any object, for callbacks; by default the task's object.
        stdout: the target of standard output: the name of a file to append to, relative to the working directory of
            this program, or `subprocess.PIPE`, `DEVNULL`, or an open file. None is the target of `print`. By default
            the task's target, or `sys.stdout`.
        stderr: the target of standard error, in the same forms. `subprocess.STDOUT` is the same target as standard
            output.
        rsrtonto: the newer name of `ontimeout`.
        onfinish: called after each end of the job, whether it succeeded or not.
        category: stored for callbacks and `JobInfo`, without any other effect. A warning is logged if it is given.
        size: stored for callbacks, without any other effect. A warning is logged if it is given.
        slowdown: stored for callbacks, without any other effect.
        omitafn: stored for callbacks, without any other effect.
        memkind: stored for callbacks, without any other effect.
        memlim: not supported; `trioflow.CommandJob` has `memory_limit`.
        poutlog: not supported; `onfinish` can write the piped output.
        perrlog: not supported. See `poutlog`.

    Attributes:
        proc: the `Process`, or None until it has started.
        tstart: the time of the start, as returned by `time.time`, before `onstart`, or None before the start.
        tstop: the time of the end, after `ondone`, or None before the end.

    Raises:
        TypeError, ValueError: an argument is invalid.

    Example:
        >>> import subprocess
        >>> from trioflow.compat.pyexpool import ExecPool, Job
        >>> job = Job("hello", args=["echo", "hello"], stdout=subprocess.PIPE,
        ...           ondone=lambda job: print(job.proc.stdout.read()))
        >>> pool = ExecPool(2)
        >>> pool.execute(job), pool.join()
        b'hello\n'
        (0, True)

    """

    def __init__(
        self,
        name: str,
        workdir: str | os.PathLike[str] | None = None,
        args: Sequence[Any] | str | None = (),
        timeout: float = 0,
        ontimeout: bool = False,
        task: Task | None = None,
        startdelay: float = 0.0,
        onstart: Callback | None = None,
        ondone: Callback | None = None,
        params: object = None,
        stdout: StreamTargetOption = ...,
        stderr: StreamTargetOption = ...,
        *,
        rsrtonto: bool | None = None,
        onfinish: Callback | None = None,
        category: object = None,
        size: float = 0,
        slowdown: float = 1.0,
        omitafn: bool = False,
        memkind: int = 1,
        memlim: float = 0.0,
        poutlog: str | None = None,
        perrlog: str | None = None,
    ) -> None:
        super().__init__(
            "job",
            name,
            timeout,
            onstart,
            ondone,
            onfinish,
            params,
            task,
            stdout,
            stderr,
        )
        subject = f"job {name!r}"
        self.workdir: str | os.PathLike[str] | None = workdir
        self.args: Sequence[Any] | str | None = args
        self.rsrtonto: bool = bool(ontimeout if rsrtonto is None else rsrtonto)
        self.startdelay: float = duration(startdelay, "startdelay", subject)
        warn_if_ineffective(category, None, "category", subject)
        warn_if_ineffective(size, 0, "size", subject)
        self.category: Any = category
        self.size: float = size
        self.slowdown: float = slowdown
        self.omitafn: bool = omitafn
        self.memkind: int = memkind
        reject_unsupported(
            memlim, 0, "memlim", subject, "give memory_limit to a trioflow.CommandJob"
        )
        for log, value in (("poutlog", poutlog), ("perrlog", perrlog)):
            reject_unsupported(
                value,
                None,
                log,
                subject,
                "write the captured output in onfinish, or give a file name",
            )
        self.proc: Process | None = None
        self._was_executed = False
        if task is not None:
            task.add(self)

    @property
    def ontimeout(self) -> bool:
        """Whether to start the job again after its timeout."""
        return self.rsrtonto

    @ontimeout.setter
    def ontimeout(self, restarts: bool) -> None:
        self.rsrtonto = restarts

    @property
    def pipedout(self) -> str | None:
        """Standard output as text, or None until the job has ended, or if the output is not a PIPE."""
        return self._piped_text("stdout")

    @property
    def pipederr(self) -> str | None:
        """Standard error as text, or None until the job has ended, or if the output is not a PIPE."""
        return self._piped_text("stderr")

    def _piped_text(self, name: str) -> str | None:
        if self.proc is None or self.proc.returncode is None:
            return None
        return self.proc._stream_text(name)

    def __repr__(self) -> str:
        """Show whether the job has started or ended, and the exit code."""
        state = "has ended" if self.tstop else "has not started"
        if self.proc is not None:
            state = "runs"
            if self.proc.returncode is not None:
                state = f"has ended with {self.proc.returncode}"
        return f"<Job {self.name!r} {state}>"


class Process:
    """The process of a job, with a part of the interface of `subprocess.Popen`.

    Output to a `PIPE` is read while the process runs, so the process never waits for a reader. When the process has
    ended, `stdout` and `stderr` have the whole output.

    Attributes:
        args: the program and its arguments.
        pid: the process id, or None if it is unknown, because this program ignores SIGCHLD and the process ended at
            once.
        returncode: None while the process runs, and then the exit code, negative for a signal.

    """

    def __init__(
        self, args: Sequence[Any], pid: int | None, send: Callable[[int], None]
    ) -> None:
        self.args: Final = args
        self.pid: Final = pid
        self.returncode: int | None = None
        self._deliver_signal: Final = send
        self._ended_latch: Final = Latch()
        self._files_by_stream: dict[str, BinaryIO] = {}
        self._result: CommandResult | None = None

    def _record_end(
        self, result: CommandResult | None, piped: Iterable[Literal["stdout", "stderr"]]
    ) -> None:
        """Record that the process has ended.

        Args:
            result: the result, or None if it is unknown, which counts as exit code 0, as in `subprocess`.
            piped: the streams that were captured.

        """
        self._result = result
        if result is not None:
            self._files_by_stream = {name: result.open(name) for name in piped}
        self.returncode = 0 if result is None else result.returncode
        self._ended_latch.open()

    def _stream_text(self, name: str) -> str | None:
        """Return the whole captured output of a stream as text, even if its file has been read."""
        if self._result is None or name not in self._files_by_stream:
            return None
        return (getattr(self._result, name) or b"").decode(errors="replace")

    # ---- as in Popen

    @property
    def stdout(self) -> BinaryIO | None:
        """Standard output as a binary file, or None if it is not a PIPE. Waits until the process has ended."""
        self._ended_latch.wait()
        return self._files_by_stream.get("stdout")

    @property
    def stderr(self) -> BinaryIO | None:
        """Standard error as a binary file, or None if it is not a PIPE. Waits until the process has ended."""
        self._ended_latch.wait()
        return self._files_by_stream.get("stderr")

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended, and return the exit code.

        Args:
            timeout: the time limit in seconds, or None for no limit.

        Raises:
            subprocess.TimeoutExpired: the process has not ended in time. It continues to run.

        """
        if not self._ended_latch.wait(timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        assert self.returncode is not None
        return self.returncode

    def communicate(self) -> tuple[bytes | None, bytes | None]:
        """Wait until the process has ended, and return its standard output and standard error.

        A stream that is not a PIPE is returned as None.
        """
        output = errors = None
        if self.stdout is not None:
            output = self.stdout.read()
        if self.stderr is not None:
            errors = self.stderr.read()
        return output, errors

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, but not to its children. Do nothing if the process has ended.

        Raises:
            ValueError: there is no signal with this number.

        """
        valid = signal.Signals(number)
        if self.returncode is None:
            self._deliver_signal(valid)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(posix.SIGKILL)

    def __repr__(self) -> str:
        """Show the exit code and the command."""
        return f"<Process: returncode: {self.returncode} args: {self.args!r}>"


class JobInfo:
    """The outcome of a failed job, without a reference to the job.

    Attributes:
        name: the name of the job.
        pid: the process id, or None if there was no process.
        code: the exit code, negative for a signal, or None if there was no process.
        tstart: the time of the start, as returned by `time.time`, or None if the job was not started.
        tstop: the time of the end, as returned by `time.time`, or None if it is unknown.
        duration: the seconds from the start to the end, or None if either of these times is unknown.
        task: the name of the task, or None if the job belongs to no task.
        category: the category of the job.

    Args:
        job: the job.
        tstop: the time of the end; by default `job.tstop`.

    Example:
        >>> from trioflow.compat.pyexpool import ExecPool, Job
        >>> pool = ExecPool(2)
        >>> pool.execute(Job("bad", args=("sh", "-c", "exit 3")))
        0
        >>> pool.join()
        True
        >>> [(info.name, info.code) for info in pool.failures]
        [('bad', 3)]

    """

    __slots__ = (
        "category",
        "code",
        "duration",
        "name",
        "pid",
        "task",
        "tstart",
        "tstop",
    )

    def __init__(self, job: Job, tstop: float | None = None) -> None:
        process = job.proc
        self.name: str = job.name
        self.pid: int | None = None if process is None else process.pid
        self.code: int | None = None if process is None else process.returncode
        self.tstart: float | None = job.tstart
        self.tstop: float | None = job.tstop if tstop is None else tstop
        self.duration: float | None = None
        if self.tstart is not None and self.tstop is not None:
            self.duration = self.tstop - self.tstart
        self.task: str | None = None if job.task is None else job.task.name
        self.category: object = job.category

    def __repr__(self) -> str:
        """Show the name and the exit code."""
        return f"<JobInfo {self.name!r} code={self.code}>"
