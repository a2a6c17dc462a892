"""Slots that no job needs, and who borrows them: here a job that takes all that it gets, and uses none."""

from __future__ import annotations

import functools
import math
from typing import Any

import anyio
import pytest

from trioflow import AbstractJob, Job, Pool, Scheduler
from trioflow.abc import SpareSlots, run_of

from ..bodies import SUCCEEDED, fail, nap, timed
from ..conftest import Virtual


class Borrowing(AbstractJob[None]):
    """A job that borrows all slots it gets, for some seconds; `lent_count` has their number in each second."""

    def __init__(self, seconds: int, **options: Any) -> None:
        super().__init__(**options)
        self.seconds = seconds
        self.lent_count: list[int] = []

    async def co_run(self) -> None:
        slots = run_of(self).spare_slots()
        assert slots is not None
        self.slots: SpareSlots = slots
        slots.borrower = self
        self.offer()
        for _ in range(self.seconds):
            await anyio.sleep(0.5)
            self.lent_count.append(slots.lent_count)
            await anyio.sleep(0.5)
        slots.borrower = None
        slots.give_back(slots.lent_count)
        slots.start_waiting_jobs()

    def offer(self) -> None:
        while self.slots.take():
            pass

    def take_back(self, number: int) -> None:
        self.slots.give_back(min(number, self.slots.lent_count))

    def count_unused(self) -> int:
        return self.slots.lent_count


def lending(*jobs: Any, **options: Any) -> Scheduler:
    all_options: dict[str, Any] = {"jobs_window": 4, "jobserver": "fifo", **options}
    return Scheduler(*jobs, **all_options)


def test_lending_slots_of_an_unlimited_window_is_rejected(virtual: Virtual) -> None:
    """Slots of an unlimited window cannot be lent, whether the window is the scheduler's or given to the run."""
    for own, of_run in [(None, ...), (4, None), (4, anyio.CapacityLimiter(math.inf))]:
        with pytest.raises(ValueError, match="its tokens are the slots of the window; limit their number"):
            virtual(functools.partial(lending(jobs_window=own).co_run, jobs_window=of_run))


@pytest.mark.parametrize("shared", [False, True])
def test_a_borrower_sees_the_slots_and_whether_others_wait(virtual: Virtual, shared: bool) -> None:
    """A borrower sees how many slots there can be, and whether other users of the limiter wait for them."""

    async def main() -> SpareSlots:
        window = anyio.CapacityLimiter(4) if shared else 4
        assert await lending(job, jobs_window=window).co_run(check=True)
        return job.slots

    job = Borrowing(1)
    slots = virtual(main)
    assert (slots.total, slots.is_shared, slots.jobserver_style, slots.lent_count) == (4, shared, "fifo", 0)
    assert job.lent_count == [3]


def test_ready_jobs_get_slots_before_borrowers(virtual: Virtual) -> None:
    """Jobs that become ready get free slots before any are lent, and what they leave is offered again."""
    borrowing, first = Borrowing(7), Job(nap, 2)
    behind = [Job(nap, 2, required=first) for _ in range(9)]
    assert virtual(timed, lending(borrowing, first, behind)) == (True, 8)
    assert [job.started_at for job in behind] == [2, 2, 2, 4, 4, 4, 6, 6, 6]
    assert borrowing.lent_count == [2, 2, 0, 0, 0, 0, 0]


def test_a_lent_slot_comes_back_for_a_job_that_waited_for_a_resource(virtual: Virtual) -> None:
    """A lent slot comes back when another run releases what a waiting job needs; until then its reservation holds."""
    pool = Pool(cpu=2)
    borrowing = Borrowing(5)
    holding, waiting, later = (Job(nap, 3 - cpu, needs={"cpu": cpu}) for cpu in (1, 2, 1))
    others = Scheduler(holding, pool=pool), Scheduler(later, pool=pool)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others[0].co_run)
            await anyio.sleep(1)
            tasks.start_soon(lending(borrowing, waiting, jobs_window=2, pool=pool, backfill=0).co_run)
            await anyio.sleep(0.25)
            tasks.start_soon(others[1].co_run)

    virtual(main)
    assert (waiting.started_at, later.started_at) == (2, 3)
    assert borrowing.lent_count == [1, 0, 1, 1, 1]


def test_clean_up_jobs_leave_all_slots_to_be_lent(virtual: Virtual) -> None:
    """During the clean-up all slots may be lent, because clean-up jobs need none."""
    failing = Job(fail, 1, critical=True)
    borrowing, other = Borrowing(2, required=failing, run_if="failed"), Job(nap, 1, required=failing, run_if="failed")
    assert virtual(timed, lending(failing, borrowing, other, jobs_window=2)) == (False, 3)
    assert (borrowing.lent_count, other.state) == ([2, 2], SUCCEEDED)
