"""A run asks its parts at the points that `Part` names, and does not end before they are done."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trioflow import Job, Scheduler
from trioflow._core.base._states import RunPhase
from trioflow._core.run._instruments import Part, with_parts
from trioflow._core.run._run import Run
from trioflow.abc import Instrument
from ..bodies import nothing

if TYPE_CHECKING:
    import pytest
    from ..conftest import Virtual


class Seen(Part, Instrument):
    """A part that records what it hears, holds back one job until `wakes_at`, and is busy for as long."""

    def __init__(self, run: Run, held: Job[None], wakes_at: float) -> None:
        self._run, self.held, self.wakes_at = run, held, run.backend.clock()() + wakes_at
        self.told: list[str] = []

    def enter(self, phase: RunPhase) -> None:
        self.told.append(phase.name)

    def on_added(self) -> None:
        self.told.append("added")

    def may_start(self, job: Any) -> bool:
        return job is not self.held

    def settled(self, job: Any) -> None:
        self.told.append(f"{job.label} settled")

    def job_settled(self, scheduler: Any, job: Any) -> None:
        self.told.append(f"{job.label} finished")

    def is_busy(self) -> bool:
        return self.wakes_at < math.inf

    def due_at(self) -> float:
        return self.wakes_at

    def act(self) -> None:
        if self._run.clock() >= self.wakes_at:
            self.wakes_at = math.inf
            self._run.schedule([self.held])
            self._run.lane.ensure_searcher()


def test_a_run_asks_its_parts_in_order(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part hears of the phases and of each job, before instruments; one that it holds back starts in its turn."""
    made: list[Seen] = []
    held = Job(nothing, label="held")

    async def add() -> None:
        scheduler.add(Job(nothing, label="added"))

    def make_parts(run: Run, window: Any) -> tuple[Part, ...]:
        made.append(Seen(run, held, 3.0))
        return tuple(made)

    monkeypatch.setattr("trioflow._core.scheduler._base_scheduler.make_parts", make_parts)
    scheduler = Scheduler(held, adder := Job(add, label="adder"))
    assert virtual(scheduler.co_run)
    jobs = [f"{label} {what}" for label in ("adder", "added", "held") for what in ("settled", "finished")]
    assert made[0].told == ["LINKING", "RUNNING", "added", *jobs, "STOPPING"]
    assert (held.started_at or 0) - (adder.started_at or 0) == 3.0


class Late(Part):
    def __init__(self, run: Run) -> None:
        self._run = run
        self.told: list[tuple[str, str]] = []

    def may_start(self, job: Any) -> bool:
        self.told.append(("may start", job.label))
        return True

    def settled(self, job: Any) -> None:
        self.told.append(("settled", job.label))


def test_a_part_that_joins_late_hears_all_that_is_still_to_come(virtual: Virtual) -> None:
    """It was asked about added jobs alone, and heard of none that settled: what a run asks was fixed as it began."""
    late: list[Late] = []

    async def join() -> None:
        assert scheduler._run is not None
        late.append(scheduler._run.join(Late(scheduler._run)))

    first = Job(join, label="first")
    scheduler = Scheduler(first, Job(nothing, required=first, label="after"))
    assert virtual(scheduler.co_run)
    assert late[0].told == [("settled", "first"), ("may start", "after"), ("settled", "after")]


def test_a_run_without_parts_calls_nothing_when_a_job_settles() -> None:
    assert with_parts((), None) is None
