"""`Job`: a program to run, and its outcome; `Process`, while it runs; `JobInfo`, what is kept of a failed job."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from ... import _posix as posix
from . import _checks
from ._latch import Latch
from ._task import Task, own_output, owner

if TYPE_CHECKING:
    from ... import CommandResult

Callback = Callable[["Job"], object]


class Job:
    r"""A program with its arguments, run once by an `ExecPool`.

    Callbacks are functions of one argument, the job. They are called in this program, in a thread of the pool, one
    after the other, and `onstart` may change its job. If a callback raises, that is reported in the log.

    Args:
        name: its name.
        workdir: the directory to run it in; None for this program's.
        args: the program and its arguments. If it is None or empty, there is no process, and only the callbacks are
            called.
        timeout: seconds until it is terminated, 0 for no limit; they are counted from each start.
        ontimeout: whether it is started again after its timeout, instead of failing.
        task: the task that it belongs to.
        startdelay: seconds to wait after its start, before `execute` returns and before the next job is started.
        onstart: called before the process is started, at each start. If it raises, there is no process.
        ondone: called after success, that is, exit code 0; it can read `proc.stdout`.
        params: anything, for callbacks; by default its task's.
        stdout: where its standard output goes: the name of a file, appended to, relative to this program's directory;
            `subprocess.PIPE`, `DEVNULL`, or an open file; None for where `print` writes. By default its task's, or
            `sys.stdout`.
        stderr: the same for its standard error; `subprocess.STDOUT` for where its standard output goes.
        rsrtonto: the newer name of `ontimeout`.
        onfinish: called after each start when the job has ended, in any way.
        category: kept for callbacks and failures, as are the following four; it has no other effect, which is logged.
        size: see `category`.
        slowdown: see `category`.
        omitafn: see `category`.
        memkind: see `category`.
        memlim: not supported; `trioflow.CommandJob` has `memory_limit`.
        poutlog: not supported; `onfinish` can write the piped output.
        perrlog: not supported; see `poutlog`.

    Attributes:
        proc: its `Process` from its start on; None if it was not started.
        tstart: when it was started, by `time.time`, before `onstart`; None before that.
        tstop: when it had ended, after `ondone`; None before that.

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
        stdout: _checks.OwnOutput = ...,
        stderr: _checks.OwnOutput = ...,
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
        self.name: str = _checks.name(name, "Job")
        who = f"job {name!r}"
        self.workdir: str | os.PathLike[str] | None = workdir
        self.args: Sequence[Any] | str | None = args
        self.timeout: float = _checks.seconds(timeout, "timeout", who)
        self.rsrtonto: bool = bool(ontimeout if rsrtonto is None else rsrtonto)
        self.startdelay: float = _checks.seconds(startdelay, "startdelay", who)
        self.onstart: Callback | None = _checks.callback(onstart, "onstart", who)
        self.ondone: Callback | None = _checks.callback(ondone, "ondone", who)
        self.onfinish: Callback | None = _checks.callback(onfinish, "onfinish", who)
        _checks.without_effect(category, None, "category", who)
        _checks.without_effect(size, 0, "size", who)
        self.category: Any = category
        self.size: float = size
        self.slowdown: float = slowdown
        self.omitafn: bool = omitafn
        self.memkind: int = memkind
        _checks.unsupported(memlim, 0, "memlim", who, "give memory_limit to a trioflow.CommandJob")
        for what, given in (("poutlog", poutlog), ("perrlog", perrlog)):
            _checks.unsupported(given, None, what, who, "write what was piped in onfinish, or give a file's name")
        self.task: Task | None = owner(task, who)
        self.params: Any = task.params if params is None and task is not None else params
        self.stdout: _checks.Output = own_output(stdout, "stdout", task)
        self.stderr: _checks.Output = own_output(stderr, "stderr", task)
        self.tstart: float | None = None
        self.tstop: float | None = None
        self.proc: Process | None = None
        self._executed = False
        if task is not None:
            task.add(self)

    @property
    def ontimeout(self) -> bool:
        """Whether the job is started again after its timeout."""
        return self.rsrtonto

    @ontimeout.setter
    def ontimeout(self, restarts: bool) -> None:
        self.rsrtonto = restarts

    @property
    def pipedout(self) -> str | None:
        """The job's standard output, as text; None until it has ended, or if that was not a PIPE."""
        return self._piped("stdout")

    @property
    def pipederr(self) -> str | None:
        """The same for its standard error."""
        return self._piped("stderr")

    def _piped(self, name: str) -> str | None:
        if self.proc is None or self.proc.returncode is None:
            return None
        return self.proc._text(name)

    def __repr__(self) -> str:
        """Show how far the job is."""
        if self.proc is not None:
            code = self.proc.returncode
            return f"<Job {self.name!r} {'runs' if code is None else f'has ended with {code}'}>"
        return f"<Job {self.name!r} {'has ended' if self.tstop else 'has not started'}>"


