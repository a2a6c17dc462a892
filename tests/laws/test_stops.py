"""After a run has stopped, nothing starts: random scenarios that stop themselves, from every place with user code.

Besides, no object of the engine reaches user code, and no run stands still. The tests count which places have stopped a
run. The suite runs a few scenarios; for more of them::

    TRIOFLOW_SOAK=10000 python -m tests --soak -- tests/laws/test_stops.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from trioflow import First, Job, Pool, Rate, Scheduler, Service, StopReason, current_job
from trioflow._core.run._run import Run
from trioflow._core.run._steering import Steering
from trioflow.abc import AbstractJob, Instrument, JobKind, arguments_of, incidents_of

from ..bodies import Odd, nap, pass_time
from ..conftest import BACKENDS, Ordered, Virtual

FEW = 15
MANY = int(os.environ.get("TRIOFLOW_SOAK", "1000"))
HOOKS = ("before_run", "job_added", "job_scheduled", "job_started", "job_attempt", "job_ready", "job_finished")
PLACES = ("body", "service", "callback", "shutdown", "retry", *HOOKS)
ACTIONS = ("cancel", "cancel a nested scheduler", "cancel a job", "drain", "fail", "interrupt")
NO_CALL = {"fail": {"before_run", *HOOKS, "shutdown"}, "interrupt": {"before_run", "shutdown"}}
"""Actions that do not stop a run in these places: an error in a hook removes the instrument."""


class Kind(JobKind[Any]):
    """A kind with callbacks."""

    def __init__(self, scenario: Scenario, *inputs: Any, **options: Any) -> None:
        super().__init__(*inputs, on_done=scenario.on_done, on_settled=scenario.on_settled, **options)
        self.scenario = scenario

    async def co_run(self) -> Any:
        return await self.scenario.act(*arguments_of(self)[0])

    def default_label(self, depth: int = 0) -> str:
        return "kind"


class ShutDown(Job[Any]):
    """A job with a shutdown."""

    __slots__ = ("scenario",)

    async def co_shutdown(self) -> None:
        self.scenario.reach("shutdown")


class Witness(Instrument):
    """Stops the run from hooks, and records what starts after the stop."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario


def _make_hook(name: str) -> Any:
    def hook(self: Witness, scheduler: Any, job: Any = None) -> None:
        scenario = self.scenario
        if name == "before_run":
            scenario.stopped.discard(scheduler)
        if name == "job_started" and scheduler in scenario.stopped and not is_clean_up(job):
            scenario.started_late.append(job)
        scenario.reach(name)

    return hook


for _name in HOOKS:
    setattr(Witness, _name, _make_hook(_name))


def is_clean_up(job: AbstractJob[Any]) -> bool:
    return job.run_if == "failed" and not job.forever


