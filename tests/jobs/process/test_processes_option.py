"""`processes=` of schedulers and jobs: what makes the calls of ProcessJobs. Clusters are in `tests/test_dask.py`."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import Job, JobState, JobTimeout, ProcessJob, Scheduler, ThreadJob
from ...bodies import later, take
from . import decorated_bodies
from . import executor_bodies as bodies


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


def test_the_processes_option_of_a_job_comes_before_that_of_its_scheduler(backend: str, counting: Counting) -> None:
    """`ProcessJob(processes=)` chooses what makes its call, whatever its scheduler says, and with `map` and `@job`."""
    there, here = ProcessJob(os.getpid, processes=counting), ProcessJob(os.getpid, processes="local", nice=1)
    plain = Scheduler(there, ProcessJob(os.getpid))
    mapped = plain.map(bodies.add, [1, 2], kind=ProcessJob, processes=counting)
    with Counting(1) as other:
        assert Scheduler(plain, Scheduler(here, processes=other)).run(backend=backend)
    assert there.result() == os.getpid() != here.result()
    assert [job.result() for job in mapped] == [1, 2]
    assert (counting.calls, other.calls) == (3, 0)
    assert (there.processes, here.processes, mapped[0].processes) == (counting, "local", counting)


def test_a_job_added_during_the_run_uses_the_executor(backend: str, counting: Counting) -> None:
    async def main() -> None:
        async with Scheduler(processes=counting) as scheduler:
            first = scheduler.add(ProcessJob(bodies.add, 1))
            assert await scheduler.add(ProcessJob(bodies.add, first, 1)) == 2

    anyio.run(main, backend=backend)
    assert counting.calls == 2


def test_retry_and_timeouts_apply_to_calls_in_an_executor(backend: str, counting: Counting, tmp_path: Path) -> None:
    failing = ProcessJob(bodies.fail, retry=2)
    late = ProcessJob(bodies.wait_for_go, str(tmp_path), timeout=0.1)
    after = ProcessJob(bodies.add, 5, required=late, run_if="settled")
    told = Job(later, 0.3, (tmp_path / "go").touch)
    Scheduler(Scheduler(late, after, jobs_window=1), told, failing, processes=counting).run(backend=backend)
    assert (type(failing.raised_exception()), failing.attempts) == (OSError, 3)
    assert isinstance(late.raised_exception(), JobTimeout)
    assert after.result() == 5
    assert after.started_at >= told.finished_at - 0.05  # type: ignore[operator]


@pytest.mark.parametrize("in_pool", [False, True])
def test_a_decorated_function_is_found_by_its_name(backend: str, pool: ProcessPoolExecutor, in_pool: bool) -> None:
    fine, method = decorated_bodies.decorated(5), decorated_bodies.Holder().method()
    Scheduler(fine, method, processes=pool if in_pool else None).run(backend=backend)
    pid, number = fine.result()
    assert (number, fine.label) == (5, "decorated")
    assert pid != os.getpid()
    assert "Holder.method is a method decorated with @job" in str(method.raised_exception())


@pytest.mark.parametrize(
    ("option", "shown"), [({"memory_limit": 2**30}, "memory_limit=1073741824"), ({"nice": 5}, "nice=5")]
)
def test_memory_limit_and_nice_with_an_executor_raise(option: Any, shown: str, counting: Counting) -> None:
    before, job = ThreadJob(int), ProcessJob(int, label="limited", **option)
    scheduler = Scheduler(before, Scheduler(job), processes=counting)
    advice = re.escape(f"'limited' has {shown}") + ".*processes= is <.*Counting.*give the job processes='local'"
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
    expected = r"processes of 'flow' is .*give an executor .*Cluster, a number .*, or None"
    with pytest.raises(TypeError, match=expected):
        Scheduler(label="flow", processes=given)
    with pytest.raises(TypeError, match=expected):
        ProcessJob(int, label="flow", processes=given)


def test_a_number_as_processes_option_of_a_job_raises() -> None:
    with pytest.raises(TypeError, match=r"processes of 'int' is 4: .* write Scheduler\(processes=4\), or give the job"):
        ProcessJob(int, processes=4)  # type: ignore[call-overload]


def test_a_dask_client_as_processes_option_raises() -> None:
    class Client:
        def get_executor(self) -> Executor:
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"write trioflow.dask.Cluster\(client\)"):
        Scheduler(processes=Client())  # type: ignore[arg-type]
