"""`ExecutorJob`: functions in executors of all kinds, in real time."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import pytest

from trioflow import ExecutorJob, Job, JobCancelled, JobState, JobTimeout, ProcessJob, Scheduler

from ..bodies import Flaw, run
from ..places import PATIENCE, patiently
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


def test_a_function_is_called_by_the_executor(backend: str, threads: ThreadPoolExecutor) -> None:
    """An ExecutorJob calls its function in the executor, which still serves its owner after the run."""
    job = ExecutorJob(threads, threading.current_thread)
    assert run(backend, job).stop_reason
    assert job.result().name.startswith("ThreadPoolExecutor")
    assert job.label == "current_thread()"
    assert threads.submit(int).result() == 0  # it is still the caller's


def test_arguments_and_results_go_to_processes_and_back(backend: str, processes: ProcessPoolExecutor) -> None:
    """Jobs among the arguments of an ExecutorJob are replaced by their results before the call goes to a process."""
    first = ExecutorJob(processes, bodies.add, 1, 2)
    second = ExecutorJob(processes, bodies.add, first, kwargs={"extra": first})
    run(backend, second)
    assert (first.result(), second.result()) == (3, 6)


@pytest.mark.skipif(not hasattr(concurrent.futures, NAME), reason="since Python 3.14")
def test_functions_run_in_other_interpreters_of_the_process(backend: str) -> None:
    """With an InterpreterPoolExecutor, ExecutorJobs and ProcessJobs get inputs, results and exceptions as elsewhere."""
    with getattr(concurrent.futures, NAME)(1) as pool:
        first, wrong = ExecutorJob(pool, pow, 2, 5), ExecutorJob(pool, int, "x")
        second = ProcessJob(pow, first, 2)
        Scheduler(second, wrong, processes=pool).run(backend=backend)  # type: ignore[arg-type]
    assert second.result() == 1024
    with pytest.raises(ValueError, match="invalid literal"):
        wrong.result()


def test_an_exception_in_the_executor_fails_the_job(backend: str, processes: ProcessPoolExecutor) -> None:
    """An exception raised in a worker process fails the job with its own type and text."""
    job = ExecutorJob(processes, bodies.fail)
    run(backend, job)
    with pytest.raises(OSError, match="in the worker"):
        job.result()


def test_cancelling_a_job_cancels_its_waiting_call(backend: str, threads: ThreadPoolExecutor) -> None:
    """A job cancelled while its call waits in a busy pool settles at once, and its function is never called."""
    go, called = threading.Event(), list[int]()
    threads.submit(go.wait, PATIENCE)
    job = ExecutorJob(threads, called.append, 1, label="waits")

    async def cancel() -> None:
        await anyio.sleep(0.05)
        job.cancel()

    run(backend, job, Job(cancel))
    assert job.state is JobState.CANCELLED
    go.set()
    threads.submit(int).result(PATIENCE)
    assert called == []


def test_a_cancelled_job_keeps_its_slot_until_its_running_call_has_ended(
    backend: str, threads: ThreadPoolExecutor
) -> None:
    """A job cancelled during its call is CANCELLED when the call has ended, and the value of the call is dropped."""
    go, began, order = threading.Event(), threading.Event(), list[str]()

    def hold() -> str:
        began.set()
        assert go.wait(PATIENCE)
        order.append("ended")
        return "late"

    job = ExecutorJob(threads, hold)

    async def cancel() -> None:
        await anyio.to_thread.run_sync(began.wait, PATIENCE)
        job.cancel()
        await anyio.sleep(0.05)
        assert job.is_running()
        go.set()

    async def after() -> None:
        order.append("after")

    run(backend, job, Job(cancel), Job(after, required=job))
    assert order == ["ended", "after"]
    with pytest.raises(JobCancelled):
        job.result()


@patiently(0.05, 1)
def test_a_timeout_fails_the_job_when_its_running_call_has_ended(
    backend: str, threads: ThreadPoolExecutor, unit: float
) -> None:
    """A running call cannot be interrupted, so its job fails with JobTimeout only when the call has ended."""
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert go.wait(PATIENCE)

    async def let_go() -> None:
        await anyio.to_thread.run_sync(began.wait, PATIENCE)
        await anyio.sleep(3 * unit)
        go.set()

    job = ExecutorJob(threads, work, timeout=unit)
    run(backend, job, Job(let_go))
    assert isinstance(job.raised_exception(), JobTimeout)


@patiently(0.1, 5)
def test_a_timeout_does_not_count_the_wait_for_a_thread_of_the_executor(
    backend: str, tmp_path: Path, unit: float
) -> None:
    """A call that waits for a thread longer than its timeout, and then ends at once, has not timed out."""
    with ThreadPoolExecutor(1) as pool:
        told = tmp_path / str(unit)
        told.mkdir()
        first = ExecutorJob(pool, bodies.wait_for_go, str(told))
        second = ExecutorJob(pool, bodies.add, 1, timeout=unit)
        idle = ExecutorJob(pool, bodies.add, 2, idle_timeout=unit)

        async def go() -> None:
            await anyio.sleep(1.5 * unit)
            (told / "go").touch()

        run(backend, first, second, idle, Job(go))
    assert (second.result(), idle.result()) == (1, 2)


def test_a_timeout_in_a_process_pool_counts_from_the_submission(
    backend: str, processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    """A process pool does not tell when a call starts, so a call that waits for a process beyond its timeout fails."""
    first = ExecutorJob(processes, bodies.wait_for_go, str(tmp_path))
    others = [ExecutorJob(processes, bodies.add, number, timeout=0.3) for number in range(3)]

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
    job = ExecutorJob(processes, function, *arguments, label="send")
    run("trio", job)
    with pytest.raises(TypeError, match=named) as info:
        job.result()
    assert "'send'" in str(info.value)
    assert submitted == []


def test_an_executor_of_threads_accepts_what_cannot_be_pickled(threads: ThreadPoolExecutor) -> None:
    """A lambda and a lock, which cannot be pickled, may go to an executor of threads."""
    job = ExecutorJob(threads, lambda lock: lock.locked(), threading.Lock())
    run("trio", job)
    assert job.result() is False


class OwnPool(ProcessPoolExecutor):
    """A pool that trioflow does not know how to make."""


def test_jobs_of_a_broken_executor_fail_with_advice(backend: str) -> None:
    """Jobs of a broken executor fail, and a note says how to have the executor replaced."""
    with OwnPool(1, get_context("spawn")) as pool:
        first = ExecutorJob(pool, bodies.die, label="die")
        second = ExecutorJob(pool, bodies.pid, required=first, label="next")
        run(backend, first, second)
    for job in (first, second):
        error = job.raised_exception()
        assert isinstance(error, BrokenExecutor)
        assert error.__notes__ == [
            f"{job.label!r}: its executor is broken and accepts no more calls; "
            f"to have it replaced, give a function that creates one"
        ]


@pytest.mark.parametrize("made", [True, False], ids=["function", "pool"])
def test_a_broken_process_pool_is_replaced(backend: str, made: bool) -> None:
    """After a process pool breaks, later calls use a new pool, which ends with the run."""
    pool: Any = new_pool if made else new_pool()
    first = ExecutorJob(pool, bodies.die)
    second = ExecutorJob(pool, bodies.pid, required=first)
    third = ExecutorJob(pool, bodies.pid, required=second)
    run(backend, first, second, third, shutdown_timeout=PATIENCE)
    assert isinstance(first.raised_exception(), BrokenExecutor)
    assert second.result() == third.result()
    assert_gone(second.result())
    if not made:
        pool.shutdown()


def assert_gone(pid: int) -> None:
    assert not Path("/proc", str(pid)).exists()


def test_retry_after_a_broken_pool_uses_a_new_pool(backend: str, tmp_path: Path) -> None:
    """With `retry=1`, a job whose first attempt kills its worker process succeeds in a new pool."""
    job = ExecutorJob(new_pool, bodies.die_once, str(tmp_path / "died"), retry=1)
    run(backend, job)
    assert (job.result(), job.attempts) == ("alive", 2)


def test_an_executor_made_by_a_function_serves_all_jobs_of_a_run_and_ends_with_it(backend: str) -> None:
    """A function that creates an executor is called once per run, and the executor also serves nested schedulers."""
    jobs = [ExecutorJob(new_pool, bodies.pid) for _ in range(3)]
    inner = ExecutorJob(new_pool, bodies.pid)
    run(backend, *jobs, Scheduler(inner))
    pids = {job.result() for job in (*jobs, inner)}
    assert len(pids) == 1
    assert_gone(pids.pop())


def test_a_job_of_an_executor_that_was_shut_down_fails_with_advice(backend: str) -> None:
    """A job whose executor was shut down fails with a note that the executor must stay open until the run ends."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    job = ExecutorJob(pool, int)
    run(backend, job)
    error = job.raised_exception()
    assert isinstance(error, RuntimeError)
    assert "keep its executor open until the run ends" in error.__notes__[0]


