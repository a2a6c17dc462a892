# pyright: reportUnusedImport=false
"""What a kind of job asks of the engine and of its run; `trioflow.abc` passes it on to users.

```
run_of(job) ──► RunHandle ──► clock, waiting, outlasting a cancellation, what the run's jobs share, the log
                    └──► time_limit(job) ──► TimeLimit: until when, signs of life, waiting no longer than that
```
"""

from __future__ import annotations

import contextlib
import math
import select
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, cast, final

from ..backend import by_name, loop_running
from ..backend import current as current_backend
from ..base._functions import is_async
from ..base._shown import is_among, shown
from ..job._call import Search, as_given
from ..job._errors import JobCancelled, JobTimeout
from ..job._function import FunctionJob, name_of
from ..job._job import AbstractJob, Look, T
from ..job._labels import DEPTH, label_inside, printable, without_middle
from ..job._options import JobOptions, callback, duration, file_path, flag, whole
from ..job._outcome import Failure, RareFacts
from ..run._attempts import Bypass, as_often, throttles_in
from ..run._current import carried, carry, current
from ..run._idle import PROGRESS, ThreadEvent, TimeLimit, is_readable
from ..run._lending import SpareSlots, spare_slots
from ..run._links import successors_of
from ..run._shared_resources import SharedResource
from ..run._worker import Worker

if TYPE_CHECKING:
    from ..backend import Backend, BackendName, Scope
    from ..job._options import Retry
    from ..job._work import Work
    from ..run._run import Run


V = TypeVar("V")
R = TypeVar("R", bound=SharedResource)


def run_of(job: AbstractJob[Any]) -> RunHandle:
    """Return what `job` may ask of the run that has called it; to be called in its `co_run`.

    Raises:
        RuntimeError: no run has called it.

    """
    worker = current.get(None)
    if worker is None:
        raise RuntimeError(f"{job.label!r} needs a run: put it into a Scheduler, and run that")
    return RunHandle(worker.run)


def call_of(job: FunctionJob[T], value_of: Callable[[AbstractJob[Any]], Any] | None = None) -> partial[T]:
    """Return the call that a job makes, with results in place of jobs; to be called in its `co_run`, once.

    Results that no other job needs are dropped, if they are not to be kept.

    Args:
        job: the job.
        value_of: a function that returns what is to stand for an input; None for its result.

    """
    return job._filled(value_of)


