"""`async with Scheduler(...) as s`: jobs start as they are added, leaving waits for all, and what is raised there."""

import asyncio
import contextlib
import contextvars
import functools
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trio
import trioflow
from trioflow import (
    AbstractJob,
    CycleError,
    First,
    Job,
    JobNotDone,
    JobTimeout,
    Scheduler,
    Service,
    StopReason,
    current_job,
    ref,
)
from trioflow.testing import run_virtual
from ..bodies import (
    CANCELLED,
    IDLE,
    SUCCEEDED,
    Flaw,
    Odd,
    checked,
    clumsy,
    fail,
    nap,
    serve,
    unwind,
)
from ..conftest import Virtual


# --- runs without errors
def test_jobs_start_as_they_are_added(virtual: Virtual) -> None:
    """In a block, existing jobs start at entry, others as they are added, and leaving the block waits for all."""

    async def main() -> None:
        first = Job(nap, 1)
        async with Scheduler(first) as scheduler:
            await anyio.sleep(2)
            second = scheduler.add(Job(nap, 3, "value"))
            third, fourth = Job(nap, 1), Job(nap, 1)
            scheduler.update([third, fourth.requires(third)])
            await anyio.sleep(1)
        assert anyio.current_time() == 5
        assert [job.started_at for job in (first, second, third, fourth)] == [
            0,
            2,
            2,
            3,
        ]
        assert (second.result(), scheduler.stop_reason) == (
            "value",
            StopReason.COMPLETED,
        )

    virtual(main)


def test_a_job_that_never_runs_again_keeps_its_options(virtual: Virtual) -> None:
    async def main() -> None:
        async with Scheduler(keep_jobs=False) as scheduler:
            job = scheduler.add(Job(nap, 1, timeout=5, label="one"))
            await job.wait_settled()
            assert (job.state, job.timeout, job.label) == (SUCCEEDED, 5, "one")

    virtual(main)


def test_block_stays_open_while_it_has_no_job_to_run(virtual: Virtual) -> None:
    """Until it is left: without jobs, it ends at once. What is entered is the scheduler itself."""

    async def main() -> None:
        async with (empty := Scheduler()) as scheduler:
            assert scheduler is empty
        assert (anyio.current_time(), scheduler.stop_reason) == (
            0,
            StopReason.COMPLETED,
        )
        async with Scheduler(Job(nap)) as scheduler:
            await anyio.sleep(5)
            assert scheduler.stop_reason is None
            late = scheduler.add(Job(nap))
        assert late.finished_at == 6

    virtual(main)


def test_leaving_a_block_waits_for_jobs_added_by_jobs(virtual: Virtual) -> None:
    async def grow(left: int) -> None:
        await anyio.sleep(1)
        if left:
            scheduler.add(Job(grow, left - 1))

    async def main() -> float:
        async with scheduler:
            scheduler.add(Job(grow, 3))
        return anyio.current_time()

    scheduler = Scheduler()
    assert virtual(main) == 4


def test_options_and_kinds_of_jobs_work_in_a_block(virtual: Virtual) -> None:
    """Window, forever jobs, services and nested schedulers work in an `async with` block as in any run."""

    async def main() -> None:
        forever, service = (
            Job(anyio.sleep_forever, forever=True),
            Service(serve, 0, "address"),
        )
        async with Scheduler(forever, service, jobs_window=1) as scheduler:
            jobs = [scheduler.add(Job(nap, 1, service)) for _ in range(2)]
            inner = scheduler.add(Scheduler(Job(nap, 1), Job(nap, 1)))
        assert anyio.current_time() == 3
        assert [job.result() for job in jobs] == ["address"] * 2
        assert [job.state for job in (forever, service, inner)] == [
            CANCELLED,
            SUCCEEDED,
            SUCCEEDED,
        ]

    virtual(main)


