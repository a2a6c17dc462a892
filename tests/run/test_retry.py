"""`retry=`: further attempts, by a number or a `Retry`, around timeouts."""

import functools
import gc
import weakref
from functools import partial
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import stamina
import tenacity
from trioflow import (
    CommandJob,
    Job,
    Pool,
    Retry,
    Scheduler,
    StopReason,
    ThreadJob,
    Throttled,
    current_job,
    ref,
)
from trioflow.abc import AbstractJob, JobKind, fraction_done
from ..bodies import (
    CANCELLED,
    FAILED,
    Odd,
    at_once,
    co_run_drained,
    fail,
    fail_now,
    later,
    nap,
    raising,
    timed,
    turns,
)
from ..conftest import Virtual


class Flaky(AbstractJob[int]):
    """A job that raises at its first `failures` calls, after a second, and then returns its number of calls."""

    def __init__(
        self, failures: float, error: type[BaseException] = OSError, **options: Any
    ) -> None:
        super().__init__(**options)
        self.failures, self.error = failures, error
        self.calls: list[float] = []

    async def co_run(self) -> int:
        self.calls.append(anyio.current_time())
        await anyio.sleep(1)
        if len(self.calls) <= self.failures:
            raise self.error(f"call {len(self.calls)}")
        return len(self.calls)


def test_callbacks_are_not_called_at_a_throttle(virtual: Virtual) -> None:
    """`on_succeeded` was once called at each throttle, though the job had neither succeeded nor settled."""
    heard: list[str] = []

    class Asking(JobKind[str]):
        async def co_run(self) -> str:
            await anyio.lowlevel.checkpoint()
            if anyio.current_time() < 20:
                raise Throttled("api", after=10)
            return "value"

    job = Asking(
        needs={"api": 1},
        on_succeeded=lambda job: heard.append(f"done: {job.result()}"),
        on_settled=lambda job: heard.append(f"settled: {job.result()}"),
    )
    assert virtual(Scheduler(job, pool=Pool(api=1)).co_run)
    assert heard == ["done: value", "settled: value"]


# --- a number
@pytest.mark.parametrize("retry", [0, Retry(0), None])
def test_retry_zero_is_no_retry(virtual: Virtual, retry: Any) -> None:
    """`retry=0` means a single attempt, so a coroutine object may have it, and an outermost scheduler."""
    job = Flaky(9, retry=retry)
    assert virtual(timed, Scheduler(job)) == (False, 1)
    assert (job.state, job.attempts) == (FAILED, 1)
    assert virtual(
        Scheduler(Scheduler(Job(nap(1), retry=retry), retry=retry), retry=retry).co_run
    )


def test_failures_of_retried_attempts_are_not_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    job = Flaky(1, retry=1)
    scheduler = Scheduler(job)
    assert virtual(functools.partial(scheduler.co_run, check=True)) is True
    scheduler.raise_for_failures()
    assert caplog.messages == []


def test_failures_of_earlier_attempts_are_not_counted(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    outer = Scheduler(Scheduler(Flaky(1, critical=True), retry=1))
    assert virtual(outer.co_run) is True
    outer.raise_for_failures()
    (message,) = caplog.messages
    assert "failed: OSError" in message


def test_retry_calls_the_function_anew(virtual: Virtual) -> None:
    got: list[Any] = []

    async def take(value: str, *, more: list[str]) -> None:
        got.append((value, more))
        raise OSError

    given = Job(at_once, lambda: "given")
    virtual(
        Scheduler(given, Job(take, given, kwargs={"more": [given]}, retry=1)).co_run
    )
    assert got == [("given", ["given"])] * 2


def test_endless_fast_retries_do_not_block_the_loop(virtual: Virtual) -> None:
    """A job that fails at once and is retried endlessly does not keep the loop from turning, on a real clock, and on a
    virtual one until it fails because it stops that clock."""

    async def cancel(job: Job[Any], number: int) -> None:
        await turns(number)
        job.cancel()

    real, short = (Job(fail_now, retry=10**9) for _ in range(2))
    assert Scheduler(real, Job(cancel, ref(real), 50)).run(backend=virtual.backend)
    assert virtual(Scheduler(short, Job(cancel, ref(short), 5)).co_run)
    for job in (real, short):
        assert job.state is CANCELLED
        assert job.attempts > 3  # on a busy machine, hardly more than one in each turn


def test_an_attempt_continues_if_another_job_fails_with_the_same_exception(
    virtual: Virtual,
) -> None:
    """If two jobs raise the same exception object, one may fail with it while the other still makes attempts. The
    traceback once had the frames of both jobs. When one of them failed, the attempts of the other were closed in the
    wrong task, and that job with them."""
    lost = OSError("connection lost")

    async def read() -> int:
        await anyio.sleep(1)
        if current_job().attempts == 1:
            raise lost
        await anyio.sleep(1)
        return current_job().attempts

    reader, other = Job(read, retry=1), Job(fail, 2, lost)
    assert virtual(timed, Scheduler(reader, other)) == (False, 3)
    assert reader.result() == 2
    assert other.state is FAILED


# --- what is not retried
@pytest.mark.fast_way("trio")  # with direct isolation, what is left open is not closed
@pytest.mark.parametrize("leaves_shield", [False, True])
def test_failure_while_unwinding_is_not_retried(
    virtual: Virtual, leaves_shield: bool
) -> None:
    """An exception that a job raises while it is being cancelled is its outcome, and no attempt follows. A second
    attempt was counted, though it could not start, and the first one's error was lost with it. In a shield that the job
    had left open it did start, and nothing ended it."""
    calls: list[float] = []

    async def clumsy() -> None:
        calls.append(anyio.current_time())
        try:
            await anyio.sleep(9)
        finally:
            if leaves_shield:
                anyio.CancelScope(shield=True).__enter__()
            raise OSError("while unwinding")

    job = Job(clumsy, retry=5)
    assert virtual(timed, Scheduler(job, Job(later, 2, job.cancel))) == (False, 2)
    assert (job.state, job.attempts, calls) == (FAILED, 1, [0])
    assert isinstance(job.raised_exception(), OSError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Odd])
