"""What bad input gets: an error that says what was found, in which job, and what to do; and nothing is consumed."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from trioflow import (
    AbstractJob,
    CycleError,
    Job,
    JobCancelled,
    JobState,
    MissingRequirement,
    Scheduler,
    Sequence,
    StopReason,
    TrioflowError,
)
from trioflow.abc import Instrument

if TYPE_CHECKING:
    from .conftest import Virtual


async def nap(seconds: float = 1, value: Any = None) -> Any:
    await anyio.sleep(seconds)
    return value


def notes(error: BaseException | None) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


# --- the graph


def test_cycle_is_refused_before_anything_starts(virtual: Virtual) -> None:
    """A cycle is a CycleError that carries and prints it; nothing was consumed, so the graph can be mended and run."""
    a, b = Job(nap(), label="a"), Job(nap(), label="b")
    other = Job(nap(), label="other")
    a.requires(b)
    b.requires(a)
    scheduler = Scheduler(other, a, b)
    with pytest.raises(CycleError, match=r"a -> b -> a|b -> a -> b") as caught:
        virtual(scheduler.co_run)
    assert set(caught.value.cycle) == {a, b}
    assert "requires(..., remove=True)" in str(caught.value)
    assert all(job.is_idle() for job in scheduler)
    a.requires(b, remove=True)
    assert virtual(scheduler.co_run) is True


def test_cycle_reads_along_the_requirements() -> None:
    """The cycle `a -> b -> c -> a` is printed so that each job is required by the next."""
    a, b, c = (Job(nap, label=label) for label in "abc")
    Sequence(a, b, c)
    a.requires(c)
    with pytest.raises(CycleError) as caught:
        Scheduler(a, b, c).run()
    cycle = caught.value.cycle
    assert all(job in after.required for job, after in zip(cycle, (*cycle[1:], cycle[0]), strict=True))
    assert " -> ".join(job.label for job in (*cycle, cycle[0])) in str(caught.value)


def test_job_that_requires_itself_is_a_cycle() -> None:
    """A job that requires itself is refused at once, whatever else was in the call."""
    a, b = Job(nap, label="a"), Job(nap, label="b")
    with pytest.raises(CycleError, match="a -> a"):
        a.requires(b, a)
    assert list(a.required) == []


def test_cycle_in_a_nested_scheduler_is_found_before_the_outer_starts(virtual: Virtual) -> None:
    """The checks go through all that is nested before anything at all starts."""
    a, b = Job(nap, label="a"), Job(nap, label="b")
    a.requires(b)
    b.requires(a)
    first = Job(nap, label="first")
    outer = Scheduler(first, Scheduler(Scheduler(a, b), required=first))
    with pytest.raises(CycleError):
        virtual(outer.co_run)
    assert first.is_idle()
    assert outer.stop_reason is None


@pytest.mark.parametrize("home", [None, "elsewhere"])
def test_missing_requirement_names_the_pair_and_the_remedy(virtual: Virtual, home: str | None) -> None:
    """A requirement outside the scheduler names both jobs and mentions sanitize(), which mends it."""
    stray = Job(nap(), label="stray")
    inside = Job(nap(), label="inside", required=stray)
    elsewhere = Scheduler(stray, label=home) if home else None
    scheduler = Scheduler(inside, label="home")
    with pytest.raises(MissingRequirement, match=r"'inside'.*'stray'.*sanitize\(\)") as caught:
        virtual(scheduler.co_run)
    assert (caught.value.job, caught.value.requirement) == (inside, stray)
    assert inside.is_idle()
    assert scheduler.sanitize() == [(inside, stray)]
    assert virtual(scheduler.co_run) is True
    (elsewhere or stray).close()


def test_job_in_two_schedulers_is_refused() -> None:
    """A second scheduler for a job is a ValueError that names both schedulers and the job, and changes neither."""
    job, other = Job(nap, label="shared"), Job(nap, label="other")
    first, second = Scheduler(job, label="first"), Scheduler(label="second")
    with pytest.raises(ValueError, match=r"'shared'.*'first'.*'second'"):
        second.update([other, job])
    assert job.scheduler is first
    assert list(first) == [job]
    assert list(second) == []
    assert other.scheduler is None


def test_scheduler_in_itself_is_refused() -> None:
    """A scheduler inside itself, directly or further in, is a ValueError that names it."""
    inner = Scheduler(label="inner")
    outer = Scheduler(Scheduler(inner, label="middle"), label="outer")
    with pytest.raises(ValueError, match=r"'outer'.*itself"):
        outer.add(outer)
    with pytest.raises(ValueError, match=r"'outer'.*itself"):
        inner.add(outer)
    assert outer.scheduler is None
    assert list(inner) == []


def test_requirement_on_a_forever_job_is_refused(virtual: Virtual) -> None:
    """A requirement on a forever job is a ValueError that names both jobs, before anything starts."""
    monitor = Job(nap, label="monitor", forever=True)
    user = Job(nap, label="user", required=monitor)
    first = Job(nap, label="first")
    with pytest.raises(ValueError, match=r"'user'.*'monitor'.*(for ever|forever)"):
        virtual(Scheduler(first, monitor, user).co_run)
    assert first.is_idle()


# --- what is no job


def plain_function() -> int:
    return 1


class PlainCallable:
    def method(self) -> int:
        return 1


@pytest.mark.parametrize(
    "function", [plain_function, len, print, PlainCallable().method, staticmethod(plain_function).__func__, dict]
)
def test_sync_function_given_to_job_names_thread_job(function: Callable[..., Any]) -> None:
    """A plain function, method, builtin or class is a TypeError that names it and ThreadJob."""
    with pytest.raises(TypeError, match=rf"{function.__name__}.*ThreadJob"):
        Job(function)  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", [None, 42, "echo", object()])
def test_job_of_something_not_callable_is_a_type_error(thing: object) -> None:
    """What can't be called at all is a TypeError that shows it."""
    with pytest.raises(TypeError, match="Job"):
        Job(thing)  # type: ignore[arg-type]


