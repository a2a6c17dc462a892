"""A plain simulation of the contract: what must become of a scenario, instant by instant.

Nothing here knows the engine, nothing is fast: events in a heap, and after each the rules of the contract are applied
until nothing changes. All that happens at one instant has one cause; where that would not be so (two timers that
coincide, a nested scheduler that takes no time) the outcome may depend on turns of the event loop, and the prediction
says that it is not `exact`. Shared limiters are not simulated.

The readings of the contract that the simulation rests on:

- A job that is cancelled from outside and lets that pass is CANCELLED, whatever its own timeout says.
- When a scheduler stops, all that runs inside, at any depth, is cancelled at that very instant: first the ordinary
  jobs, its forever jobs when those have unwound. What nested jobs do about it changes no `stop_reason` any more.
- What is cancelled after its run has completed, but before all is shut down, is CANCELLED, its reason COMPLETED.
- A critical failure stops the scheduler before those that waited for the job become ready.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .scenarios import Fate, Group, Leaf, Plan, Reaction, Scenario, Verdict

UNSETTLED = ("IDLE", "SCHEDULED", "RUNNING")


@dataclass(slots=True)
class Prediction:
    """What a run must come to."""

    result: bool | None
    ended_at: float
    fates: dict[str, Fate]
    verdicts: dict[str, Verdict]
    started: list[str]  # all jobs, in the order of their first starts
    exact: bool


@dataclass(slots=True, order=True)
class Timer:
    """Something that will happen."""

    when: float
    number: int
    action: Callable[[], None] = field(compare=False)
    live: bool = field(compare=False, default=True)


class World:
    """The clock, and all jobs by name."""

    def __init__(self) -> None:
        self.now = 0.0
        self.exact = True
        self.jobs: dict[str, Actor] = {}
        self.shutdowns: dict[str, int] = {}
        self.started: list[str] = []
        self._timers: list[Timer] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Let something happen later."""
        timer = Timer(self.now + seconds, next(self._numbers), action)
        heapq.heappush(self._timers, timer)
        return timer

    def step(self) -> None:
        """Let the next thing happen."""
        timer = heapq.heappop(self._timers)
        if timer.live:
            if timer.when == self.now:
                self.exact = False
            self.now = timer.when
            timer.action()


class Actor:
    """A job, as its scheduler sees it."""

    def __init__(self, world: World, plan: Plan, parent: Theatre | None) -> None:
        self.world, self.plan, self.parent = world, plan, parent
        self.state = "IDLE"
        self.started: float | None = None
        self.finished: float | None = None
        self.waits_for: set[str] = set()
        self.asked = False  # to end, from outside
        self.calls = 0
        self.timers: list[Timer] = []
        world.jobs[plan.name] = self

    @property
    def is_critical(self) -> bool:
        """The nearest value that is not None."""
        if self.plan.critical is not None:
            return self.plan.critical
        if self.parent is None:
            return False
        return self.parent.is_critical if self.parent.plan.critical_jobs is None else self.parent.plan.critical_jobs

    def start(self) -> None:
        """Begin the job."""
        self.state, self.started = "RUNNING", self.world.now
        if self.plan.name not in self.world.started:
            self.world.started.append(self.plan.name)
        self.call()

    def cancel(self) -> None:
        """End it from outside, or keep it from starting."""
        if self.state == "RUNNING" and not self.asked:
            self.asked = True
            self.unwind()
        elif self.state in ("IDLE", "SCHEDULED"):
            self.settle("CANCELLED")

    def settle(self, state: str) -> None:
        """End it in a final state."""
        self.state, self.finished = state, self.world.now
        if self.parent is not None:
            self.parent.has_settled(self)

    def has_timed_out(self) -> None:
        """Decide what a timeout means."""
        restarts = math.inf if self.plan.restarts is None else self.plan.restarts
        if self.plan.on_timeout == "move_on":
            self.settle("SUCCEEDED")
        elif self.plan.on_timeout == "restart" and self.calls <= restarts:
            self.call()
        else:
            self.settle("FAILED")

    def drop_timers(self) -> None:
        """Forget what would have happened."""
        for timer in self.timers:
            timer.live = False
        self.timers = []

    def call(self) -> None:
        """Begin the body, or the run: the first time or again."""
        raise NotImplementedError

    def unwind(self) -> None:
        """Take in a cancellation, be it from outside or from the timeout."""
        raise NotImplementedError

    def shut_down(self) -> float:
        """Call `co_shutdown`; return the seconds that it takes."""
        raise NotImplementedError


