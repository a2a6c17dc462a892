"""`Cluster` on real clusters."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import unittest.mock
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trioflow import (
    Job,
    JobCancelled,
    JobNotDone,
    JobState,
    JobTimeout,
    ProcessJob,
    Scheduler,
    StopReason,
)
from trioflow._core.words._job_queries import stored_result
from trioflow.abc import AbstractJob
from trioflow.dask import Cluster, import_dask
from trioflow.otel import Tracing
from trioflow.view import listing
from . import dask_bodies as bodies
from . import otel_bodies
from .bodies import nap, notes, run, take
from .cli.command_line import process, written
from .cli.command_line import run as command_line
from .places import EXAMPLES, PATIENCE, patiently
from .testing.kinds import check_kind
from .view.agreement import FAILURES, Views

if TYPE_CHECKING:
    from distributed import Client

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning:distributed"
    )
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two processes, forked from one that has imported Dask; its threads exist before the first test."""
    import dask  # not in each process that collects the tests: it takes long
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            resources={"own": 1},
        ) as cluster,
        Client(cluster) as client,
    ):
        done = threading.Event()
        future = client.submit(bodies.add, 1)
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE)
        client.gather(future)
        yield client


def pids(directory: Path) -> list[int]:
    """Return the process ids written by `until_told`."""
    return [int(path.name.removeprefix("pid-")) for path in directory.glob("pid-*")]


async def until_noted(directory: Path, number: int = 1) -> None:
    """Wait until `until_told` runs in the given number of processes."""
    while len(pids(directory)) < number:  # noqa: ASYNC110 - other processes write there
        await anyio.sleep(0.01)


async def until_queued(client: Client, worker: str, number: int) -> None:
    """Wait until the given number of calls wait for a worker that is busy."""

    def queued(dask_worker: Any) -> int:
        return sum(task.state == "ready" for task in dask_worker.state.tasks.values())

    def found() -> int:
        return int(client.run(queued, workers=[worker])[worker])

    while await anyio.to_thread.run_sync(found) < number:  # noqa: ASYNC110 - in another process
        await anyio.sleep(0.01)


# ---- jobs on a cluster
def workers_of(client: Client) -> list[str]:
    """Return the addresses of both workers once both exist: the client's information may be outdated."""
    client.wait_for_workers(2)
    found: list[str] = client.run_on_scheduler(
        lambda dask_scheduler: list(dask_scheduler.workers)
    )
    return found


@pytest.mark.parametrize("backend", ["asyncio"])  # the backend does not matter
def test_jobs_on_a_cluster_pass(backend: Any, client: Client) -> None:
    check_kind(
        backend,
        partial(ProcessJob, bodies.add, 1, processes=Cluster(client)),
        partial(ProcessJob, time.sleep, 0.3, processes=Cluster(client)),
        partial(ProcessJob, bodies.fail, processes=Cluster(client)),
    )


def test_equal_calls_of_several_jobs_all_run(
    backend: str, client: Client, tmp_path: Path
) -> None:
    """Dask caches calls by their arguments, but each job makes a separate call."""
    jobs = [
        ProcessJob(bodies.note, str(tmp_path / "notes"), "x", processes=Cluster(client))
        for _ in range(3)
    ]
    run(backend, *jobs, jobs_window=1)
    assert (tmp_path / "notes").read_text() == "x\nx\nx\n"


def test_workers_and_resources_of_a_cluster_decide_where_calls_are_made(
    backend: str, client: Client
) -> None:
    addresses = workers_of(client)
    jobs = [
        ProcessJob(
            bodies.where, n, processes=Cluster(client, workers=[addresses[n % 2]])
        )
        for n in range(4)
    ]
    own = ProcessJob(bodies.where, processes=Cluster(client, resources={"own": 1}))
    run(backend, *jobs, own)
    assert [job.result() for job in jobs] == [addresses[n % 2] for n in range(4)]
    assert own.result() in addresses


