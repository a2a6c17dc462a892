"""Random programs that add jobs in another order each time, killed at random instants: what was reached is kept."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from trioflow import Job, Scheduler, current_job

from .stage import Stage, adopt_orphans

INSTANTS: Final = 2
"""How many random instants the short test takes."""
NAME: Final = re.compile(r"n\d+")


class Program(Stage):
    """An open scheduler that gets random jobs; which jobs depends on the seed, but their order is another each time."""

    def __init__(self, directory: Path, backend: str, seed: int) -> None:
        super().__init__(directory, lambda _: Scheduler(), backend)
        plan = random.Random(seed)
        self.ways = [plan.choice(("label", "key", "call", "map", "nested", "grown")) for _ in range(25)]
        self.inputs = [plan.sample(range(number), plan.choice((0, 1, 2)) if number > 2 else 0) for number in range(25)]
        self.right: list[int] = []
        for used in self.inputs:
            self.right.append(1 + sum(self.right[number] for number in used))

    async def work(self, name: str, *numbers: int) -> int:
        self.note(name)
        await anyio.sleep(random.choice((0, 0.001, 0.002)))
        return 1 + sum(numbers)

    def perform(self, journal: Path | None) -> str:
        return str(anyio.run(self.main, journal, backend=self.backend))

    async def main(self, journal: Path | None) -> list[int]:
        order = random.Random()
        added: dict[int, Any] = {}
        options: dict[str, Any] = {"jobs_window": order.choice((None, 1, 3)), "keep_jobs": order.random() < 0.5}
        async with Scheduler(journal=journal, **options) as scheduler:
            while len(added) < len(self.ways):
                ready = [number for number in range(len(self.ways)) if number not in added]
                ready = [number for number in ready if all(used in added for used in self.inputs[number])]
                number = order.choice(ready)
                added[number] = await self.add(scheduler, number, [added[used] for used in self.inputs[number]])
                if order.random() < 0.3:
                    await order.choice(list(added.values()))
            return [await added[number] for number in sorted(added)]

    async def add(self, scheduler: Scheduler, number: int, inputs: list[Any]) -> Any:
        name, way = f"n{number}", self.ways[number]
        if way == "label":
            return scheduler.add(Job(self.work, name, *inputs, label=name))
        if way == "key":
            return scheduler.add(Job(self.work, name, *inputs, label="key", key=name))
        if way == "map":
            return scheduler.map(self.work, [name], *([job] for job in inputs), label="map")[0]
        if way == "nested":
            values = [await job for job in inputs]
            job = Job(self.work, name, *values, label="inner")
            scheduler.add(Scheduler(job, label=name))
            return job
        if way == "grown":
            values = [await job for job in inputs]
            job = Job(self.work, name, *values, label=name)

            async def grow() -> None:
                current_job().scheduler.add(job)  # type: ignore[union-attr]

            await scheduler.add(Job(grow, label=f"grow {number}"))
            return job
        return scheduler.add(Job(self.work, name, *inputs))

    def committed(self) -> set[str]:
        return {NAME.search(path)[0] for path in super().committed() if not path.startswith("grow")}  # type: ignore[index]


@pytest.fixture(autouse=True)
def orphans() -> Iterator[None]:
    adopt_orphans(True)
    yield
    adopt_orphans(False)


def continued(directory: Path, backend: str, seed: int, kills: int) -> None:
    """Kill a random program several times, and continue it each time; then let it end."""
    program = Program(directory, backend, seed)
    before: set[str] = set()
    for _ in range(kills):
        child = program.run()
        time.sleep(random.uniform(0.005, 0.06))
        program.kill(child)
        now = program.committed()
        assert before <= now, f"seed {seed}: lost {before - now}"
        before = now
    program.check(str(program.right))
    _, ran = program.complete()
    assert not ran, f"seed {seed}: {ran} ran again"


def test_what_a_growing_run_has_committed_is_kept_at_any_kill(tmp_path: Path, backend: str) -> None:
    """Random programs that are killed, and add their jobs in another order, run no committed job again."""
    for number in range(INSTANTS):
        (directory := tmp_path / str(number)).mkdir()
        continued(directory, backend, random.randrange(1_000_000), kills=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_what_hundreds_of_growing_runs_have_committed_is_kept(tmp_path: Path, backend: str) -> None:
    """The same for 150 random programs on each backend, each killed four times."""
    for number in range(150):
        (directory := tmp_path / str(number)).mkdir()
        continued(directory, backend, random.randrange(1_000_000), kills=4)