def test_async_generator_function_given_to_job_is_refused() -> None:
    """An async generator function is a TypeError that says what it is."""

    async def generator() -> Any:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        Job(generator)


def test_arguments_for_a_coroutine_object_are_refused() -> None:
    """A coroutine object takes no arguments; it stays the caller's to close."""
    coroutine = nap()
    with pytest.raises(TypeError, match="argument"):
        Job(coroutine, 1)
    assert coroutine.cr_frame is not None
    coroutine.close()


@pytest.mark.parametrize(
    "function",
    [lambda: 42, functools.partial(lambda x: x, "no awaitable"), type("Call", (), {"__call__": lambda self: None})()],
)
def test_callable_that_returns_no_awaitable_fails_its_job(virtual: Virtual, function: Callable[..., Any]) -> None:
    """What is only known at the start fails the job with a TypeError whose note names it and what it returned."""
    job = Job(function, label="liar")
    bystander = Job(nap, 1, 1)
    scheduler = Scheduler(job, bystander)
    assert virtual(scheduler.co_run) is True
    assert isinstance(job.raised_exception(), TypeError)
    told = f"{job.raised_exception()}\n{notes(job.raised_exception())}"
    assert "'liar'" in told
    assert "awaitable" in told
    assert "ThreadJob" in told
    assert bystander.result() == 1


@pytest.mark.parametrize("thing", [42, "job", b"job", nap, 1.5])
@pytest.mark.parametrize(
    "use",
    [
        lambda thing: Scheduler(thing, label="home"),
        lambda thing: Scheduler(label="home").add(thing),
        lambda thing: Scheduler(label="home").update([thing]),
        lambda thing: Sequence(thing),
        lambda thing: Job(nap, required=thing),
        lambda thing: Job(nap).requires(thing),
        lambda thing: Sequence().requires([thing]),
        lambda thing: Sequence(required=thing),
    ],
)
def test_something_that_is_no_job_is_refused(use: Callable[[Any], Any], thing: object) -> None:
    """Where a job is expected, anything else is a TypeError that shows it."""
    with pytest.raises(TypeError) as caught:
        use(thing)
    assert repr(thing) in str(caught.value)


