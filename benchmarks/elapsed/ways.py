"""The ways to run a workflow: gather-based ones, other libraries, a nursery by hand, and trioflow."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from trioflow import Job, Scheduler

from .. import rivals
from ..bodies import Body
from ..rivals import OURS
from .workflows import Workflow

Run = Callable[[], Any]
BY_LEVELS: Final = "gather, level by level"
WITH_SEMAPHORE: Final = "gather of tasks, semaphore"
PATH: Final = f"{OURS}, critical path"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a workflow: `build` returns an async function, or a plain one where `backend` is "threads"."""

    name: str
    backend: str
    build: Callable[[Workflow, Body, int | None], Run]
    needs: str | None = None  # a library that may not be installed

    @property
    def is_installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    @property
    def label(self) -> str:
        return f"{self.name} ({self.backend})" if self.backend == "trio" else self.name


def as_rival(
    name: str, backend: str, workflow: Workflow, body: Body, window: int | None
) -> Run:
    """Build one of the suite's rivals, which has no durations."""
    return rivals.find(name, backend).build(workflow.graph, body, window)


def with_trioflow(
    policy: str, workflow: Workflow, body: Body, window: int | None
) -> Run:
    """Build the workflow as users of trioflow do, with expected durations."""
    jobs: list[Job[Any]] = []
    for number, (required, seconds) in enumerate(
        zip(workflow.graph.requirements, workflow.seconds, strict=True)
    ):
        jobs.append(
            Job(
                body,
                number,
                required=[jobs[one] for one in required],
                expected_duration=seconds,
            )
        )
    return partial(
        Scheduler(*jobs, jobs_window=window, policy=policy).co_run, check=True
    )


def by_aiometer(workflow: Workflow, body: Body, window: int | None) -> Run:
    """Run level by level, each with a limit: aiometer has no requirements."""
    import aiometer

    async def run() -> None:
        for level in workflow.graph.levels():
            await aiometer.run_on_each(body, level, max_at_once=window)

    return run


def by_dask(workflow: Workflow, body: Any, window: int | None) -> Run:
    """Run Dask's own scheduler of threads: delayed calls, as many in parallel as it has workers."""
    import dask

    def call(number: int, *_: object) -> None:
        body(number)

    calls: list[Any] = []
    for number, required in enumerate(workflow.graph.requirements):
        calls.append(
            dask.delayed(call, pure=False)(number, *(calls[one] for one in required))
        )
    return partial(
        dask.compute, *calls, scheduler="threads", num_workers=window or len(calls)
    )


WAYS: Final = (
    *(
        Way(f"{OURS}, {name}", backend, partial(with_trioflow, policy))
        for name, policy in (("critical path", "critical-path"), ("fifo", "fifo"))
        for backend in ("asyncio", "trio")
    ),
    Way(BY_LEVELS, "asyncio", partial(as_rival, "gather level by level", "asyncio")),
    Way(WITH_SEMAPHORE, "asyncio", partial(as_rival, "gather of tasks", "asyncio")),
    Way(
        "TaskGroup, counters",
        "asyncio",
        partial(as_rival, "counters on a TaskGroup", "asyncio"),
    ),
    Way(
        "anyio task group", "asyncio", partial(as_rival, "anyio task group", "asyncio")
    ),
    Way(
        "nursery, counters", "trio", partial(as_rival, "counters on a nursery", "trio")
    ),
    Way(
        "asynciojobs",
        "asyncio",
        partial(as_rival, "asynciojobs", "asyncio"),
        "asynciojobs",
    ),
    Way("aiometer, level by level", "asyncio", by_aiometer, "aiometer"),
    Way("Dask, threads", "threads", by_dask, "dask"),
)


def installed() -> list[Way]:
    """Return the ways whose library is here."""
    return [way for way in WAYS if way.is_installed]
