"""`ThreadJob`: plain functions in real threads, and so in real time; events, not sleeps, determine the order."""

import asyncio
import contextvars
import functools
import logging
import math
import subprocess
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trioflow
from trioflow import (
    Job,
    JobCancelled,
    JobState,
    JobTimeout,
    Retry,
    Scheduler,
    StopReason,
    ThreadJob,
    current_job,
)
from trioflow.abc import fraction_done, incidents_of
from ..bodies import raising, ran, turns
from ..conftest import Virtual
from ..places import PATIENCE, patiently
from .posix.process_trees import until_there
from .process.process_bodies import give_signs

SOON = 0.1  # a timeout that passes while the function works


class Held:
    """A function that works until it is released."""

    def __init__(self, then: BaseException | None = None) -> None:
        self.then = then
        self.entered = threading.Event()
        self.release = threading.Event()
        self.left = threading.Event()

    def __call__(self) -> Any:
        self.entered.set()
        assert self.release.wait(PATIENCE)
        self.left.set()
        if self.then is not None:
            raise self.then
        return "late"

    async def until_entered(self) -> None:
        await anyio.to_thread.run_sync(self.entered.wait, PATIENCE)


def release_after(
    held: Held, step: Callable[[], Any], pause: Callable[[], Awaitable[Any]] = turns
) -> Job[None]:
    """Return a job that waits until the function works, takes a step, gives the engine time, and releases it."""

    async def body() -> None:
        await held.until_entered()
        step()
        await pause()
        held.release.set()

    return Job(body, label="release")


def release_late(held: Held, timeout: float = SOON) -> Job[None]:
    return release_after(held, lambda: None, lambda: anyio.sleep(1.5 * timeout))


# --- calling
def test_the_result_is_what_the_function_returns(backend: str) -> None:
    """A ThreadJob passes positional and keyword arguments to its function, whose return value is the job's result."""
    job = ThreadJob(sorted, [2, 3, 1], kwargs={"reverse": True})
    assert Scheduler(job).run(backend=backend) is True
    assert job.result() == [3, 2, 1]


def test_the_function_runs_in_another_thread(backend: str) -> None:
    held = Held()
    job = ThreadJob(held)
    assert (
        Scheduler(job, release_after(held, lambda: None)).run(backend=backend) is True
    )
    assert job.result() == "late"
    here = ran(backend, ThreadJob(threading.get_ident))
    assert here.result() != threading.get_ident()


def test_an_exception_in_the_thread_fails_the_job(backend: str) -> None:
    error = ValueError("wrong")
    job = ThreadJob(raising(error), critical=True)
    scheduler = Scheduler(job)
    assert scheduler.run(backend=backend) is False
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert job.raised_exception() is error
    assert "refuse" in [
        frame.name for frame in traceback.extract_tb(error.__traceback__)
    ]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_the_thread_ends_the_run(
    backend: str, kind: type[BaseException]
) -> None:
    """KeyboardInterrupt and SystemExit raised in a thread leave the run unwrapped, as from any job."""
    job = ThreadJob(raising(kind("now")))
    scheduler = Scheduler(job, Job(anyio.sleep, math.inf))
    with pytest.raises(kind, match="now"):
        scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.INTERRUPTED
    assert job.state is JobState.FAILED


def test_stop_iteration_becomes_a_runtime_error(backend: str) -> None:
    """No coroutine can raise StopIteration (PEP 479), so it becomes the cause of a RuntimeError."""
    job = ThreadJob(next, iter(()))
    assert Scheduler(job).run(backend=backend) is False
    assert isinstance(job.raised_exception(), RuntimeError)
    with pytest.raises(RuntimeError) as caught:
        job.result()
    assert isinstance(caught.value.__cause__, StopIteration)


def test_current_job_works_in_the_thread(backend: str) -> None:
    jobs = [ThreadJob(current_job, label=str(number)) for number in range(5)]
    assert Scheduler(*jobs, jobs_window=2).run(backend=backend) is True
    assert [job.result() for job in jobs] == jobs