class Scenario:
    """A scheduler with nested ones, in which one action happens in one place, at one of its first occasions."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.place = self.draw.choice(PLACES)
        self.action = self.draw.choice([name for name in ACTIONS if self.place not in NO_CALL.get(name, ())])
        self.countdown = self.draw.choice([1, 1, 2, 3, 5, 8])
        self.acted = False
        self.stopped: set[Scheduler] = set()
        self.started_late: list[AbstractJob[Any]] = []
        self.internal: list[Any] = []
        self.limiter = anyio.CapacityLimiter(self.draw.choice([1, 2]))
        self.root = self.group(0, pool=Pool(a=2, r=Rate(requests=2, per=1)), timeout=1e5, instruments=[Witness(self)])

    # ---- the jobs

    def group(self, depth: int, **options: Any) -> Scheduler:
        window: Any = self.draw.choice([None, None, 1, 2, 3, self.limiter])
        kind = First if depth and self.draw.random() < 0.3 else Scheduler
        if kind is First:
            options["stagger"] = self.draw.choice([None, 0.25])
        scheduler = kind(jobs_window=window, label=f"group{depth}", **options)
        members: list[Any] = []
        for _ in range(self.draw.randint(2, 8 if depth else 10)):
            members.append(self.member(depth, members) if members else Job(self.act, 0))  # not only services
            scheduler.add(members[-1])
        return scheduler

    def member(self, depth: int, before: list[Any]) -> Any:
        draw = self.draw
        required = [one for one in before if draw.random() < 0.35 and (not one.forever or isinstance(one, Service))]
        options: dict[str, Any] = {"required": required, "critical": draw.random() < 0.3}
        if draw.random() < 0.2:
            options["needs"] = {draw.choice("ar"): 1}
        if draw.random() < 0.15:
            options["run_if"] = draw.choice(["failed", "succeeded"])
        if draw.random() < 0.25:
            options["retry"] = 1
        if depth < 3 and draw.random() < 0.25:
            options.pop("needs", None)
            return self.group(depth + 1, **options)
        if draw.random() < 0.1:
            options.pop("needs", None)
            return Service(self.serve, **options)
        seconds = draw.choice([None, None, 0, 0, 0.5, 1])
        inputs = [one for one in required if not isinstance(one, Scheduler) and draw.random() < 0.5]
        if draw.random() < 0.2:
            return Kind(self, (seconds, *inputs), **options)
        job = (ShutDown if draw.random() < 0.3 else Job)(self.act, seconds, *inputs, **options)
        if isinstance(job, ShutDown):
            job.scenario = self
        return job

    async def act(self, seconds: float | None, *inputs: Any) -> Any:
        self.look_at(inputs)
        job = current_job()
        self.reach("body" if job.attempts == 1 else "retry")
        if seconds is not None:
            await anyio.sleep(seconds)
        if self.draw.random() < 0.2 and job.scheduler is not None:
            job.scheduler.add(Job(self.act, 0, *[one for one in job.required if not isinstance(one, Scheduler)][:1]))
        self.reach("body" if job.attempts == 1 else "retry")
        if self.draw.random() < 0.15:
            raise OSError("broken")
        return job.label

    async def serve(self, *, task_status: Any) -> None:
        self.reach("service")
        task_status.started("ready")
        self.reach("service")
        await anyio.sleep_forever()

    def on_done(self, job: Any) -> None:
        self.look_at([job.result()])
        if job.scheduler is not None and self.draw.random() < 0.5:
            job.scheduler.add(Job(self.act, 0, job))
        self.reach("callback")
        if self.draw.random() < 0.3:
            raise OSError("broken callback")

    def on_settled(self, job: Any) -> None:
        self.reach("callback")

    def look_at(self, values: Any) -> None:
        """Record each value whose class is not public."""
        self.internal += [value for value in values if type(value).__module__.startswith("trioflow._")]

    # ---- the action

    def reach(self, place: str) -> None:
        """Act, if this is the place and the occasion."""
        if place != self.place or self.acted:
            return
        self.countdown -= 1
        if self.countdown:
            return
        self.acted = True
        running = [job for job in self.schedulers() if job.is_running()]
        match self.action:
            case "cancel":
                self.root.cancel()
            case "drain":
                self.root.drain()
            case "cancel a nested scheduler" if running:
                self.draw.choice(running).cancel()
            case "cancel a job":
                jobs = [job for job in self.root.iterate_jobs() if job.scheduler in (self.root, *running)]
                self.draw.choice(jobs).cancel()
            case "fail":
                raise OSError("planned")
            case "interrupt":
                raise Odd("planned")

    def schedulers(self) -> Iterator[Any]:
        return (job for job in self.root.iterate_jobs() if isinstance(job, Scheduler))

    def record_stop(self, scheduler: Any) -> None:
        """Record that a run has stopped, and with it those of all nested schedulers that it cancels."""
        todo = [scheduler]
        for stopped in todo:
            self.stopped.add(stopped)
            todo += [
                job
                for job in stopped
                if isinstance(job, Scheduler) and not job.forever and not is_clean_up(job) and job.is_running()
            ]


def run(seed: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """Run a scenario; return it when its run has ended."""
    scenario = Scenario(seed)
    stop, drain = Run.stop, Steering.drain

    def recorded_stop(run: Run, *args: Any) -> None:
        scenario.record_stop(run.scheduler)
        stop(run, *args)

    def recorded_drain(steering: Steering, run: Run) -> None:
        scenario.record_stop(run.scheduler)
        drain(steering, run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop", recorded_stop)
        patch.setattr(Steering, "drain", recorded_drain)
        try:
            Ordered(backend, seed)(scenario.root.co_run)
        except Odd:
            assert scenario.action == "interrupt"
    return scenario


def check_stops(seeds: range, backend: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Check the scenarios with these seeds; return how many of them acted in each place and by each action."""
    acted: Counter[str] = Counter()
    for seed in seeds:
        scenario = run(seed, backend, monkeypatch)
        what = f"seed {seed}: {scenario.action} in {scenario.place}"
        assert not scenario.started_late, what
        assert not scenario.internal, what
        assert not any("stands still" in incident.message for incident in incidents_of(scenario.root)), what
        assert scenario.root.stop_reason is not StopReason.TIMEOUT, what
        for job in scenario.root.iterate_jobs():
            assert job.state.name not in ("SCHEDULED", "RUNNING"), (what, job)
            scenario.look_at([job.result(default=None), job.raised_exception()])
        assert not scenario.internal, what
        if scenario.acted:
            acted.update([scenario.place, scenario.action])
    return acted


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_starts_after_a_stop_from_anywhere(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a run has stopped or drains, no job of it or of its nested schedulers starts, wherever it was stopped."""
    assert check_stops(range(FEW), backend, monkeypatch)["body"]


@pytest.mark.soak
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_starts_after_many_stops_from_anywhere(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run of `test_nothing_starts_after_a_stop_from_anywhere`, which reaches every place and action."""
    acted = check_stops(range(MANY), backend, monkeypatch)
    print(dict(acted))
    assert {*PLACES, *ACTIONS} <= acted.keys()


@pytest.mark.parametrize("end", ["return", "follower", "nested follower", "cancel", "critical", "drain", "outer"])
def test_a_job_that_blocks_the_loop_beyond_the_deadline_ends_the_run_by_its_timeout(virtual: Virtual, end: str) -> None:
    """Whatever comes after the deadline, even before the loop can say so, the reason is TIMEOUT; nothing starts."""

    async def late() -> None:
        await anyio.sleep(1)
        pass_time(virtual.backend, 5)
        if end == "cancel":
            scheduler.cancel()
        elif end == "drain":
            scheduler.drain()
        elif end == "critical":
            raise OSError("late")

    job = Job(late, critical=True)
    followers = [Job(nap, required=job)] if "follower" in end or end == "outer" else []
    scheduler = Scheduler(job, *followers, timeout=None if end == "outer" else 2)
    if end == "outer":
        outermost = Scheduler(scheduler, timeout=2)
    else:
        outermost = Scheduler(scheduler) if "nested" in end else scheduler
    assert virtual(outermost.co_run) is False
    timed_out = outermost if end == "outer" else scheduler
    assert timed_out.stop_reason is StopReason.TIMEOUT
    assert all(follower.started_at is None for follower in followers)