def test_no_job_among_jobs_changes_nothing() -> None:
    """Update is atomic: one thing that is no job, and none of the jobs is added."""
    scheduler, job = Scheduler(), Job(nap)
    with pytest.raises(TypeError, match="42"):
        scheduler.update([job, 42])
    assert list(scheduler) == []
    assert job.scheduler is None


def test_subclass_that_forgets_its_super_init_is_told_so() -> None:
    """A subclass of AbstractJob whose __init__ does not call super's is a TypeError that names it."""

    class Forgetful(AbstractJob[None]):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"Forgetful.*super\(\).__init__"):
        Scheduler(Forgetful())


def test_subclass_without_co_run_fails_with_its_name(virtual: Virtual) -> None:
    """A subclass that defines no co_run fails as a job, with an error that names the class."""

    class Hollow(AbstractJob[None]):
        pass

    job = Hollow()
    assert virtual(Scheduler(job).co_run) is True
    assert "Hollow" in str(job.raised_exception())


def test_refused_job_is_left_in_no_scheduler() -> None:
    """A job whose options are refused has not been added to the scheduler it was created in."""
    scheduler = Scheduler()
    with pytest.raises(ValueError, match="timeout"):
        Job(nap, timeout=-1, scheduler=scheduler)
    with pytest.raises(TypeError, match="42"):
        Job(nap, required=42, scheduler=scheduler)
    with pytest.raises(TypeError, match="42"):
        Scheduler(42, scheduler=scheduler)
    assert list(scheduler) == []


def test_refused_job_closes_its_coroutine_without_a_warning() -> None:
    """A coroutine object whose job was refused is nobody's to chase, or stays the caller's: no warning if closed."""
    coroutine = nap()
    with pytest.raises(ValueError, match="timeout"):
        Job(coroutine, timeout=-1)
    coroutine.close()


# --- numbers


@pytest.mark.parametrize("timeout", [0, -1, -0.5, math.nan, -math.inf, 0.0])
def test_timeout_that_is_no_positive_number_is_refused(virtual: Virtual, timeout: float) -> None:
    """Zero, negative and NaN timeouts are ValueErrors that name the job and the remedy, wherever they are given."""
    scheduler = Scheduler(Job(nap), label="slow")
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        Job(nap, label="slow", timeout=timeout)
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        Scheduler(label="slow", timeout=timeout)
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        virtual(functools.partial(scheduler.co_run, timeout=timeout))
    with pytest.raises(ValueError, match=r"timeout.*'slow'.*positive"):
        scheduler.run(backend=virtual.backend, timeout=timeout)  # type: ignore[arg-type]
    assert scheduler.stop_reason is None


@pytest.mark.parametrize("timeout", ["1", True, [1], 1j])
def test_timeout_of_the_wrong_type_is_refused(timeout: Any) -> None:
    """A timeout that is no number is a TypeError that names the job."""
    with pytest.raises(TypeError, match=r"timeout.*'slow'.*seconds"):
        Job(nap, label="slow", timeout=timeout)


@pytest.mark.parametrize("timeout", [None, math.inf, 5, 0.5])
def test_timeout_may_be_none_infinite_or_positive(virtual: Virtual, timeout: float | None) -> None:
    """None and infinity mean no limit."""
    scheduler = Scheduler(Job(nap, 0.25, timeout=timeout), timeout=timeout)
    assert virtual(functools.partial(scheduler.co_run, timeout=timeout)) is True


@pytest.mark.parametrize(("window", "error"), [(-1, ValueError), (1.5, TypeError), ("3", TypeError), (True, TypeError)])
def test_window_below_zero_or_of_the_wrong_type_is_refused(
    virtual: Virtual, window: Any, error: type[Exception]
) -> None:
    """A window below 0 or of the wrong type is refused with the scheduler's name, at creation and at the run."""
    job = Job(nap(), label="one-shot")
    scheduler = Scheduler(job, label="home")
    with pytest.raises(error, match=r"jobs_window.*'home'.*positive whole number"):
        Scheduler(label="home", jobs_window=window)
    with pytest.raises(error, match=r"jobs_window.*'home'.*positive whole number"):
        virtual(functools.partial(scheduler.co_run, jobs_window=window))
    assert virtual(scheduler.co_run) is True


