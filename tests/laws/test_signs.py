"""Each event of a job, of whatever kind and at any depth, is a sign of life of the schedulers around it."""

from typing import Any

import anyio
import pytest
from trioflow import Job, Retry, Scheduler, Service, current_job, current_scheduler
from ..bodies import Flaw, nap
from ..conftest import Virtual

EVENTS = ["job_added", "job_scheduled", "job_attempt", "service_ready", "job_settled", "progress"]


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("event", EVENTS)
def test_each_event_alone_keeps_a_scheduler_from_idling(virtual: Virtual, event: str, depth: int) -> None:
    async def body(*, task_status: Any = None) -> None:
        if event == "job_attempt" and current_job().attempts == 1:
            raise Flaw
        if event != "job_attempt":
            await anyio.sleep(2)
        if event == "job_added":
            current_scheduler().add(Job(nap, 0, required=long))
        elif event == "job_scheduled" and current_job().attempts == 1:
            raise Flaw
        elif event == "service_ready":
            task_status.started()
        elif event == "progress":
            current_job().progress()
        if event not in ("job_settled", "job_scheduled"):
            await anyio.sleep(9)

    def scene(idle_timeout: float) -> Scheduler:
        kind: Any = Service if event == "service_ready" else Job
        backoff = {"job_attempt": 2, "job_scheduled": 2.75}.get(event)
        retry = None if backoff is None else Retry(1, first=backoff, jitter=False)
        job = kind(body, retry=retry, **({} if kind is Service else {"forever": True}))
        members: list[Any] = [job, long]
        for _ in range(depth):
            members = [Scheduler(members)]
        return Scheduler(members, idle_timeout=idle_timeout, log=False)

    long = Job(nap, 4.5)
    assert virtual(scene(3).co_run)
    long = Job(nap, 4.5)
    assert not virtual(scene(1.5).co_run)
