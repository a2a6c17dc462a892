"""In random runs, a job's state is written only by the functions in `WRITERS`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from trioflow import AbstractJob, Job, Pool, Scheduler, Throttled, current_job, ref
from ..bodies import alarm, bad, nothing
from ..transitions import WRITERS, CheckedState
from .generator import scenario_of
from .real import observe

if TYPE_CHECKING:
    from ..conftest import Virtual


async def throttled_once() -> None:
    extras = current_job()._extras
    if extras is None or not extras.throttlings:
        raise Throttled("api", 1)


async def take_back(_: object, succeeded: AbstractJob[None]) -> None:
    """Try again a job that another one in the line has waited for."""
    succeeded.try_again()


def test_only_listed_functions_write_job_states(virtual: Virtual, backend: str, checked_states: CheckedState) -> None:
    checked_states.writers.clear()
    for seed in range(8):
        assert observe(replace(scenario_of(("writers", seed)), keep_jobs=True), backend, 2)
    failing = bad()
    virtual(Scheduler(failing, alarm(failing)).co_run)
    virtual(Scheduler(Job(throttled_once, needs={"api": 1}), pool=Pool(api=1)).co_run)
    first = Job(nothing)
    in_line = Job(nothing, required=first)
    virtual(Scheduler(first, Job(take_back, None, ref(first)), in_line, jobs_window=1).co_run)
    assert checked_states.writers == WRITERS.keys()