@pytest.mark.parametrize("options", [{"restarts": -1}, {"on_timeout": "explode"}, {"timeout": 1, "on_timeout": None}])
def test_options_out_of_their_range_name_the_job(options: dict[str, Any]) -> None:
    """Other options are checked at creation, too."""
    with pytest.raises(ValueError, match="'odd'"):
        Job(nap, label="odd", **options)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_start_interval_out_of_its_range_is_refused(seconds: float) -> None:
    """start_interval is finite, 0 or more."""
    with pytest.raises(ValueError, match=r"start_interval.*'home'"):
        Scheduler(label="home", start_interval=seconds)


def test_unknown_backend_is_refused() -> None:
    """A backend that is neither of the two is a ValueError that names both."""
    with pytest.raises(ValueError, match=r"'curio'.*trio.*asyncio"):
        Scheduler(Job(nap)).run(backend="curio")  # type: ignore[arg-type]


# --- one-shot coroutines


def test_restart_of_a_one_shot_coroutine_is_refused(virtual: Virtual) -> None:
    """on_timeout="restart" over a coroutine object is a ValueError that names the job, and consumes nothing."""
    job = Job(nap(), label="once", timeout=1, on_timeout="restart")
    scheduler = Scheduler(job)
    with pytest.raises(ValueError, match=r"'once'.*Job\(function"):
        virtual(scheduler.co_run)
    assert scheduler.rain_check() is False
    assert job.is_idle()
    scheduler.close()


def test_restart_of_a_scheduler_with_a_one_shot_coroutine_inside_is_refused(virtual: Virtual) -> None:
    """A nested scheduler that restarts runs its jobs again: one-shot jobs at any depth inside are refused."""
    job = Job(nap(0.5), label="once")
    inner = Scheduler(Scheduler(job), timeout=1, on_timeout="restart")
    outer = Scheduler(inner)
    with pytest.raises(ValueError, match="'once'"):
        virtual(outer.co_run)
    outer.remove(inner)
    assert virtual(inner.co_run) is True


def test_rerun_of_one_shot_jobs_names_them(virtual: Virtual) -> None:
    """Running one-shot jobs again is a ValueError that names them; the first run's results stay."""
    jobs = [Job(nap(1, "first"), label="once"), Job(nap(1, "second"), label="twice")]
    scheduler = Scheduler(*jobs, Job(nap, label="any"))
    assert virtual(scheduler.co_run) is True
    with pytest.raises(ValueError, match=r"'once'"):
        virtual(scheduler.co_run)
    assert [job.result() for job in jobs] == ["first", "second"]
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_one_shot_job_that_was_never_reached_can_run_the_next_time(virtual: Virtual) -> None:
    """A coroutine object that was not started is not consumed."""

    async def fail() -> None:
        raise OSError

    first = Job(fail, critical=True)
    second = Job(nap(1, "done"), required=first)
    scheduler = Scheduler(first, second)
    assert virtual(scheduler.co_run) is False
    assert second.is_idle()
    second.requires(first, remove=True)
    scheduler.remove(first)
    assert virtual(scheduler.co_run) is True
    assert second.result() == "done"


# --- where and when it may run


def test_run_inside_a_running_loop_says_co_run(virtual: Virtual) -> None:
    """run() in a thread whose event loop runs is a RuntimeError that says what to write instead."""
    scheduler = Scheduler(Job(nap(), label="once"), label="home")

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"'home'.*await scheduler\.co_run\(\)"):
            scheduler.run(backend=virtual.backend)  # type: ignore[arg-type]
        assert await scheduler.co_run()

    virtual(main)


