"""ProcessJobs whose calls are made by executors of all kinds, in real time."""

import concurrent.futures
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import Job, JobCancelled, JobState, JobTimeout, ProcessJob, Scheduler
from trioflow.abc import incidents_of
from ...bodies import run
from ...places import PATIENCE, patiently
from . import executor_bodies as bodies

NAME = "InterpreterPoolExecutor"


def new_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"))


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with new_pool() as pool:
        yield pool


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.skipif(not hasattr(concurrent.futures, NAME), reason="since Python 3.14")
def test_functions_run_in_other_interpreters_of_the_process(backend: str) -> None:
    """With an InterpreterPoolExecutor, ProcessJobs get inputs, results and exceptions as elsewhere."""
    with getattr(concurrent.futures, NAME)(1) as pool:
        first, wrong = ProcessJob(pow, 2, 5), ProcessJob(int, "x")
        second = ProcessJob(pow, first, 2)
        Scheduler(second, wrong, processes=pool).run(backend=backend)  # type: ignore[arg-type]
    assert second.result() == 1024
    with pytest.raises(ValueError, match="invalid literal"):
        wrong.result()


def test_an_overlong_call_is_logged(backend: str, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioflow._core.run._standstill.STUCK_REPORT_DELAY", 0.01)
    go = threading.Event()
    job = ProcessJob(go.wait, PATIENCE, label="long", processes=threads, timeout=0.01)

    async def look() -> None:
        while not incidents_of(scheduler):  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.01)
        go.set()

    scheduler = Scheduler(job, Job(look))
    scheduler.run(backend=backend)
    assert isinstance(job.raised_exception(), JobTimeout)
    [incident] = incidents_of(scheduler)
    assert "'long' was cancelled 0.01 s ago and is still running" in incident.message


def test_cancelling_a_job_cancels_its_waiting_call(backend: str, threads: ThreadPoolExecutor) -> None:
    """A job cancelled while its call waits in a busy pool settles at once, and its function is never called."""
    go, called = threading.Event(), list[int]()
    threads.submit(go.wait, PATIENCE)
    job = ProcessJob(called.append, 1, label="waits", processes=threads)

    async def cancel() -> None:
        await anyio.sleep(0.05)
        job.cancel()

    run(backend, job, Job(cancel))
    assert job.state is JobState.CANCELLED
    go.set()
    threads.submit(int).result(PATIENCE)
    assert called == []


def test_a_cancelled_job_keeps_its_slot_until_its_call_has_ended(backend: str, threads: ThreadPoolExecutor) -> None:
    go, began, order = threading.Event(), threading.Event(), list[str]()

    def hold() -> str:
        began.set()
        assert go.wait(PATIENCE)
        order.append("ended")
        return "late"

    job = ProcessJob(hold, processes=threads)

    async def cancel() -> None:
        await anyio.to_thread.run_sync(began.wait, PATIENCE)
        job.cancel()
        await anyio.sleep(0.05)
        assert job.is_running()
        go.set()

    async def after() -> None:
        order.append("after")

    run(backend, job, Job(cancel), Job(after, required=job, run_if="settled"))
    assert order == ["ended", "after"]
    with pytest.raises(JobCancelled):
        job.result()


@patiently(0.1, 5, 30)
def test_timeout_does_not_count_the_wait_for_a_thread_of_executor(backend: str, tmp_path: Path, unit: float) -> None:
    """A call that waits for a thread longer than its timeout, and then ends at once, has not timed out."""
    with ThreadPoolExecutor(1) as pool:
        first = ProcessJob(bodies.wait_for_go, str(tmp_path), processes=pool)
        second = ProcessJob(bodies.add, 1, timeout=unit, processes=pool)
        idle = ProcessJob(bodies.add, 2, idle_timeout=unit, processes=pool)

        async def go() -> None:
            await anyio.sleep(1.5 * unit)
            (tmp_path / "go").touch()

        run(backend, first, second, idle, Job(go))
    assert (second.result(), idle.result()) == (1, 2)


