"""A job's own context: its body runs there if an instrument of the run asks for that, and so do the job's hooks.

The body stays in the worker's task, each step of it in another context than the task's. So what an instrument sets is
seen in the body, in all that it calls and starts, and nowhere else; the worker's own context does not change, and the
worker goes on with the next job.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final

from ..job._job import NO_LIMITS
from ._attempts import call

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._worker import Worker

_carried: Final[ContextVar[Mapping[str, str]]] = ContextVar("trioflow carried", default={})  # noqa: B039 - never changed


def carry(variables: Mapping[str, str]) -> None:
    r"""Have variables in the environment of what a job starts in other processes.

    That is commands, here and on nodes, and functions in processes, in executors of processes and on a cluster, during
    their calls. An instrument with `in_context = True` calls this in `job_started`. The variables go before those
    of the same name in this program's environment; what a command is given by `env=`, and is not from there, stays. A
    second call replaces them all.

    Args:
        variables: names and values.

    Example:
        >>> import subprocess
        >>> from trioflow.abc import Instrument
        >>> class Ticket(Instrument):
        ...     in_context = True
        ...     def job_started(self, scheduler, job):
        ...         carry({"TICKET": f"for {job.label}"})
        >>> job = CommandJob(["printenv", "TICKET"], stdout=subprocess.PIPE, label="show")
        >>> Scheduler(job).run(instruments=[Ticket()]), job.result().stdout
        (True, b'for show\n')

    """
    _carried.set(variables)


def carried() -> Mapping[str, str]:
    """Return the variables that go along with what the current job starts: see `carry`.

    Example:
        >>> carried()
        {}

    """
    return _carried.get()


def call_in(context: Context, worker: Worker, job: AbstractJob[Any]) -> Any:
    """Call a job in a context, and return what to await for it."""
    limits = job._limits
    if limits is None:
        function: Any = job
        awaitable = context.run(function._function, *function._args)
    elif limits is NO_LIMITS:
        awaitable = context.run(job._call_once)
    else:
        awaitable = context.run(call, worker, job, limits)
    return Steps(context, awaitable) if hasattr(awaitable, "__await__") else awaitable


class Steps:
    """Awaits something, each step of it in a context.

    It is an iterator with the methods of a coroutine, rather than a coroutine of its own, because then Python hands
    steps and exceptions to it directly, and what it `awaits` can be found for the stack of a job that hangs.
    """

    __slots__ = ("_run", "_send", "awaits")

    def __init__(self, context: Context, awaitable: Any) -> None:
        self._run: Final = context.run
        self.awaits: Final = awaitable if hasattr(awaitable, "send") else awaitable.__await__()
        self._send: Final = getattr(self.awaits, "send", None) or self._next

    def _next(self, _: object) -> Any:
        return next(self.awaits)

    def __await__(self) -> Steps:
        return self

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Any:
        return self._run(self._send, None)

    def send(self, value: Any) -> Any:
        """Take the next step."""
        return self._run(self._send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where it waits."""
        throw = getattr(self.awaits, "throw", None)
        if throw is None:  # an iterator that takes no exceptions
            raise next(one for one in reversed(error) if isinstance(one, BaseException))
        return self._run(throw, *error)

    def close(self) -> None:
        """End it where it waits."""
        close = getattr(self.awaits, "close", None)
        if close is not None:
            self._run(close)
