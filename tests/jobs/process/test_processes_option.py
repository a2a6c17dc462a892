"""`Scheduler(processes=)`: where the calls of ProcessJobs are made. Clusters are in `tests/test_dask.py`."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import pytest

from trioflow import Job, JobState, JobTimeout, ProcessJob, Scheduler, ThreadJob

from ...bodies import later, take
from .. import executor_bodies as bodies
from . import decorated_bodies


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(int).result() == 0  # its threads exist before the first test
        yield pool


class Counting(ThreadPoolExecutor):
    """Counts the calls that it takes."""

    calls = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
def counting() -> Iterator[Counting]:
    with Counting(2) as executor:
        yield executor


def test_an_executor_takes_the_calls_of_process_jobs(backend: str, pool: ProcessPoolExecutor) -> None:
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


def test_nested_schedulers_use_the_processes_option_of_the_nearest_scheduler(backend: str, counting: Counting) -> None:
    """The nearest `processes=` applies to a ProcessJob; "local" means the worker processes of this machine."""
    other = Counting(1)
    inherits, here, own = ProcessJob(os.getpid), ProcessJob(os.getpid), ProcessJob(os.getpid)
    nested = Scheduler(Scheduler(inherits))
    local = Scheduler(Scheduler(here), processes="local")
    with other:
        assert Scheduler(nested, local, Scheduler(own, processes=other), processes=counting).run(backend=backend)
    assert inherits.result() == own.result() == os.getpid() != here.result()
    assert (counting.calls, other.calls) == (1, 1)


def test_a_job_added_during_the_run_uses_the_executor(backend: str, counting: Counting) -> None:
    """A ProcessJob that is added during the run uses the executor of its scheduler, too."""

    async def main() -> None:
        async with Scheduler(processes=counting) as scheduler:
            first = scheduler.add(ProcessJob(bodies.add, 1))
            second = scheduler.add(ProcessJob(bodies.add, first, 1))
            assert await second == 2

    anyio.run(main, backend=backend)
    assert counting.calls == 2


def test_retry_failures_and_timeouts_apply_to_calls_in_an_executor(
    backend: str, counting: Counting, tmp_path: Path
) -> None:
    """In an executor, exceptions are those of the function, `retry` works, and a late call keeps its slot."""
    failing = ProcessJob(bodies.fail, retry=2)
    late = ProcessJob(bodies.wait_for_go, str(tmp_path), timeout=0.1)
    after = ProcessJob(bodies.add, 5, required=late)
    told = Job(later, 0.3, (tmp_path / "go").touch)
    Scheduler(Scheduler(late, after, jobs_window=1), told, failing, processes=counting).run(backend=backend)
    assert (type(failing.raised_exception()), failing.attempts) == (OSError, 3)
    assert isinstance(late.raised_exception(), JobTimeout)
    assert after.result() == 5
    assert after.started_at >= told.finished_at - 0.05  # type: ignore[operator]


@pytest.mark.parametrize("in_pool", [False, True])
def test_a_decorated_function_is_found_by_its_name(backend: str, pool: ProcessPoolExecutor, in_pool: bool) -> None:
    """A worker finds a function decorated by `@job` by its name; a method cannot be found this way."""
    fine, method = decorated_bodies.decorated(5), decorated_bodies.Holder().method()
    Scheduler(fine, method, processes=pool if in_pool else None).run(backend=backend)
    pid, number = fine.result()
    assert (number, fine.label) == (5, "decorated")
    assert pid != os.getpid()
    assert "Holder.method is a method decorated with @job" in str(method.raised_exception())


def test_a_broken_process_pool_is_replaced(backend: str) -> None:
    """A call in a broken process pool fails with the advice to retry, and later calls run in a new pool."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        dying, after = ProcessJob(bodies.die), ProcessJob(bodies.add, 2)
        after.requires(dying)
        Scheduler(dying, after, processes=pool).run(backend=backend)
        assert isinstance(dying.raised_exception(), BrokenExecutor)
        assert "with retry=1, the job runs in a new one" in str(dying.raised_exception().__notes__)  # type: ignore[union-attr]
        assert after.result() == 2


@pytest.mark.parametrize(
    ("option", "shown"), [({"memory_limit": 2**30}, "memory_limit=1073741824"), ({"nice": 5}, "nice=5")]
)
def test_memory_limit_and_nice_with_an_executor_raise(option: Any, shown: str, counting: Counting) -> None:
    """`memory_limit=` or `nice=` with an executor raises before any job starts, or when such a job is added."""
    before, job = ThreadJob(int), ProcessJob(int, label="limited", **option)
    scheduler = Scheduler(before, Scheduler(job), processes=counting)
    advice = re.escape(f"'limited' has {shown}") + r".*processes= is <.*Counting.*Scheduler\(processes='local'\)"
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


@pytest.mark.parametrize("given", [3.0, True, "cluster", ThreadPoolExecutor, lambda: None])
def test_an_invalid_processes_option_raises(given: Any) -> None:
    """An invalid `processes=` raises an error that lists the accepted values."""
    with pytest.raises(TypeError, match=r"processes of 'flow' is .*give an executor .*Cluster, a number .*, or None"):
        Scheduler(label="flow", processes=given)


def test_a_dask_client_as_processes_option_raises() -> None:
    """A dask Client as `processes=` raises an error that says to write `Cluster(client)`."""

    class Client:
        def get_executor(self) -> Executor:
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"write trioflow.dask.Cluster\(client\)"):
        Scheduler(processes=Client())  # type: ignore[arg-type]


def test_a_call_that_cannot_be_pickled_fails_in_an_executor(backend: str, pool: ProcessPoolExecutor) -> None:
    """A call that cannot be pickled fails in an executor with the same error as in a worker process."""
    jobs = [ProcessJob(bodies.add, threading.Lock()), ProcessJob(lambda: 1)]
    Scheduler(jobs, processes=pool).run(backend=backend)
    messages = [str(job.raised_exception()) for job in jobs]
    assert "argument 1, a lock, cannot be sent to a worker of ProcessPoolExecutor" in messages[0]
    assert "define it at the top level of a module" in messages[1]