def test_run_in_a_thread_of_a_running_loop_is_allowed(virtual: Virtual) -> None:
    """Another thread has no running loop of its own, whatever context variables it inherited."""
    scheduler = Scheduler(Job(nap, 0))

    async def main() -> bool:
        return await anyio.to_thread.run_sync(lambda: scheduler.run(backend=virtual.backend))  # type: ignore[arg-type]

    assert virtual(main) is True


def test_second_concurrent_run_is_refused_and_the_first_goes_on(virtual: Virtual) -> None:
    """A running scheduler refuses a second run; the first is not disturbed."""
    job = Job(nap, 1, "fine")
    scheduler = Scheduler(job, label="home")

    async def second() -> None:
        await anyio.sleep(0.5)
        with pytest.raises(RuntimeError, match="'home' is running"):
            await scheduler.co_run()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            assert await scheduler.co_run() is True

    virtual(main)
    assert job.result() == "fine"


def test_job_cannot_run_its_own_scheduler(virtual: Virtual) -> None:
    """A job that runs its own scheduler gets the same RuntimeError."""

    async def recurse() -> None:
        await scheduler.co_run()

    job = Job(recurse)
    scheduler = Scheduler(job, label="home")
    assert virtual(scheduler.co_run) is True
    with pytest.raises(RuntimeError, match="'home' is running"):
        job.result()


def test_co_run_of_a_nested_scheduler_beside_its_outer_run_is_refused(virtual: Virtual) -> None:
    """Who runs a nested scheduler by hand while the outer one runs is told that that will do it."""
    inner = Scheduler(Job(nap), label="inner")

    async def meddle() -> None:
        with pytest.raises(RuntimeError, match=r"'inner'.*'outer'"):
            await inner.co_run()

    meddler = Job(meddle)
    inner.requires(meddler)
    assert virtual(functools.partial(Scheduler(meddler, inner, label="outer").co_run, check=True)) is True
    assert inner.stop_reason is StopReason.COMPLETED


def test_closed_scheduler_refuses_to_run_and_to_grow(virtual: Virtual) -> None:
    """After close() neither run nor add; both are RuntimeErrors that name the scheduler."""
    scheduler = Scheduler(Job(nap), label="home")
    scheduler.close()
    with pytest.raises(RuntimeError, match="'home' is closed"):
        virtual(scheduler.co_run)
    with pytest.raises(RuntimeError, match="'home' is closed"):
        scheduler.add(Job(nap))


def test_cancel_outside_a_run_is_refused() -> None:
    """cancel() of a job or a scheduler that is not running is a RuntimeError that names it."""
    job = Job(nap, label="idle")
    scheduler = Scheduler(job, label="home")
    with pytest.raises(RuntimeError, match="'idle'"):
        job.cancel()
    with pytest.raises(RuntimeError, match="'home'"):
        scheduler.cancel()


# --- the other library


async def on_asyncio_only() -> None:
    await asyncio.sleep(1)


async def on_asyncio_only_by_yield() -> None:
    await asyncio.sleep(0)


async def on_trio_only() -> None:
    await trio.sleep(1)


async def on_trio_only_by_yield() -> None:
    await trio.lowlevel.cancel_shielded_checkpoint()