def test_calls_on_a_busy_worker_are_ordered_by_expected_durations(
    backend: str, client: Client, tmp_path: Path
) -> None:
    """On a busy worker, the head of a long job runs before that of several short ones, submitted earlier."""
    address = workers_of(client)[0]
    notes = str(tmp_path / "notes")
    one = {"processes": Cluster(client, workers=address)}

    def noted(label: str, required: AbstractJob[Any]) -> ProcessJob[Any]:
        return ProcessJob(
            bodies.note, notes, label, label=label, required=required, **one
        )

    busy, begun = (
        ProcessJob(bodies.until_told, str(tmp_path), **one),
        Job(until_noted, tmp_path),
    )
    other, head = noted("other", begun), noted("head", begun)
    short = noted("short 0", other)
    jobs = [other, short, noted("short 1", short), head, noted("long", head)]

    async def go() -> None:
        await until_queued(client, address, 2)
        (tmp_path / "go").touch()

    seconds = {"head": 1.0, "long": 60.0, "other": 1.0, "short 0": 2.0, "short 1": 2.0}
    assert Scheduler(busy, begun, *jobs, Job(go), durations=seconds).run(
        backend=backend
    )
    assert (tmp_path / "notes").read_text().splitlines()[0] == "head"


def test_cancelled_or_timed_out_job_on_a_cluster_settles_at_once(
    backend: str, client: Client, tmp_path: Path
) -> None:
    running = ProcessJob(bodies.until_told, str(tmp_path), processes=Cluster(client))
    late = ProcessJob(
        bodies.until_told, str(tmp_path), processes=Cluster(client), timeout=0.5
    )

    async def cancel() -> None:
        await until_noted(tmp_path)
        running.cancel()

    run(backend, running, late, Job(cancel))
    (tmp_path / "go").touch()
    with pytest.raises(JobCancelled):
        running.result()
    assert isinstance(late.raised_exception(), JobTimeout)


def test_a_cancelled_job_on_a_cluster_does_not_wait_for_a_value_that_hangs(
    backend: str, client: Client
) -> None:
    asked, gone = threading.Event(), list[bool]()

    async def hang(*_: Any, **options: Any) -> Any:
        asked.set()
        await asyncio.sleep(PATIENCE)
        gone.append(True)

    job = ProcessJob(bodies.add, 1, processes=Cluster(client))

    async def cancel() -> None:
        await anyio.to_thread.run_sync(asked.wait)
        job.cancel()

    client.gather, gather = hang, client.gather
    try:
        run(backend, job, Job(cancel))
        assert gone == []
    finally:
        client.gather = gather
    with pytest.raises(JobCancelled):
        job.result()


def test_a_future_cancelled_by_another_client_fails_the_job(
    backend: str, client: Client, tmp_path: Path
) -> None:
    job = ProcessJob(bodies.until_told, str(tmp_path), processes=Cluster(client))
    futures: list[Any] = []
    submit = client.submit

    async def cancel() -> None:
        await until_noted(tmp_path)
        await anyio.to_thread.run_sync(futures[0].cancel)

    client.submit = lambda *args, **own: (
        futures.append(submit(*args, **own)) or futures[-1]
    )
    try:
        run(backend, job, Job(cancel))
    finally:
        client.submit = submit
        (tmp_path / "go").touch()
    with pytest.raises(RuntimeError, match="its future is cancelled: another client"):
        job.result()


@pytest.mark.parametrize(
    "options", [{}, {"pure": False}, {"workers": ["a"], "retries": 2}]
)
def test_the_executor_of_a_dask_client_is_refused(
    client: Client, options: dict[str, Any]
) -> None:
    """`get_executor()` makes equal calls once and takes some keyword arguments: the error says to write `Cluster`."""
    with client.get_executor(**options) as executor:
        for owner in (Scheduler, partial(ProcessJob, int)):
            with pytest.raises(
                TypeError,
                match=r"write trioflow.dask.Cluster\(client\).*makes equal calls once",
            ):
                owner(label="wrong", processes=executor)


def test_equal_calls_on_a_cluster_are_made_each(
    backend: str, client: Client, tmp_path: Path
) -> None:
    """A cluster makes each of several equal calls, a retry calls again, and keywords belong to the function."""
    draws = [ProcessJob(bodies.draw) for _ in range(20)]
    again = ProcessJob(bodies.fail_once, str(tmp_path / "tried"), "done", retry=1)
    keywords = ProcessJob(
        dict, kwargs={"retries": 1, "key": 2, "pure": 3, "workers": 4, "priority": 5}
    )
    run(backend, *draws, again, keywords, processes=Cluster(client))
    assert len({job.result() for job in draws}) == 20
    assert (again.result(), again.attempts) == ("done", 2)
    assert keywords.result() == {
        "retries": 1,
        "key": 2,
        "pure": 3,
        "workers": 4,
        "priority": 5,
    }