def test_failures_that_count_are_raised_by_a_block(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        fine, bad = Job(nap, 2), Job(fail, 1, Flaw())
        with pytest.raises(ExceptionGroup) as caught:
            async with Scheduler(bad, fine, Job(fail, critical=False)):
                pass
        assert caught.value.exceptions == (bad.raised_exception(),)
        assert fine.is_succeeded()

    virtual(main)
    assert any(message.startswith("1 job of ") for message in caplog.messages)


def test_scheduler_is_closed_after_its_block(virtual: Virtual) -> None:
    async def main() -> None:
        async with Scheduler(job := Job(nap, 1, "value")) as scheduler:
            pass
        assert job.result() == "value"
        for refused in (
            lambda: scheduler.add(Job(nap)),
            lambda: scheduler.map(nap, [1]),
        ):
            with pytest.raises(RuntimeError, match="closed"):
                refused()
        with pytest.raises(RuntimeError, match="closed"):
            await scheduler.co_run()
        with pytest.raises(RuntimeError, match="closed"):
            async with scheduler:
                pass

    virtual(main)


# --- rejected at entry
def test_scenario_that_cannot_run_is_rejected_at_entry_of_a_block(
    virtual: Virtual,
) -> None:
    async def main() -> None:
        a, b, c = Job(nap), Job(nap), Job(nap)
        scheduler = Scheduler(a.requires(b), b.requires(a))
        with pytest.raises(CycleError):
            await block(scheduler, 9)
        assert anyio.current_time() == 0
        a.requires(b, remove=True)
        a.requires(c)
        with pytest.raises(trioflow.MissingRequirement):
            await block(scheduler, 9)
        assert anyio.current_time() == 0
        scheduler.add(c)
        await block(scheduler)
        assert scheduler.stop_reason is StopReason.COMPLETED

    virtual(main)


def test_entering_a_running_scheduler_raises(virtual: Virtual) -> None:
    async def enter(which: Scheduler) -> None:
        with pytest.raises(RuntimeError, match="running"):
            await block(which, 9)

    inner = Scheduler()
    outer = Scheduler(inner)
    inner.add(Job(enter, ref(inner)))
    outer.add(Job(enter, ref(outer)))
    assert virtual(checked(outer)) == (True, 0)


# --- contexts, and blocks among others


async def block(
    scheduler: Scheduler, seconds: float = 0, error: BaseException | None = None
) -> None:
    """Enter a block, which sleeps if it is given a time, and raises if it is given an error."""
    async with scheduler:
        if seconds:
            await anyio.sleep(seconds)
        if error is not None:
            raise error


variable = contextvars.ContextVar("variable", default="unset")


def test_job_in_a_block_gets_the_context_of_the_body(virtual: Virtual) -> None:
    async def read() -> str:
        value = variable.get()
        variable.set("job's")
        return value

    async def main() -> None:
        variable.set("before")
        async with Scheduler() as scheduler:
            variable.set("body's")
            job = scheduler.add(Job(read))
            await job.wait_settled()
            assert variable.get() == "body's"
            with pytest.raises(RuntimeError, match="current_job"):
                current_job()
        assert (job.result(), variable.get()) == ("body's", "body's")

    virtual(main)


def test_job_may_open_a_block(virtual: Virtual) -> None:
    async def open_block(seconds: float) -> None:
        me = current_job()
        async with Scheduler() as scheduler:
            inner.append(scheduler.add(Job(nap, seconds)))
            assert current_job() is me
            await anyio.sleep(seconds)

    inner: list[Any] = []
    jobs = [Job(open_block, 1), Job(open_block, 9)]
    scheduler = Scheduler(jobs, timeout=2)
    assert virtual(scheduler.co_run) is False
    assert [job.state for job in [*jobs, *inner]] == [SUCCEEDED, CANCELLED] * 2


@pytest.mark.parametrize("nested", [False, True])
def test_failure_in_one_block_does_not_affect_another(
    virtual: Virtual, nested: bool
) -> None:
    async def one(seconds: float) -> None:
        async with Scheduler() as scheduler:
            jobs.append(scheduler.add(Job(nap, seconds)))

    async def broken() -> None:
        with pytest.raises(ExceptionGroup):
            await block(Scheduler(Job(fail, 1, Flaw(), critical=True)), 9)

    async def main() -> float:
        if nested:
            async with Scheduler() as outer:
                jobs.append(outer.add(Job(nap, 5)))
                await one(2)
                await broken()
        else:
            async with anyio.create_task_group() as tasks:
                for function in (
                    functools.partial(one, 2),
                    broken,
                    functools.partial(one, 5),
                ):
                    tasks.start_soon(function)
        return anyio.current_time()

    jobs: list[Any] = []
    assert virtual(main) == 5
    assert [job.state for job in jobs] == [SUCCEEDED] * 2


# --- Exceptions that leave an open block when the body or the run fails, or a cancellation comes from outside
async def raised_by(function: Callable[..., Awaitable[Any]], *args: Any) -> Exception:
    try:
        await function(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


# --- the body fails
@pytest.mark.parametrize("error", [Flaw, KeyboardInterrupt, SystemExit, Odd])
def test_exception_of_the_block_body_propagates_unwrapped(
    virtual: Virtual, error: type[BaseException]
) -> None:
    """Also a KeyboardInterrupt, or the like: as it is, not in a group."""
    raised, job = error(), Job(nap, 9)
    scheduler = Scheduler(job)
    with pytest.raises(error) as caught:
        virtual(block, scheduler, 1, raised)
    assert caught.value is raised
    assert (job.state, job.finished_at, scheduler.stop_reason) == (
        CANCELLED,
        1,
        StopReason.CANCELLED,
    )


def test_return_break_and_caught_exceptions_leave_the_block_as_usual(
    virtual: Virtual,
) -> None:
    async def main() -> str:
        for _ in range(3):
            async with Scheduler(job := Job(nap, 2, "value")):
                try:
                    await fail(1, Flaw())
                except Flaw:
                    break
        async with Scheduler(Job(nap, 2)):
            return f"{job.result()} {anyio.current_time()}"

    assert virtual(main) == "value 2.0"


@pytest.mark.parametrize("critical", [True, None])
@pytest.mark.parametrize("nested", [False, True])
def test_exception_of_the_block_body_is_the_last_of_a_group_with_failures_that_count(
    virtual: Virtual, critical: bool | None, nested: bool
) -> None:
    """No failure that counts is lost behind the exception of the body, also not one of a job that unwinds."""
    flaw, job = Flaw("body"), Job(clumsy, critical=critical)
    scheduler = Scheduler(Scheduler(job, critical=True) if nested else job)
    error = virtual(raised_by, block, scheduler, 1, flaw)
    assert isinstance(error, ExceptionGroup)
    assert isinstance(job.raised_exception(), OSError)
    assert error.exceptions == (job.raised_exception(), flaw)
    assert scheduler.stop_reason is StopReason.CANCELLED
    with pytest.raises(ExceptionGroup) as caught:
        scheduler.raise_for_failures()
    assert caught.value.exceptions == (job.raised_exception(),)


def test_exception_of_a_job_that_the_body_awaits_leaves_the_block_once(
    virtual: Virtual,
) -> None:
    """A body that awaits a critical job raises its failure; what is in the chain of an exception is not lost."""

    async def main() -> None:
        async with Scheduler() as scheduler:
            try:
                await scheduler.add(job)
            except OSError as error:
                raise Flaw("wrapped") from error

    job = Job(fail, 1, OSError(), critical=True)
    error = virtual(raised_by, main)
    assert isinstance(error, Flaw)
    assert error.__cause__ is job.raised_exception()


def test_exception_of_a_body_that_a_critical_failure_has_cancelled_follows_it(
    virtual: Virtual,
) -> None:
    """A body that fails while a critical failure cancels it once hid that failure."""
    flaw, job = Flaw("body"), Job(fail, 1, OSError(), critical=True)
    scheduler = Scheduler(job)

    async def main() -> None:
        async with scheduler:
            try:
                await anyio.sleep(9)
            finally:
                raise flaw

    error = virtual(raised_by, main)
    assert isinstance(error, ExceptionGroup)
    assert error.exceptions == (job.raised_exception(), flaw)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, job)


SLEEPS = [pytest.param(9, id="in the body"), pytest.param(0, id="after the body")]
"""How long a block sleeps that is ended in its body, or after it."""
BODIES = ["ends", "raises", "adds", "awaits"]
LEAVES = {
    ("ends", "nothing"): "nothing", ("ends", "failure"): "[failure]", ("ends", "critical"): "[critical]",
    ("ends", "timeout"): "JobTimeout", ("raises", "nothing"): "body", ("raises", "failure"): "[failure, body]",
    ("raises", "critical"): "[critical, body]", ("raises", "timeout"): "body", ("adds", "nothing"): "nothing",
    ("adds", "failure"): "[failure]", ("adds", "critical"): "[critical]", ("adds", "timeout"): "JobTimeout",
    ("awaits", "nothing"): "nothing", ("awaits", "failure"): "[failure]", ("awaits", "critical"): "[critical]",
    ("awaits", "timeout"): "JobTimeout", **{(body, "SystemExit"): "SystemExit" for body in BODIES},
}  # fmt: skip
"""What leaves a block, by what its body does when the run goes on or stops, and by what its jobs do."""


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    "jobs", ["nothing", "failure", "critical", "timeout", "SystemExit"]
)
def test_what_leaves_a_block(virtual: Virtual, body: str, jobs: str) -> None:
    """No failure that counts, and no interruption, is lost behind the exception of the body."""

    def shown(error: BaseException) -> str:
        if isinstance(error, ExceptionGroup):
            return f"[{', '.join(map(shown, error.exceptions))}]"
        return str(error) if isinstance(error, Flaw) else type(error).__name__

    errors = {
        "failure": Flaw("failure"),
        "critical": Flaw("critical"),
        "SystemExit": SystemExit(),
    }

    async def main() -> str:
        try:
            async with Scheduler(timeout=2 if jobs == "timeout" else None) as scheduler:
                other = scheduler.add(Job(nap, 3))
                if jobs in errors:
                    scheduler.add(
                        Job(fail, 1, errors[jobs], critical=jobs == "critical" or None)
                    )
                with (
                    contextlib.suppress(anyio.get_cancelled_exc_class())
                    if body != "ends"
                    else contextlib.nullcontext()
                ):
                    await anyio.sleep(2.5)
                if body == "raises":
                    raise Flaw("body")
                if body == "adds":
                    scheduler.add(Job(nap, 0))
                if body == "awaits":
                    with anyio.CancelScope(shield=True):
                        await other
        except BaseException as error:
            frames = (
                engine_frames(error)
                if isinstance(error, ExceptionGroup | JobTimeout)
                else []
            )
            return shown(error) + " ".join(frames)
        return "nothing"

    assert virtual(main) == LEAVES[body, jobs]