class Napper(Actor):
    """A leaf."""

    plan: Leaf

    def call(self) -> None:
        """Begin the nap."""
        nap = self.plan.naps[min(self.calls, len(self.plan.naps) - 1)]
        self.calls += 1
        self.unwinding = False
        if not nap:
            self.wake()
            return
        if nap < math.inf:
            self.timers.append(self.world.after(nap, self.wake))
        if self.plan.timeout is not None:
            self.timers.append(self.world.after(self.plan.timeout, self.unwind))

    def wake(self) -> None:
        """End as planned."""
        self.drop_timers()
        assert self.parent is not None
        self.parent.grow(self.plan.adds)
        self.settle("FAILED" if self.plan.fails else "SUCCEEDED")

    def unwind(self) -> None:
        """Linger, then react; a second cancellation meanwhile changes nothing."""
        if self.unwinding:
            return
        self.unwinding = True
        self.drop_timers()
        if self.plan.linger:
            self.world.after(self.plan.linger, self.react)
        else:
            self.react()

    def react(self) -> None:
        """End, in answer to a cancellation."""
        if self.plan.reaction is Reaction.RETURN:
            self.settle("SUCCEEDED")
        elif self.plan.reaction is Reaction.FAIL:
            self.settle("FAILED")
        elif self.asked:
            self.settle("CANCELLED")
        else:
            self.has_timed_out()

    def shut_down(self) -> float:
        """Count it."""
        self.world.shutdowns[self.plan.name] = self.world.shutdowns.get(self.plan.name, 0) + 1
        return self.plan.shutdown


