"""Random runs whose jobs wait at gates: each ends, holds nothing afterwards, and opens no gate twice at once."""

import random
from collections.abc import Iterator
from typing import Any
import anyio
import pytest
from trioflow import AbstractJob, First, Job, Pool, Retry, Scheduler
from trioflow._core.job import _job_options
from trioflow._core.job._job_options import declare_run_resource
from trioflow._core.job._option_descriptors import set_run_need
from trioflow.abc import incidents_of
from ..bodies import LIMIT, Flaw
from ..conftest import Virtual

NAMES = ["left", "right"]


class Gate:
    """A gate that may fail to open, and then lets all jobs pass but those that know of it."""

    def __init__(self, choice: random.Random) -> None:
        self.choice = choice
        self.is_open = self.has_failed = self.is_opening = False
        self.told: set[object] = set()

    def is_closed_to(self, job: object) -> bool:
        return not self.is_open and (not self.has_failed or job in self.told)

    async def open(self, _jobs: object) -> None:
        """Open it after a while, or fail; what is given up may take a moment."""
        assert not self.is_opening
        self.is_opening = True
        try:
            await anyio.sleep(self.choice.choice([1, 2, 5]))
            self.is_open = self.choice.random() < 0.8
            self.has_failed = not self.is_open
            self.told.clear()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(self.choice.choice([0, 0.5]))
            raise
        finally:
            self.is_opening = False


class Passer(Job[Any]):
    """A job that passes a gate, and may close it."""

    def __init__(self, scenario: "Scenario", name: str, **options: Any) -> None:
        self.scenario, self.name = scenario, name
        super().__init__(self.pass_gate, **options)

    def check_before_run(self) -> None:
        set_run_need(self, self.name, 1)

    async def pass_gate(self) -> None:
        """Fail if the gate could not be opened, or by chance."""
        gate, choice = self.scenario.gates.get(self.name), self.scenario.choice
        if gate is not None and not gate.is_open:
            gate.told.add(self)
            raise Flaw
        await anyio.sleep(choice.choice([0, 0.5, 1, 3]))
        if gate is not None and choice.random() < 0.1:
            gate.is_open = gate.has_failed = False
        if choice.random() < 0.1:
            raise Flaw


class Scenario:
    def __init__(self, seed: int) -> None:
        self.choice = choice = random.Random(seed)
        self.gates: dict[str, Gate] = {}
        self.jobs: list[AbstractJob[Any]] = []
        for name in NAMES:
            size = choice.randint(1, 2)
            declare_run_resource(
                name,
                lambda size=size: size,
                "opening",
                lambda _, name=name: self.find(name),
            )
        self.pool, self.limiter = Pool(cpu=2, key=1), anyio.CapacityLimiter(1)
        self.scheduler = Scheduler(
            *self.make(0), pool=self.pool, jobs_window=self.window(), timeout=choice.choice([None, 8]),
            cleanup_timeout=30,
        )  # fmt: skip
        self.scheduler.add(
            Job(self.meddle, forever=choice.random() < 0.5, critical=False)
        )
        self.scheduler.add(Scheduler(*self.make(3), forever=True, critical=False))

    def find(self, name: str) -> Gate:
        if self.choice.random() < 0.05:
            raise OSError
        return self.gates.setdefault(name, Gate(self.choice))

    def window(self) -> Any:
        return self.choice.choice(
            [None, 1, 2, self.limiter, anyio.CapacityLimiter(self.choice.randint(1, 2))]
        )

    def make(self, depth: int) -> list[AbstractJob[Any]]:
        """Return jobs that pass gates or do not, with all kinds of options, and schedulers of such."""
        choice, jobs = self.choice, list[AbstractJob[Any]]()
        for _ in range(choice.randint(2, 7)):
            common: dict[str, Any] = {"critical": choice.random() < 0.1}
            if jobs and choice.random() < 0.3:
                common["required"] = choice.choice(jobs)
                common["run_if"] = choice.choice(["succeeded", "failed"])
            options: dict[str, Any] = {
                "retry": choice.choice(
                    [None, None, Retry(2, first=choice.choice([0, 0.5]))]
                ),
                "timeout": choice.choice([None, None, 0.7]),
                "priority": choice.choice([0, 0, 0, 1]),
                "needs": choice.choice(
                    [{}, {}, {}, {"cpu": 1}, {"cpu": 2}, {"key": 1}]
                ),
            }
            kind = choice.random()
            if kind < 0.75:
                jobs.append(Passer(self, choice.choice(NAMES), **common, **options))
            elif kind < 0.85 or depth > 2:
                jobs.append(
                    Job(anyio.sleep, choice.choice([0.5, 1, 2]), **common, **options)
                )
            elif kind < 0.9:
                jobs.append(First(*self.make(depth + 1), timeout=4, **common))
            else:
                limits = {
                    "jobs_window": self.window(),
                    "timeout": choice.choice([None, 2, 4]),
                }
                jobs.append(Scheduler(*self.make(depth + 1), **limits, **common))
        self.jobs += jobs
        return jobs

    async def meddle(self) -> None:
        """Cancel jobs, add some, pause, drain, or cancel the run."""
        choice, scheduler = self.choice, self.scheduler
        for _ in range(choice.randint(0, 20)):
            await anyio.sleep(choice.choice([0, 0.1, 0.3]))
            what = choice.random()
            if what < 0.6:
                choice.choice(self.jobs).cancel()
            elif what < 0.65:
                scheduler.pause()
                await anyio.sleep(1)
                scheduler.resume()
            elif what < 0.8:
                scheduler.add(Passer(self, choice.choice(NAMES), priority=1))
            elif what > 0.96:
                (scheduler.drain if what < 0.98 else scheduler.cancel)()
                return


@pytest.fixture(autouse=True)
def names_of_one_test() -> Iterator[None]:
    """Declare the resources in these tests alone."""
    yield
    for name in NAMES:
        del _job_options.RUN_RESOURCES[name]


@pytest.mark.parametrize(
    "seeds",
    [range(20), pytest.param(range(20, 60), marks=pytest.mark.ci)],
    ids=["few", "more"],
)
def test_a_run_with_gates_ends_and_holds_nothing(
    virtual: Virtual, seeds: range
) -> None:
    """Jobs are cancelled, and runs end, paused or are drained, at any time of an opening, of which some fail."""
    for seed in seeds[virtual.backend == "trio" :: 2]:
        scenario = Scenario(seed)
        scheduler = scenario.scheduler

        async def run(scheduler: Scheduler = scheduler) -> None:
            with anyio.fail_after(LIMIT):
                await scheduler.co_run()

        virtual(run)
        assert [
            job.label
            for job in scheduler.iterate_jobs()
            if job.is_running() or job.is_scheduled()
        ] == [], seed
        assert scenario.pool.free == scenario.pool.total, seed
        assert not scenario.limiter.statistics().borrowers, seed
        assert not any(gate.is_opening for gate in scenario.gates.values()), seed
        assert not any(
            "stands still" in incident.message for incident in incidents_of(scheduler)
        ), seed
