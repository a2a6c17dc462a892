"""Much of everything in one run that stays open: in the end, nothing of this program has grown."""

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
import anyio
import pytest
from trioflow import (
    CommandJob,
    Events,
    Job,
    Journal,
    Pool,
    Rate,
    Scheduler,
    ThreadJob,
    ref,
)
from trioflow.abc import AbstractJob
from ..bodies import fail_now, nothing
from ..places import PATIENCE
from ..pythons import python
from .heartbeat import KINDS

SLACK = 4000
"""Objects that may be more at any time: trio keeps a thousand deadlines that are over."""


class Footprint(NamedTuple):
    """The resources that this program uses at one moment."""

    objects: int
    descriptors: int
    threads: int
    processes: int


def look() -> Footprint:
    gc.collect()
    children = "".join(
        file.read_text() for file in Path("/proc/self/task").glob("*/children")
    ).split()
    descriptors = len(os.listdir("/proc/self/fd"))
    return Footprint(
        len(gc.get_objects()), descriptors, threading.active_count(), len(children)
    )


def has_grown(before: Footprint, after: Footprint) -> bool:
    """Return whether there is more than there was before; idle threads and descriptors come and go."""
    more = any(
        count > earlier + 2
        for count, earlier in zip(after[1:], before[1:], strict=True)
    )
    return more or after.objects > before.objects + SLACK


def batch(label: str) -> list[AbstractJob[Any]]:
    tree = "sleep 1000 & (trap '' TERM; sleep 1000) & exec sleep 1000"  # one of the children does not heed SIGTERM
    kinds: list[Callable[[], AbstractJob[Any]]] = [
        lambda: Job(nothing, label=label),
        lambda: Job(anyio.sleep, 0.001, needs={"slots": 1}, label=label),
        lambda: Job(fail_now, retry=1, label=label),
        lambda: Job(anyio.sleep, 10, timeout=0.002, label=label),
        lambda: ThreadJob(int, label=label),
        lambda: Job(nothing, needs={"calls": 1}, own_task=True, label=label),
        lambda: Scheduler(
            Job(nothing),
            Job(fail_now),
            Scheduler(Job(anyio.sleep, 0.001)),
            jobs_window=1,
            label=label,
        ),
        lambda: Scheduler(
            Job(fail_now, critical=True), Job(anyio.sleep, 10), label=label
        ),
    ]
    programs = [
        CommandJob(["true"], label=label),
        CommandJob(["false"], label=label),
        CommandJob(tree, shell=True, timeout=0.02, terminate_grace=0.02, label=label),
    ]
    return [*(kind() for kind in 8 * kinds), *programs]


@pytest.mark.parametrize(
    "batches",
    [2, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
    ids=["short", "long"],
)
def test_nothing_grows_with_the_number_of_jobs(
    backend: str, tmp_path: Path, batches: int
) -> None:
    """There are no more objects, descriptors, threads and processes after all jobs of a run than after half of them."""
    looks: list[Footprint] = []

    async def add_and_wait(scheduler: Scheduler) -> None:
        for number in range(batches):
            jobs = [scheduler.add(job) for job in batch(f"batch {number}")]
            for job in jobs:
                await job.wait_settled()
            del job, jobs
            if number in (batches // 2 - 1, batches - 1):
                await anyio.sleep(0.05)
                looks.append(look())
        with anyio.move_on_after(
            PATIENCE
        ):  # on a busy machine, what the last batch had takes long to end
            while has_grown(looks[0], looks[-1]):
                await anyio.sleep(0.05)
                looks.append(look())

    scheduler = Scheduler(
        jobs_window=16,
        pool=Pool(slots=8, calls=Rate(requests=1_000_000, per=1)),
        instruments=[Events(os.devnull)],
        keep_jobs=False,
    )
    scheduler.add(Job(add_and_wait, ref(scheduler), label="open"))
    assert not scheduler.run(backend=backend, journal=Journal(tmp_path / "run.db"))
    assert not has_grown(looks[0], looks[-1]), looks


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_heart_beats_beside_work_of_all_kinds(backend: str) -> None:
    """The program that finds the longest gaps runs all kinds of work, and says where the loop was in each gap."""
    ended = python(
        "-m",
        "tests.run.heartbeat",
        "60",
        backend,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert all(f"'{kind.__name__}': " in ended.stdout for kind in KINDS), (
        ended.stdout + ended.stderr
    )
