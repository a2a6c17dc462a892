"""`Task`: a group of jobs and of other tasks, with callbacks and a time limit of its own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final

from . import _checks
from ._log import guarded

if TYPE_CHECKING:
    from ._job import Job

    Callback = Callable[["Task"], object]

_counting: Final = threading.RLock()  # a callback may make further jobs
"""Held while the counts of a task change: jobs are made in one thread, and end in another."""


class Task:
    """A group of jobs and subtasks. It has failed if one of them has.

    A job or task that is made with `task=` belongs to it from then on; the first one starts it. It is over when all of
    them are, and the program waits for that: at `ExecPool.join` at the earliest, because before then more may come.

    Args:
        name: its name.
        timeout: seconds for all of it, from the first `execute` of one of its jobs; 0 for no limit. Then all of its
            jobs are terminated, and further ones are not started.
        onstart: called with the task when the first job or subtask joins it, by whoever makes that.
        ondone: called with the task when all of it has succeeded.
        params: anything, for callbacks; jobs without `params` of their own have these.
        stdout: where the standard output of jobs goes that don't say it themselves; see `Job`.
        stderr: the same for the standard error.
        onfinish: called with the task when it is over, whatever became of it.
        task: the task that it belongs to.
        latency: of no effect; it is there for older programs.

    Attributes:
        tstart: when it started, by `time.perf_counter`; None before.
        tstop: when it was over, after `ondone`; None before.
        numadded: how many jobs and subtasks have joined it directly.
        numdone: how many of these have succeeded.
        numterm: how many of these have failed, or were terminated.

    Raises:
        TypeError, ValueError: an argument that makes no sense.

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
        self._deadline: float | None = None  # by time.monotonic, from the first of its jobs on
        self._expired = False  # its time was over
        self._closed = False  # it is over, and its own task has been told
        if task is not None:
            task.add(self)

    def add(self, subtask: Job | Task) -> None:
        """Count one more job or subtask; those that are made with `task=` do it themselves.

        Args:
            subtask: what has joined it.

        """
        with _counting:
            first = self.tstart is None
            if first:
                self.tstart = time.perf_counter()
            self.numadded += 1
            self._closed, self.tstop = False, None
        if first:
            guarded(self.onstart, self, "onstart")

    def finished(self, subtask: Job | Task, succeed: bool) -> None:
        """Count one that is over; the pool does it.

        Args:
            subtask: which one.
            succeed: whether it has succeeded.

        """
        with _counting:
            if succeed:
                self.numdone += 1
            else:
                self.numterm += 1

    def _close(self) -> bool:
        """Take note that it is over if all of it is; tell whether it is just now."""
        with _counting:
            is_over = not self._closed and self.numdone + self.numterm == self.numadded
            self._closed = self._closed or is_over
            return is_over

    @property
    def _succeeded(self) -> bool:
        return not self.numterm and not self._expired

    def _end(self) -> None:
        """Call back that it is over."""
        if self._succeeded:
            guarded(self.ondone, self, "ondone")
        self.tstop = time.perf_counter()
        guarded(self.onfinish, self, "onfinish")

    def __repr__(self) -> str:
        """Show the counts."""
        return f"<Task {self.name!r} {self.numdone} done, {self.numterm} terminated of {self.numadded}>"


def owner(task: Any, who: str) -> Any:
    """Return the task that something belongs to, or None.

    Raises:
        TypeError: it is no task.

    """
    if task is not None and not isinstance(task, Task):
        raise TypeError(f"task={task!r} of {who}: give a Task, or None")
    return task


def own_output(given: _checks.OwnOutput, name: str, task: Task | None) -> _checks.Output:
    """Return where output goes: as given, or as the task says, or to what `sys` has there."""
    if not isinstance(given, EllipsisType):
        return given
    found: _checks.Output = getattr(sys if task is None else task, name)
    return found


def upwards(task: Task | None) -> Iterator[Task]:
    """Yield a task and those that it belongs to."""
    while task is not None:
        yield task
        task = task.task