FOREIGN = {
    "trio": ("asyncio", [on_asyncio_only, on_asyncio_only_by_yield]),
    "asyncio": ("trio", [on_trio_only, on_trio_only_by_yield]),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("one_shot", [False, True])
def test_job_of_the_other_library_fails_with_a_note(virtual: Virtual, number: int, one_shot: bool) -> None:
    """A job written for the other library fails, with a note that names it and the backend to use."""
    library, functions = FOREIGN[virtual.backend]
    function = functions[number]
    job = Job(function() if one_shot else function, label="foreign")
    bystander = Job(nap, 1, "fine")
    assert virtual(Scheduler(job, bystander).co_run) is True
    assert job.state is JobState.FAILED
    assert "'foreign'" in notes(job.raised_exception())
    assert f'backend="{library}"' in notes(job.raised_exception())
    assert bystander.result() == "fine"


def test_limiter_of_the_other_library_is_refused(virtual: Virtual) -> None:
    """A limiter that this backend can't take is a TypeError that names the scheduler; nothing has started."""
    job = Job(nap())
    scheduler = Scheduler(job, label="home")

    async def make() -> anyio.CapacityLimiter:
        limiter = anyio.CapacityLimiter(2)
        assert limiter.available_tokens == 2
        return limiter

    other = "asyncio" if virtual.backend == "trio" else "trio"
    limiters: list[Any] = [anyio.run(make, backend=other)]
    if virtual.backend == "asyncio":
        limiters.append(trio.CapacityLimiter(2))
    for limiter in limiters:
        with pytest.raises(TypeError, match=r"'home'.*CapacityLimiter"):
            virtual(functools.partial(scheduler.co_run, jobs_window=limiter))
    assert job.is_idle()
    scheduler.close()


# --- changes while it runs


CHANGES: dict[str, Callable[[Scheduler, Any], object]] = {
    "remove": lambda scheduler, job: scheduler.remove(job),
    "keep_only": lambda scheduler, job: scheduler.keep_only([job]),
    "keep_only_between": lambda scheduler, job: scheduler.keep_only_between(starts=[job]),
    "bypass_and_remove": lambda scheduler, job: scheduler.bypass_and_remove(job),
    "sanitize": lambda scheduler, job: scheduler.sanitize(),
    "close": lambda scheduler, job: scheduler.close(),
    "requires": lambda scheduler, job: job.requires(*job.required, remove=True),
    "forever": lambda scheduler, job: setattr(job, "forever", True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_a_running_scheduler_is_refused(virtual: Virtual, change: str) -> None:
    """Anything but add, update and requires is a RuntimeError while it runs, and changes nothing."""
    first = Job(nap, label="first")
    last = Job(nap, label="last", required=first)

    async def meddle() -> None:
        with pytest.raises(RuntimeError, match=change):
            CHANGES[change](scheduler, last)

    meddler = Job(meddle)
    scheduler = Scheduler(first, last, meddler)
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    assert list(scheduler) == [first, last, meddler]
    assert list(last.required) == [first]
    assert last.is_done()


@pytest.mark.parametrize(
    "use",
    [
        lambda scheduler, job: scheduler.add(Job(nap)),
        lambda scheduler, job: scheduler.update([Job(nap)]),
        lambda scheduler, job: job.requires(next(iter(scheduler))),
        lambda scheduler, job: job.cancel(),
        lambda scheduler, job: scheduler.cancel(),
    ],
)
def test_use_from_another_thread_is_refused(virtual: Virtual, use: Callable[[Any, Any], object]) -> None:
    """What changes a run, from another thread, is a RuntimeError that names the thread as the trouble."""
    errors: list[BaseException] = []

    def meddle() -> None:
        try:
            use(scheduler, waiting)
        except BaseException as error:
            errors.append(error)

    async def in_thread() -> None:
        thread = threading.Thread(target=meddle)
        thread.start()
        thread.join()

    meddler = Job(in_thread)
    waiting = Job(nap, label="waiting", required=meddler)
    scheduler = Scheduler(meddler, waiting, label="home")
    assert virtual(scheduler.co_run) is True
    assert [type(error) for error in errors] == [RuntimeError]
    assert "'home'" in str(errors[0])
    assert "thread" in str(errors[0])
    assert len(scheduler) == 2
    assert waiting.is_done()


# --- what jobs raise


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("critical", [False, True])
def test_job_that_raises_an_interruption_ends_the_run(
    virtual: Virtual, interruption: type[BaseException], critical: bool
) -> None:
    """KeyboardInterrupt and SystemExit leave the run bare; the job is FAILED, the run INTERRUPTED, others CANCELLED."""

    async def interrupt() -> None:
        await anyio.sleep(1)
        raise interruption("mine")

    job, other = Job(interrupt, critical=critical), Job(nap, 5)
    never = Job(nap, required=other)
    scheduler = Scheduler(job, other, never)
    with pytest.raises(interruption, match="mine"):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.INTERRUPTED
    assert scheduler.culprit is job
    assert [one.state for one in scheduler] == [JobState.FAILED, JobState.CANCELLED, JobState.IDLE]
    assert isinstance(job.raised_exception(), interruption)


def cancelled_of(backend: str) -> type[BaseException]:
    return trio.Cancelled if backend == "trio" else asyncio.CancelledError


async def own_nursery(error: Exception | None) -> None:
    """Sleep in a nursery of one's own; with an error, one child turns its cancellation into it."""

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


def test_group_of_cancelled_is_a_cancellation(virtual: Virtual) -> None:
    """A job with its own nursery, cancelled with its children, is CANCELLED, not FAILED."""
    job = Job(own_nursery, None)
    scheduler = Scheduler(job)
    assert virtual(functools.partial(scheduler.co_run, timeout=1)) is False
    assert job.state is JobState.CANCELLED
    assert job.raised_exception() is None
    with pytest.raises(JobCancelled):
        job.result()


def test_group_of_cancelled_and_an_error_is_a_failure(virtual: Virtual) -> None:
    """With a cancellation and an error together the error is recorded, without the cancellation, and the run ends."""
    mine = OSError("while unwinding")
    job, other = Job(own_nursery, mine), Job(nap, 100)
    scheduler = Scheduler(job, other)

    async def timed() -> tuple[bool, float]:
        return await scheduler.co_run(timeout=1), anyio.current_time()

    assert virtual(timed) == (False, 1)
    assert scheduler.stop_reason is StopReason.TIMEOUT
    assert job.state is JobState.FAILED
    error = job.raised_exception()
    leaves = [error]
    while any(isinstance(leaf, BaseExceptionGroup) for leaf in leaves):
        leaves = [
            one for leaf in leaves for one in (leaf.exceptions if isinstance(leaf, BaseExceptionGroup) else [leaf])
        ]
    assert leaves == [mine]
    assert other.state is JobState.CANCELLED


def test_cancellation_that_nobody_asked_for_is_a_failure(virtual: Virtual) -> None:
    """A job that lets a stray cancellation out FAILED with a JobCancelled that says so; nothing vanishes."""
    kept: list[BaseException] = []

    async def stray() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.sleep(1)
            except BaseException as cancelled:
                kept.append(cancelled)
                raise
        raise kept[0]

    job, after = Job(stray, label="stray"), Job(nap, 1, "fine")
    after.requires(job)
    scheduler = Scheduler(job, after)
    assert virtual(scheduler.co_run) is True
    assert isinstance(kept[0], cancelled_of(virtual.backend))
    assert job.state is JobState.FAILED
    assert after.result() == "fine"
    for _ in range(2):
        with pytest.raises(JobCancelled, match=r"'stray'.*nobody asked"):
            job.result()


def test_job_that_raises_cancelled_error_itself_is_a_failure() -> None:
    """On asyncio a CancelledError out of nowhere is a failure, stored as a JobCancelled."""

    async def pretend() -> None:
        raise asyncio.CancelledError

    job, other = Job(pretend, label="pretender", critical=True), Job(nap, 5)
    scheduler = Scheduler(job, other)
    assert scheduler.run(backend="asyncio") is False
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert isinstance(job.raised_exception(), JobCancelled)
    assert other.state is JobState.CANCELLED


def test_job_that_cancels_its_own_task_fails_alone() -> None:
    """On asyncio a native cancellation of a job's own task touches that job alone: FAILED, never CANCELLED."""

    async def suicide() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep(1)

    jobs = [Job(nap, 0.01, 1), Job(suicide, label="suicide"), Job(nap, 0.01, 2)]
    scheduler = Scheduler(Sequence(jobs))
    assert scheduler.run(backend="asyncio") is True
    assert [job.state for job in jobs] == [JobState.SUCCEEDED, JobState.FAILED, JobState.SUCCEEDED]
    assert isinstance(jobs[1].raised_exception(), JobCancelled)
    assert "suicide" in str(jobs[1].raised_exception())


# --- what jobs leave behind


async def leaves_a_scope_open() -> None:
    anyio.move_on_after(1).__enter__()
    await anyio.lowlevel.checkpoint()


async def leaves_a_task_group_open() -> None:
    tasks = anyio.create_task_group()
    await tasks.__aenter__()
    tasks.start_soon(anyio.sleep, 100)
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("leave", [leaves_a_scope_open, leaves_a_task_group_open])
def test_job_that_leaves_something_open_fails_alone(virtual: Virtual, leave: Callable[[], Any]) -> None:
    """A job that leaves a cancel scope or a nursery open FAILED with an error that says so; the next is untouched."""
    job, after = Job(leave, label="sloppy"), Job(nap, 5, "whole")
    after.requires(job)
    scheduler = Scheduler(job, after)
    assert virtual(scheduler.co_run) is True
    assert job.state is JobState.FAILED
    assert "open" in str(job.raised_exception())
    assert after.result() == "whole"


# --- shutdown, outside, instruments


class Closing(AbstractJob[None]):
    """A job whose shutdown does what it is told, and counts."""

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


async def raises_in_shutdown() -> None:
    raise OSError("no route")


async def hangs_in_shutdown() -> None:
    await anyio.sleep(math.inf)


def test_co_shutdown_that_raises_is_logged_and_changes_nothing(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """What co_shutdown raises is logged with the job's name and kept; the result stays, the others are shut down."""
    jobs = [Closing(raises_in_shutdown, label="bad"), Closing(functools.partial(anyio.sleep, 0.5), label="good")]
    scheduler = Scheduler(*jobs)
    assert virtual(scheduler.co_run) is True
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2
    assert [(job.calls, job.ended) for job in jobs] == [(1, 0), (1, 1)]
    assert any("'bad'" in record.getMessage() and "no route" in record.getMessage() for record in caplog.records)
    assert all(record.name == "trioflow" for record in caplog.records)


def test_co_shutdown_that_hangs_is_cut_and_logged(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """A co_shutdown that hangs is cancelled at shutdown_timeout and named in the log; the result stays."""
    job = Closing(hangs_in_shutdown, label="stuck")
    scheduler = Scheduler(job, shutdown_timeout=2)

    async def timed() -> tuple[bool, float]:
        return await scheduler.co_run(), anyio.current_time()

    assert virtual(timed) == (True, 3)
    assert (job.calls, job.ended) == (1, 0)
    assert any("'stuck'" in record.getMessage() for record in caplog.records)


def test_wait_for_around_co_run_shuts_down_whole() -> None:
    """asyncio.wait_for around co_run raises TimeoutError only after the ordered ending, shutdown included."""
    job = Closing(functools.partial(anyio.sleep, 0.02))
    scheduler = Scheduler(job)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scheduler.co_run(), 0.01)

    anyio.run(main)
    assert (job.calls, job.ended) == (1, 1)
    assert job.state is JobState.CANCELLED
    assert scheduler.stop_reason is StopReason.CANCELLED


class Grumpy(Instrument):
    """An instrument that raises at its first event."""

    def __init__(self) -> None:
        self.calls = 0

    def job_started(self, scheduler: Any, job: Any) -> None:
        self.calls += 1
        raise OSError("full disk")


def test_instrument_that_raises_is_logged_and_taken_out(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """An instrument that raises is logged, named, and not called again; the run is not touched."""
    grumpy = Grumpy()
    scheduler = Scheduler(Job(nap), Job(nap), instruments=[grumpy])
    assert virtual(scheduler.co_run) is True
    assert grumpy.calls == 1
    assert any("Grumpy" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("instruments", [[object()], [Grumpy], Grumpy(), 42])
def test_something_that_is_no_instrument_is_refused(instruments: Any) -> None:
    """What is no instrument is a TypeError."""
    with pytest.raises(TypeError):
        Scheduler(instruments=instruments)


def test_all_own_errors_are_trioflow_errors() -> None:
    """CycleError and MissingRequirement are ValueErrors, and both are TrioflowErrors."""
    assert issubclass(CycleError, TrioflowError)
    assert issubclass(MissingRequirement, TrioflowError)
    assert issubclass(CycleError, ValueError)
    assert issubclass(MissingRequirement, ValueError)
