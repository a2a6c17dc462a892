"""Each public call that changes a run may come from any thread, or is refused by an error that speaks of the thread."""

import inspect
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trioflow import Job, Scheduler, Service, current_job
from ..bodies import nap
from ..conftest import Virtual

REFUSED: dict[str, Callable[[Scheduler, Any, Any], object]] = {
    "add": lambda scheduler, job, status: scheduler.add(Job(nap)),
    "update": lambda scheduler, job, status: scheduler.update([Job(nap)]),
    "map": lambda scheduler, job, status: scheduler.map(nap, [1]),
    "requires": lambda scheduler, job, status: job.requires(next(iter(scheduler))),
    "jobs_window": lambda scheduler, job, status: setattr(scheduler, "jobs_window", 7),
    "wait_settled": lambda scheduler, job, status: anyio.run(job.wait_settled),
    "started": lambda scheduler, job, status: status.started("early"),
}
IN_ANY_THREAD = {"cancel", "drain", "pause", "resume", "try_again", "progress", "used"}
NO_RUN_OF_THEIRS = {"run", "co_run", "run_as_settled", "close", "remove", "sanitize", "co_shutdown"}
"""They are refused during a run, in whatever thread, or are of the run."""
ASK = {
    "as_settled", "debrief", "explain", "failures", "graph", "iterate_jobs", "list", "results",
    "raise_for_failures", "result", "raised_exception",
}  # fmt: skip


def test_each_method_has_its_threads() -> None:
    public = {
        name
        for name in dir(Scheduler)
        if name[0] != "_" and callable(inspect.getattr_static(Scheduler, name)) and not name.startswith("is_")
    }
    assert public == {*REFUSED, *IN_ANY_THREAD, *NO_RUN_OF_THEIRS, *ASK} - {"jobs_window", "started"}


@pytest.mark.parametrize("call", REFUSED)
def test_what_only_the_thread_of_the_run_may_call_says_so(virtual: Virtual, call: str) -> None:
    raised: list[BaseException] = []

    async def serve(*, task_status: Any) -> None:
        def in_thread() -> None:
            try:
                REFUSED[call](scheduler, last, task_status)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        assert not current_job().is_settled()
        task_status.started("value")
        await anyio.sleep_forever()

    service = Service(serve, label="home service")
    last = Job(nap, 1, required=service, label="home job")
    scheduler = Scheduler(service, last, label="home", jobs_window=3)
    assert virtual(scheduler.co_run)
    assert [type(error) for error in raised] == [RuntimeError]
    assert "thread" in str(raised[0])
    assert "'home" in str(raised[0])
    assert (len(scheduler), scheduler.jobs_window, service.result(), [*last.required]) == (2, 3, "value", [service])
