"""`AbstractJob`, the base class of jobs, and `Job`, which awaits a coroutine object."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import itertools
import weakref
from collections.abc import Awaitable, Coroutine, Iterable
from operator import attrgetter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Self

import trioflow

from . import _listing, _running
from ._listing import label_text

if TYPE_CHECKING:
    from .purescheduler import PureScheduler
    from .scheduler import Scheduler

_serial_numbers: Final = itertools.count()


class AbstractJob:
    """The base class of jobs: a subclass defines `co_run`, and `co_shutdown` if it has resources to release.

    A subclass may use any attribute name except the names in this class and names that begin with `_trioflow`.

    Args:
        forever: whether the run does not wait for the job, and cancels it at the end.
        critical: whether an exception in the job ends the run at once.
        label: the label in listings, or None for the result of `text_label()`.
        required: the requirements: jobs, Sequences, None, and collections of these. A Sequence stands for its last job.
        scheduler: a scheduler to add the job to.

    Raises:
        TypeError: `required` contains a value of another type.

    Example:
        >>> from trioflow.compat.asynciojobs import AbstractJob, Scheduler
        >>> class Greeting(AbstractJob):
        ...     async def co_run(self):
        ...         return "hello"
        >>> greeting = Greeting(label="greet")
        >>> Scheduler(greeting).run()
        True
        >>> greeting
        ⚠ ☉ ☓   <Greeting `greet`> [[ -> hello]]

    """

    forever: bool
    critical: bool | None
    label: str | None
    required: set[AbstractJob]
    """The requirements, a set that programs may change."""
    # The number in listings and graphs.
    _trioflow_listing_number: str | None = None
    # The trioflow job that ran this job in the last run.
    _trioflow_adapter: _running.JobAdapter | None = None

    def __init__(
        self,
        *,
        forever: bool = False,
        critical: bool | None = True,
        label: str | None = None,
        required: object = None,
        scheduler: PureScheduler | None = None,
    ) -> None:
        # The order of creation.
        self._trioflow_serial_number: Final = next(_serial_numbers)
        self.forever = forever
        self.critical = critical
        self.label = label
        self.required = set()
        if required is not None:
            self.requires(required)
        if scheduler is not None:
            scheduler.add(self)

    # ---- the work

    async def co_run(self) -> Any:
        """Do the job's work, and return its result. Subclasses define this method."""
        raise NotImplementedError(
            f"{type(self).__name__} must define async def co_run(self)"
        )

    async def co_shutdown(self) -> Any:
        """Release the job's resources. Each run calls this method at its end, even if the job has not started."""

    def _trioflow_needs_shutdown(self) -> bool:
        """Return whether `co_shutdown` may have anything to do."""
        return (
            getattr(self.co_shutdown, "__func__", None) is not AbstractJob.co_shutdown
        )

    def standalone_run(self) -> Any:
        """Run the job alone, outside any scheduler, and return its result."""
        return _running.run_in_event_loop(self.co_run, "asyncio", label_text(self))

    # ---- requirements

    def requires(self, *requirements: object, remove: bool = False) -> Self:
        """Add requirements. The job starts when they are done, even if they failed.

        Args:
            requirements: jobs, Sequences, None, and collections of these. A Sequence stands for its last job. The job
                itself is ignored.
            remove: whether to remove the requirements instead of adding them.

        Returns:
            The job itself.

        Raises:
            TypeError: a requirement has another type.
            KeyError: with `remove`, the job does not require all of these jobs.

        """
        for job in last_jobs(requirements, self):
            if remove:
                self.required.remove(job)
            elif job is not self:
                self.required.add(job)
        return self

    def _trioflow_members(self) -> list[AbstractJob]:
        return [self]

    def _trioflow_last_jobs(self) -> list[AbstractJob]:
        return [self]

    def _trioflow_as_scheduler(self) -> Scheduler | None:
        """Return the job itself if it is a scheduler, or None if it is another job."""
        return None

    # ---- state and outcome

    def is_idle(self) -> bool:
        """Return whether the job has not started and does not wait for a slot. This is True before the first run."""
        adapter = self._trioflow_adapter
        return adapter is None or (
            adapter.started_at is None and not adapter.is_scheduled()
        )

    def is_scheduled(self) -> bool:
        """Return whether the job waits for a slot, because all its requirements are done, or has started."""
        return not self.is_idle()

    def is_running(self) -> bool:
        """Return whether the job has started. This remains True after its end."""
        adapter = self._trioflow_adapter
        return adapter is not None and adapter.started_at is not None

    def is_done(self) -> bool:
        """Return whether the job has run to its end. This is False for a cancelled job."""
        adapter = self._trioflow_adapter
        return adapter is not None and adapter.is_done()

    def _trioflow_was_cancelled(self) -> bool:
        """Return whether the job was cancelled after it had started."""
        adapter = self._trioflow_adapter
        return (
            adapter is not None
            and adapter.started_at is not None
            and adapter.is_settled()
            and not adapter.is_done()
        )

    def is_critical(self) -> bool | None:
        """Return whether an exception in the job ends the run."""
        return self.critical

    def raised_exception(self) -> Any:
        """Return the exception that the job raised, or None if it has raised none, or False if it is idle."""
        adapter = self._trioflow_adapter
        if adapter is None or self.is_idle():
            return False
        return adapter.raised_exception()

    def result(self) -> Any:
        """Return the job's result, or None if it raised an exception.

        Raises:
            ValueError: the job has not run to its end.

        """
        adapter = self._trioflow_adapter
        if adapter is None or not adapter.is_done():
            raise ValueError(
                f"{label_text(self)!r} has no result: it has not run to its end"
            )
        if adapter.raised_exception() is not None:
            return None
        return adapter.result()

    # ---- listings and graphs

    def text_label(self) -> str | None:
        """Return the default label, for listings."""
        return "NOLABEL"

    def graph_label(self) -> str | None:
        """Return the text of the job in graphs, or None for its number and label."""
        return None

    def dot_style(self) -> dict[str, str]:
        """Return the attributes of the job's node in Graphviz. A subclass may extend them."""
        return _listing.default_dot_style(self)

    def details(self) -> str | None:
        """Return the text below the job's line in a listing with details, or None for no text."""
        return None

    def repr_id(self) -> str:
        """Return the job's number in the last listing, graph or run, or `??` if there was none."""
        return self._trioflow_listing_number or "??"

    def repr_short(self) -> str:
        """Return the job's four symbols: critical, exception, state, forever."""
        return _listing.state_symbols(self)

    def repr_main(self) -> str:
        """Return the job's class and label."""
        return f"<{type(self).__name__} `{label_text(self)}`>"

    def repr_result(self) -> str:
        """Return the job's result or exception as text."""
        return _listing.format_result(self)

    def repr_requires(self) -> str:
        """Return the numbers of the requirements as text, or labels of jobs without a number, or "" without any."""
        if not self.required:
            return ""
        return f"requires={_listing.format_numbers(self.required)}"

    def __repr__(self) -> str:
        return f"{self.repr_short()} {self.repr_main()} {self.repr_result()} {self.repr_requires()}".rstrip()