class Theatre(Actor):
    """A scheduler."""

    plan: Group

    def __init__(self, world: World, plan: Group, parent: Theatre | None) -> None:
        super().__init__(world, plan, parent)
        self.reason: str | None = None
        self.culprit: str | None = None
        self.under_way = self.stopping = False
        self.fill()

    def fill(self) -> None:
        """Put in the jobs, all as good as new."""
        self.jobs: list[Actor] = []
        self.ready: list[Actor] = []
        self.running: list[Actor] = []
        self.phase = "running"
        for plan in self.plan.in_order_added:
            self.admit(plan)

    def admit(self, plan: Plan) -> Actor:
        """Put one in."""
        job = actor(self.world, plan, self)
        known = {other.plan.name: other for other in self.jobs}
        job.waits_for = {name for name in plan.requires if name not in known or known[name].state in UNSETTLED}
        self.jobs.append(job)
        return job

    # ---- running

    def call(self) -> None:
        """Begin a run."""
        self.calls += 1
        self.reason = self.culprit = None
        self.under_way, self.stopping = True, False
        self.fill()
        self.began = self.world.now
        if self.plan.timeout is not None:
            self.timers = [self.world.after(self.plan.timeout, lambda: self.stop("TIMEOUT"))]
        self.make_ready(self.jobs)
        self.move()

    def make_ready(self, jobs: Iterable[Actor]) -> None:
        """Queue those that wait for nothing."""
        for job in jobs:
            if job.state == "IDLE" and not job.waits_for:
                job.state = "SCHEDULED"
                self.ready.append(job)

    def move(self) -> None:
        """Start what can start, and see whether the run is over."""
        while not self.stopping and (job := self.next_to_start()) is not None:
            self.ready.remove(job)
            self.running.append(job)
            job.start()
        if not self.stopping and self.is_over():
            self.stop("COMPLETED")

    def next_to_start(self) -> Actor | None:
        """The first in the queue that there is a slot for, or that needs none."""
        taken = sum(not job.plan.forever for job in self.running)
        free = self.plan.window is None or taken < self.plan.window
        return next((job for job in self.ready if free or job.plan.forever), None)

    def is_over(self) -> bool:
        """There have been ordinary jobs and they have settled; or there is nothing at all."""
        ordinary = [job for job in self.jobs if not job.plan.forever]
        return not any(job.state in UNSETTLED for job in ordinary or self.jobs)

    def has_settled(self, job: Actor) -> None:
        """Draw the consequences of a job's end."""
        for jobs in (self.running, self.ready):
            if job in jobs:
                jobs.remove(job)
        if self.stopping:
            self.wind_down()
        elif job.state == "FAILED" and job.is_critical:
            self.stop("CRITICAL", job)
        else:
            for other in self.jobs:
                other.waits_for.discard(job.plan.name)
            self.make_ready(self.jobs)
            self.move()

    def grow(self, plans: Iterable[Plan]) -> None:
        """Take in jobs while it runs; they can start when the job that adds them, which ends just then, has settled."""
        if not self.stopping:
            self.make_ready([self.admit(plan) for plan in plans])

    # ---- ending

    def unwind(self) -> None:
        """Take in a cancellation."""
        self.stop("CANCELLED")

    def stop(self, reason: str, culprit: Actor | None = None) -> None:
        """Let nothing start any more, and cancel what runs."""
        if self.stopping:
            return
        self.drop_timers()
        self.stopping, self.phase = True, "telling"
        self.reason, self.culprit = reason, culprit and culprit.plan.name
        for job in list(self.ready):
            job.settle("CANCELLED")
        for job in list(self.running):
            if not job.plan.forever:
                job.cancel()
        self.phase = "unwinding"
        self.wind_down()

    def wind_down(self) -> None:
        """Go on with the ending, as far as it can go now."""
        if self.phase == "unwinding" and all(job.plan.forever for job in self.running):
            self.phase = "telling"
            for job in list(self.running):
                job.cancel()
            self.phase = "unwinding forever"
        if self.phase == "unwinding forever" and not self.running:
            self.phase = "shutting down"
            seconds = self.shut_down_jobs()
            if seconds:
                self.world.after(seconds, self.end)
            else:
                self.end()

    def shut_down_jobs(self) -> float:
        """Shut down all jobs at once; return the seconds that it takes."""
        return min(self.plan.shutdown_timeout, max((job.shut_down() for job in self.jobs), default=0.0))

    def shut_down(self) -> float:
        """Shut down its jobs if it was never run; otherwise its runs have done it."""
        return 0.0 if self.reason is not None else self.shut_down_jobs()

    def end(self) -> None:
        """Be a job that has ended."""
        self.under_way = False
        if self.parent is not None and self.world.now == self.began:
            self.world.exact = False
        if self.asked:
            self.settle("CANCELLED")
        elif self.reason == "TIMEOUT":
            self.has_timed_out()
        else:
            self.settle("SUCCEEDED" if self.reason == "COMPLETED" else "FAILED")


def actor(world: World, plan: Plan, parent: Theatre | None) -> Actor:
    """Make the actor for a plan."""
    if isinstance(plan, Group):
        return Theatre(world, plan, parent)
    assert isinstance(plan, Leaf)
    return Napper(world, plan, parent)


def predict(scenario: Scenario) -> Prediction:
    """Say what must become of a scenario without shared limiters."""
    world = World()
    root = Theatre(world, scenario.root, None)
    world.after(scenario.cut_at, root.cancel)
    for when, name in scenario.cancels:
        world.after(when, lambda name=name: _cancel(world, name))
    root.start()
    while root.state == "RUNNING":
        world.step()
    schedulers = {name: job for name, job in world.jobs.items() if isinstance(job, Theatre)}
    return Prediction(
        result=None if root.asked else root.reason == "COMPLETED",
        ended_at=world.now,
        fates={
            name: Fate(job.state, job.started, job.finished, world.shutdowns.get(name, 0))
            for name, job in world.jobs.items()
        },
        verdicts={name: Verdict(job.reason, job.culprit) for name, job in schedulers.items()},
        started=world.started,
        exact=world.exact,
    )


def _cancel(world: World, name: str) -> None:
    job = world.jobs.get(name)
    if job is not None and job.parent is not None and job.parent.under_way:
        job.cancel()
