"""`Task`: a group of jobs and subtasks, with its own callbacks and time limit."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final

from ...abc import callback, duration
from . import _checks
from ._callbacks import call_logged

if TYPE_CHECKING:
    from ._job import Job

_counts_lock: Final = threading.RLock()
"""Protects the counts of all tasks, because jobs are created in one thread and end in another.

The lock is reentrant, because a signal handler may interrupt its holder and create jobs.
"""


Callback = Callable[[Any], object]
"""A callback, which gets the job or task."""


class Unit:
    """What jobs and tasks have in common."""

    def __init__(
        self,
        kind: str,
        name: str,
        timeout: float,
        onstart: Callback | None,
        ondone: Callback | None,
        onfinish: Callback | None,
        params: Any,
        task: Task | None,
        stdout: _checks.StreamTargetOption,
        stderr: _checks.StreamTargetOption,
    ) -> None:
        """Check the arguments. `kind` is "job" or "task", for errors."""
        self.name: str = _checks.check_name(name, kind.title())
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
        self.params: Any = task.params if params is None and task is not None else params
        self.stdout: _checks.StreamTarget = choose_output(stdout, "stdout", task)
        self.stderr: _checks.StreamTarget = choose_output(stderr, "stderr", task)
        self.tstart: float | None = None
        self.tstop: float | None = None


class Task(Unit):
    """A group of jobs and subtasks, which fails if one of them fails.

    A job or task that is created with `task=` belongs to that task; the first one starts the task. The task is over
    when all its jobs and subtasks are over, but not before `ExecPool.join` is called, because until then more may be
    added.

    Args:
        name: the name of the task.
        timeout: the time limit in seconds for the whole task, from the first `execute` of one of its jobs; 0 for no
            limit. After the timeout, its jobs are terminated, and no more are started.
        onstart: called with the task when its first job or subtask is created, in the thread that creates it.
        ondone: called with the task when it is over, if all jobs and subtasks succeeded.
        params: any object, for callbacks; the default for the `params` of its jobs and subtasks.
        stdout: the default target of the standard output of its jobs; see `Job`.
        stderr: the default target of the standard error of its jobs; see `Job`.
        onfinish: called with the task when it is over, whether it succeeded or not.
        task: the outer task that the task belongs to.
        latency: has no effect; it is accepted for compatibility.

    Attributes:
        tstart: the time of the start, as returned by `time.time`; None before the start.
        tstop: the time of the end, after `ondone`; None before the end.
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
        params: Any = None,
        stdout: _checks.StreamTargetOption = ...,
        stderr: _checks.StreamTargetOption = ...,
        *,
        onfinish: Callback | None = None,
        task: Task | None = None,
        latency: float | None = 1.5,
    ) -> None:
        super().__init__("task", name, timeout, onstart, ondone, onfinish, params, task, stdout, stderr)
        self.latency: float | None = latency
        self.numadded: int = 0
        self.numdone: int = 0
        self.numterm: int = 0
        self._deadline: float | None = None  # on time.monotonic; set when the first job is executed
        self._has_timed_out = False
        self._is_closed = False  # whether the task is over, and has been counted in its outer task
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
        """Close the task if all its jobs and subtasks are over; return whether this call has closed it."""
        with _counts_lock:
            is_over = not self._is_closed and self.numdone + self.numterm == self.numadded
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


def choose_output(option: _checks.StreamTargetOption, name: str, task: Task | None) -> _checks.StreamTarget:
    """Return the target of a stream: the option, or else the target of the task, or else the stream of `sys`.

    Args:
        option: the target that the user passed; `...` if the user passed none.
        name: "stdout" or "stderr".
        task: the task; None if there is none.

    """
    if not isinstance(option, EllipsisType):
        return option
    target: _checks.StreamTarget = getattr(sys if task is None else task, name)
    return target


def with_outer_tasks(task: Task | None) -> Iterator[Task]:
    """Yield a task and its outer tasks, the innermost first."""
    while task is not None:
        yield task
        task = task.task