@pytest.mark.parametrize("backend", ["asyncio"])  # the backend does not matter
def test_calls_and_values_of_a_killed_worker_are_computed_again(
    backend: str, client: Client, tmp_path: Path
) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as own,
    ):
        jobs = [
            ProcessJob(bodies.until_told, str(tmp_path), 0),
            ProcessJob(bodies.until_told, str(tmp_path), 1),
        ]
        total = ProcessJob(sum, jobs)

        async def kill() -> None:
            await until_noted(tmp_path, 2)
            for pid in pids(tmp_path):
                os.kill(pid, signal.SIGKILL)
            await until_noted(tmp_path, 4)
            (tmp_path / "go").touch()

        scheduler = run(backend, total, *jobs, Job(kill), processes=Cluster(own))
        assert [job.state for job in scheduler] == [JobState.SUCCEEDED] * 4
        assert total.result() == 1


def test_the_error_without_dask_has_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ModuleNotFoundError, match=r'pip install "trioflow\[dask\]"'):
        import_dask("no_such_module")


# ---- scenarios on a cluster
def test_a_scenario_has_the_same_results_on_a_cluster_and_locally(
    backend: str, client: Client, tmp_path: Path
) -> None:
    """One option moves all calls to a cluster, even nested and retried ones, and local jobs use their results."""

    def run_it(processes: Any) -> list[Any]:
        flag = tmp_path / f"flag {processes is None}"
        parts = [
            ProcessJob(bodies.add, number, timeout=PATIENCE) for number in range(3)
        ]
        scheduler = Scheduler(parts, processes=processes)
        nested = Scheduler(label="nested", scheduler=scheduler)
        doubled = [nested.add(ProcessJob(bodies.add, part, part)) for part in parts]
        here = Job(take, doubled[0], parts[0])
        again = ProcessJob(bodies.fail_once, str(flag), doubled[1], retry=1)
        total = ProcessJob(sum, [*doubled, again])
        scheduler.update([here, total])
        assert scheduler.run(backend=backend)
        assert again.attempts == 2
        return [here.result(), again.result(), total.result(), parts[1].result()]

    assert run_it(Cluster(client)) == run_it(None) == [(0, 0), 2, 8, 1]


def test_a_result_used_only_on_the_cluster_is_not_transferred(
    backend: str, client: Client
) -> None:
    cluster = Cluster(client)
    first = ProcessJob(bodies.make_worker_only)
    scheduler = Scheduler(first, processes=cluster)
    scheduler.add(
        Scheduler(ProcessJob(bodies.size, first, label="inner"), label="nested")
    )
    there, both, here = (
        ProcessJob(bodies.add, 1),
        ProcessJob(bodies.add, 2),
        ProcessJob(bodies.add, 3),
    )
    of_both = ProcessJob(bodies.where, both)
    own = ProcessJob(bodies.add, there, processes=Cluster(client))
    of_own = ProcessJob(bodies.add, own, both)
    awaiting = Job(take, both, here)
    scheduler.update([of_both, of_own, awaiting])
    assert scheduler.run(backend=backend)
    assert [repr(stored_result(job)) for job in (first, there)] == [
        f"<{kind} on the Dask cluster at {client.scheduler.address}>"
        for kind in ("WorkerOnly", "int")
    ]
    assert [stored_result(job) for job in (both, here)] == [2, 3]
    assert scheduler.results()[first] is stored_result(first)
    assert there.result() == there.result(default=0) == 1
    assert awaiting.result() == (2, 3)
    assert of_own.result() == 3
    assert repr(cluster) == f"<Cluster at {client.scheduler.address}>"
    assert f"<int on the Dask cluster at {client.scheduler.address}>" in listing(
        scheduler, details=True
    )


def test_jobs_added_later_get_results_that_stayed_on_the_cluster(
    backend: str, client: Client
) -> None:
    async def main() -> None:
        async with Scheduler(processes=Cluster(client)) as scheduler:
            first = scheduler.add(ProcessJob(bodies.add, 1))
            second = scheduler.add(ProcessJob(bodies.add, first, 10))
            assert await second == 11
            third = scheduler.add(ProcessJob(bodies.add, second, 100))
            assert (await scheduler.add(Job(take, first, [second])), await third) == (
                (1, [11]),
                111,
            )
        assert "on the Dask cluster" in repr(stored_result(first))

    anyio.run(main, backend=backend)