class Job(AbstractJob):
    """A job that awaits a coroutine object, once.

    A coroutine object that is never awaited is closed with the job, without Python's "never awaited" warning.

    Args:
        corun: the coroutine object that does the work.
        coshutdown: a coroutine object to await when the job is shut down.
        kwds: the arguments of `AbstractJob`.

    Raises:
        TypeError: `corun` or `coshutdown` is not a coroutine object.

    Example:
        >>> from trioflow.compat.asynciojobs import Job, PureScheduler
        >>> async def double(number):
        ...     return 2 * number
        >>> job = Job(double(21))
        >>> PureScheduler(job).run()
        True
        >>> job.result()
        42

    """

    corun: Any
    coshutdown: Any

    def __init__(
        self, corun: object, *, coshutdown: object = None, **kwds: Any
    ) -> None:
        for name, value in (("corun", corun), ("coshutdown", coshutdown)):
            is_absent = value is None and name == "coshutdown"
            if not (is_absent or isinstance(value, (CoroutineType, Awaitable))):
                # The second is an ABC, and slow.
                called = getattr(value, "__name__", "function")
                raise TypeError(
                    f"Job({name}={value!r}): give a coroutine object, the call of an async function: Job({called}(...))"
                )
        self.corun = corun
        self.coshutdown = coshutdown
        super().__init__(**kwds)
        for coroutine in (corun, coshutdown):
            if inspect.iscoroutine(coroutine):
                closer = _Closer(self, _Closer.close)
                closer.coroutine = coroutine
                _closers[id(closer)] = closer

    async def co_run(self) -> Any:
        """Await the coroutine object."""
        return await self.corun

    async def co_shutdown(self) -> Any:
        """Await the coroutine object `coshutdown`, if the job has it and it has not been awaited."""
        coroutine = self.coshutdown
        self.coshutdown = None
        if coroutine is not None:
            await coroutine

    def _trioflow_needs_shutdown(self) -> bool:
        return (
            self.coshutdown is not None
            or getattr(self.co_shutdown, "__func__", None) is not Job.co_shutdown
        )

    def close(self) -> None:
        """Close the coroutine objects that have not been awaited."""
        for coroutine in (self.corun, self.coshutdown):
            if (
                inspect.iscoroutine(coroutine)
                and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
            ):
                coroutine.close()

    def text_label(self) -> str:
        """Return the default label, which contains the name of the coroutine function."""
        name = getattr(self.corun, "__name__", None)
        return f"Job[{name} (...)]" if name else "Job instance"


