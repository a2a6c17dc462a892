"""Exceptions that leave an open block when the body or the run fails, or a cancellation comes from outside."""

import asyncio
import contextlib
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from trioflow import AbstractJob, First, Job, JobCancelled, JobNotDone, JobTimeout, Scheduler, StopReason
from trioflow.testing import run_virtual
from ..bodies import CANCELLED, IDLE, Flaw, Odd, fail, nap, unwind
from ..conftest import Virtual


async def raised_by(function: Callable[[], Awaitable[Any]]) -> Exception:
    try:
        await function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


# --- the body fails
def test_exception_of_the_block_body_propagates_unwrapped(virtual: Virtual) -> None:
    async def main() -> None:
        async with scheduler:
            await anyio.sleep(1)
            raise flaw

    flaw, job = Flaw("body"), Job(nap, 9)
    scheduler = Scheduler(job)
    assert virtual(raised_by, main) is flaw
    assert (job.state, job.finished_at, scheduler.stop_reason) == (CANCELLED, 1, StopReason.CANCELLED)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Odd])
def test_base_exception_of_the_block_body_propagates_unwrapped(virtual: Virtual, error: type[BaseException]) -> None:
    """A KeyboardInterrupt, or the like, of the body leaves the block as it is, not in a group."""

    async def main() -> None:
        async with Scheduler(Job(nap, 9)):
            await anyio.sleep(1)
            raise error

    with pytest.raises(error):
        virtual(main)


def test_return_break_and_caught_exceptions_leave_the_block_as_usual(virtual: Virtual) -> None:
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


async def clumsy() -> None:
    try:
        await anyio.sleep(99)
    finally:
        raise OSError("unwinding")


@pytest.mark.parametrize("critical", [True, None])
@pytest.mark.parametrize("nested", [False, True])
def test_exception_of_the_block_body_is_the_last_of_a_group_with_failures_that_count(
    virtual: Virtual, critical: bool | None, nested: bool
) -> None:
    """No failure that counts is lost behind the exception of the body, also not one of a job that unwinds."""
    flaw, job = Flaw("body"), Job(clumsy, critical=critical)
    scheduler = Scheduler(Scheduler(job, critical=True) if nested else job)

    async def main() -> None:
        async with scheduler:
            await anyio.sleep(1)
            raise flaw

    error = virtual(raised_by, main)
    assert isinstance(error, ExceptionGroup)
    assert isinstance(job.raised_exception(), OSError)
    assert error.exceptions == (job.raised_exception(), flaw)
    assert scheduler.stop_reason is StopReason.CANCELLED
    with pytest.raises(ExceptionGroup) as caught:
        scheduler.raise_for_failures()
    assert caught.value.exceptions == (job.raised_exception(),)


def test_exception_of_a_job_that_the_body_awaits_leaves_the_block_once(virtual: Virtual) -> None:
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


