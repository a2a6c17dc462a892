"""`Task`: a group of jobs and of other tasks, with callbacks and a time limit of its own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final

from . import _checks
from ._callbacks import guarded

if TYPE_CHECKING:
    from ._job import Job

    Callback = Callable[["Task"], object]

_counting: Final = threading.RLock()  # a callback may make further jobs
"""Held while the counts of a task change, because jobs are made in one thread and end in another."""


class Task:
    """A group of jobs and subtasks. It fails if one of them fails.

    A job or task that is made with `task=` belongs to it from then on; the first one starts it. It is over when all of
    them are over, but not before `ExecPool.join` is called, because until then more may be added.

    Args:
        name: its name.
        timeout: seconds for the whole task, from the first `execute` of one of its jobs; 0 for no limit. After that,
            its jobs are terminated, and no more are started.
        onstart: called with the task when the first job or subtask is added, in the thread that makes that.
        ondone: called with the task when it is over, if all of it succeeded.
        params: anything, for callbacks; the default of its jobs' `params`.
        stdout: where the standard output of its jobs goes, unless they say so themselves; see `Job`.
        stderr: the same for the standard error.
        onfinish: called with the task when it is over, whether it succeeded or not.
        task: the task that it belongs to.
        latency: has no effect; it is accepted for older programs.

    Attributes:
        tstart: when it started, by `time.time`; None before that.
        tstop: when it was over, after `ondone`; None before that.
        numadded: how many jobs and subtasks were added to it directly.
        numdone: how many of these have succeeded.
        numterm: how many of these have failed or were terminated.

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

    def __init__(
        self,
        name: str,
        timeout: float = 0,
        onstart: Callback | None = None,
        ondone: Callback | None = None,
        params: Any = None,
        stdout: _checks.OwnOutput = ...,
        stderr: _checks.OwnOutput = ...,
        *,
        onfinish: Callback | None = None,
        task: Task | None = None,
        latency: float | None = 1.5,
    ) -> None:
        self.name: str = _checks.name(name, "Task")
        who = f"task {name!r}"
        self.timeout: float = _checks.seconds(timeout, "timeout", who)
        self.onstart: Callback | None = _checks.callback(onstart, "onstart", who)
        self.ondone: Callback | None = _checks.callback(ondone, "ondone", who)
        self.onfinish: Callback | None = _checks.callback(onfinish, "onfinish", who)
        self.params: Any = params
        self.task: Task | None = owner(task, who)
        self.stdout: _checks.Output = own_output(stdout, "stdout", task)
        self.stderr: _checks.Output = own_output(stderr, "stderr", task)
        self.latency: float | None = latency
        self.tstart: float | None = None
        self.tstop: float | None = None
        self.numadded: int = 0
        self.numdone: int = 0
        self.numterm: int = 0
        self._deadline: float | None = None  # by time.monotonic; set when its first job is executed
        self._expired = False  # its time was over
        self._closed = False  # it is over, and its own task has counted it
        if task is not None:
            task.add(self)

    def add(self, subtask: Job | Task) -> None:
        """Count one more job or subtask; those that are made with `task=` call this themselves.

        Args:
            subtask: what was added.

        """
        with _counting:
            first = self.tstart is None
            if first:
                self.tstart = time.time()
            self.numadded += 1
            self._closed, self.tstop = False, None
        if first:
            guarded(self.onstart, self, "onstart")

    def finished(self, subtask: Job | Task, succeed: bool) -> None:
        """Count a job or subtask that is over; the pool calls this.

        Args:
            subtask: which one.
            succeed: whether it succeeded.

        """
        with _counting:
            if succeed:
                self.numdone += 1
            else:
                self.numterm += 1

    def _close(self) -> bool:
        """Record that the task is over if all of it is, and return whether this call has found it so."""
        with _counting:
            is_over = not self._closed and self.numdone + self.numterm == self.numadded
            self._closed = self._closed or is_over
            return is_over

    @property
    def _succeeded(self) -> bool:
        return not self.numterm and not self._expired

    def _end(self) -> None:
        """Call the callbacks for the end."""
        if self._succeeded:
            guarded(self.ondone, self, "ondone")
        self.tstop = time.time()
        guarded(self.onfinish, self, "onfinish")

    def __repr__(self) -> str:
        """Show the counts."""
        return f"<Task {self.name!r} {self.numdone} done, {self.numterm} terminated of {self.numadded}>"


def owner(task: Any, who: str) -> Any:
    """Check a `task=`, and return it, or None.

    Raises:
        TypeError: it is not a task.

    """
    if task is not None and not isinstance(task, Task):
        raise TypeError(f"task={task!r} of {who}: give a Task, or None")
    return task


def own_output(given: _checks.OwnOutput, name: str, task: Task | None) -> _checks.Output:
    """Return the target of output: the argument, else the task's, else that of `sys`."""
    if not isinstance(given, EllipsisType):
        return given
    found: _checks.Output = getattr(sys if task is None else task, name)
    return found


def upwards(task: Task | None) -> Iterator[Task]:
    """Yield a task and all tasks around it, the innermost first."""
    while task is not None:
        yield task
        task = task.task