class _Closer(weakref.ref[Job]):
    """Closes the coroutine object of a job that is gone. A `weakref.finalize` costs three times as much.

    `__del__` would be called too late in a reference cycle: see the traps in docs/design.md.
    """

    coroutine: Coroutine[Any, Any, Any]

    def close(self) -> None:
        del _closers[id(self)]
        # RuntimeError is raised if the coroutine ignores GeneratorExit, for example by awaiting in a `finally` clause.
        with contextlib.suppress(RuntimeError):
            self.coroutine.close()


_closers: Final = dict[int, _Closer]()


@atexit.register
def _close_at_exit() -> None:
    """Close the coroutine objects of jobs that are still there at the exit of the program, if they were not awaited."""
    for closer in tuple(_closers.values()):
        if inspect.getcoroutinestate(closer.coroutine) == inspect.CORO_CREATED:
            closer.coroutine.close()


def was_awaited(job: AbstractJob) -> bool:
    """Return whether a job has a coroutine object that has been awaited already."""
    if (
        not isinstance(job, Job)
        or type(job).co_run is not Job.co_run
        or not inspect.iscoroutine(job.corun)
    ):
        return False
    return inspect.getcoroutinestate(job.corun) != inspect.CORO_CREATED


def in_creation_order(jobs: Iterable[AbstractJob]) -> list[AbstractJob]:
    """Return jobs in the order that they were created."""
    return sorted(jobs, key=attrgetter("_trioflow_serial_number"))


def last_jobs(requirements: Any, subject: object) -> Iterable[AbstractJob]:
    """Yield the jobs that requirements stand for. A Sequence stands for its last job, and collections are flattened.

    Raises:
        TypeError: a requirement has another type.

    """
    for item in requirements:
        if isinstance(item, (list, tuple, set, frozenset)):
            yield from last_jobs(item, subject)
        elif item is not None:
            try:
                jobs = item._trioflow_last_jobs()
            except AttributeError:
                raise TypeError(
                    f"{item!r} as a requirement of {subject!r}: give jobs or Sequences{_hint(item)}"
                ) from None
            yield from jobs


def flatten_members(items: Iterable[Any], subject: object) -> Iterable[AbstractJob]:
    """Yield the jobs among some items, and all jobs of the Sequences among them. Skip None.

    Raises:
        TypeError: an item has another type.

    """
    for item in items:
        if item is not None:
            try:
                jobs = item._trioflow_members()
            except AttributeError:
                raise TypeError(
                    f"{item!r} among the jobs of {subject}: give jobs or Sequences{_hint(item)}"
                ) from None
            yield from jobs


def _hint(value: object) -> str:
    if isinstance(value, trioflow.AbstractJob):
        return "; this is a job of trioflow itself, and the two do not mix"
    if not inspect.iscoroutine(value):
        return ""
    return f"; a coroutine becomes a job by Job({value.__name__}(...))"