def test_a_timeout_in_a_process_pool_counts_from_the_submission(
    backend: str, processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    """A process pool does not tell when a call starts, so a call that waits for a process beyond its timeout fails."""
    first = ProcessJob(bodies.wait_for_go, str(tmp_path), processes=processes)
    others = [ProcessJob(bodies.add, number, timeout=0.3, processes=processes) for number in range(3)]

    async def go() -> None:
        await others[-1].wait_settled()
        (tmp_path / "go").touch()

    run(backend, first, *others, Job(go))
    assert isinstance(others[-1].raised_exception(), JobTimeout)


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (lambda: None, (), "<lambda> cannot be sent to a worker of ProcessPoolExecutor, which could not find it"),
        (bodies.add, (1, threading.Lock()), "argument 2, a lock, cannot be sent"),
    ],
)
def test_a_call_that_cannot_be_pickled_fails_before_anything_is_sent(
    processes: ProcessPoolExecutor, function: Any, arguments: tuple[Any, ...], named: str
) -> None:
    """A function or argument that cannot be pickled is named in the error, and no call reaches the executor."""
    submitted = list[Any]()
    submit = processes.submit

    def noted(*args: Any) -> Future[Any]:
        submitted.append(args)
        return submit(*args)

    processes.submit = noted  # type: ignore[method-assign, assignment]
    job = ProcessJob(function, *arguments, label="send", processes=processes)
    run("trio", job)
    with pytest.raises(TypeError, match=named) as info:
        job.result()
    assert "'send'" in str(info.value)
    assert submitted == []


def test_an_executor_of_threads_accepts_what_cannot_be_pickled(threads: ThreadPoolExecutor) -> None:
    job = ProcessJob(lambda lock: lock.locked(), threading.Lock(), processes=threads)
    run("trio", job)
    assert job.result() is False


class OwnPool(ProcessPoolExecutor):
    """A pool that trioflow does not know how to make."""


def test_jobs_of_a_broken_executor_fail_with_advice(backend: str) -> None:
    with OwnPool(1, get_context("spawn")) as pool:
        first = ProcessJob(bodies.die, label="die", processes=pool)
        second = ProcessJob(bodies.pid, required=first, label="next", processes=pool)
        run(backend, first, second, critical_jobs=False)
    for job in (first, second):
        error = job.raised_exception()
        assert isinstance(error, BrokenExecutor)
        assert error.__notes__ == [
            f"{job.label!r}: its executor is broken and accepts no more calls; run again with a new one; "
            f"of trioflow's own worker processes (processes=None), one that dies fails its job alone"
        ]


def test_a_job_of_an_executor_that_was_shut_down_fails_with_advice(backend: str) -> None:
    """A job whose executor was shut down fails with a note that the executor must stay open until the run ends."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    job = ProcessJob(int, processes=pool)
    run(backend, job)
    error = job.raised_exception()
    assert isinstance(error, RuntimeError)
    assert "keep its executor open until the run ends" in error.__notes__[0]


def test_a_future_that_others_cancel_fails_the_job(backend: str, threads: ThreadPoolExecutor) -> None:
    go = threading.Event()
    threads.submit(go.wait, PATIENCE)
    job = ProcessJob(int, processes=threads)

    async def shut_down() -> None:
        await anyio.sleep(0.05)
        threads.shutdown(wait=False, cancel_futures=True)
        go.set()

    run(backend, job, Job(shut_down))
    with pytest.raises(
        RuntimeError, match="was cancelled, but not by the run: check whether the executor was shut down"
    ):
        job.result()


def test_stop_iteration_in_the_executor_becomes_a_runtime_error(backend: str, threads: ThreadPoolExecutor) -> None:
    job = ProcessJob(bodies.stop_iteration, processes=threads)
    run(backend, job)
    error = job.raised_exception()
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)
