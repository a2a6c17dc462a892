"""Bodies of jobs, the states, and small helpers that many tests share."""

import asyncio
import contextlib
import functools
import io
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar
import anyio
import anyio.lowlevel
import trio
from anyio.abc import TaskGroup
from trioflow import AbstractJob, Job, JobState, Scheduler
from trioflow.abc import Instrument

IDLE, SCHEDULED, RUNNING = JobState.IDLE, JobState.SCHEDULED, JobState.RUNNING
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
BLOCKED, SKIPPED = JobState.BLOCKED, JobState.SKIPPED

AnyJob = TypeVar("AnyJob", bound=AbstractJob[Any])
LIMIT = 1000
"""Seconds of virtual time after which a run counts as hanging."""


class Flaw(Exception):
    """The fault that tests raise."""


class Odd(BaseException):
    """An exception that is neither an `Exception` nor a cancellation."""


async def nothing() -> None:
    """Return immediately, without a checkpoint."""


async def co_run_drained(scheduler: Scheduler, after: float, **options: Any) -> bool:
    """Run a scheduler, and drain it after some seconds if it still runs."""

    async def drain() -> None:
        await anyio.sleep(after)
        scheduler.drain()

    result, error = False, None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drain)
        try:
            result = await scheduler.co_run(**options)
        except Exception as raised:  # as it is, not in a group
            error = raised
        tasks.cancel_scope.cancel()
    if error is not None:
        raise error
    return result


@contextlib.asynccontextmanager
async def running(
    scheduler: Scheduler, seconds: float | None = None, **options: Any
) -> AsyncIterator[TaskGroup]:
    """Run a scheduler beside the block, which begins after some seconds, if they are given."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(functools.partial(scheduler.co_run, **options))
        if seconds is not None:
            await anyio.sleep(seconds)
        yield tasks


async def nap(seconds: float = 1, value: Any = None) -> Any:
    await anyio.sleep(seconds)
    return value


async def unwind(seconds: float = 99, takes: float = 3) -> None:
    """Sleep, and take three more seconds to unwind, or as many as are given, also if it is cancelled."""
    try:
        await anyio.sleep(seconds)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(takes)


async def deaf(seconds: float = 10) -> None:
    """Sleep in a shield, so that no cancellation is noticed."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(seconds)


async def clumsy(seconds: float = 99) -> None:
    """Sleep, and fail however that ends."""
    try:
        await anyio.sleep(seconds)
    finally:
        raise OSError("unwinding")


async def fail(seconds: float = 1, error: BaseException | None = None) -> None:
    await anyio.sleep(seconds)
    raise error if error is not None else OSError("broken")


async def fail_now(error: BaseException | None = None) -> None:
    """Raise the error immediately, without a checkpoint."""
    raise error if error is not None else OSError("broken")


def flaky(
    times: int = 1, seconds: float = 1, error: Callable[[], Exception] = OSError
) -> Callable[[], Coroutine[Any, Any, int]]:
    """Return a function that sleeps, and fails in so many calls; then it returns the number of the call."""
    calls = itertools.count(1)

    async def body() -> int:
        await anyio.sleep(seconds)
        if (number := next(calls)) > times:
            return number
        raise error()

    return body


async def refuse(*_: Any) -> None:
    """Raise an error, whatever the arguments are."""
    raise OSError("broken")


