"""A program that observes how ProcessJobs fare on an engine: `python -m tests.jobs.process.engines ENGINE FOLDER UNIT`

It prints "ready", and waits for Ctrl-C with a call in progress. Then it prints what the page says, as one line of
JSON. UNIT is a number of seconds in which what happens at once has happened."""

import contextlib
import importlib
import importlib.util
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
import anyio
from trioflow import Job, JobState, JobTimeout, ProcessJob, Scheduler
from trioflow.dask import Cluster
from ...places import DOCS, PATIENCE
from .engine_bodies import Traveller, die_once, use, wait_for_go

PAGE = DOCS / "how-to" / "clusters.md"
WORKER_COUNT = 2


# ---------------------------------------------------------------- the engines, each with two workers
def adapter(name: str, folder: Path) -> Any:
    """Return the class of this name that the page shows, from a module that workers can import."""
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    [block] = [block for block in blocks if f"class {name}" in block]
    module = f"adapter_of_{name.lower()}"
    (folder / f"{module}.py").write_text(block, encoding="utf-8")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(folder), os.environ.get("PYTHONPATH", "")]
    )
    return getattr(importlib.import_module(module), name)


def process_pool(stack: contextlib.ExitStack, _: Path) -> Any:
    return stack.enter_context(ProcessPoolExecutor(WORKER_COUNT, get_context("spawn")))


def loky(stack: contextlib.ExitStack, _: Path) -> Any:
    pool = importlib.import_module("loky").get_reusable_executor(WORKER_COUNT)
    stack.callback(pool.shutdown)
    return pool


def executorlib(stack: contextlib.ExitStack, _: Path) -> Any:
    library = importlib.import_module("executorlib")
    executor = library.SingleNodeExecutor(
        max_workers=WORKER_COUNT, block_allocation=True
    )
    stack.callback(
        executor.shutdown, wait=False, cancel_futures=True
    )  # with wait=True, a lost call keeps it for ever
    return executor


def dask(stack: contextlib.ExitStack, _: Path) -> Any:
    distributed = importlib.import_module("distributed")
    options = {
        "n_workers": WORKER_COUNT,
        "threads_per_worker": 1,
        "dashboard_address": ":0",
    }
    cluster = stack.enter_context(distributed.LocalCluster(**options))
    return Cluster(stack.enter_context(distributed.Client(cluster)))


