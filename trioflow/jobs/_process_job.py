"""`ProcessJob`: a Python function in a worker process, as a job."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final, Unpack, cast

from .._core import _labels, _resources, _worker
from .._core._arguments import Call, Search
from .._core._checks import repeats
from .._core._jobs import AbstractJob, T
from .._core._options import JobOptions
from .._core._rules import release_inputs
from ._process_pool import WorkerDied, Workers

DIED: Final = 1.0
"""Seconds that a worker which has let go of its socket has to end by itself, before it is killed."""


class ProcessJob(AbstractJob[T]):
    """A Python function with its arguments, called in a worker process, beside this program's own threads.

    The process is killed, with all that it has started in its group, when the job is cancelled or its time is over.
    Otherwise it serves for further jobs of the run, and is gone when that ends; so what a function leaves behind in
    its module may be seen by the next one. The function must be found by its name in a module that the worker can
    import; it, its arguments and its result are pickled. Its main module is this program's, imported under another
    name: what is to run in this program alone stands below `if __name__ == "__main__":`.

    Args:
        function: a plain function, defined at the top level of a module.
        args: positional arguments of the call; jobs among them are filled in, see `Job`.
        kwargs: keyword arguments of the call, jobs among them as well.
        options: those of every job; see `AbstractJob`. A timeout counts from the start of the job, which may have to
            start a process first: some 50 ms.

    Raises:
        TypeError: an async function (`Job` runs those), or something not callable; from the job itself, something
            that can't be pickled, named.
        ValueError: an option out of its range.
        RuntimeError: from the job itself, the process has died.

    Example:
        >>> job = ProcessJob(sum, [1, 2, 3])
        >>> Scheduler(job).run()
        True
        >>> job.result()
        6

    """

    __slots__ = ("_args", "_function", "_process")

    def __init__(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        _check_function(function)
        search = Search(repr(options.get("label") or _labels.of_function(type(self).__name__, function)))
        self._args: Final = search.positional(args)
        self._function: Final[Callable[..., T]] = search.keywords(function, kwargs) if kwargs else function
        self._process: int | None = None
        super().__init__(**options, _inputs=tuple(search.inputs))

    @property
    def pid(self) -> int | None:
        """The number of its process while it runs; None before and afterwards."""
        return self._process

    async def co_run(self) -> T:
        """Call the function in a worker process.

        Raises:
            BaseException: what the function raised, with a note that has its traceback there.
            TypeError: something can't be pickled.
            RuntimeError: the process has died, or this is not called by a run.

        """
        worker = _worker.current.get(None)
        if worker is None:
            raise RuntimeError(f"{self.label!r}: a process needs a run that watches over it: put it into a Scheduler")
        request = self._request()
        workers = _resources.shared(worker.run, Workers)
        process = await workers.take()
        self._process = process.pid
        try:
            answer = await process.call(request)
        except WorkerDied:
            how = await process.end(DIED)
            raise RuntimeError(f"{self.label!r}: its process has died: {how}") from None
        except BaseException:
            await process.end()
            raise
        finally:
            self._process = None
        workers.give_back(process)
        return self._unpacked(answer)

    def _request(self) -> bytes:
        """Return the call as a pickle; the jobs' results are needed no more."""
        bound: Any = self._function
        keywords = bound.filled() if isinstance(bound, Call) else {}
        function = bound.func if isinstance(bound, Call) else bound
        args = tuple(self._args)
        try:
            request = pickle.dumps((function, args, keywords), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise TypeError(f"{self.label!r}: {_unpicklable(function, args, keywords)}: {error}") from error
        if self._rule is not None and self._rule.frees and not repeats(self):
            release_inputs(self, self._rule)
        return request

    def _unpacked(self, answer: bytes) -> T:
        """Return what the function has returned, or raise what it has raised."""
        try:
            has_returned, value, note = pickle.loads(answer)
        except Exception as error:
            raise TypeError(f"{self.label!r}: its result can't be unpickled here: {error!r}") from error
        if has_returned:
            return cast(T, value)
        if note:
            value.add_note(note)
        raise value

    def _default_label(self) -> str:
        return _labels.of_function(type(self).__name__, self._function)


def _unpicklable(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    """Name what can't be pickled in a call."""
    if not _can_be_pickled(function):
        name = getattr(function, "__qualname__", repr(function))
        if "<lambda>" in name or "<locals>" in name:
            return f"{name} can't be sent to a process, which could not find it: define it at the top level of a module"
        return f"its function {name} can't be sent to a process"
    for number, value in enumerate(args, 1):
        if not _can_be_pickled(value):
            return f"argument {number}, a {type(value).__qualname__}, can't be sent to a process"
    for name, value in keywords.items():
        if not _can_be_pickled(value):
            return f"argument {name!r}, a {type(value).__qualname__}, can't be sent to a process"
    return "its arguments together can't be sent to a process"


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return False
    return True


def _check_function(function: Any) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if inspect.iscoroutine(function) or not callable(function):
        raise TypeError(f"ProcessJob({function!r}): give a plain function and its arguments")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"ProcessJob({name}): this is async, and not for a process of its own; write Job({name}, ...)")