def test_the_context_variables_in_the_thread_are_a_copy(backend: str) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def look_and_set() -> str:
        seen = variable.get()
        variable.set("from a thread")
        return seen

    variable.set("outside")
    jobs = [ThreadJob(look_and_set) for _ in range(3)]
    assert Scheduler(*jobs, jobs_window=1).run(backend=backend) is True
    assert [job.result() for job in jobs] == ["outside"] * 3
    assert variable.get() == "outside"


def test_the_function_may_run_async_code_in_the_event_loop(backend: str) -> None:
    """A ThreadJob may call async functions by `anyio.from_thread.run`, and keeps its slot meanwhile."""

    async def double(number: int) -> int:
        await turns(3)
        return 2 * number

    job = ThreadJob(anyio.from_thread.run, double, 21)
    after = ThreadJob(current_job, required=job)
    assert Scheduler(job, after, jobs_window=1).run(backend=backend) is True
    assert job.result() == 42
    assert after.result() is after


# --- windows and limiters
def test_more_than_forty_threads_work_at_once(backend: str) -> None:
    """The window alone limits the number of threads, not the 40 that trio and anyio allow by default."""
    barrier = threading.Barrier(50)
    jobs = [ThreadJob(barrier.wait, PATIENCE) for _ in range(50)]
    assert Scheduler(*jobs).run(backend=backend) is True
    assert sorted(job.result() for job in jobs) == list(range(50))