def test_base_exceptions_are_not_retried(
    virtual: Virtual, error: type[BaseException]
) -> None:
    """An interruption is not retried, because only an Exception is, and ends the run at once."""
    job = Flaky(9, error, retry=5)
    scheduler = Scheduler(job)
    with pytest.raises(error):
        virtual(scheduler.co_run)
    assert (job.attempts, scheduler.stop_reason) == (1, StopReason.INTERRUPTED)


def test_group_with_an_interruption_is_not_retried(virtual: Virtual) -> None:
    job = Job(fail_now, BaseExceptionGroup("both", [OSError(), SystemExit()]), retry=5)
    with pytest.raises(SystemExit):
        virtual(Scheduler(job).co_run)
    assert job.attempts == 1


# --- decorators


DECORATORS = {
    "tenacity": tenacity.retry(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2), reraise=True,
        retry=tenacity.retry_if_exception_type(OSError),
    ),
    "stamina": stamina.retry(
        on=OSError, attempts=3, timeout=None, wait_initial=2.0, wait_jitter=0.0, wait_exp_base=1.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("library", DECORATORS)
def test_decorators_of_tenacity_and_stamina_apply_to_the_function(
    virtual: Virtual, library: str
) -> None:
    """A function with a decorator that retries it makes one attempt of its job, which keeps its slot in the pauses."""
    calls: list[float] = []

    @DECORATORS[library]
    async def flaky(failures: int) -> int:
        calls.append(anyio.current_time())
        if len(calls) <= failures:
            raise OSError("not yet")
        return len(calls)

    job, other = Job(flaky, 2), Job(nap, 1)
    assert virtual(timed, Scheduler(job, other, jobs_window=1)) == (True, 5)
    assert (calls, job.result(), job.attempts, job.label) == (
        [0, 2, 4],
        3,
        1,
        "flaky(2)",
    )


@pytest.mark.parametrize(
    "retry", [stamina.retry(on=OSError), lambda function: function, Retry]
)
def test_a_decorator_as_retry_is_rejected_with_what_to_write(retry: Any) -> None:
    advice = r"retry=.* of 'job': give a Retry or a number; .*: Job\(stamina.retry\(on=OSError\)\(f\)\)$"
    for make in (
        partial(Job, nap),
        partial(ThreadJob, int),
        partial(CommandJob, ["true"]),
        Scheduler,
    ):
        with pytest.raises(TypeError, match=advice):
            make(label="job", retry=retry)
    job = Job(nap, label="job")
    with pytest.raises(TypeError, match=advice):
        job.retry = retry


@pytest.mark.parametrize("retry", ["twice", 1.5, True, [1]])
def test_retry_that_is_no_number_is_rejected(retry: Any) -> None:
    with pytest.raises(
        TypeError, match=r"retry=.*'job'.*whole number.*or a Retry, or None"
    ):
        Job(nap, retry=retry, label="job")


def test_a_run_that_was_drained_during_a_pause_is_freed(virtual: Virtual) -> None:
    async def main() -> None:
        scheduler = Scheduler(
            Job(fail_now, retry=Retry(1, first=1000, jitter=False)), Job(nap, 2)
        )
        assert not await co_run_drained(scheduler, 1)
        gone = weakref.ref(scheduler)
        del scheduler
        gc.collect()
        assert gone() is None

    virtual(main)


@pytest.mark.parametrize("waits", [(5, 60, 7), (60, 5, 7), (5, 7, 60)])
def test_of_the_times_that_a_group_asks_for_the_longest_counts(
    virtual: Virtual, waits: tuple[float, ...]
) -> None:
    starts: list[float] = []

    async def ask() -> None:
        starts.append(anyio.current_time())
        if len(starts) == 1:
            raise ExceptionGroup("busy", [OSError(seconds) for seconds in waits])

    assert virtual(
        Scheduler(
            Job(ask, retry=Retry(1, first=1, on=lambda error: error.args[0]))
        ).co_run
    )
    assert starts[1] - starts[0] == 60


class Leaver(JobKind):
    """A job whose first call leaves a task group open, which takes two seconds to end, and raises."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.told: list[str] = []

    async def co_run(self) -> None:
        self.told.append("starts")
        if self.told == ["starts"]:
            self.group = anyio.create_task_group()
            await self.group.__aenter__()
            self.group.start_soon(self.unwind)
            raise OSError("first")

    async def unwind(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2)


@pytest.mark.fast_way  # direct isolation does not close what a job leaves open
@pytest.mark.parametrize("backoff", [0.5, 3])
@pytest.mark.parametrize("end", ["critical", "cancel", "drain", "timeout", "none"])
def test_a_job_whose_run_ends_before_its_backoff_has_no_retry(
    virtual: Virtual, end: str, backoff: float
) -> None:
    """Its callbacks have asked for its verdict before; even as other jobs clean up, it does not start again."""

    async def stop() -> None:
        await anyio.sleep(1)
        if end == "critical":
            raise OSError("stop")
        {"cancel": scheduler.cancel, "drain": scheduler.drain}.get(end, print)()

    job = Leaver(
        retry=Retry(3, first=backoff),
        on_settled=lambda job: job.told.append(job.state.value),
    )  # type: ignore[attr-defined]
    stopper = Job(stop, critical=True)
    scheduler = Scheduler(
        stopper, job, Job(nap, 9, run_if="failed", required=stopper), cleanup_timeout=20
    )
    assert virtual(
        lambda: scheduler.co_run(timeout=1.5 if end == "timeout" else None)
    ) is (end == "none")
    assert job.told == (
        ["starts", "starts", "succeeded"] if end == "none" else ["starts", "cancelled"]
    )


def test_an_error_of_on_settled_of_a_job_that_is_cancelled_in_its_backoff_ends_the_run(
    virtual: Virtual,
) -> None:
    class Failing(JobKind[None]):
        async def co_run(self) -> None:
            await fail_now()

    job = Failing(retry=Retry(1, first=100), on_settled=raising(OSError("settled")))
    other = Job(nap, 99, label="other")
    scheduler = Scheduler(job, other, Job(later, 5, job.cancel))
    with pytest.raises(OSError, match="settled"):
        virtual(lambda: scheduler.co_run(check="first"))
    assert (scheduler.stop_reason, scheduler.culprit, other.state) == (
        StopReason.CRITICAL,
        None,
        CANCELLED,
    )


@pytest.mark.parametrize(
    "way", ["cancelled", pytest.param("verdict", marks=pytest.mark.fast_way)]
)
def test_a_backoff_that_is_over_for_its_job_keeps_no_clean_up_waiting(
    virtual: Virtual, way: str
) -> None:
    critical = Job(fail, 1, critical=True)
    again = Retry(1, first=100)
    job: AbstractJob[Any] = Leaver(retry=again, on_settled=str)
    if way == "cancelled":
        job = Job(fail_now, run_if="failed", required=critical, retry=again)
    cleaning = Job(
        later,
        3,
        job.cancel if way == "cancelled" else str,
        run_if="failed",
        required=critical,
    )
    scheduler = Scheduler(critical, job, cleaning, cleanup_timeout=30)
    assert virtual(partial(timed, scheduler)) == (False, 4 if way == "cancelled" else 5)
    assert (job.state, cleaning.is_succeeded()) == (CANCELLED, True)


def test_an_attempt_begins_with_nothing_done(virtual: Virtual) -> None:
    """The fraction is that of the attempt, after a retry and if the job is tried again."""
    seen: list[float | None] = []

    async def work() -> None:
        seen.append(fraction_done(job))
        job.progress(0.5)
        await nap(1)
        raise OSError("broken")

    job = Job(work, retry=Retry(1, first=0, jitter=False))
    assert not virtual(Scheduler(job, Job(later, 5, job.try_again), log=False).co_run)
    assert seen == [None] * 4


def test_a_retry_at_once_stays_one_however_much_its_backoffs_grow(
    virtual: Virtual,
) -> None:
    """`first=0` times a factor that no float can hold any more is still 0, and not the cap."""
    flaky = Flaky(4, retry=Retry(4, first=0, factor=1e300, jitter=False))
    assert virtual(partial(timed, Scheduler(flaky))) == (True, 5)


def test_a_job_has_started_when_its_first_attempt_began(virtual: Virtual) -> None:
    """However many attempts follow."""
    flaky = Flaky(2, retry=Retry(2, first=1, jitter=False))
    assert virtual(Scheduler(flaky).co_run)
    assert (flaky.started_at, len(flaky.calls)) == (flaky.calls[0], 3)
