"""Jobs: `AbstractJob`, of which programs derive their own, and `Job`, which awaits a coroutine object."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import weakref
from collections.abc import Awaitable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, Self

import trioflow

from . import _drawing, _listing, _running

if TYPE_CHECKING:
    from .purescheduler import PureScheduler
    from .scheduler import Scheduler

_serial_numbers: Final = itertools.count()


class InTrioflow:
    """The fields of a job, in one attribute, so that subclasses may use any other name."""

    __slots__ = ("host", "number", "serial")

    def __init__(self) -> None:
        self.serial: Final = next(_serial_numbers)  # jobs are taken in the order in which they were made
        self.number: str | None = None  # in listings and graphs
        self.host: _running.Host | None = None  # the trioflow job of its last run


class AbstractJob:
    """A job whose `co_run` a subclass defines, and `co_shutdown` too where there is something to shut down.

    A subclass may use any attribute name but those of this class, and `_trioflow`.

    Args:
        forever: the run does not wait for it, and cancels it at its end.
        critical: an exception of it ends the run at once.
        label: its label in listings; None for its `text_label()`.
        required: its requirements: jobs, Sequences (their last job), None, and collections of these.
        scheduler: a scheduler to add it to.

    Raises:
        TypeError: another value among `required`.

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
    """Its requirements; may be changed as any set."""

    def __init__(
        self,
        *,
        forever: bool = False,
        critical: bool | None = True,
        label: str | None = None,
        required: Any = None,
        scheduler: PureScheduler | None = None,
    ) -> None:
        self._trioflow = InTrioflow()
        self.forever = forever
        self.critical = critical
        self.label = label
        self.required = set()
        if required is not None:
            self.requires(required)
        if scheduler is not None:
            scheduler.add(self)

    # ---- its work

    async def co_run(self) -> Any:
        """Do the job's work and return its result; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} must define async def co_run(self)")

    async def co_shutdown(self) -> Any:
        """Release the job's resources; called at the end of each run, even if the job was not started."""

    def standalone_run(self) -> Any:
        """Run the job alone, outside any scheduler, and return its result."""
        return _running.run_in_a_loop(self.co_run, "asyncio", shown_label(self))

    # ---- its requirements

    def requires(self, *requirements: Any, remove: bool = False) -> Self:
        """Make the job wait until others are done, whatever their outcome.

        Args:
            requirements: jobs, Sequences (their last job), None, and collections of these; the job itself is left out.
            remove: takes these requirements away instead.

        Returns:
            The job itself.

        Raises:
            TypeError: something else.
            KeyError: with `remove`, something that it does not require.

        """
        for job in last_jobs(requirements, self):
            if remove:
                self.required.remove(job)
            elif job is not self:
                self.required.add(job)
        return self

    def _trioflow_members(self) -> list[AbstractJob]:
        return [self]

    def _trioflow_last(self) -> list[AbstractJob]:
        return [self]

    def _trioflow_nested(self) -> Scheduler | None:
        """Return the job itself if it is a scheduler."""
        return None

    # ---- its state and outcome

    def is_idle(self) -> bool:
        """Return whether it waits for its requirements, or no run has begun."""
        host = self._trioflow.host
        return host is None or (host.started_at is None and not host.is_scheduled())

    def is_scheduled(self) -> bool:
        """Return whether all its requirements were done: it waits for a slot, or has started."""
        return not self.is_idle()

    def is_running(self) -> bool:
        """Return whether it has started."""
        host = self._trioflow.host
        return host is not None and host.started_at is not None

    def is_done(self) -> bool:
        """Return whether it has run to its end; not if it was cancelled."""
        host = self._trioflow.host
        return host is not None and host.is_done()

    def _trioflow_name(self) -> str:
        """Return its label, or the default one."""
        return shown_label(self)

    def _trioflow_was_cancelled(self) -> bool:
        """Return whether it had started, and was ended before it was done."""
        host = self._trioflow.host
        return host is not None and host.started_at is not None and host.is_settled() and not host.is_done()

    def is_critical(self) -> bool | None:
        """Return whether an exception of it ends the run."""
        return self.critical

    def raised_exception(self) -> Any:
        """Return the exception that it raised; False if it has not started, None if it raised none."""
        host = self._trioflow.host
        return False if host is None or self.is_idle() else host.raised_exception()

    def result(self) -> Any:
        """Return its result; None if it raised an exception.

        Raises:
            ValueError: it has not run to its end.

        """
        host = self._trioflow.host
        if host is None or not host.is_done():
            raise ValueError(f"{shown_label(self)!r} has no result: it has not run to its end")
        return host.result() if host.raised_exception() is None else None

    # ---- its look

    def text_label(self) -> str | None:
        """Return the name of a job without a label in listings."""
        return "NOLABEL"

    def graph_label(self) -> str | None:
        """Return its text in graphs; None for number and label."""
        return None

    def dot_style(self) -> dict[str, str]:
        """Return its attributes in the language of Graphviz; a subclass may change and return them."""
        return _drawing.style_of_job(self)

    def details(self) -> str | None:
        """Return the text below its line in a listing with details; None for nothing."""
        return None

    def repr_id(self) -> str:
        """Return its number in the last listing, graph or run; question marks if there was none."""
        return self._trioflow.number or "??"

    def repr_short(self) -> str:
        """Return its four signs: critical, exception, state, forever."""
        return _listing.signs(self)

    def repr_main(self) -> str:
        """Return its kind and label."""
        return f"<{type(self).__name__} `{shown_label(self)}`>"

    def repr_result(self) -> str:
        """Return its result or its exception, in words."""
        return _listing.result(self)

    def repr_requires(self) -> str:
        """Return the numbers of its requirements, or labels before there are numbers; nothing if there are none."""
        return f"requires={_listing.numbers(self.required)}" if self.required else ""

    def __repr__(self) -> str:
        return f"{self.repr_short()} {self.repr_main()} {self.repr_result()} {self.repr_requires()}".rstrip()


