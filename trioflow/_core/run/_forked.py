"""A process that a job forks by `os.fork()` goes on in the body of the job, and must not come out of it.

The child has a copy of everything: the event loop, whose selector it shares with its parent, all other jobs, journals.
So it ends where the body ends, as a child of `multiprocessing` does: with 0 if the body returns, with the code of
`sys.exit()`, with 1 after any other exception, which is printed. It cannot await either, because the loop would go on
with other jobs.

Nothing is asked when a body ends, because that would cost as much as some jobs. Instead the child changes its own copy:
of the worker, which finds that its task is not as it was, and of the loop, which finds something to do first.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from ._current import current
from ._worker import Worker

REMEDY: Final = "call os._exit() in the child, or use multiprocessing, ProcessJob or CommandJob"


class ForksEndHere:
    """Around the call of a user's function in a thread: a process that it forks ends where the call ends.

    A thread that calls one function after another would wait for the next one there, for ever.

    Example:
        >>> with ForksEndHere():
        ...     sorted([2, 1])
        [1, 2]

    """

    __slots__ = ("_process",)

    def __enter__(self) -> Self:
        """Note which process this is."""
        self._process = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process if it is another one."""
        if os.getpid() != self._process:
            _leave(error)


class _WorkerInFork(Worker):
    """The copy of a worker in a process that its job has forked: it ends the process where the body ends."""

    __slots__ = ()

    is_in_fork = True

    async def refuse_what_is_left_open(self) -> None:
        """End the process: the body has returned."""
        _leave(None)

    async def with_errors_of_what_is_left_open(self, error: BaseException) -> BaseException:
        """End the process: the body has raised this."""
        _leave(error)


def _stay_in_body() -> None:
    """Let the process end where the body ends, if a job has forked it."""
    worker = current.get(None)
    if worker is None or worker.job is None or worker.task is None or worker.is_in_fork:
        return
    signal.set_wakeup_fd(-1)  # the parent's loop would get the signals of this process
    job, mark = worker.job, worker.mark

    def refuse() -> None:
        _leave(RuntimeError(f"{job.label!r} awaits something in a process that it has forked: {REMEDY}"))

    with suppress(RuntimeError):  # in a thread no loop goes on
        worker.run.backend.call_in_fork(worker, refuse)
    worker.__class__ = _WorkerInFork
    mark.__class__ = type("MarkInFork", (mark.__class__,), {"__slots__": (), "intact": _no, "left_open": _yes})


def _no(_: Any) -> bool:
    return False


def _yes(_: Any) -> bool:
    return True


def _leave(error: BaseException | None) -> NoReturn:
    """End this process, as Python does at the end of a program, but without the clean-up of what is its parent's."""
    code = 0 if error is None else 1
    try:
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            if code and not isinstance(error.code, int):
                sys.stderr.write(f"{error.code}\n")
        elif error is not None:
            error.add_note(f"in process {os.getpid()}, which a job has forked")
            sys.excepthook(type(error), error, error.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_stay_in_body)