def users_of(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    """Return the jobs that get the result of a running job, of those that wait for it now in its own scheduler."""
    return [user for user in successors_of(job) if user._rule is not None and job in user._rule.inputs]


def load_backend(name: BackendName) -> None:
    """Import what a backend needs; otherwise the first run on it does, which takes some 40 ms.

    Args:
        name: "trio" or "asyncio".

    Raises:
        ValueError: there is no backend of that name.
        ImportError: its library cannot be imported.

    Example:
        >>> load_backend("asyncio")

    """
    by_name(name)


@final
class RunHandle:
    """A run, as far as its jobs have to do with it. It does the same on trio and on asyncio."""

    __slots__ = ("_backend", "_run", "clock")

    clock: Final[Callable[[], float]]
    """Returns the time of the run in seconds: that of the event loop, which may be virtual."""

    def __init__(self, run: Any) -> None:  # a `Run`, whose type is no part of what users see
        self._run: Final[Run] = run
        self._backend: Final[Backend] = run.backend
        self.clock = run.clock

    def shared(self, make: Callable[[RunHandle], R]) -> R:
        """Return what all jobs of the run share, those of nested schedulers included.

        Args:
            make: a class or a function. It is called once in a run, with a handle on the outermost one. What it has
                made is closed, by `await made.close()`, when all jobs have been shut down: what was made last first,
                shielded, and all of it within the `shutdown_timeout` of the outermost scheduler.

        Raises:
            TypeError: what it has made has no `async def close(self)`.

        """
        return self._run.shared.get(make, lambda run: _closable(make(RunHandle(run)), make))

    def time_limit(
        self, job: AbstractJob[Any], missing: str = PROGRESS, *, cancels: bool = False, counts: bool = True
    ) -> TimeLimit:
        """Return the time that this call of a job has, from now on; for kinds that keep their time themselves.

        Args:
            job: the job.
            missing: what did not come when its `idle_timeout` is over, for the error.
            cancels: whether `with` cancels its block when the time is over, and raises the `JobTimeout` then.
                Otherwise the job has to ask for the deadline, or to wait by the methods of the limit.
            counts: whether its `idle_timeout` counts from now on; otherwise in the blocks of `counting()` alone.

        """
        worker = current.get(None)
        return TimeLimit(
            self._run,
            job,
            missing,
            timeout=job.timeout,
            idle_timeout=job.idle_timeout,
            cancels=cancels,
            counts=counts,
            around=() if worker is None else tuple(worker.watches()),
        )

    def report(self, message: str, job: AbstractJob[Any] | None = None, exception: BaseException | None = None) -> None:
        """Tell people something that is not the outcome of a job: in the log, in `debrief()`, and to instruments."""
        self._run.report(job, message, exception)

    def note_hold(self, job: AbstractJob[Any], since: float) -> None:
        """Record that a job, which runs, has waited since then for room on the machine; a trace tells it."""
        facts = self._run.facts(job)
        facts.held += ((since, self.clock()),)

    def stores(self, job: AbstractJob[Any]) -> bool:
        """Return whether a journal is to store the result of `job`, so that its value has to be here."""
        return self._run.durable is not None and job.save is not None

    # ---- waiting

    def wait_readable(self, descriptor: int, deadline: float = math.inf) -> Awaitable[bool]:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable.

        A deadline that has passed comes first, whatever can be read. One task may wait for a descriptor at a time.

        Raises:
            PermissionError: it is that of a regular file (Linux); look at that again after `sleep_until`.

        """
        return self._backend.wait_readable(descriptor, deadline)

    def sleep_until(self, when: float) -> Awaitable[None]:
        """Wait until the clock shows `when`."""
        return self._backend.sleep_until(when)

    def outlast(self, wait: Callable[[], Awaitable[V]]) -> Awaitable[V]:
        """Await `wait()` to its end, whatever is cancelled meanwhile, and return its answer.

        This is for the end of work that has to be orderly. Let the cancellation go on afterwards: raise it again.

        Args:
            wait: an async function. A native `asyncio.Task.cancel()` interrupts it; it is then called again, and has to
                go on where it was.

        """
        return self._backend.outlast(wait)

    # ---- slots that no job needs

    def spare_slots(self) -> SpareSlots | None:
        """Return the slots that are lent to the present job; None if no scheduler around it has `jobserver`.

        A forever job, such as a service, is lent none.
        """
        worker = current.get(None)
        return None if worker is None or worker.shielded else spare_slots(self._run)

    # ---- threads

    def keep_current_job(self) -> Callable[[], object]:
        """Return a function that makes `current_job()` this job for good in the thread that calls it.

        Without it a thread that outlives its job may be told the next one.
        """
        worker = current.get()
        stand_in = Worker(self._run, has_slot=False)
        stand_in.job = worker.job
        return partial(current.set, stand_in)

    def check_limiter(self, limiter: Any, job: AbstractJob[Any]) -> None:
        """Refuse a limiter that is not for the backend of the run.

        Args:
            limiter: a `CapacityLimiter` that the user gave to the job.
            job: the job.

        Raises:
            TypeError: it is not a limiter for this backend.

        """
        if self._backend.check_limiter(limiter) is not None:
            raise TypeError(
                f"limiter={limiter!r} of {job.label!r} is not for {self._backend.name}: "
                f"give a CapacityLimiter of anyio that was made in this run, or on trio one of trio's"
            )


def _closable(made: R, make: Callable[..., R]) -> R:
    """Return what `make` has made, if it can be closed at the end of the run."""
    if is_async(getattr(made, "close", None)):
        return made
    raise TypeError(
        f"{name_of(make)} has made a {type(made).__qualname__} for the jobs to share, which has no "
        f"`async def close(self)`: the run calls that at its end"
    )


Callback = Callable[[Any], object]
"""A plain function that gets a job."""
Attempt = Callable[[], Awaitable[Any]]


class JobKind(AbstractJob[T]):
    """A kind of job that works in a way of its own: the base of `CommandJob` and `SshJob`, and of kinds of users.

    A kind defines `co_run`, which asks `run_of(self)` for what it needs of its run, and gets its arguments by
    `arguments_of(self)`. What it may define besides is below, and what `AbstractJob` says of a class: how its jobs look
    (`look=`), that they keep their time themselves (`keeps_time=True`), that they `cannot_be_interrupted`.

    Args:
        arguments: what the work depends on; jobs in it, at any depth of plain lists, tuples and dicts, are inputs, as
            among the arguments of a `Job`. To a journal they identify the work, and so do public attributes.
        on_done: a plain function that is called with the job when it has succeeded.
        on_settled: one that is called with the job when it is about to settle, whatever its outcome, after `on_done`.
            In both of these `result()` can be called, and the slot is still held. If one raises, the job fails.
        options: those of every job; see `AbstractJob`.

    Raises:
        TypeError, ValueError: an option makes no sense.

    Example:
        >>> class Countdown(JobKind, look=Look("countdown", "egg"), keeps_time=True):
        ...     def __init__(self, number, /, **options):
        ...         super().__init__(number, **options)
        ...     async def co_run(self):
        ...         run, (number,) = run_of(self), arguments_of(self)
        ...         with run.time_limit(self) as limit:
        ...             while number and run.clock() < limit.deadline:
        ...                 number -= 1
        ...                 await run.sleep_until(run.clock() + 0.001)
        ...                 limit.alive()
        ...         return "lift-off" if not number else "hold"
        >>> job = Countdown(3, timeout=5)
        >>> Scheduler(job).run(), job.result()
        (True, 'lift-off')

    """

    __slots__ = ("_given",)

    # The arguments; to iterate over them fills in the results of the jobs among them.
    _given: Iterable[Any]

    def __init__(
        self,
        *arguments: Any,
        on_done: Callback | None = None,
        on_settled: Callback | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        who = repr(options.get("label") or type(self).__name__)
        search = Search(lambda: who)
        self._given = search.positional(arguments)
        if on_done is not None or on_settled is not None:
            callback(on_done, "on_done", who)
            callback(on_settled, "on_settled", who)
            options["retry"] = CallbackRetry(self, on_done, on_settled, options.get("retry"), who)
        super().__init__(**options, _inputs=tuple(search.inputs))

    def __init_subclass__(cls, *, look: Look | None = None, **kwargs: Any) -> None:
        """Record what the class says of itself; a kind that does not say how it looks is a box with its name."""
        if look is None and JobKind in cls.__bases__:
            look = Look(cls.__name__)
        super().__init_subclass__(look=look, **kwargs)
        cls._runs_commands = cast(Any, cls).command_line is not cast(Any, JobKind).command_line
        cls._says_status = cast(Any, cls).status_text is not cast(Any, JobKind).status_text

    # ---- what a kind may define

    def default_label(self, depth: int) -> str:
        """Return the label of a job that was given none.

        Args:
            depth: how many jobs inside each other it may show; `label_inside(job, depth)` shows one of its arguments.

        """
        return type(self).__name__

    def redacted_label(self) -> str:
        """Return what people see in place of its default label and its command line if it has `redact=True`."""
        return f"{self._look.name} …"

    def command_line(self) -> str:
        """Return what it runs, in one line, for traces and reports. They ask only kinds that define this."""
        return ""

    @property
    def last_result(self) -> Any:
        """The `CommandResult` of its latest process, for traces and reports; None if there was none."""
        return None

    def status_text(self) -> str:
        """Return what the running job says of itself now, in a few words, for the monitor and listings with details.

        They ask only kinds that define this, and no job with `redact=True`. They ask often, the monitor up to ten times
        a second and in a thread of its own; so this must be cheap, and only read. What it raises is ignored.
        """
        return ""

    def failure_group(self) -> object:
        """Return what jobs share whose failures are one line of the log: here their class."""
        return type(self)

    def for_journal(self) -> Work:
        """Return what identifies its work to a journal: here its arguments, besides its public attributes."""
        from ..job._work import Work  # not at the top: only journals need it

        return Work(what=self._look.name, arguments=given_of(self))

    def forget_run(self) -> None:
        """Forget what the last run has left; called before the next one."""

    # ---- what the engine asks

    @property
    def retry(self) -> Retry:
        """The number of further attempts when it raises, or the decorator that decides; None for no further attempt."""
        found = super().retry
        return found.given if isinstance(found, CallbackRetry) else found

    @retry.setter
    def retry(self, given: Retry) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # it is as its base
        found = super().retry
        AbstractJob.retry.__set__(self, found.like(given) if isinstance(found, CallbackRetry) else given)

    def _default_label(self, depth: int = DEPTH) -> str:
        return self.redacted_label() if self.redact else self.default_label(depth)

    def _command_line(self) -> str:
        return self.redacted_label() if self.redact else self.command_line()

    def _failure_kind(self) -> object:
        return self.failure_group()

    def _reset(self) -> None:
        super()._reset()
        self.forget_run()


class CallbackRetry:
    """The `retry` of a job with callbacks, as the engine sees it: the user's own, and then the callbacks.

    So they are called when the last attempt is over, with the outcome there to be read and the slot still held.
    """

    __slots__ = ("_job", "_on_done", "_on_settled", "given")

    def __init__(
        self, job: JobKind[Any], on_done: Callback | None, on_settled: Callback | None, given: Retry, who: str
    ) -> None:
        self._job: Final = job
        self._on_done: Final = on_done
        self._on_settled: Final = on_settled
        self.given: Final = (
            given if callable(given) else whole(given, "retry", who, "or a decorator of an async function")
        )

    def like(self, given: Retry) -> CallbackRetry:
        """Return one with the same callbacks, and another `retry` of the user's."""
        return CallbackRetry(self._job, self._on_done, self._on_settled, given, self._job._name_for_errors())

    def __call__(self, attempt: Attempt) -> Attempt:
        """Return the function that makes all attempts and then calls back."""
        attempts = as_often(self.given, attempt, self._job._name_for_errors)

        async def with_callbacks() -> Any:
            try:
                value = await attempts()
                self._call_back(self._on_done, value)
            except Bypass as passing:
                if not throttles_in(passing.error):  # the job is SCHEDULED again
                    self._call_back(self._on_settled, self._failure(passing.error))
                raise
            except BaseException as error:
                self._call_back(self._on_settled, self._failure(error))
                raise
            self._call_back(self._on_settled, value)
            return value

        return with_callbacks

    def _failure(self, error: BaseException) -> Failure:
        """Return what `result()` is to raise: `JobCancelled` for a cancellation, which is never shown to a callback."""
        if current_backend().split(error)[1] is None:
            error = JobCancelled(f"{self._job.label!r} was cancelled: it has no result")
        return Failure(error)

    def _call_back(self, function: Callback | None, outcome: Any) -> None:
        """Call a function while `result()` gives the outcome: as that of a service which is ready, or has failed."""
        if function is None:
            return
        job = self._job
        facts = job._facts = job._facts or RareFacts()
        job._outcome, facts.ready = outcome, not isinstance(outcome, Failure)
        try:
            function(job)
        finally:
            job._outcome, facts.ready = None, False


def arguments_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job, with results in place of jobs; to be called in its `co_run`, once.

    Results that no other job needs are dropped, if they are not to be kept.
    """
    filled = tuple(job._given)
    job._release_inputs()
    return filled


def given_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job as they were given, with the jobs among them."""
    return tuple(as_given(job._given))