def test_a_future_that_others_cancel_fails_the_job(backend: str, threads: ThreadPoolExecutor) -> None:
    """A job whose future is cancelled by other code fails with a RuntimeError, and does not count as cancelled."""
    go = threading.Event()
    threads.submit(go.wait, PATIENCE)
    job = ExecutorJob(threads, int)

    async def shut_down() -> None:
        await anyio.sleep(0.05)
        threads.shutdown(wait=False, cancel_futures=True)
        go.set()

    run(backend, job, Job(shut_down))
    with pytest.raises(
        RuntimeError, match="was cancelled, but not by the run: check whether the executor was shut down"
    ):
        job.result()


def test_a_stop_iteration_in_the_executor_fails_the_job_with_a_runtime_error(
    backend: str, threads: ThreadPoolExecutor
) -> None:
    """No coroutine can raise StopIteration, so one raised in the executor becomes the cause of a RuntimeError."""
    job = ExecutorJob(threads, bodies.stop_iteration)
    run(backend, job)
    error = job.raised_exception()
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


async def co() -> None:
    raise Flaw


@pytest.mark.parametrize(
    ("arguments", "options", "advice"),
    [
        ((3, int), {}, "give an executor, or a function that creates one"),
        ((ThreadPoolExecutor, co), {}, r"write Job\(co, ...\)"),
        ((ThreadPoolExecutor, 5), {}, "give a plain function"),
    ],
)
def test_invalid_arguments_of_an_executor_job_raise(arguments: Any, options: Any, advice: str) -> None:
    """An ExecutorJob with an invalid executor or function raises a TypeError that says what to give."""
    with pytest.raises(TypeError, match=advice):
        ExecutorJob(*arguments, **options)


def test_the_error_on_a_dask_client_names_its_executor() -> None:
    """A dask Client given as an executor raises an error that suggests `get_executor()` or DaskJob."""

    class Client:
        def get_executor(self) -> None: ...

    with pytest.raises(TypeError, match=r"give its get_executor\(\), or use DaskJob"):
        ExecutorJob(Client(), int)  # type: ignore[arg-type]


def test_a_function_that_returns_no_executor_fails_the_job(backend: str) -> None:
    """If a function that should create an executor returns something else, the error shows what it returned."""
    job = ExecutorJob(int, int)  # type: ignore[arg-type]
    run(backend, job)
    with pytest.raises(TypeError, match="must return an executor, but returned 0"):
        job.result()