def test_exception_of_a_body_that_a_critical_failure_has_cancelled_follows_it(virtual: Virtual) -> None:
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
@pytest.mark.parametrize("jobs", ["nothing", "failure", "critical", "timeout", "SystemExit"])
def test_what_leaves_a_block(virtual: Virtual, body: str, jobs: str) -> None:
    """No failure that counts, and no interruption, is lost behind the exception of the body."""

    def shown(error: BaseException) -> str:
        if isinstance(error, ExceptionGroup):
            return f"[{', '.join(map(shown, error.exceptions))}]"
        return str(error) if isinstance(error, Flaw) else type(error).__name__

    errors = {"failure": Flaw("failure"), "critical": Flaw("critical"), "SystemExit": SystemExit()}

    async def main() -> str:
        try:
            async with Scheduler(timeout=2 if jobs == "timeout" else None) as scheduler:
                other = scheduler.add(Job(nap, 3))
                if jobs in errors:
                    scheduler.add(Job(fail, 1, errors[jobs], critical=jobs == "critical" or None))
                with (
                    contextlib.suppress(anyio.get_cancelled_exc_class()) if body != "ends" else contextlib.nullcontext()
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
            frames = engine_frames(error) if isinstance(error, ExceptionGroup | JobTimeout) else []
            return shown(error) + " ".join(frames)
        return "nothing"

    assert virtual(main) == LEAVES[body, jobs]


def engine_frames(error: BaseException) -> list[str]:
    """Return the functions of the engine in the tracebacks of a group and of all in it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "trioflow/_" in frame.filename]
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return [frame.name for frame in frames] + [name for each in inner for name in engine_frames(each)]


@pytest.mark.parametrize("group", [First, Scheduler])
def test_what_leaves_a_block_has_no_frame_of_the_engine(virtual: Virtual, group: Any) -> None:
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
            scheduler.add(job)
            await anyio.sleep(1)
            scheduler.cancel()

    job, scheduler = Job(late), Scheduler()
    virtual(main)
    assert job.state is CANCELLED


@pytest.mark.fast_way("asyncio")  # a shield of anyio does not hold there with direct isolation
def test_exception_of_the_block_body_survives_an_outer_cancellation(virtual: Virtual) -> None:
    """An exception of the body leaves the block even if a scope around it is cancelled while the jobs unwind. The
    cancellation once replaced the exception, and a scope that moved on swallowed both."""

    async def main() -> None:
        with anyio.move_on_after(1.5):
            async with Scheduler(job):
                await anyio.sleep(1)
                raise Flaw

    job = Job(unwind, 9, 0.75)
    assert isinstance(virtual(raised_by, main), Flaw)
    assert (job.state, job.finished_at) == (CANCELLED, 1.75)


# --- the run fails
def test_critical_failure_cancels_the_block_body(virtual: Virtual) -> None:
    reached: list[float] = []

    async def block() -> None:
        async with scheduler:
            try:
                await anyio.sleep(9)
            finally:
                reached.append(anyio.current_time())

    async def main() -> None:
        group = await raised_by(block)
        assert isinstance(group, ExceptionGroup)
        assert group.exceptions == (job.raised_exception(),)
        await anyio.lowlevel.checkpoint()

    job = Job(fail, 1, Flaw(), critical=True)
    scheduler = Scheduler(job)
    virtual(main)
    assert (reached, scheduler.stop_reason, scheduler.culprit) == ([1], StopReason.CRITICAL, job)


@pytest.mark.parametrize("where", ["in the body", "after the body"])
def test_timeout_of_a_block_raises_job_timeout(virtual: Virtual, where: str) -> None:
    async def main() -> None:
        async with scheduler:
            if where == "in the body":
                await anyio.sleep(9)

    job = Job(nap, 9)
    scheduler = Scheduler(job, timeout=2)
    error = virtual(raised_by, main)
    assert isinstance(error, JobTimeout)
    assert (error.job, error.seconds) == (scheduler, 2)
    assert (job.state, job.finished_at, scheduler.timed_out) == (CANCELLED, 2, True)


@pytest.mark.parametrize("who", ["a job", "another task"])
def test_cancel_of_a_block_by_others_raises_job_cancelled(virtual: Virtual, who: str) -> None:
    async def stop(_: object = None) -> None:
        await anyio.sleep(1)
        scheduler.cancel()

    async def main() -> None:
        async with anyio.create_task_group() as tasks, scheduler:
            if who == "another task":
                tasks.start_soon(stop)
            scheduler.add(Job(stop if who == "a job" else nap, 0) if who != "another task" else job)
            await anyio.sleep(9)

    job = Job(nap, 9)
    scheduler = Scheduler(job)
    error = virtual(raised_by, main)
    assert isinstance(error.exceptions[0] if isinstance(error, ExceptionGroup) else error, JobCancelled)
    assert (job.state, job.finished_at, scheduler.stop_reason) == (CANCELLED, 1, StopReason.CANCELLED)


@pytest.mark.parametrize("then", ["waits", "leaves", "raises", "is cancelled from outside"])
def test_cancel_by_the_body_of_a_block_raises_nothing(virtual: Virtual, then: str) -> None:
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
    assert (job.state, job.finished_at, scheduler.stop_reason) == (CANCELLED, 0.5, StopReason.CANCELLED)


@pytest.mark.parametrize("where", ["in the body", "after the body"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Odd])
def test_base_exception_leaves_the_block_unwrapped(virtual: Virtual, error: type[BaseException], where: str) -> None:
    """A KeyboardInterrupt, or the like, of a job leaves the block, not in a group, when all has ended."""

    async def main() -> None:
        async with scheduler:
            if where == "in the body":
                await anyio.sleep(9)

    job = Job(nap, 9)
    scheduler = Scheduler(Job(fail, 1, error), job)
    with pytest.raises(error):
        virtual(main)
    assert (scheduler.stop_reason, job.state) == (StopReason.INTERRUPTED, CANCELLED)


def test_block_raises_the_stop_reason_even_if_its_body_swallows_the_cancellation(virtual: Virtual) -> None:
    async def main() -> None:
        async with Scheduler(Job(fail, 1, Flaw(), critical=True)):
            with contextlib.suppress(BaseException):
                await anyio.sleep(9)

    assert isinstance(virtual(raised_by, main), ExceptionGroup)


# --- cancelled from outside
@pytest.mark.parametrize("where", ["in the body", "after the body"])
def test_outer_cancellation_of_a_block_cancels_body_and_jobs(virtual: Virtual, where: str) -> None:
    """Cancelling a scope around a block cancels its body and jobs cleanly, and the scope catches the cancellation."""

    async def main() -> None:
        job, actor = Job(nap, 9), Job(nap, 9)
        with anyio.move_on_after(2) as scope:
            async with Scheduler(job, actor) as scheduler:
                if where == "in the body":
                    await anyio.sleep(9)
        assert (scope.cancelled_caught, anyio.current_time()) == (True, 2)
        assert [job.state, actor.state] == [CANCELLED] * 2
        assert scheduler.stop_reason is StopReason.CANCELLED
        await anyio.lowlevel.checkpoint()

    virtual(main)


@pytest.mark.parametrize("where", ["in the body", "after the body"])
@pytest.mark.parametrize("is_critical", [True, False])
def test_critical_failures_of_clean_up_replace_a_cancellation(virtual: Virtual, where: str, is_critical: bool) -> None:
    """What critical jobs raise when a scope around the block is cancelled leaves the block, as from a nursery. The
    scope once caught the cancellation, and the errors were only in the log."""

    async def block() -> None:
        with anyio.move_on_after(2) as scope:
            async with Scheduler(job):
                if where == "in the body":
                    await anyio.sleep(9)
        assert scope.cancelled_caught

    async def main() -> Exception | None:
        if is_critical:
            return await raised_by(block)
        await block()
        return None

    job = Job(clumsy, critical=is_critical)
    error = virtual(main)
    assert not is_critical or (isinstance(error, ExceptionGroup) and error.exceptions == (job.raised_exception(),))
    assert isinstance(job.raised_exception(), OSError)


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("seconds", [0, 1e-9])
def test_outer_cancellation_at_entry_of_a_block_leaves_nothing_open(virtual: Virtual, seconds: float) -> None:
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
def test_asyncio_cancellation_of_a_block_works_as_for_any_code(how: str, where: str) -> None:
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
    assert [scheduler.stop_reason for scheduler in schedulers] == [StopReason.CANCELLED] * len(schedulers)


@pytest.mark.parametrize("where", ["in the body", "after the body"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ctrl_c_in_a_block_ends_the_run_cleanly(backend: str, where: str) -> None:
    """Ctrl-C in a block or at its end lets jobs unwind and shut down, and raises a bare KeyboardInterrupt."""

    class Clean(AbstractJob[None]):
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


def test_what_the_body_raises_because_a_job_has_no_result_leaves_the_block(virtual: Virtual) -> None:
    """The run ends because of this exception, so it does not give way to the cancellation that it has caused."""

    async def main() -> None:
        async with Scheduler() as s:
            s.add(Job(nap, 9, label="slow")).result()

    with pytest.raises(JobNotDone, match="'slow' is"):
        virtual(main)