class Unpicklable:
    """A value that cannot be pickled, whose error has a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __reduce__(self) -> Any:
        raise ValueError(self._text)


def crash(*_: Any) -> None:
    """Raise a `Flaw`, whatever the arguments are."""
    raise Flaw


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises the error, whatever the arguments are."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    return refuse


def interrupt(*_: Any) -> None:
    """Raise `KeyboardInterrupt`, whatever the arguments are."""
    raise KeyboardInterrupt


async def later(seconds: float, call: Callable[[], Any]) -> Any:
    """Sleep, then call a function in the thread of the run."""
    await anyio.sleep(seconds)
    return call()


async def noted(notes: list[Any], value: Any, seconds: float = 1) -> None:
    """Write a value down, and sleep."""
    notes.append(value)
    await anyio.sleep(seconds)


async def at_once(call: Callable[[], Any]) -> Any:
    """Call a function in the thread of the run, without a checkpoint."""
    return call()


async def give(value: Any = None, seconds: float = 1) -> Any:
    """Sleep, and return the value: `nap` the other way round."""
    return await nap(seconds, value)


async def give_now(value: Any = None) -> Any:
    return value


async def add(*numbers: int) -> int:
    """Return the sum of the numbers."""
    return sum(numbers)


async def serve(after: float = 0, value: Any = "ready", *, task_status: Any) -> None:
    """Be ready with this value after some seconds, then serve until the service is ended."""
    await anyio.sleep(after)
    task_status.started(value)
    await anyio.sleep_forever()


async def take(*args: Any) -> tuple[Any, ...]:
    return args


async def turns(number: int = 50) -> None:
    """Let the event loop make the given number of turns."""
    for _ in range(number):
        await anyio.lowlevel.checkpoint()


async def ticking(
    tick: Callable[[], object], body: Callable[[], Awaitable[Any]]
) -> Any:
    """Return the result of an async function; call another one first, and in each turn of the loop meanwhile."""

    async def call_in_each_turn() -> None:
        while True:
            tick()
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call_in_each_turn)
        result = await body()
        tasks.cancel_scope.cancel()
    return result


async def timed(scheduler: Scheduler, **options: Any) -> tuple[bool, float]:
    """Run a scheduler; return the result, and the time that it took. A run that hangs is an error."""
    start = anyio.current_time()
    with anyio.fail_after(LIMIT):
        return await scheduler.co_run(**options), anyio.current_time() - start


def in_threads(call: Callable[[], object], number: int = 1) -> None:
    """Call a function in so many threads at once, and wait for them."""
    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pass_time(backend: str, seconds: float) -> None:
    """Move the virtual clock, as if some work had taken this long."""
    if backend == "trio":
        trio.lowlevel.current_clock().jump(seconds)  # type: ignore[attr-defined]
    else:
        loop: Any = asyncio.get_running_loop()
        loop.jump(seconds)


def run(backend: str, *jobs: Any, **options: Any) -> Scheduler:
    scheduler = Scheduler(*jobs, **options)
    scheduler.run(backend=backend)
    return scheduler


def ran(backend: str, job: AnyJob) -> AnyJob:
    """Run a job alone, and return it."""
    run(backend, job)
    return job


def checked(scheduler: Scheduler) -> Callable[[], Any]:
    """Return a function that makes a `timed` run in which a job's failed assertion fails the test."""
    return functools.partial(timed, scheduler, check=True)


def checked_result(scheduler: Scheduler) -> Callable[[], Any]:
    """Return a function like that of `checked`, without the time."""

    async def run() -> bool:
        result, _ = await timed(scheduler, check=True)
        return result

    return run


def jobs_named(labels: Iterable[str]) -> list[Job[Any]]:
    """Return jobs that nap for a second, one for each label."""
    return [Job(nap, label=label) for label in labels]


def naps(number: int, **options: Any) -> list[Job[Any]]:
    return [Job(nap, 1, **options) for _ in range(number)]


def bad(**options: Any) -> Job[Any]:
    """Return a critical job that fails after a second."""
    return Job(fail, **{"critical": True, "label": "bad", **options})


def alarm(required: Any, seconds: float = 1, **options: Any) -> Job[Any]:
    """Return a clean-up job that takes a second."""
    return Job(
        nap,
        seconds,
        **{"required": required, "run_if": "failed", "label": "alarm", **options},
    )


def idle(label: str, **options: Any) -> AbstractJob[Any]:
    """Return a job that is never run."""
    return AbstractJob(label=label, **options)


GRID = [
    "ab",
    "ac",
    "bd",
    "cd",
    "de",
    "xe",
]  # a diamond a-b/c-d, then e, which also requires x