class Process:
    """The process of a job, with those names of `subprocess.Popen` that make sense for it.

    Its output to a `PIPE` is read while it runs, so it never waits for a reader; `stdout` and `stderr` have all of it
    when the process has ended.

    Attributes:
        args: the program and its arguments.
        pid: its number; None if it ended before it could be looked at, because this program ignores SIGCHLD.
        returncode: None while it runs; then the exit code, below 0 for a signal.

    """

    def __init__(self, args: Sequence[Any], pid: int | None, send: Callable[[int], None]) -> None:
        self.args: Final = args
        self.pid: Final = pid
        self.returncode: int | None = None
        self._send: Final = send
        self._ended: Final = Latch()
        self._files: dict[str, BinaryIO] = {}
        self._result: CommandResult | None = None

    def _end(self, result: CommandResult | None, piped: Iterable[Literal["stdout", "stderr"]]) -> None:
        """Record how the process ended; None means that this is unknown, and counts as 0, as in `subprocess`."""
        self._result = result
        if result is not None:
            self._files = {name: result.open(name) for name in piped}
        self.returncode = 0 if result is None else result.returncode
        self._ended.open()

    def _text(self, name: str) -> str | None:
        """Return all that was captured of a stream, even if its file has been read."""
        if self._result is None or name not in self._files:
            return None
        return (getattr(self._result, name) or b"").decode(errors="replace")

    # ---- as in Popen

    @property
    def stdout(self) -> BinaryIO | None:
        """The process's standard output, as a file, if that was a PIPE; waits until it has ended."""
        self._ended.wait()
        return self._files.get("stdout")

    @property
    def stderr(self) -> BinaryIO | None:
        """The same for its standard error."""
        self._ended.wait()
        return self._files.get("stderr")

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended, and return the exit code.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time; it goes on running.

        """
        if not self._ended.wait(timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        assert self.returncode is not None
        return self.returncode

    def communicate(self) -> tuple[bytes | None, bytes | None]:
        """Return the process's standard output and standard error; None for one that was not a PIPE."""
        stdout, stderr = self.stdout, self.stderr
        return None if stdout is None else stdout.read(), None if stderr is None else stderr.read()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process while it runs, but not to its children.

        Raises:
            ValueError: there is no such signal.

        """
        known = signal.Signals(number)
        if self.returncode is None:
            self._send(known)

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
    """The outcome of a job that has failed, without the job.

    Attributes:
        name: its name.
        pid: the number of its process; None if there was none.
        code: the exit code, below 0 for a signal; None if it was not started.
        tstart: when it was started, by `time.time`; None if it was not.
        tstop: when it had ended.
        duration: the seconds in between, or None.
        task: the name of its task, or None.
        category: its category.

    Args:
        job: the job.
        tstop: when it had ended; by default `job.tstop`.

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
        """Show name and code."""
        return f"<JobInfo {self.name!r} code={self.code}>"
