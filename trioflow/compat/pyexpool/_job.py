"""`Job`: what a program is to be run with, and what became of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import _checks
from ._task import Task, own_output, owner

if TYPE_CHECKING:
    from ._process import Process

    Callback = Callable[["Job"], object]


class Job:
    r"""A program with its arguments, run once by an `ExecPool`.

    Callbacks are functions of one argument, the job, called in this program, in a thread of the pool, one after the
    other; those of a job may change it before it starts. One that raises is reported in the log.

    Args:
        name: its name.
        workdir: the directory to run it in; None for this program's.
        args: the program and its arguments. With None, or without any, there is no process, and only the callbacks
            are called.
        timeout: seconds until it is terminated, 0 for no limit; it counts anew for each start.
        ontimeout: starts it again when its time is over, instead of giving it up.
        task: the task that it belongs to.
        startdelay: seconds to wait after its start, before `execute` returns and before the next one is started.
        onstart: called before the process is started, at each start. If it raises, there will be no process.
        ondone: called when it has succeeded, with exit code 0; `proc.stdout` can be read there.
        params: anything, for callbacks; left out, those of its task.
        stdout: where its standard output goes: the name of a file, appended to, relative to this program's directory;
            `subprocess.PIPE`, `DEVNULL`, or an open file; None for where `print` goes. Left out, it is its task's, or
            `sys.stdout`.
        stderr: the same for its standard error; `subprocess.STDOUT` for where its standard output goes.
        rsrtonto: the newer name of `ontimeout`.
        onfinish: called when it has ended, however, after each start.
        category: kept for callbacks and failures, as are the following four.
        size: see `category`.
        slowdown: see `category`.
        omitafn: see `category`.
        memkind: see `category`.
        memlim: not supported; `trioflow.CommandJob` has `memory_limit`.
        poutlog: not supported; `onfinish` can write what was piped.
        perrlog: not supported; see `poutlog`.

    Attributes:
        proc: its `Process` from its start on; None if it was not started.
        tstart: when it was started, by `time.perf_counter`, before `onstart`; None before.
        tstop: when it had ended, after `ondone`; None before.

    Raises:
        TypeError, ValueError: an argument that makes no sense.

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
        """Whether it is started again when its time is over."""
        return self.rsrtonto

    @ontimeout.setter
    def ontimeout(self, restarts: bool) -> None:
        self.rsrtonto = restarts

    @property
    def pipedout(self) -> str | None:
        """What it wrote to its standard output, as text, if that was a PIPE and it has ended; else None."""
        return self._piped("stdout")

    @property
    def pipederr(self) -> str | None:
        """The same of its standard error."""
        return self._piped("stderr")

    def _piped(self, name: str) -> str | None:
        if self.proc is None or self.proc.returncode is None:
            return None
        return self.proc._text(name)

    def __repr__(self) -> str:
        """Show how far it is."""
        if self.proc is not None:
            code = self.proc.returncode
            return f"<Job {self.name!r} {'runs' if code is None else f'has ended with {code}'}>"
        return f"<Job {self.name!r} {'has ended' if self.tstop else 'has not started'}>"
