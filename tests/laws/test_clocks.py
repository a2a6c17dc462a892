"""A law over kinds and ways to run: no clock of a job runs before its own code can, and attempts count from there."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import (
    AbstractJob,
    CommandJob,
    First,
    Job,
    JobState,
    ProcessJob,
    Scheduler,
    SshJob,
    ThreadJob,
)
from trioflow._core.job import _job_options
from trioflow._core.job._job_options import declare_run_resource
from trioflow._core.job._option_descriptors import set_run_need
from trioflow.abc import run_of
from trioflow.jobs.command import _resource_limits
from trioflow.jobs.process import _worker_pool
from ..bodies import fail_now
from ..jobs.ssh.conftest import server as server
from ..jobs.ssh.conftest import site as site
from ..jobs.ssh.servers import Proxy, have_sshd
from ..places import PATIENCE, patiently

if TYPE_CHECKING:
    from ..jobs.ssh.servers import Server

    Make = Callable[..., AbstractJob[Any]]


# ---- the ways to run a job: each returns a scheduler
def in_clean_up(make: Make, _: float) -> Scheduler:
    failing = Job(fail_now, critical=True)
    return Scheduler(
        failing, make(run_if="failed", required=failing), cleanup_timeout=PATIENCE
    )


def tried_again(make: Make, unit: float) -> Scheduler:
    job = make()

    async def cancel_and_try_again() -> None:
        await anyio.sleep(unit / 2)
        job.cancel()
        await job.wait_settled()
        job.try_again()

    return Scheduler(job, Job(cancel_and_try_again))


WAYS: dict[str, Callable[[Make, float], Scheduler]] = {
    "alone": lambda make, _: Scheduler(make()),
    "called": lambda make, _: Scheduler(Job(make().co_run)),
    "in_clean_up": in_clean_up,
    "forever": lambda make, unit: Scheduler(
        make(forever=True), Job(anyio.sleep, 6 * unit)
    ),
    "after_a_token": lambda make, unit: Scheduler(
        Job(anyio.sleep, unit / 2), make(), jobs_window=anyio.CapacityLimiter(1)
    ),
    "nested": lambda make, _: Scheduler(Scheduler(make())),
    "in_a_first": lambda make, _: Scheduler(First(make())),
    "tried_again": tried_again,
}


# ---- the kinds: each yields a function that makes a job, whose own code can run only after three units
class Site:
    def __init__(
        self, unit: float, patch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        self.unit, self.patch, self.request = unit, patch, request
        self.calls: list[Callable[[], object]] = []
        self.journals: Path | None = None


@contextlib.contextmanager
def worker_process(site: Site) -> Generator[Make]:
    """A process that has to import the program first."""
    words = [
        "sh",
        "-c",
        f'sleep {3 * site.unit}; exec "$@"',
        "sh",
        *_worker_pool._worker_command(),
    ]
    site.patch.setattr(_worker_pool, "_worker_command", lambda: words)
    yield lambda **options: ProcessJob(pow, 2, 3, **options)


@contextlib.contextmanager
def thread_of_an_executor(site: Site) -> Generator[Make]:
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> AbstractJob[Any]:
            pool, is_free = (
                stack.enter_context(ThreadPoolExecutor(1)),
                threading.Event(),
            )
            pool.submit(is_free.wait)
            site.calls.append(is_free.set)
            return ProcessJob(pow, 2, 3, processes=pool, **options)

        yield make


@contextlib.contextmanager
def token_of_a_limiter(site: Site) -> Generator[Make]:
    """A token of a limiter for threads that another task has."""

    def make(**options: Any) -> AbstractJob[Any]:
        limiter, other = anyio.CapacityLimiter(1), object()
        limiter.acquire_on_behalf_of_nowait(other)
        site.calls.append(lambda: limiter.release_on_behalf_of(other))
        return ThreadJob(pow, 2, 3, limiter=limiter, **options)

    yield make


@contextlib.contextmanager
def command_in_line(site: Site) -> Generator[Make]:
    """A command that waits until the system has a process for it."""
    start = _resource_limits.SpawnQueue.start_when_possible

    async def start_late(queue: Any, function: Callable[[], None]) -> bool:
        await anyio.sleep(3 * site.unit)
        return await start(queue, function)

    site.patch.setattr(_resource_limits.SpawnQueue, "start_when_possible", start_late)
    yield lambda **options: CommandJob(["true"], **options)


@contextlib.contextmanager
def node(site: Site) -> Generator[Make]:
    """A node that takes long to connect to."""
    server: Server = site.request.getfixturevalue("server")
    with Proxy(server, *[3 * site.unit] * 99) as proxy:
        yield lambda **options: SshJob(proxy.node(), "true", **options)


class Gate:
    """A gate that takes three units to open."""

    unit = 0.0
    is_open = False

    def __init__(self, _: object) -> None:
        pass

    def is_closed_to(self, _: object) -> bool:
        return not self.is_open

    async def open(self, _: object) -> None:
        await anyio.sleep(3 * self.unit)
        self.is_open = True


class Gated(AbstractJob[None], keeps_time=True):
    def check_before_run(self) -> None:
        set_run_need(self, "passes", 0 if self.forever else 1)

    async def co_run(self) -> None:
        gate = run_of(self).shared(Gate)
        while gate.is_closed_to(self):
            await gate.open([self])
        with run_of(self).time_limit(self, cancels=True):
            await anyio.lowlevel.checkpoint()


@contextlib.contextmanager
def own_gate(site: Site) -> Generator[Make]:
    """What is behind the gate of a resource."""
    site.patch.setattr(Gate, "unit", site.unit)
    declare_run_resource(
        "passes", lambda: 1, "opening", lambda job: run_of(job).shared(Gate)
    )
    try:
        yield Gated
    finally:
        del _job_options.RUN_RESOURCES["passes"]


@contextlib.contextmanager
def files_of_a_journal(site: Site) -> Generator[Make]:
    """A directory that a journal lists before the job, and before its record."""
    site.journals = site.request.getfixturevalue("tmp_path")
    listdir = os.listdir

    def list_late(path: Any = ".") -> list[str]:
        if path == site.journals:
            time.sleep(1.5 * site.unit)
        return listdir(path)

    site.patch.setattr(os, "listdir", list_late)
    yield lambda **options: Job(
        anyio.lowlevel.checkpoint, reads=[site.journals], **options
    )


KINDS = [
    worker_process,
    files_of_a_journal,
    thread_of_an_executor,
    token_of_a_limiter,
    command_in_line,
    pytest.param(
        node,
        marks=pytest.mark.skipif(
            not have_sshd(), reason="needs openssh-server and openssh-client"
        ),
    ),
    own_gate,
]


@pytest.mark.parametrize("kind", KINDS)
@patiently(0.5, 5)
def test_no_clock_of_a_job_runs_before_its_own_code_can(
    backend: Any,
    kind: Any,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    unit: float,
) -> None:
    """With a timeout of one unit, each job succeeds in its first attempt, however it is run: all ways at once."""
    found: dict[str, list[AbstractJob[Any]]] = {}

    async def play(site: Site, way: str, make: Make) -> None:
        made: list[AbstractJob[Any]] = []

        def make_one(**options: Any) -> AbstractJob[Any]:
            made.append(make(timeout=unit, retry=2, label=way, **options))
            return made[0]

        scheduler = WAYS[way](make_one, unit)
        journal = site.journals and site.journals / way
        await scheduler.co_run(journal=journal)
        found[way] = [*scheduler, *made]

    async def main(site: Site, make: Make) -> None:
        async with anyio.create_task_group() as tasks:
            for way in WAYS:
                tasks.start_soon(play, site, way, make)
            await anyio.sleep(3 * unit)
            for call in site.calls:
                call()

    with (
        monkeypatch.context() as patch,
        kind(site := Site(unit, patch, request)) as make,
    ):
        anyio.run(main, site, make, backend=backend)
    for name, jobs in found.items():
        job = jobs[-1] if name != "called" else jobs[0]
        assert (name, job.state) == (name, JobState.SUCCEEDED), job.raised_exception()
        assert name == "tried_again" or job.attempts == 1, name
        assert not job.timed_out, name
