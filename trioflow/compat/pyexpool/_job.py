"""`Job`, a program to run; `Process`, the process of a job; and `JobInfo`, the outcome of a failed job."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from ... import _posix as posix
from ...abc import duration
from . import _checks
from ._callbacks import Latch
from ._task import Callback, Task, Unit

if TYPE_CHECKING:
    from ... import CommandResult


class Job(Unit):
    r"""A program with its arguments, which an `ExecPool` runs once.

    Callbacks are functions of one argument, the job. A thread of the pool calls them one after the other. `onstart` may
    change its job. If a callback raises, the exception is logged.

    Args:
        name: the name of the job.
        workdir: the working directory of the process; None for that of this program.
        args: the program and its arguments. If this is None or empty, the job starts no process, but its callbacks are
            called.
        timeout: the time limit of the process in seconds, after which it is terminated; 0 for no limit. A restarted
            process has the full time again.
        ontimeout: whether to start the job again after its timeout, instead of letting it fail.
        task: the task that the job belongs to.
        startdelay: the number of seconds to wait after the job has started. Only then does `execute` return, and the
            next job starts.
        onstart: called before each start of the process. If it raises, the process is not started.
        ondone: called if the exit code is 0; it can read `proc.stdout`.
        params: any object, for callbacks; by default that of the task.
        stdout: the target of standard output: the name of a file to append to, relative to the working directory
            of this program; `subprocess.PIPE`, `DEVNULL`, or an open file; None for the target of `print`. By default
            that of the task, or `sys.stdout`.
        stderr: the target of standard error, in the same forms; `subprocess.STDOUT` for the same target as standard
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
        perrlog: not supported; see `poutlog`.

    Attributes:
        proc: the `Process`; None until it has started.
        tstart: the time of the start, as returned by `time.time`, before `onstart`; None before the start.
        tstop: the time of the end, after `ondone`; None before the end.

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
        params: Any = None,
        stdout: _checks.StreamTargetOption = ...,
        stderr: _checks.StreamTargetOption = ...,
        *,
        rsrtonto: bool | None = None,
        onfinish: Callback | None = None,
        category: Any = None,
        size: float = 0,
        slowdown: float = 1.0,
        omitafn: bool = False,
        memkind: int = 1,
        memlim: float = 0.0,
        poutlog: str | None = None,
        perrlog: str | None = None,
    ) -> None:
        super().__init__("job", name, timeout, onstart, ondone, onfinish, params, task, stdout, stderr)
        subject = f"job {name!r}"
        self.workdir: str | os.PathLike[str] | None = workdir
        self.args: Sequence[Any] | str | None = args
        self.rsrtonto: bool = bool(ontimeout if rsrtonto is None else rsrtonto)
        self.startdelay: float = duration(startdelay, "startdelay", subject)
        _checks.warn_if_ineffective(category, None, "category", subject)
        _checks.warn_if_ineffective(size, 0, "size", subject)
        self.category: Any = category
        self.size: float = size
        self.slowdown: float = slowdown
        self.omitafn: bool = omitafn
        self.memkind: int = memkind
        _checks.reject_unsupported(memlim, 0, "memlim", subject, "give memory_limit to a trioflow.CommandJob")
        for option, value in (("poutlog", poutlog), ("perrlog", perrlog)):
            _checks.reject_unsupported(
                value, None, option, subject, "write the captured output in onfinish, or give a file name"
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
        """Standard output as text; None until the job has ended, or if the output is not a PIPE."""
        return self._piped_text("stdout")

    @property
    def pipederr(self) -> str | None:
        """Standard error as text; None until the job has ended, or if the output is not a PIPE."""
        return self._piped_text("stderr")

    def _piped_text(self, name: str) -> str | None:
        if self.proc is None or self.proc.returncode is None:
            return None
        return self.proc._stream_text(name)

    def __repr__(self) -> str:
        """Show whether the job has started or ended, and the exit code."""
        if self.proc is not None:
            code = self.proc.returncode
            return f"<Job {self.name!r} {'runs' if code is None else f'has ended with {code}'}>"
        return f"<Job {self.name!r} {'has ended' if self.tstop else 'has not started'}>"


class Process:
    """The process of a job, with a part of the interface of `subprocess.Popen`.

    Output to a `PIPE` is read while the process runs, so the process never waits for a reader. When the process has
    ended, `stdout` and `stderr` have the whole output.

    Attributes:
        args: the program and its arguments.
        pid: the process id; None if it is unknown, because this program ignores SIGCHLD and the process ended at once.
        returncode: None while the process runs; then the exit code, negative for a signal.

    """

    def __init__(self, args: Sequence[Any], pid: int | None, send: Callable[[int], None]) -> None:
        self.args: Final = args
        self.pid: Final = pid
        self.returncode: int | None = None
        self._deliver_signal: Final = send
        self._ended_latch: Final = Latch()
        self._files_by_stream: dict[str, BinaryIO] = {}
        self._result: CommandResult | None = None

    def _record_end(self, result: CommandResult | None, piped: Iterable[Literal["stdout", "stderr"]]) -> None:
        """Record that the process has ended.

        Args:
            result: the result; None if it is unknown, which counts as exit code 0, as in `subprocess`.
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
        """Standard output as a binary file; None if it is not a PIPE. Waits until the process has ended."""
        self._ended_latch.wait()
        return self._files_by_stream.get("stdout")

    @property
    def stderr(self) -> BinaryIO | None:
        """Standard error as a binary file; None if it is not a PIPE. Waits until the process has ended."""
        self._ended_latch.wait()
        return self._files_by_stream.get("stderr")

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended, and return the exit code.

        Args:
            timeout: the time limit in seconds; None for no limit.

        Raises:
            subprocess.TimeoutExpired: the process has not ended in time; it continues to run.

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
        stdout, stderr = self.stdout, self.stderr
        return None if stdout is None else stdout.read(), None if stderr is None else stderr.read()

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
        pid: the process id; None if there was no process.
        code: the exit code, negative for a signal; None if there was no process.
        tstart: the time of the start, as returned by `time.time`; None if the job was not started.
        tstop: the time of the end, as returned by `time.time`; None if it is unknown.
        duration: the seconds from the start to the end; None if one of these times is unknown.
        task: the name of the task; None if the job belongs to no task.
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

    __slots__ = ("category", "code", "duration", "name", "pid", "task", "tstart", "tstop")

    def __init__(self, job: Job, tstop: float | None = None) -> None:
        process = job.proc
        self.name: str = job.name
        self.pid: int | None = None if process is None else process.pid
        self.code: int | None = None if process is None else process.returncode
        self.tstart: float | None = job.tstart
        self.tstop: float | None = job.tstop if tstop is None else tstop
        started_and_ended = self.tstart is not None and self.tstop is not None
        self.duration: float | None = self.tstop - self.tstart if started_and_ended else None  # type: ignore[operator]
        self.task: str | None = None if job.task is None else job.task.name
        self.category: object = job.category

    def __repr__(self) -> str:
        """Show the name and the exit code."""
        return f"<JobInfo {self.name!r} code={self.code}>"