class Crowd:
    """A function that records how many calls were inside it at once, and lets none leave before enough were."""

    def __init__(self, expected: int) -> None:
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(expected)
        self.inside = 0
        self.most = 0

    def __call__(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.barrier.wait(PATIENCE)
        with self.lock:
            self.inside -= 1


def test_jobs_window_limits_the_threads_at_work(backend: str) -> None:
    crowd = Crowd(3)
    jobs = [ThreadJob(crowd) for _ in range(21)]
    assert Scheduler(*jobs, jobs_window=3).run(backend=backend) is True
    assert all(job.raised_exception() is None for job in jobs)
    assert crowd.most == 3


@pytest.mark.parametrize("library", [trio, anyio])
def test_limiter_option_limits_the_threads_at_work(backend: str, library: Any) -> None:
    """At most as many threads work as `limiter=` has tokens; a CapacityLimiter of trio works only on trio."""
    crowd = Crowd(2)
    limiter = library.CapacityLimiter(2)
    jobs = [ThreadJob(crowd, limiter=limiter, label="mine") for _ in range(10)]
    assert Scheduler(*jobs).run(backend=backend) is not (
        library is trio and backend == "asyncio"
    )
    if library is trio and backend == "asyncio":
        with pytest.raises(TypeError, match=r"'mine' cannot be used on asyncio.*anyio"):
            jobs[0].result()
        return
    assert all(job.raised_exception() is None for job in jobs)
    assert crowd.most == 2
    if library is trio:
        assert limiter.borrowed_tokens == 0


def test_a_limiter_that_is_also_the_window_gives_one_token_per_job(
    backend: str,
) -> None:
    crowd = Crowd(1)
    limiter = anyio.CapacityLimiter(1)
    jobs = [ThreadJob(crowd, limiter=limiter) for _ in range(3)]
    assert Scheduler(*jobs, jobs_window=limiter).run(backend=backend) is True
    assert crowd.most == 1
    assert all(job.raised_exception() is None for job in jobs)


def test_a_forever_job_takes_a_token_of_a_limiter_that_is_also_the_window(
    backend: str,
) -> None:
    limiter = anyio.CapacityLimiter(2)
    held = Held()
    borrowed: list[int] = []
    forever = ThreadJob(held, limiter=limiter, forever=True)
    release = release_after(held, lambda: borrowed.append(limiter.borrowed_tokens))
    assert Scheduler(forever, release, jobs_window=limiter).run(backend=backend) is True
    assert borrowed == [2]


def test_a_limiter_that_is_the_window_of_an_enclosing_scheduler_causes_no_deadlock(
    backend: str,
) -> None:
    limiter = anyio.CapacityLimiter(1)
    crowd = Crowd(1)
    nested = [
        Scheduler(ThreadJob(crowd, limiter=limiter), ThreadJob(crowd)) for _ in range(3)
    ]
    assert (
        Scheduler(nested, jobs_window=limiter).run(backend=backend, check=True) is True
    )
    assert crowd.most == 1


# --- timeouts
@pytest.mark.parametrize("then", [None, ValueError("late")])
def test_a_timeout_fails_the_job_when_the_thread_has_ended(
    backend: str, then: Exception | None
) -> None:
    """After a timeout, the thread keeps its slot until it ends; then the job fails, whatever the function did."""
    held = Held(then=then)
    job = ThreadJob(held, timeout=SOON)
    after = ThreadJob(held.left.is_set)
    assert (
        Scheduler(Scheduler(job, after, jobs_window=1), release_late(held)).run(
            backend=backend
        )
        is False
    )
    with pytest.raises(JobTimeout):
        job.result()
    assert job.timed_out
    assert after.result() is True, (
        "the next job got the slot while the thread was at work"
    )


def test_a_system_exit_after_the_timeout_ends_the_run(backend: str) -> None:
    held = Held(then=SystemExit("late"))
    job = ThreadJob(held, timeout=SOON)
    scheduler = Scheduler(job, release_late(held))
    with pytest.raises(SystemExit, match="late"):
        scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.INTERRUPTED


def test_a_retry_calls_the_function_again_when_the_first_call_has_ended(
    backend: str,
) -> None:
    held = Held()
    calls: list[bool] = []

    def late_once() -> str:
        calls.append(held.left.is_set())
        return held() if len(calls) == 1 else "in time"

    job = ThreadJob(late_once, timeout=SOON, retry=Retry(None, first=0, on=JobTimeout))
    assert Scheduler(job, release_late(held)).run(backend=backend) is True
    assert job.result() == "in time"
    assert calls[:2] == [
        False,
        True,
    ]  # on a busy machine a further call may be late, too
    assert all(calls[1:])


def test_a_function_that_checks_for_cancellation_ends_at_its_timeout(
    backend: str,
) -> None:
    def patient() -> None:
        while True:
            threading.Event().wait(0.001)
            anyio.from_thread.check_cancelled()

    job = ThreadJob(patient, timeout=SOON)
    assert Scheduler(job).run(backend=backend) is False
    assert isinstance(job.raised_exception(), JobTimeout)


# --- cancellation
@pytest.mark.parametrize("then", [None, ValueError("late")])
def test_cancel_waits_for_the_thread(backend: str, then: Exception | None) -> None:
    """A cancelled ThreadJob runs on until its thread has ended, and is then CANCELLED, whatever the function did."""
    held = Held(then=then)
    job = ThreadJob(held)
    states: list[JobState] = []

    async def cancel() -> None:
        await held.until_entered()
        job.cancel()
        await turns()
        states.append(job.state)
        held.release.set()

    assert Scheduler(job, Job(cancel)).run(backend=backend) is True
    assert states == [JobState.RUNNING]
    assert job.state is JobState.CANCELLED
    with pytest.raises(JobCancelled):
        job.result()


@patiently(SOON, 20)
def test_a_run_that_timed_out_waits_for_its_threads(backend: str, unit: float) -> None:
    held = Held()
    job = ThreadJob(held)
    inner = Scheduler(job, timeout=unit)
    assert Scheduler(inner, release_late(held, unit)).run(backend=backend) is False
    assert inner.stop_reason is StopReason.TIMEOUT
    assert job.state is JobState.CANCELLED
    assert held.left.is_set()


def test_abandon_on_cancel_frees_the_slot_while_the_thread_continues(
    backend: str,
) -> None:
    held = Held()
    known: list[Any] = []
    ended = threading.Event()

    def body() -> None:
        held()
        known.append(current_job())
        ended.set()

    job = ThreadJob(body, abandon_on_cancel=True)
    after = ThreadJob(held.left.is_set)

    async def cancel() -> None:
        await held.until_entered()
        job.cancel()

    assert (
        Scheduler(Job(cancel), Scheduler(job, after, jobs_window=1)).run(
            backend=backend
        )
        is True
    )
    assert job.state is JobState.CANCELLED
    assert after.result() is False
    held.release.set()
    assert ended.wait(PATIENCE)
    assert known == [job]


@patiently(SOON, 20)  # until then the thread has to begin
def test_abandon_on_cancel_fails_the_job_at_its_timeout(
    backend: str, unit: float
) -> None:
    held = Held(then=ValueError("unheard"))
    job = ThreadJob(held, abandon_on_cancel=True, timeout=unit)
    assert Scheduler(job).run(backend=backend) is False
    assert isinstance(job.raised_exception(), JobTimeout)
    assert not held.left.is_set()
    held.release.set()
    assert held.left.wait(PATIENCE)


def test_a_native_asyncio_cancellation_keeps_the_slot_until_the_thread_has_ended() -> (
    None
):
    """asyncio's `Task.cancel()`, which no anyio shield stops, does not free the slot before the thread has ended."""
    held = Held()
    job = ThreadJob(held, label="thread")
    after = ThreadJob(held.left.is_set)
    before: set[asyncio.Task[Any]] = set()

    async def cancel_natively() -> None:
        await held.until_entered()
        for _ in range(2):
            for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
                task.cancel()
            await turns()
        held.release.set()

    async def main() -> bool:
        before.update(asyncio.all_tasks())
        inner = Scheduler(job, after, jobs_window=1)
        canceller = asyncio.create_task(cancel_natively())
        before.add(canceller)
        result = await inner.co_run()
        await canceller
        return result

    assert asyncio.run(main()) is False
    assert job.state is JobState.FAILED
    with pytest.raises(JobCancelled, match="was not requested"):
        job.result()
    assert after.result() is True


# --- bad input
def test_a_function_that_returns_a_coroutine_fails_the_job(backend: str) -> None:
    job = ThreadJob(lambda: turns(), label="mine")
    assert Scheduler(job).run(backend=backend) is False
    with pytest.raises(TypeError, match=r"'mine'.*coroutine.*Job"):
        job.result()


def test_an_invalid_limiter_option_raises() -> None:
    scheduler = Scheduler()
    with pytest.raises(TypeError, match=r"limiter=4 of 'mine'.*CapacityLimiter"):
        ThreadJob(int, limiter=4, label="mine", scheduler=scheduler)  # type: ignore[arg-type]
    assert not len(scheduler)


# --- label and report
def test_default_label_shows_the_call() -> None:
    assert ThreadJob(an_ordinary_function).label == "an_ordinary_function()"
    assert (
        ThreadJob(functools.partial(an_ordinary_function)).label
        == "an_ordinary_function()"
    )
    assert ThreadJob(dict, kwargs={"a": 1}).label == "dict(a=1)"
    assert repr(ThreadJob(int, label="mine")) == "<ThreadJob mine, idle>"


def an_ordinary_function() -> None: ...


def test_a_cancelled_thread_that_still_runs_is_reported(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says that a cancelled thread still runs, since it cannot be interrupted, and what to do about it."""
    told: list[str] = []
    released = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())
            released.set()

    monkeypatch.setattr(logging.getLogger("trioflow"), "handlers", [Handler()])
    virtual(Scheduler(ThreadJob(released.wait, label="wait"), timeout=3).co_run)
    assert told[0] == (
        "'wait' was cancelled 1 s ago and is still running, and the run waits for it: a thread cannot be interrupted; "
        "on_cancel= can end what it waits for, abandon_on_cancel=True abandons it, and a ProcessJob can be killed"
    )


# --- on_cancel
@pytest.mark.parametrize("abandon", [False, True])
@pytest.mark.parametrize("how", ["cancel", "timeout", "run"])
@patiently(SOON, 1, 20)
def test_on_cancel_is_called_once_and_can_end_the_function(
    backend: str, how: str, abandon: bool, unit: float
) -> None:
    held = Held()
    calls: list[int] = []

    def stop() -> None:
        calls.append(threading.get_ident())
        held.release.set()

    job = ThreadJob(
        held,
        on_cancel=stop,
        abandon_on_cancel=abandon,
        timeout=unit if how == "timeout" else None,
    )

    async def end() -> None:
        if (
            how == "timeout"
        ):  # which may be over before a busy machine has begun the function
            return
        await held.until_entered()
        for _ in range(2):
            if how == "cancel":
                job.cancel()
            else:
                scheduler.cancel()

    scheduler = Scheduler(job, Job(end))
    assert scheduler.run(backend=backend) is (how == "cancel")
    assert calls == [threading.get_ident()]
    assert job.state is (JobState.FAILED if how == "timeout" else JobState.CANCELLED)
    assert held.left.wait(PATIENCE)


def test_on_cancel_is_not_called_if_the_function_has_not_begun(backend: str) -> None:
    held, called = Held(), list[int]()

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        late = ThreadJob(
            called.append, 1, on_cancel=lambda: called.append(2), limiter=limiter
        )
        first = ThreadJob(held, limiter=limiter)

        async def end() -> None:
            await held.until_entered()
            scheduler.add(late)
            while not late.is_running():  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.001)
            late.cancel()
            await late.wait_settled()
            held.release.set()

        scheduler = Scheduler(first, Job(end))
        assert await scheduler.co_run() is True

    anyio.run(main, backend=backend)
    assert called == []


def test_a_job_that_ends_before_its_thread_begins_has_given_its_token_back(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrowed: list[int] = []

    async def cancel(*_: object, **__: object) -> None:
        job.cancel()
        await anyio.sleep_forever()

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        job._own_limiter = limiter
        await Scheduler(
            job, on_job_settled=lambda _: borrowed.append(limiter.borrowed_tokens)
        ).co_run()

    job = ThreadJob(int)
    monkeypatch.setattr(anyio.to_thread, "run_sync", cancel)
    anyio.run(main, backend=backend)
    assert (job.state, borrowed) == (JobState.CANCELLED, [0])


@patiently(0.5, 5, 50)
def test_no_timeout_runs_while_a_job_waits_for_its_limiter(
    backend: str, unit: float
) -> None:
    """Its function had had a part of the time, or none of it; and the token is kept as long as a thread works."""
    held = Held()

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        first = ThreadJob(held, limiter=limiter, abandon_on_cancel=True)
        late = ThreadJob(int, limiter=limiter, timeout=unit, idle_timeout=unit)

        async def end() -> None:
            await held.until_entered()
            first.cancel()
            await first.wait_settled()
            await anyio.sleep(1.6 * unit)
            assert late.is_running()
            held.release.set()

        assert await Scheduler(first, late, Job(end)).co_run() is True
        assert (late.attempts, late.result()) == (1, 0)
        while limiter.borrowed_tokens:  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.001)

    anyio.run(main, backend=backend)


def test_on_cancel_is_not_called_if_the_function_ends_by_itself(backend: str) -> None:
    called: list[int] = []
    jobs = [
        ThreadJob(int, text, on_cancel=lambda: called.append(1)) for text in ("7", "x")
    ]
    assert Scheduler(jobs).run(backend=backend) is False
    assert jobs[0].result() == 7
    assert isinstance(jobs[1].raised_exception(), ValueError)
    assert called == []


@pytest.mark.both_backends
def test_a_function_with_on_cancel_that_raises_a_cancellation_fails(
    backend: str,
) -> None:
    """asyncio's task group drops it, as of a loop that the function runs, and the job once succeeded with None."""
    job = ThreadJob(raising(asyncio.CancelledError()), on_cancel=lambda: None)
    assert Scheduler(job).run(backend=backend) is False
    assert isinstance(job.raised_exception(), JobCancelled)


@patiently(SOON, 20)
def test_on_cancel_that_raises_is_an_incident(backend: str, unit: float) -> None:
    held = Held()

    def stop() -> None:
        held.release.set()
        raise OSError("closed")

    job = ThreadJob(held, on_cancel=stop, timeout=unit, label="reads")
    scheduler = Scheduler(job)
    assert scheduler.run(backend=backend) is False
    assert isinstance(job.raised_exception(), JobTimeout)
    (incident,) = incidents_of(scheduler)
    assert incident.message == "on_cancel of 'reads' raised OSError: closed"
    assert incident.exception is not None
    assert (
        incident.exception.__context__ is None
    )  # it once had the way of the cancellation through the library


@patiently(SOON, 20)
def test_an_interruption_by_on_cancel_is_that_of_the_job(
    backend: str, unit: float
) -> None:
    """A SystemExit that `on_cancel` raises ends the run when the thread has ended; the job once failed with a group."""
    held = Held()

    def stop() -> None:
        held.release.set()
        raise SystemExit("stop")

    job = ThreadJob(held, on_cancel=stop, timeout=unit)
    with pytest.raises(SystemExit, match="stop"):
        Scheduler(job).run(backend=backend)
    assert isinstance(job.raised_exception(), SystemExit)
    assert held.left.is_set()


def test_on_cancel_is_a_plain_function() -> None:
    with pytest.raises(TypeError, match="on_cancel=5"):
        ThreadJob(int, on_cancel=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="it is async"):
        ThreadJob(int, on_cancel=turns)


def test_a_sign_of_life_from_a_thread_does_not_replace_the_fraction_before_it(
    virtual: Virtual,
) -> None:
    """Both reports come to the loop at once, if that was blocked meanwhile, and the last one has no fraction."""

    def work() -> None:
        has_begun.set()
        assert is_blocked.wait(PATIENCE)
        current_job().progress(0.5)
        current_job().progress()
        has_reported.set()

    async def block() -> None:
        while not has_begun.is_set():
            await anyio.lowlevel.checkpoint()
        is_blocked.set()
        assert has_reported.wait(PATIENCE)

    has_begun, is_blocked, has_reported = (threading.Event() for _ in range(3))
    job = ThreadJob(work)
    assert virtual(Scheduler(job, Job(block)).co_run)
    assert fraction_done(job) == 0.5


# --- signs of life that come while the event loop is blocked

SIGNS = """
    echo begun; touch {0}/begun-{1}; while ! test -e {0}/held; do sleep 0.02; done
    echo sign; touch {0}/sign-{1}; while ! test -e {0}/end; do sleep 0.02; done
"""


@patiently(0.5, 5, 50)
def test_signs_of_life_while_the_loop_is_blocked_prevent_the_timeout(
    backend: str, tmp_path: Path, unit: float
) -> None:
    async def keep_alive(until: Callable[[], bool]) -> None:
        """Prevent other idle timeouts: to begin and to end may take long on a busy machine."""
        while not until():
            for job in jobs:
                if job.is_running():
                    job.progress()
            await anyio.sleep(0.02)

    async def hold() -> None:
        await keep_alive(
            lambda: all((tmp_path / f"begun-{name}").exists() for name in names)
        )
        time.sleep(unit * 1.2)  # noqa: ASYNC251 - to hold the loop
        (tmp_path / "held").touch()
        for name in names:
            until_there(tmp_path / f"sign-{name}")

    async def end() -> None:
        await anyio.sleep(unit / 10)
        (tmp_path / "end").touch()
        await keep_alive(lambda: not any(job.is_running() for job in jobs))

    pipe = subprocess.PIPE
    jobs = [
        ThreadJob(give_signs, tmp_path, "thread", idle_timeout=unit),
        trioflow.ProcessJob(give_signs, tmp_path, "process", idle_timeout=unit),
        trioflow.CommandJob(
            SIGNS.format(tmp_path, "command"),
            shell=True,
            stdout=pipe,
            idle_timeout=unit,
        ),
        trioflow.SshJob(
            trioflow.LocalNode(),
            SIGNS.format(tmp_path, "node"),
            stdout=pipe,
            idle_timeout=unit,
        ),
    ]
    names = ["thread", "process", "command", "node"]
    holder = Job(hold)
    Scheduler(*jobs, holder, Job(end, required=holder)).run(backend=backend)
    assert [job.raised_exception() for job in jobs] == [None] * 4


def test_a_link_counts_as_written_before_its_target_is(
    backend: str, tmp_path: Path
) -> None:
    link, target = tmp_path / "latest", tmp_path / "today"
    first = ThreadJob(link.symlink_to, target, writes=[link])
    second = ThreadJob(target.write_text, "done", writes=[target], required=first)
    assert Scheduler(first, second).run(backend=backend)
    assert link.read_text() == "done"
    nothing = ThreadJob(len, "", writes=[tmp_path / "other"], log=False)
    assert not Scheduler(nothing).run(backend=backend)
