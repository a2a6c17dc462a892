"""ProcessJobs whose calls are made by executors of all kinds, in real time."""

import concurrent.futures
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from multiprocessing import get_context
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    Job,
    JobCancelled,
    JobState,
    JobTimeout,
    ProcessJob,
    Scheduler,
    StopReason,
    ThreadJob,
)
from trioflow.abc import AbstractJob, Instrument, incidents_of, propagate_env
from ... import otel_bodies
from ...bodies import at_once, later, ran, run, take
from ...places import PATIENCE, patiently
from . import decorated_bodies
from . import executor_bodies as bodies
from .process_bodies import interrupt

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


def test_an_overlong_call_is_logged(
    backend: str, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_cancelling_a_job_cancels_its_waiting_call(
    backend: str, threads: ThreadPoolExecutor
) -> None:
    """A job cancelled while its call waits in a busy pool settles at once, and its function is never called."""
    go, called = threading.Event(), list[int]()
    threads.submit(go.wait, PATIENCE)
    job = ProcessJob(called.append, 1, label="waits", processes=threads)
    run(backend, job, Job(later, 0.05, job.cancel))
    assert job.state is JobState.CANCELLED
    go.set()
    threads.submit(int).result(PATIENCE)
    assert called == []


def test_a_cancelled_job_keeps_its_slot_until_its_call_has_ended(
    backend: str, threads: ThreadPoolExecutor
) -> None:
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

    run(
        backend,
        job,
        Job(cancel),
        Job(at_once, lambda: order.append("after"), required=job, run_if="settled"),
    )
    assert order == ["ended", "after"]
    with pytest.raises(JobCancelled):
        job.result()


@patiently(0.1, 5, 30)
def test_timeout_does_not_count_the_wait_for_a_thread_of_executor(
    backend: str, tmp_path: Path, unit: float
) -> None:
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
    others = [
        ProcessJob(bodies.add, number, timeout=0.3, processes=processes)
        for number in range(3)
    ]

    async def go() -> None:
        await others[-1].wait_settled()
        (tmp_path / "go").touch()

    run(backend, first, *others, Job(go))
    assert isinstance(others[-1].raised_exception(), JobTimeout)


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (
            lambda: None,
            (),
            "<lambda> cannot be sent to a worker of ProcessPoolExecutor, which could not find it",
        ),
        (bodies.add, (1, threading.Lock()), "argument 2, a lock, cannot be sent"),
    ],
)
def test_a_call_that_cannot_be_pickled_fails_before_anything_is_sent(
    processes: ProcessPoolExecutor,
    function: Any,
    arguments: tuple[Any, ...],
    named: str,
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


def test_an_executor_of_threads_accepts_what_cannot_be_pickled(
    threads: ThreadPoolExecutor,
) -> None:
    job = ProcessJob(lambda lock: lock.locked(), threading.Lock(), processes=threads)
    run("trio", job)
    assert job.result() is False


class OwnPool(ProcessPoolExecutor):
    """A pool that trioflow does not know how to make."""


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt()"])
def test_an_exit_in_a_process_of_an_executor_fails_only_its_job(
    backend: str, processes: ProcessPoolExecutor, error: str
) -> None:
    """As in a worker process of a run: with an executor, `sys.exit()` there ended the run, and left `run()`."""
    job = ProcessJob(interrupt, error, label="exits")
    other = ProcessJob(pow, 2, 3, required=job, run_if="settled")
    scheduler = Scheduler(job, other, processes=processes)
    assert scheduler.run(backend=backend) is False
    assert scheduler.stop_reason is StopReason.FAILED
    with pytest.raises(
        RuntimeError,
        match=re.escape(f"'exits': its function raised {error} in its process"),
    ):
        job.result()
    assert other.result() == 8


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


def test_a_job_of_an_executor_that_was_shut_down_fails_with_advice(
    backend: str,
) -> None:
    """A job whose executor was shut down fails with a note that the executor must stay open until the run ends."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    job = ran(backend, ProcessJob(int, processes=pool))
    error = job.raised_exception()
    assert isinstance(error, RuntimeError)
    assert "keep its executor open until the run ends" in error.__notes__[0]


def test_a_future_that_others_cancel_fails_the_job(
    backend: str, threads: ThreadPoolExecutor
) -> None:
    go = threading.Event()
    threads.submit(go.wait, PATIENCE)
    job = ProcessJob(int, processes=threads)

    async def shut_down() -> None:
        await anyio.sleep(0.05)
        threads.shutdown(wait=False, cancel_futures=True)
        go.set()

    run(backend, job, Job(shut_down))
    with pytest.raises(
        RuntimeError,
        match="was cancelled, but not by the run: check whether the executor was shut down",
    ):
        job.result()


def test_a_future_that_the_function_has_cancelled_is_not_that_of_its_job(
    backend: str, threads: ThreadPoolExecutor
) -> None:
    """The error named the executor of the job, and asked whether it was shut down."""
    other = Future[int]()
    other.cancel()
    job = ProcessJob(other.result, processes=threads)
    run(backend, job)
    error = job.raised_exception()
    assert isinstance(error, concurrent.futures.CancelledError)


def test_stop_iteration_in_the_executor_becomes_a_runtime_error(
    backend: str, threads: ThreadPoolExecutor
) -> None:
    job = ran(backend, ProcessJob(bodies.stop_iteration, processes=threads))
    error = job.raised_exception()
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


# --- executors that are no pool of this machine, and those that are not what their base class says
class LostFuture(Future[Any]):
    def __init__(self) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()


class FutureWithoutCancel(LostFuture):
    def cancel(self) -> bool:
        raise NotImplementedError


class FutureWithFailingCancel(LostFuture):
    def cancel(self) -> bool:
        raise ConnectionError("the engine is gone")


class FarEngine(Executor):
    """An engine on another machine, which has lost all its calls."""

    def __init__(self, new_future: Callable[[], Future[Any]]) -> None:
        self._new_future = new_future

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        return self._new_future()


@pytest.mark.parametrize(
    "new_future", [LostFuture, FutureWithoutCancel, FutureWithFailingCancel]
)
@pytest.mark.parametrize(
    "cause", ["timeout", "cancel", "timeout of the run", "interrupt"]
)
@patiently(0.2, 2, 20)
def test_a_call_that_its_engine_has_lost_holds_nothing_up(
    backend: str,
    cause: str,
    new_future: Callable[[], Future[Any]],
    caplog: pytest.LogCaptureFixture,
    unit: float,
) -> None:
    """A timeout, `cancel()` and the end of the run let go of a call elsewhere, whatever its future says to a cancel."""
    lost = ProcessJob(pow, 2, 3, label="lost", processes=FarEngine(new_future))

    async def act() -> None:
        await anyio.sleep(0.05)
        if cause == "cancel":
            lost.cancel()
        elif cause == "interrupt":
            raise KeyboardInterrupt

    lost.timeout = 0.05 if cause == "timeout" else None
    scheduler = Scheduler(
        lost, Job(act), timeout=unit if cause == "timeout of the run" else None
    )
    if cause == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            scheduler.run(backend=backend)
    else:
        scheduler.run(backend=backend)
    expected = {
        "timeout": (JobTimeout, StopReason.FAILED),
        "cancel": (JobCancelled, StopReason.COMPLETED),
        "timeout of the run": (JobCancelled, StopReason.TIMEOUT),
        "interrupt": (JobCancelled, StopReason.INTERRUPTED),
    }[cause]
    with pytest.raises((JobTimeout, JobCancelled)) as info:
        lost.result()
    assert (type(info.value), scheduler.stop_reason) == expected
    has_said = (
        "'lost': its executor could not cancel the call: ConnectionError('the engine is gone')"
        in caplog.text
    )
    assert has_said == (new_future is FutureWithFailingCancel)


def test_a_call_that_was_let_go_may_end_after_its_run(backend: str) -> None:
    """The value or the exception of a call that was let go is dropped, also when the loop is gone."""
    future = LostFuture()
    scheduler = run(
        backend, ProcessJob(int, processes=FarEngine(lambda: future)), timeout=0.05
    )
    future.set_exception(OSError("late"))
    assert scheduler.stop_reason is StopReason.TIMEOUT


class InterpreterPoolExecutor(ThreadPoolExecutor):
    """As that of Python 3.14: a pool of threads, each of which pickles a call and makes it in another interpreter."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        function, args, kwargs = pickle.loads(pickle.dumps((fn, args, kwargs)))
        return super().submit(function, *args, **kwargs)


class OwnInterpreterPool(InterpreterPoolExecutor):
    """A subclass."""


class SpanToEnv(Instrument):
    """Gives the processes of each job a variable, as instruments of OpenTelemetry do."""

    def job_started(self, _: Any, job: AbstractJob[Any]) -> None:
        propagate_env({"TRACEPARENT": f"of {job.label}"})


@pytest.mark.parametrize("pool_type", [InterpreterPoolExecutor, OwnInterpreterPool])
@pytest.mark.parametrize(
    "options", [{}, {"timeout": PATIENCE}, {"idle_timeout": PATIENCE}]
)
def test_nothing_of_this_interpreter_is_sent_to_another(
    backend: str, pool_type: type[Executor], options: dict[str, float]
) -> None:
    """With an InterpreterPoolExecutor, timeouts and propagated variables send nothing that cannot be pickled."""
    with pool_type() as pool:
        job = ProcessJob(bodies.add, 1, kwargs={"extra": 2}, **options)  # type: ignore[arg-type]
        span = ProcessJob(otel_bodies.variable, label="span", **options)  # type: ignore[arg-type]
        lock = ProcessJob(bodies.add, threading.Lock(), **options)  # type: ignore[arg-type]
        run(backend, job, span, lock, processes=pool, instruments=[SpanToEnv()])
    assert (job.result(), span.result()) == (3, "of span")
    assert (
        "argument 1, a lock, cannot be sent to a worker of " + pool_type.__name__
        in str(lock.raised_exception())
    )


# --- `processes=` of schedulers and jobs: what makes the calls of ProcessJobs
@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(int).result() == 0  # its threads exist before the first test
        yield pool


class Counting(ThreadPoolExecutor):
    calls = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
def counting() -> Iterator[Counting]:
    with Counting(2) as executor:
        yield executor


def test_an_executor_takes_the_calls_of_process_jobs(
    backend: str, pool: ProcessPoolExecutor
) -> None:
    """An executor as `processes=` makes the calls of ProcessJobs, and still serves its owner afterwards."""
    there = [ProcessJob(bodies.add, number, 1) for number in range(3)]
    here = Job(take, there)
    total = ProcessJob(sum, there, kwargs={"start": 10})
    process = ProcessJob(bodies.pid)
    scheduler = Scheduler(here, total, process, processes=pool)
    assert scheduler.run(backend=backend)
    assert (here.result(), total.result()) == (([1, 2, 3],), 16)
    assert process.result() == pool.submit(os.getpid).result()
    scheduler.processes = None
    assert scheduler.run(backend=backend)
    assert total.result() == 16
    assert process.result() not in (os.getpid(), pool.submit(os.getpid).result())


def test_nested_schedulers_use_the_processes_option_of_the_nearest_scheduler(
    backend: str, counting: Counting
) -> None:
    """The nearest `processes=` applies to a ProcessJob; "local" means the worker processes of this machine."""
    other = Counting(1)
    inherits, here, own = (
        ProcessJob(os.getpid),
        ProcessJob(os.getpid),
        ProcessJob(os.getpid),
    )
    nested = Scheduler(Scheduler(inherits))
    local = Scheduler(Scheduler(here), processes="local")
    with other:
        assert Scheduler(
            nested, local, Scheduler(own, processes=other), processes=counting
        ).run(backend=backend)
    assert inherits.result() == own.result() == os.getpid() != here.result()
    assert (counting.calls, other.calls) == (1, 1)


def test_the_processes_option_of_a_job_comes_before_that_of_its_scheduler(
    backend: str, counting: Counting
) -> None:
    """`ProcessJob(processes=)` chooses what makes its call, whatever its scheduler says, and with `map` and `@job`."""
    there, here = (
        ProcessJob(os.getpid, processes=counting),
        ProcessJob(os.getpid, processes="local", nice=1),
    )
    plain = Scheduler(there, ProcessJob(os.getpid))
    mapped = plain.map(bodies.add, [1, 2], kind=ProcessJob, processes=counting)
    with Counting(1) as other:
        assert Scheduler(plain, Scheduler(here, processes=other)).run(backend=backend)
    assert there.result() == os.getpid() != here.result()
    assert [job.result() for job in mapped] == [1, 2]
    assert (counting.calls, other.calls) == (3, 0)
    assert (there.processes, here.processes, mapped[0].processes) == (
        counting,
        "local",
        counting,
    )


def test_a_job_added_during_the_run_uses_the_executor(
    backend: str, counting: Counting
) -> None:
    async def main() -> None:
        async with Scheduler(processes=counting) as scheduler:
            first = scheduler.add(ProcessJob(bodies.add, 1))
            assert await scheduler.add(ProcessJob(bodies.add, first, 1)) == 2

    anyio.run(main, backend=backend)
    assert counting.calls == 2


def test_retry_and_timeouts_apply_to_calls_in_an_executor(
    backend: str, counting: Counting, tmp_path: Path
) -> None:
    failing = ProcessJob(bodies.fail, retry=2)
    late = ProcessJob(bodies.wait_for_go, str(tmp_path), timeout=0.1)
    after = ProcessJob(bodies.add, 5, required=late, run_if="settled")
    told = Job(later, 0.3, (tmp_path / "go").touch)
    Scheduler(
        Scheduler(late, after, jobs_window=1), told, failing, processes=counting
    ).run(backend=backend)
    assert (type(failing.raised_exception()), failing.attempts) == (OSError, 3)
    assert isinstance(late.raised_exception(), JobTimeout)
    assert after.result() == 5
    assert after.started_at >= told.finished_at - 0.05  # type: ignore[operator]


@pytest.mark.parametrize("in_pool", [False, True])
def test_a_decorated_function_is_found_by_its_name(
    backend: str, pool: ProcessPoolExecutor, in_pool: bool
) -> None:
    fine, method = decorated_bodies.decorated(5), decorated_bodies.Holder().method()
    Scheduler(fine, method, processes=pool if in_pool else None).run(backend=backend)
    pid, number = fine.result()
    assert (number, fine.label) == (5, "decorated")
    assert pid != os.getpid()
    assert "Holder.method is a method decorated with @job" in str(
        method.raised_exception()
    )


@pytest.mark.parametrize(
    ("option", "shown"),
    [({"memory_limit": 2**30}, "memory_limit=1073741824"), ({"nice": 5}, "nice=5")],
)
def test_memory_limit_and_nice_with_an_executor_raise(
    option: Any, shown: str, counting: Counting
) -> None:
    before, job = ThreadJob(int), ProcessJob(int, label="limited", **option)
    scheduler = Scheduler(before, Scheduler(job), processes=counting)
    advice = (
        re.escape(f"'limited' has {shown}")
        + ".*processes= is <.*Counting.*give the job processes='local'"
    )
    with pytest.raises(ValueError, match=advice):
        scheduler.run()
    assert (before.state, scheduler.is_runnable()) == (JobState.IDLE, False)
    scheduler.processes = None
    assert scheduler.is_runnable()

    async def main() -> None:
        async with Scheduler(processes=counting) as running:
            with pytest.raises(ValueError, match="has " + shown):
                running.add(ProcessJob(int, **option))

    anyio.run(main)


@pytest.mark.parametrize(
    "given", [3.0, True, "cluster", ThreadPoolExecutor, lambda: None]
)
def test_an_invalid_processes_option_raises(given: Any) -> None:
    expected = (
        r"processes of 'flow' is .*give an executor .*Cluster, a number .*, or None"
    )
    with pytest.raises(TypeError, match=expected):
        Scheduler(label="flow", processes=given)
    with pytest.raises(TypeError, match=expected):
        ProcessJob(int, label="flow", processes=given)


def test_a_number_as_processes_option_of_a_job_raises() -> None:
    with pytest.raises(
        TypeError,
        match=r"processes of 'int' is 4: .* write Scheduler\(processes=4\), or give the job",
    ):
        ProcessJob(int, processes=4)  # type: ignore[call-overload]


def test_a_dask_client_as_processes_option_raises() -> None:
    class Client:
        def get_executor(self) -> Executor:
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"write trioflow.dask.Cluster\(client\)"):
        Scheduler(processes=Client())  # type: ignore[arg-type]