def engine_frames(error: BaseException) -> list[str]:
    """Return the functions of the engine in the tracebacks of a group and of all in it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "trioflow/_" in frame.filename
    ]
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return [frame.name for frame in frames] + [
        name for each in inner for name in engine_frames(each)
    ]


@pytest.mark.parametrize("group", [First, Scheduler])
def test_what_leaves_a_block_has_no_frame_of_the_engine(
    virtual: Virtual, group: Any
) -> None:
    """The group had five, and that of a `First` in it one more."""

    async def main() -> list[str]:
        try:
            async with Scheduler() as scheduler:
                scheduler.add(group(Job(fail, 1, Flaw("inner")), label="in"))
        except ExceptionGroup as failures:
            return engine_frames(failures)
        return ["nothing was raised"]

    assert virtual(main) == []


def test_add_to_a_block_that_is_stopping_raises(virtual: Virtual) -> None:
    async def late() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with pytest.raises(RuntimeError, match="stopping"):
                scheduler.add(Job(nap))

    async def main() -> None:
        async with scheduler:
            await anyio.sleep(1)
            scheduler.cancel()

    scheduler = Scheduler(job := Job(late))
    virtual(main)
    assert job.state is CANCELLED


@pytest.mark.fast_way(
    "asyncio"
)  # a shield of anyio does not hold there with direct isolation
def test_exception_of_the_block_body_survives_an_outer_cancellation(
    virtual: Virtual,
) -> None:
    """An exception of the body leaves the block even if a scope around it is cancelled while the jobs unwind. The
    cancellation once replaced the exception, and a scope that moved on swallowed both."""

    async def main() -> None:
        with anyio.move_on_after(1.5):
            await block(Scheduler(job), 1, Flaw())

    job = Job(unwind, 9, 0.75)
    assert isinstance(virtual(raised_by, main), Flaw)
    assert (job.state, job.finished_at) == (CANCELLED, 1.75)


# --- the run fails
def test_critical_failure_cancels_the_block_body(virtual: Virtual) -> None:
    async def main() -> float:
        group = await raised_by(block, scheduler, 9)
        assert isinstance(group, ExceptionGroup)
        assert group.exceptions == (job.raised_exception(),)
        await anyio.lowlevel.checkpoint()
        return anyio.current_time()

    job = Job(fail, 1, Flaw(), critical=True)
    scheduler = Scheduler(job)
    assert (virtual(main), scheduler.stop_reason, scheduler.culprit) == (
        1,
        StopReason.CRITICAL,
        job,
    )


@pytest.mark.parametrize("seconds", SLEEPS)
def test_timeout_of_a_block_raises_job_timeout(
    virtual: Virtual, seconds: float
) -> None:
    job = Job(nap, 9)
    scheduler = Scheduler(job, timeout=2)
    error = virtual(raised_by, block, scheduler, seconds)
    assert isinstance(error, JobTimeout)
    assert (error.job, error.seconds) == (scheduler, 2)
    assert (job.state, job.finished_at, scheduler.timed_out) == (CANCELLED, 2, True)


@pytest.mark.parametrize("who", ["a job", "another task"])
def test_cancel_of_a_block_by_others_raises_job_cancelled(
    virtual: Virtual, who: str
) -> None:
    async def stop(_: object = None) -> None:
        await anyio.sleep(1)
        scheduler.cancel()

    async def main() -> None:
        async with anyio.create_task_group() as tasks, scheduler:
            if who == "another task":
                tasks.start_soon(stop)
            scheduler.add(
                Job(stop if who == "a job" else nap, 0)
                if who != "another task"
                else job
            )
            await anyio.sleep(9)

    job = Job(nap, 9)
    scheduler = Scheduler(job)
    error = virtual(raised_by, main)
    assert isinstance(
        error.exceptions[0] if isinstance(error, ExceptionGroup) else error,
        trioflow.JobCancelled,
    )
    assert (job.state, job.finished_at, scheduler.stop_reason) == (
        CANCELLED,
        1,
        StopReason.CANCELLED,
    )


@pytest.mark.parametrize(
    "then", ["waits", "leaves", "raises", "is cancelled from outside"]
)
def test_cancel_by_the_body_of_a_block_raises_nothing(
    virtual: Virtual, then: str
) -> None:
    flaw, job = Flaw("body"), Job(nap, 9)
    scheduler = Scheduler(job)
    reached: list[str] = []

    async def main() -> None:
        with anyio.move_on_after(1) as scope:
            async with scheduler:
                await anyio.sleep(0.5)
                scheduler.cancel()
                if then == "is cancelled from outside":
                    scope.cancel()
                if then == "raises":
                    raise flaw
                if then != "leaves":
                    await anyio.sleep(9)
                    reached.append("beyond a checkpoint")
            reached.append("behind the block")

    if then == "raises":
        assert virtual(raised_by, main) is flaw
    else:
        virtual(main)
    assert reached == (["behind the block"] if then in ("waits", "leaves") else [])
    assert (job.state, job.finished_at, scheduler.stop_reason) == (
        CANCELLED,
        0.5,
        StopReason.CANCELLED,
    )


@pytest.mark.parametrize("seconds", SLEEPS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Odd])
def test_base_exception_leaves_the_block_unwrapped(
    virtual: Virtual, error: type[BaseException], seconds: float
) -> None:
    """A KeyboardInterrupt, or the like, of a job leaves the block, not in a group, when all has ended."""
    job = Job(nap, 9)
    scheduler = Scheduler(Job(fail, 1, error), job)
    with pytest.raises(error):
        virtual(block, scheduler, seconds)
    assert (scheduler.stop_reason, job.state) == (StopReason.INTERRUPTED, CANCELLED)


def test_block_raises_the_stop_reason_even_if_its_body_swallows_the_cancellation(
    virtual: Virtual,
) -> None:
    async def main() -> None:
        async with Scheduler(Job(fail, 1, Flaw(), critical=True)):
            with contextlib.suppress(BaseException):
                await anyio.sleep(9)

    assert isinstance(virtual(raised_by, main), ExceptionGroup)


# --- cancelled from outside
@pytest.mark.parametrize("seconds", SLEEPS)
def test_outer_cancellation_of_a_block_cancels_body_and_jobs(
    virtual: Virtual, seconds: float
) -> None:
    async def main() -> None:
        with anyio.move_on_after(2) as scope:
            await block(scheduler, seconds)
        assert (scope.cancelled_caught, anyio.current_time()) == (True, 2)
        assert [job.state for job in scheduler] == [CANCELLED] * 2
        assert scheduler.stop_reason is StopReason.CANCELLED
        await anyio.lowlevel.checkpoint()

    scheduler = Scheduler(Job(nap, 9), Job(nap, 9))
    virtual(main)


@pytest.mark.parametrize("seconds", SLEEPS)
@pytest.mark.parametrize("is_critical", [True, False])
def test_critical_failures_of_clean_up_replace_a_cancellation(
    virtual: Virtual, seconds: float, is_critical: bool
) -> None:
    """What critical jobs raise when a scope around the block is cancelled leaves the block, as from a nursery. The
    scope once caught the cancellation, and the errors were only in the log."""

    async def main() -> None:
        with anyio.move_on_after(2) as scope:
            await block(Scheduler(job), seconds)
        assert scope.cancelled_caught

    job = Job(clumsy, critical=is_critical)
    if is_critical:
        error = virtual(raised_by, main)
        assert isinstance(error, ExceptionGroup)
        assert error.exceptions == (job.raised_exception(),)
    else:
        virtual(main)
    assert isinstance(job.raised_exception(), OSError)


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("seconds", [0, 1e-9])
def test_outer_cancellation_at_entry_of_a_block_leaves_nothing_open(
    virtual: Virtual, seconds: float
) -> None:
    """A block in a scope that is cancelled already, or while it is entered, leaves nothing open behind it. The task
    group of the block was left open: trio broke down, and on asyncio the run went on."""

    async def main() -> None:
        entered = False
        with anyio.move_on_after(seconds) as scope:
            if not seconds:
                scope.cancel()
            async with Scheduler([Job(nap, 9) for _ in range(50)]):
                entered = True
                await anyio.sleep(9)
        assert scope.cancelled_caught is True
        assert entered in (False, bool(seconds))
        await anyio.sleep(1)

    virtual(main)


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("where", ["in the body", "after the body", "at entry"])
@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout"])
def test_asyncio_cancellation_of_a_block_works_as_for_any_code(
    how: str, where: str
) -> None:
    async def block() -> None:
        async with Scheduler(jobs) as scheduler:
            schedulers.append(scheduler)
            if where == "in the body":
                await anyio.sleep(9)

    async def main() -> None:
        seconds = 2 if where != "at entry" else 0
        if how == "cancel":
            task = asyncio.create_task(block())
            await asyncio.sleep(seconds)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(block(), seconds)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await block()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert anyio.current_time() == seconds

    jobs = [Job(nap, 9) for _ in range(2 if where != "at entry" else 50)]
    schedulers: list[Scheduler] = []
    run_virtual(main, backend="asyncio")
    assert {job.state for job in jobs} <= {CANCELLED, IDLE}
    assert [scheduler.stop_reason for scheduler in schedulers] == [
        StopReason.CANCELLED
    ] * len(schedulers)


@pytest.mark.parametrize("where", ["in the body", "after the body"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ctrl_c_in_a_block_ends_the_run_cleanly(backend: str, where: str) -> None:
    """Ctrl-C in a block or at its end lets jobs unwind and shut down, and raises a bare KeyboardInterrupt."""

    class Clean(trioflow.AbstractJob[None]):
        async def co_run(self) -> None:
            log.append("ran")

        async def co_shutdown(self) -> None:
            await anyio.sleep(0.001)
            log.append("shut down")

    async def interrupt() -> None:
        try:
            await anyio.sleep(0.001)
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            log.append("unwound")

    async def main() -> None:
        async with Scheduler(Clean(), Job(interrupt)):
            if where == "in the body":
                await anyio.sleep_forever()

    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _ = trio.run(main) if backend == "trio" else asyncio.run(main())
    assert log == ["ran", "unwound", "shut down"]


def test_what_the_body_raises_because_a_job_has_no_result_leaves_the_block(
    virtual: Virtual,
) -> None:
    """The run ends because of this exception, so it does not give way to the cancellation that it has caused."""

    async def main() -> None:
        async with Scheduler() as s:
            s.add(Job(nap, 9, label="slow")).result()

    with pytest.raises(JobNotDone, match="'slow' is"):
        virtual(main)


def test_what_close_of_a_job_raises_is_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """It replaced the failures of the run, and the jobs behind that one were not closed."""
    closed = list[str]()

    class Machine(AbstractJob[None]):
        async def co_run(self) -> None:
            pass

        def close(self) -> None:
            closed.append(self.label)
            raise OSError("stuck")

    async def main() -> None:
        failing = Job(fail)
        async with Scheduler(failing, Machine(label="a"), Machine(label="b")):
            pass

    with pytest.raises(ExceptionGroup) as caught:
        virtual(main)
    assert [str(error) for error in caught.value.exceptions] == ["broken"]
    assert closed == ["a", "b"]
    assert "close() of 'a' raised OSError: stuck" in caplog.text
