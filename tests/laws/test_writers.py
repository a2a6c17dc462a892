"""In random runs, a job's state is written only by the functions in `WRITERS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings

from trioflow import Job, Pool, Scheduler, Throttled, current_job

from ..bodies import alarm, bad
from ..transitions import WRITERS, CheckedState
from .real_run import RealRun
from .scenarios import Scenario, scenarios

if TYPE_CHECKING:
    from ..conftest import Virtual


async def throttled_once() -> None:
    """Raise Throttled at the first call."""
    extras = current_job()._extras
    if extras is None or not extras.throttlings:
        raise Throttled("api", 1)


def test_only_the_listed_functions_write_job_states_in_random_runs(
    virtual: Virtual, checked_states: CheckedState
) -> None:
    """In random runs, only the functions in `WRITERS` write job states, and each of them does."""
    checked_states.writers.clear()

    @settings(max_examples=8, derandomize=True, database=None)
    @given(scenario=scenarios())
    def run(scenario: Scenario) -> None:
        async def twice() -> None:
            real = RealRun(scenario)
            await real.run(watched=False)
            await real.run(watched=True)

        virtual(twice)

    run()
    failing = bad()
    virtual(Scheduler(failing, alarm(failing)).co_run)
    virtual(Scheduler(Job(throttled_once, needs={"api": 1}), pool=Pool(api=1)).co_run)
    assert checked_states.writers == WRITERS