def test_a_journal_restores_results_across_cluster_and_local_runs(
    backend: str, client: Client, tmp_path: Path
) -> None:
    journal, notes = str(tmp_path / "run.db"), str(tmp_path / "notes")

    def jobs(number: int) -> list[ProcessJob[Any]]:
        first = ProcessJob(bodies.noted, notes, 5, label="noted")
        others = [
            ProcessJob(bodies.add, first, further, label=f"more {further}")
            for further in (100, number)
        ]
        return [first, *others]

    for number, processes in enumerate((Cluster(client), None, Cluster(client))):
        made = jobs(number)
        assert Scheduler(made, processes=processes).run(
            backend=backend, journal=journal
        )
        assert [job.result() for job in made] == [5, 105, 5 + number]
        assert [job.restored for job in made] == [number > 0, number > 0, False]
    assert Path(notes).read_text() == "noted\n"


def test_keep_result_false_drops_results_on_a_cluster(
    backend: str, client: Client
) -> None:
    first = ProcessJob(bodies.add, 1, keep_result=False)
    last = ProcessJob(bodies.add, first, 1)
    assert Scheduler(last, processes=Cluster(client)).run(backend=backend)
    assert last.result() == 2
    with pytest.raises(JobNotDone, match="was dropped"):
        first.result()


@pytest.mark.usefixtures("client")  # its threads exist before the test
def test_the_error_names_a_value_lost_with_a_closed_client() -> None:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        with Client(cluster, set_as_default=False) as own:
            first = ProcessJob(bodies.add, 1)
            last = ProcessJob(bodies.add, first, 1)
            assert Scheduler(last, processes=Cluster(own)).run()
            place = Cluster(own)
        with pytest.raises(
            RuntimeError,
            match=r"'add\(1\)': its value was kept on the Dask cluster at inproc://.*open",
        ):
            first.result()
        late = ProcessJob(bodies.add, 1)
        Scheduler(late, processes=place).run()
        assert "its Dask client is closed: close it after the run" in str(
            late.raised_exception()
        )
    assert last.result() == 2


@pytest.mark.usefixtures("client")  # its threads exist before the test
@patiently(1, 10, 60)
def test_a_killed_dask_scheduler_fails_its_jobs_immediately(
    backend: str, unit: float
) -> None:
    from distributed import Client

    program = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--port",
        "0",
        "--no-dashboard",
    ]
    with subprocess.Popen(
        [*program, "--host", "127.0.0.1"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "Scheduler at:" in line)
        with Client(line.split()[-1], set_as_default=False, timeout=unit) as own:
            waiting = ProcessJob(bodies.add, 1)
            timed = ProcessJob(bodies.add, 1, timeout=60)
            later = ProcessJob(bodies.add, 2, critical=True).requires(
                [waiting, timed], settled=True
            )

            async def kill() -> float:
                while len(own.futures) < 2:  # noqa: ASYNC110 - it has no event
                    await anyio.sleep(0.01)
                process.kill()
                return time.monotonic()

            killed = Job(kill)
            scheduler = Scheduler(waiting, timed, later, killed, processes=Cluster(own))
            assert not scheduler.run(backend=backend)
            assert scheduler.stop_reason is StopReason.CRITICAL
            assert time.monotonic() - killed.result() < PATIENCE
            for job in (waiting, timed, later):
                assert (
                    f"the connection to the Dask scheduler at {line.split()[-1]} was lost"
                    in str(job.raised_exception())
                )


@pytest.mark.usefixtures("client")  # its threads exist before the test
def test_a_job_on_a_cluster_without_workers_waits_for_one(backend: str) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as own,
    ):
        job = ProcessJob(bodies.add, 1)

        async def grow() -> None:
            while not own.futures:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.01)
            await anyio.to_thread.run_sync(cluster.scale, 1)

        assert Scheduler(job, Job(grow), processes=Cluster(own)).run(backend=backend)
    assert job.result() == 1


@pytest.mark.usefixtures("client")  # its threads exist before the test
def test_a_cluster_may_grow_and_shrink_during_a_run(backend: str) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as own,
    ):
        first = [ProcessJob(bodies.add, number) for number in range(6)]

        async def scale() -> None:
            for number in (0, 1, 3, 1):
                await anyio.to_thread.run_sync(cluster.scale, number)
                while len(own.scheduler_info(n_workers=-1)["workers"]) != number:  # noqa: ASYNC110 - it has no event
                    await anyio.sleep(0.01)

        scaled = Job(scale, required=first)
        total = ProcessJob(sum, first, required=scaled)
        assert Scheduler(first, total, scaled, processes=Cluster(own)).run(
            backend=backend
        )
        assert "on the Dask cluster" in repr(stored_result(first[0]))
    assert total.result() == 15