def grid() -> tuple[Scheduler, dict[str, Job[Any]]]:
    """Return a scenario with two entries and three exits, and its jobs by label."""
    jobs = {label: Job(nap, label=label) for label in "abcdexz"}
    for before, after in GRID:
        jobs[after].requires(jobs[before])
    return Scheduler(*jobs.values()), jobs


def states(scheduler: Scheduler) -> list[JobState]:
    return [job.state for job in scheduler]


def starts(scheduler: Scheduler) -> list[float | None]:
    return [job.started_at for job in scheduler]


def edges(scheduler: Scheduler) -> set[str]:
    """Return each requirement as a word: "ab" if b requires a."""
    return {
        requirement.label + job.label
        for job in scheduler
        for requirement in job.required
    }


def printed(scheduler: Scheduler, encoding: str | None, **options: Any) -> str:
    """Return what `list` writes to a stream with this encoding."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True, newline="")
    scheduler.list(stream, **options)
    return raw.getvalue().decode(encoding or "utf-8")


def notes(error: BaseException | None) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def leaves(error: BaseException | None) -> list[BaseException | None]:
    """Return the exceptions that are not groups, out of groups at any depth."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in leaves(one)]


def task_now() -> Any:
    return (
        trio.lowlevel.current_task()
        if trio.lowlevel.in_trio_run()
        else asyncio.current_task()
    )


def cancelled_of(backend: str) -> type[BaseException]:
    return trio.Cancelled if backend == "trio" else asyncio.CancelledError


async def stray(kept: list[BaseException]) -> None:
    """Keep a cancellation that a scope of this job has caught, and raise it again later, where it does not belong."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(1)
        except BaseException as cancellation:
            kept.append(cancellation)
            raise
    raise kept[-1]


async def own_nursery(error: Exception | None = None) -> None:
    """Sleep in a nursery of this job's own. With an error, one child raises it in place of its cancellation."""

    async def child() -> None:
        try:
            await anyio.sleep(100)
        except BaseException:
            if error is not None:
                raise error from None
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
        tasks.start_soon(anyio.sleep, 100)
        await anyio.sleep(100)


def hooked(**hooks: Callable[..., object]) -> Instrument:
    watch: Instrument = type(
        "Hooked",
        (Instrument,),
        {name: staticmethod(hook) for name, hook in hooks.items()},
    )()
    return watch


class Counting(AbstractJob[None]):
    """A job that counts how often the requirements of any such job are read."""

    looks = itertools.count()

    def counted(self) -> Any:
        next(self.looks)
        return super().required


Counting.required = property(Counting.counted)  # type: ignore[assignment]  # which no class body may do


class Closing(AbstractJob[None]):
    """A job that naps for a second; its shutdown calls a function, and is counted."""

    def __init__(self, shutdown: Callable[[], Any], **options: Any) -> None:
        super().__init__(**options)
        self.shutdown = shutdown
        self.calls = 0
        self.ended = 0

    async def co_run(self) -> None:
        await anyio.sleep(1)

    async def co_shutdown(self) -> None:
        self.calls += 1
        await self.shutdown()
        self.ended += 1


class Actor(AbstractJob[None]):
    """A job that naps, takes a while to unwind and to shut down, and records each step in `told`."""

    def __init__(
        self,
        told: list[tuple[str, float]],
        seconds: float = 99,
        shutdown: float = 0.25,
        error: BaseException | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.told, self.seconds, self.shutdown, self.error = (
            told,
            seconds,
            shutdown,
            error,
        )

    def tell(self, what: str) -> None:
        self.told.append((f"{self.label} {what}", anyio.current_time()))

    async def co_run(self) -> None:
        try:
            await anyio.sleep(self.seconds)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.25)
            self.tell("unwound")
            raise

    async def co_shutdown(self) -> None:
        self.tell("begins")
        await anyio.sleep(self.shutdown)
        self.tell("shut down")
        if self.error is not None:
            raise self.error


def shut_down(told: list[tuple[str, float]]) -> list[str]:
    """Return the labels of the jobs whose shutdown was completed."""
    return sorted(
        what.removesuffix(" shut down")
        for what, _ in told
        if what.endswith("shut down")
    )