def ray(stack: contextlib.ExitStack, folder: Path) -> Any:
    executor = adapter("RayExecutor", folder)()
    library = importlib.import_module("ray")
    library.init(
        num_cpus=WORKER_COUNT,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    stack.callback(library.shutdown)
    return executor


def submitit(_: contextlib.ExitStack, folder: Path) -> Any:
    library = importlib.import_module("submitit")
    has_slurm = os.environ.get("SLURM_CONF")
    executor = (library.SlurmExecutor if has_slurm else library.LocalExecutor)(
        folder / "submitted"
    )
    executor.update_parameters(**({"time": 5} if has_slurm else {"timeout_min": 5}))
    return adapter("SubmititExecutor", folder)(executor)


def parsl(stack: contextlib.ExitStack, folder: Path) -> Any:
    library, executors = (
        importlib.import_module("parsl.config"),
        importlib.import_module("parsl.executors"),
    )
    provider = importlib.import_module("parsl.providers").LocalProvider(
        init_blocks=1, max_blocks=1
    )
    executor = executors.HighThroughputExecutor(
        label="trioflow", max_workers_per_node=WORKER_COUNT, address="127.0.0.1", loopback_address="127.0.0.1",
        heartbeat_period=2, heartbeat_threshold=10, provider=provider,
    )  # fmt: skip
    config = library.Config(
        executors=[executor], run_dir=str(folder / "parsl"), usage_tracking=0
    )
    return stack.enter_context(
        importlib.import_module("parsl.concurrent").ParslPoolExecutor(config)
    )


def mpi(stack: contextlib.ExitStack, _: Path) -> Any:
    return stack.enter_context(
        importlib.import_module("mpi4py.futures").MPIPoolExecutor(WORKER_COUNT)
    )


ENGINES: dict[str, Callable[[contextlib.ExitStack, Path], Any]] = {
    "worker processes": lambda _stack, _folder: WORKER_COUNT, "`ProcessPoolExecutor`": process_pool, "loky": loky,
    "executorlib": executorlib, "Dask": dask, "Ray": ray, "submitit": submitit, "Parsl": parsl, "MPI": mpi,
}  # fmt: skip


# ---------------------------------------------------------------- what is observed
async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until a condition holds, and return whether it does in time."""
    with anyio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 - what other processes do sets no event
            await anyio.sleep(0.01)
    return condition()


def is_alive(begun: Path) -> bool:
    """Return whether the process is there that has written a file."""
    try:
        stat = Path(f"/proc/{begun.read_text(encoding='utf-8')}/stat").read_text(
            encoding="utf-8"
        )
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def after_timeout(processes: Any, folder: Path, unit: float) -> str:
    first = ProcessJob(use, Traveller(str(folder)))  # a worker has started
    job = ProcessJob(
        wait_for_go, str(folder), "slow", timeout=2 * unit, label="slow", required=first
    )
    seen: list[bool] = []

    async def watch() -> None:
        await first.wait_settled()
        is_settled = await until(job.is_settled, 4 * unit)
        assert (folder / "slow.begun").exists()
        if is_settled:
            await until(lambda: not is_alive(folder / "slow.begun"), 2 * unit)
        (folder / "go").touch()
        await until(
            lambda: (
                (folder / "slow.ended").exists() or not is_alive(folder / "slow.begun")
            )
        )
        seen.extend([is_settled, not (folder / "slow.ended").exists()])

    Scheduler(first, job, Job(watch), processes=processes).run()
    assert isinstance(job.raised_exception(), JobTimeout)
    is_settled, is_killed = seen
    return (
        "ends the call"
        if is_killed
        else "lets go of it"
        if is_settled
        else "waits for it"
    )


def in_the_queue(processes: Any, folder: Path, unit: float) -> str:
    """Observe whether a timeout counts the time in which a call waits for a worker."""
    busy = [
        ProcessJob(wait_for_go, str(folder), f"busy{number}")
        for number in range(WORKER_COUNT)
    ]
    queued = ProcessJob(wait_for_go, str(folder), "queued", timeout=2 * unit)
    has_begun = False

    async def watch() -> None:
        await until(
            lambda: all(
                (folder / f"busy{number}.begun").exists()
                for number in range(WORKER_COUNT)
            )
        )
        scheduler.add(queued)
        await until(queued.is_settled, 4 * unit)
        nonlocal has_begun
        has_begun = (folder / "queued.begun").exists()
        (folder / "go").touch()

    scheduler = Scheduler(*busy, Job(watch), processes=processes)
    scheduler.run()
    return (
        "no queue" if has_begun else "counts" if queued.timed_out else "does not count"
    )


def between_calls(processes: Any, folder: Path, _: float) -> str:
    """Observe whether a result that only another call uses comes to this program."""
    Scheduler(
        ProcessJob(use, ProcessJob(Traveller, str(folder))), processes=processes
    ).run(check=True)
    return "come here" if (folder / f"arrived-{os.getpid()}").exists() else "stay there"


def with_a_journal(processes: Any, folder: Path, _: float) -> str:
    """Observe whether a second run restores what a first one has stored."""
    restored = 0
    for _run in range(2):
        first = ProcessJob(pow, 2, 5, label="first")
        second = ProcessJob(pow, first, 2, label="second")
        Scheduler(second, processes=processes).run(
            journal=str(folder / "run.db"), check=True
        )
        assert second.result() == 1024
        restored = first.restored + second.restored
    return {0: "no", 2: "yes"}[restored]


def after_a_kill(processes: Any, folder: Path, unit: float) -> str:
    """Observe what becomes of a call whose process is killed, of another that runs, and of a later one."""
    bystander = ProcessJob(wait_for_go, str(folder), "bystander", label="bystander")
    killed = ProcessJob(
        die_once, str(folder), retry=1, timeout=10 * unit, label="killed"
    )
    later = ProcessJob(pow, 2, 5, timeout=10 * unit, label="later")

    async def watch() -> None:
        await until((folder / "bystander.begun").exists)
        scheduler.add(killed)
        await until(killed.is_settled)
        (folder / "go").touch()
        await until(bystander.is_settled)
        scheduler.add(later)

    scheduler = Scheduler(bystander, Job(watch), processes=processes)
    scheduler.run()
    if killed.is_succeeded() and bystander.is_succeeded() and later.is_succeeded():
        return "its job fails" if killed.attempts == 2 else "it is repeated"
    if killed.timed_out:
        assert later.is_succeeded()
        return "it is lost"
    assert killed.state is JobState.FAILED
    assert later.state is JobState.FAILED
    return "the pool breaks"


def after_ctrl_c(processes: Any, folder: Path, unit: float) -> str:
    """Observe what Ctrl-C in a terminal does to a run, and to its call."""
    job = ProcessJob(wait_for_go, str(folder), "slow", label="slow")

    async def tell() -> None:
        await until((folder / "slow.begun").exists)
        print("ready", flush=True)

    scheduler = Scheduler(job, Job(tell), processes=processes)
    with contextlib.suppress(KeyboardInterrupt):
        scheduler.run()
        raise AssertionError(f"Ctrl-C did not end the run: {scheduler.stop_reason}")
    if (folder / "go").exists():
        return "waits for it"
    end = time.monotonic() + 2 * unit
    while (
        is_alive(folder / "slow.begun")
        and time.monotonic() < end
        and not (folder / "slow.ended").exists()
    ):
        time.sleep(0.01)
    (folder / "go").touch()
    end += unit
    while (
        is_alive(folder / "slow.begun")
        and time.monotonic() < end
        and not (folder / "slow.ended").exists()
    ):
        time.sleep(0.01)
    return "lets go of it" if (folder / "slow.ended").exists() else "ends the call"


COLUMNS = {
    "a timeout": after_timeout, "a timeout and the queue": in_the_queue, "results between jobs": between_calls,
    "restored by a journal": with_a_journal, "its worker is killed": after_a_kill, "Ctrl-C": after_ctrl_c,
}  # fmt: skip
"""What is observed, in this order; the last two may leave no engine to go on with."""


def main() -> None:
    name, folder, unit = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    row: dict[str, str] = {}
    for names in ([*COLUMNS][:-1], [*COLUMNS][-1:]):
        with contextlib.ExitStack() as stack:
            processes = ENGINES[name](stack, folder)
            first_calls = [
                ProcessJob(use, Traveller(str(folder))) for _ in range(WORKER_COUNT)
            ]
            Scheduler(*first_calls, processes=processes).run(
                check=True
            )  # the workers start
            for column in names:
                place = folder / column
                place.mkdir()
                row[column] = COLUMNS[column](processes, place, unit)
                print(f"{column}: {row[column]}", file=sys.stderr, flush=True)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        print("failed", flush=True)
        raise