def test_the_dask_option_runs_process_jobs_of_a_scenario_on_a_cluster(
    client: Client, tmp_path: Path
) -> None:
    """With `--dask`, workers get the definitions of a scenario's file by value; a nested scheduler may stay local."""
    file = written(tmp_path, """
        import os
        def process(*_): return os.getpid()
        @job(kind=ProcessJob)
        def one_more(*_): return process()
        async def note(*pids):
            open(os.path.dirname(__file__) + "/pids", "w").write(" ".join(map(str, pids)))
        there = one_more(ProcessJob(process))
        local = Scheduler(here := ProcessJob(process), processes="local")
        main = Scheduler(there, local, Job(note, there, here))
    """)  # fmt: skip
    assert command_line("--dask", client.scheduler.address, file).exit_code == 0
    workers = set(client.run(os.getpid).values())
    there, here = map(int, (tmp_path / "pids").read_text().split())
    assert there in workers
    assert here not in {*workers, os.getpid()}


def test_the_dask_option_runs_the_sizes_example_on_a_cluster(client: Client) -> None:
    result = command_line(
        "--dask", client.scheduler.address, EXAMPLES / "sizes.py", "--set", "parts=3"
    )
    assert result.exit_code == 0
    assert "all 7 jobs succeeded" in result.output


def test_the_dask_option_fails_if_no_dask_scheduler_answers(tmp_path: Path) -> None:
    done = process(
        "run",
        "--dask",
        "nonsense://x",
        written(tmp_path, "main = Scheduler(Job(work))"),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "--dask nonsense://x: no Dask scheduler answers at this address" in done.stderr
    )


def test_error_names_unsendable(
    backend: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names an argument that cannot be sent to a cluster, or a module that its workers cannot import."""
    (tmp_path / "only_here.py").write_text("def f(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    lock, named = (
        ProcessJob(bodies.add, threading.Lock()),
        ProcessJob(bodies.add, kwargs={"extra": threading.Lock()}),
    )
    missing = ProcessJob(importlib.import_module("only_here").f)
    Scheduler(lock, named, missing, processes=Cluster(client)).run(backend=backend)
    assert (
        "argument 1, a lock, cannot be sent to a worker of the Dask cluster: cannot"
        in str(lock.raised_exception())
    )
    assert "argument 'extra', a lock, cannot be sent" in str(named.raised_exception())
    assert (
        "must be able to import only_here: install it there, or call client"
        in notes(missing.raised_exception())
    )


def test_a_cluster_rejects_asynchronous_clients_and_wrong_arguments(
    client: Client,
) -> None:
    with pytest.raises(TypeError, match=r"Cluster\(5\): give a distributed.Client"):
        Cluster(5)
    with (
        unittest.mock.patch.object(type(client), "asynchronous", True),
        pytest.raises(TypeError, match="create it without that"),
    ):
        Cluster(client)
    with pytest.raises(TypeError, match="resources='GPU' of Cluster: give a dict"):
        Cluster(client, resources="GPU")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="workers=5 of Cluster: give the addresses"):
        Cluster(client, workers=5)  # type: ignore[arg-type]


def test_a_call_on_a_cluster_gets_the_otel_span_of_its_job(client: Client) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    job = ProcessJob(otel_bodies.variable, processes=Cluster(client), label="a")
    assert Scheduler(job, instruments=[Tracing(provider)]).run(backend="trio")
    ids = {
        span.name: f"{span.context.span_id:016x}" for span in spans.get_finished_spans()
    }
    assert job.result().split("-")[2] == ids["a"]
    again = ProcessJob(otel_bodies.variable, processes=Cluster(client))
    assert Scheduler(again).run(backend="trio")
    assert again.result() is None


def test_all_views_of_a_run_on_a_cluster_agree(client: Client, tmp_path: Path) -> None:
    jobs = [
        ProcessJob(bodies.add, 1, processes=Cluster(client)),
        ProcessJob(bodies.fail, processes=Cluster(client), label="bad"),
        Job(nap, 0),
    ]
    Views(
        lambda scheduler, **options: scheduler.run(**options), Scheduler(jobs), tmp_path
    ).check(FAILURES)
