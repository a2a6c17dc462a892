"""The call of a `ProcessJob` by an executor (PEP 3148) of threads, processes or a cluster."""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import pickle
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, cast

from ...abc import FunctionJob, ThreadEvent, call_of, propagated_env, run_of
from .. import T, _pickling
from .._env_propagation import call_with_variables, wrap_with_variables


async def call_in_executor(executor: Executor, job: FunctionJob[T]) -> T:
    """Make the call of a job in an executor, and return the result.

    Args:
        executor: the executor.
        job: the job.

    Raises:
        BaseException: the function raised this exception.
        BrokenExecutor: the executor has broken.
        TypeError: an argument or the result cannot be pickled.
        RuntimeError: the executor is shut down, or other code has cancelled the future.

    """
    run, started_event, ended_event = run_of(job), ThreadEvent(), ThreadEvent()
    try:
        future = _submit_call(executor, job, started_event)
    except BrokenExecutor as error:
        raise _add_advice(error, job, executor) from None

    def mark_ended(_: object) -> None:
        started_event.set()
        ended_event.set()

    future.add_done_callback(mark_ended)
    try:
        await started_event.wait()
        with run.time_limit(job, cancels=True):
            await ended_event.wait()
    except BaseException:
        if not future.cancel():
            await ended_event.outlast()
        raise
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise RuntimeError(
            f"{job.label!r}: its future was cancelled, but not by the run: check whether the executor was "
            f"shut down or lost its workers"
        ) from None
    except BrokenExecutor as error:
        raise _add_advice(error, job, executor) from None
    finally:
        del future  # breaks a reference cycle: the future refers to the exception, whose traceback refers to this frame


def _submit_call(executor: Executor, job: FunctionJob[T], started_event: ThreadEvent) -> Future[T]:
    call = call_of(job)
    if job.timeout is job.idle_timeout is None or not isinstance(executor, ThreadPoolExecutor):
        started_event.set()
    else:
        call = functools.partial(_call_and_report_start, started_event, call)
    make_pickler = _executor_pickler(executor)
    if make_pickler is not None:
        if not _uses_cloudpickle(executor):
            call = functools.partial(_pickling.make_picklable(call.func), *call.args, **call.keywords)
        _pickling.check_picklable(call, job, f"a worker of {type(executor).__name__}", make_pickler)
    call = _with_propagated_context(call, executor)
    try:
        return executor.submit(call.func, *call.args, **call.keywords)
    except BrokenExecutor:
        raise
    except RuntimeError as error:
        error.add_note(f"{job.label!r} could not be submitted: keep its executor open until the run ends")
        raise


def _add_advice(error: BrokenExecutor, job: FunctionJob[Any], executor: Executor) -> BrokenExecutor:
    advice = "run again with a new one"
    if isinstance(executor, ProcessPoolExecutor):
        advice += "; of trioflow's own worker processes (processes=None), one that dies fails its job alone"
    error.add_note(f"{job.label!r}: its executor is broken and accepts no more calls; {advice}")
    return error


def _with_propagated_context(call: functools.partial[T], executor: Executor) -> functools.partial[T]:
    """Wrap a call for an executor so that processes started during the call get the job's propagated variables.

    A thread makes the call in a copy of the job's context. Another process sets the variables in its environment during
    the call. If the job carries no variables, the call is returned unchanged.
    """
    variables = dict(propagated_env())
    if not variables:
        return call
    if isinstance(executor, ThreadPoolExecutor):
        return functools.partial(contextvars.copy_context().run, call)
    if _uses_cloudpickle(executor):
        return functools.partial(wrap_with_variables(call.func, variables), *call.args, **call.keywords)
    return functools.partial(call_with_variables, variables, call.func, *call.args, **call.keywords)


def _call_and_report_start(started_event: ThreadEvent, call: functools.partial[T]) -> T:
    started_event.set()
    return call()


def _uses_cloudpickle(executor: Executor) -> bool:
    """Return whether an executor uses cloudpickle, which can also pickle lambdas and local functions."""
    return type(executor).__module__.startswith(("distributed", "loky"))


def _executor_pickler(executor: Executor) -> _pickling.PicklerFactory | None:
    """Return the pickler that an executor uses, or None if it does not pickle or its pickler is unknown."""
    if isinstance(executor, ProcessPoolExecutor):
        from multiprocessing.reduction import ForkingPickler

        return cast(_pickling.PicklerFactory, ForkingPickler)
    if type(executor).__name__ == "InterpreterPoolExecutor" or type(executor).__module__.startswith("mpi4py"):
        return pickle.Pickler
    if _uses_cloudpickle(executor):
        return _pickling.cloudpickle_pickler()
    return None