class Job(AbstractJob):
    """A coroutine object as a job: it is awaited once.

    One that is never awaited is closed with the job: no warning says that it was never awaited.

    Args:
        corun: the coroutine object, which is the job's work.
        coshutdown: a coroutine object that is awaited when the job is shut down.
        kwds: those of `AbstractJob`.

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

    def __init__(self, corun: Any, *, coshutdown: Any = None, **kwds: Any) -> None:
        for name, given in (("corun", corun), ("coshutdown", coshutdown)):
            if not isinstance(given, Awaitable) and (given is not None or name == "corun"):
                called = getattr(given, "__name__", "function")
                raise TypeError(
                    f"Job({name}={given!r}): give a coroutine object, the call of an async function: Job({called}(...))"
                )
        self.corun = corun
        self.coshutdown = coshutdown
        super().__init__(**kwds)
        for given in (corun, coshutdown):
            if inspect.iscoroutine(given):
                # Not by __del__, which comes too late in a reference cycle: see the traps in docs/design.md.
                weakref.finalize(self, _close, given)

    async def co_run(self) -> Any:
        """Await the coroutine object."""
        return await self.corun

    async def co_shutdown(self) -> Any:
        """Await the coroutine object for the shutdown, if there is one that was not awaited yet."""
        coroutine, self.coshutdown = self.coshutdown, None
        if coroutine is not None:
            await coroutine

    def close(self) -> None:
        """Close the coroutine objects that were not awaited."""
        for given in (self.corun, self.coshutdown):
            if inspect.iscoroutine(given) and inspect.getcoroutinestate(given) == inspect.CORO_CREATED:
                given.close()

    def text_label(self) -> str:
        """Return the name of the coroutine."""
        name = getattr(self.corun, "__name__", None)
        return f"Job[{name} (...)]" if name else "Job instance"


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    with contextlib.suppress(RuntimeError):  # it runs elsewhere
        coroutine.close()


def is_spent(job: AbstractJob) -> bool:
    """Return whether the job has a coroutine object that was awaited already."""
    if not isinstance(job, Job) or type(job).co_run is not Job.co_run or not inspect.iscoroutine(job.corun):
        return False
    return inspect.getcoroutinestate(job.corun) != inspect.CORO_CREATED


def has_shutdown(job: AbstractJob) -> bool:
    """Return whether the job's `co_shutdown` does anything; if not, a run need not call it."""
    method = type(job).co_shutdown
    if method is Job.co_shutdown and isinstance(job, Job):
        return job.coshutdown is not None
    nested = job._trioflow_nested()
    if nested is not None and method.__module__.startswith(f"{__package__}."):  # it only shuts its jobs down
        return any(has_shutdown(member) for member in nested.jobs)
    return method is not AbstractJob.co_shutdown


def shown_label(job: AbstractJob) -> str:
    """Return the label of a job, or the default one."""
    label = job.label if job.label is not None else job.text_label()
    return "NOLABEL" if label is None else str(label)


def by_age(jobs: Iterable[AbstractJob]) -> list[AbstractJob]:
    """Return jobs in the order in which they were made."""
    return sorted(jobs, key=_serial)


def _serial(job: AbstractJob) -> int:
    return job._trioflow.serial


def last_jobs(requirements: Any, who: object) -> Iterable[AbstractJob]:
    """Yield the jobs of requirements: jobs, the last ones of Sequences, and the members of collections of these.

    Raises:
        TypeError: something else among them.

    """
    for item in requirements:
        if isinstance(item, (list, tuple, set, frozenset)):
            yield from last_jobs(item, who)
        elif item is not None:
            try:
                jobs = item._trioflow_last()
            except AttributeError:
                raise TypeError(f"{item!r} as a requirement of {who!r}: give jobs or Sequences{_hint(item)}") from None
            yield from jobs


def members(items: Any, who: object) -> Iterable[AbstractJob]:
    """Yield the jobs of jobs, Sequences and None.

    Raises:
        TypeError: something else among them.

    """
    for item in items:
        if item is not None:
            try:
                jobs = item._trioflow_members()
            except AttributeError:
                raise TypeError(f"{item!r} among the jobs of {who}: give jobs or Sequences{_hint(item)}") from None
            yield from jobs


def _hint(given: object) -> str:
    if isinstance(given, trioflow.AbstractJob):
        return "; this is a job of trioflow itself, and the two do not mix"
    return f"; a coroutine becomes a job by Job({given.__name__}(...))" if inspect.iscoroutine(given) else ""
