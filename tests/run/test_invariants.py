"""The check of invariants, which looks at each run of these tests, notices a fault of each kind."""

from collections.abc import Callable
from typing import Any
import anyio
import pytest
from trioflow import Job, Pool, Scheduler, current_scheduler
from .. import invariants
from ..bodies import nap, nothing


def count_one_more(run: Any, _: dict[str, Any]) -> None:
    run.counts.unsettled += 1


def count_forever(run: Any, _: dict[str, Any]) -> None:
    run.counts.forever_unsettled += 1


def lose(run: Any, jobs: dict[str, Any]) -> None:
    run.line.places._jobs.remove(jobs["ready"])


def double(run: Any, jobs: dict[str, Any]) -> None:
    run.line.places._jobs.append(jobs["ready"])


def hold(run: Any, jobs: dict[str, Any]) -> None:
    run.line.holders.add(jobs["ended"])


def keep_grant(run: Any, jobs: dict[str, Any]) -> None:
    jobs["ended"]._ensure_extras().grant = object()


def miscount_searchers(run: Any, _: dict[str, Any]) -> None:
    run.crew.searchers += 1


def search_not(run: Any, jobs: dict[str, Any]) -> None:
    run.line.places._jobs.remove(jobs["ready"])
    run.line.startable.append(jobs["ready"])


def forget_worker(run: Any, jobs: dict[str, Any]) -> None:
    jobs["plants"]._worker = None


def require_more(run: Any, jobs: dict[str, Any]) -> None:
    jobs["waits"]._pending += 1


PLANTED: dict[Callable[..., None], str] = {
    count_one_more: "count_jobs: 4 jobs are counted as unsettled, and 3 are",
    count_forever: "count_jobs: 1 forever jobs are counted as unsettled, and 0 are",
    lose: "find_ready: 'ready' is ready, in 0 places",
    double: "find_ready: 'ready' is ready, in 2 places",
    forget_worker: "find_ready: 'plants' is running without a worker",
    hold: "find_holders: 'ended' has a slot, and is succeeded",
    keep_grant: "find_holders: 'ended' has its needs, and is succeeded",
    miscount_searchers: "find_searchers: 1 workers are counted as searching, and 0 are",
    search_not: "find_searchers: a job may start, and no worker searches",
    require_more: "count_requirements: 'waits' has counted 2 open requirements, and has 1",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_fault_is_noticed(plant: Callable[..., None], backend: Any) -> None:
    """The fault is there for one look alone, and mended, so that the run ends as if there had been none."""
    found: list[str] = []

    async def body() -> None:
        await anyio.wait_all_tasks_blocked()  # the invariants hold between steps
        run, look = current_scheduler()._run, invariants.Look()
        look(run)
        assert not look.wrong
        before = [
            run.counts.unsettled,
            run.counts.forever_unsettled,
            run.crew.searchers,
            jobs["waits"]._pending,
        ]
        worker, waiting = jobs["plants"]._worker, list(run.line.places._jobs)
        plant(run, jobs)
        look(run)
        found.extend(look.wrong)
        (
            run.counts.unsettled,
            run.counts.forever_unsettled,
            run.crew.searchers,
            jobs["waits"]._pending,
        ) = before
        jobs["plants"]._worker = worker
        run.line.places._jobs.clear()
        run.line.places._jobs.extend(waiting)
        run.line.startable.clear()
        run.line.holders.discard(jobs["ended"])
        jobs["ended"]._ensure_extras().grant = None

    ended, plants = Job(nothing, label="ended"), Job(body, label="plants")
    ready, waits = Job(nap, 0.001, label="ready"), Job(nothing, label="waits")
    waits.requires(ready)
    jobs = {job.label: job for job in (ended, plants, ready, waits)}
    assert Scheduler(*jobs.values(), jobs_window=1, log=False).run(backend=backend)
    assert PLANTED[plant] in found


def test_runs_are_looked_at(backend: Any) -> None:
    with invariants.checked() as look:
        jobs = [Job(anyio.sleep, 0.001, needs={"cpu": 1}) for _ in range(9)]
        # Their workers leave while the last one sleeps.
        scheduler = Scheduler(*jobs, Job(anyio.sleep, 0.05), pool=Pool(cpu=2))
        assert scheduler.run(backend=backend)
    assert look.count > 1
    assert not look.wrong
