"""Executors that are no pool of this machine, and those that are not what their base class says."""

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from trioflow import Job, JobCancelled, JobTimeout, ProcessJob, Scheduler, StopReason
from trioflow.abc import AbstractJob, Instrument, propagate_env
from ... import otel_bodies
from ...bodies import run
from ...places import PATIENCE, patiently
from . import executor_bodies as bodies


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


@pytest.mark.parametrize("new_future", [LostFuture, FutureWithoutCancel, FutureWithFailingCancel])
@pytest.mark.parametrize("cause", ["timeout", "cancel", "timeout of the run", "interrupt"])
@patiently(0.2, 2, 20)
def test_a_call_that_its_engine_has_lost_holds_nothing_up(
    backend: str, cause: str, new_future: Callable[[], Future[Any]], caplog: pytest.LogCaptureFixture, unit: float
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
    scheduler = Scheduler(lost, Job(act), timeout=unit if cause == "timeout of the run" else None)
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
    has_said = "'lost': its executor could not cancel the call: ConnectionError('the engine is gone')" in caplog.text
    assert has_said == (new_future is FutureWithFailingCancel)


def test_a_call_that_was_let_go_may_end_after_its_run(backend: str) -> None:
    """The value or the exception of a call that was let go is dropped, also when the loop is gone."""
    future = LostFuture()
    scheduler = run(backend, ProcessJob(int, processes=FarEngine(lambda: future)), timeout=0.05)
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
@pytest.mark.parametrize("options", [{}, {"timeout": PATIENCE}, {"idle_timeout": PATIENCE}])
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
    assert "argument 1, a lock, cannot be sent to a worker of " + pool_type.__name__ in str(lock.raised_exception())
