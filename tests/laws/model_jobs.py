"""The oracle's jobs, and the clock that jumps from one event to the next."""

from __future__ import annotations

import heapq
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..model.clock import Timer
from ..model.scenario import Reaction
from .scenarios import Leaf, Plan, inputs_of

if TYPE_CHECKING:
    from .model_scheduler import ModelScheduler

UNSETTLED = ("IDLE", "SCHEDULED", "RUNNING")
GOOD = ("SUCCEEDED", "SKIPPED")


class World:
    """The clock, and all jobs by name."""

    def __init__(self, bound: Iterable[tuple[str, str]], implied: Iterable[tuple[str, str]], backend: str) -> None:
        self.now = 0.0
        self.cancels_once = backend == "asyncio" and not os.environ.get("TRIOFLOW_PLAIN")
        self.exact = True
        self.jobs: dict[str, ModelJob] = {}
        self.bound = set(bound)  # requirements that were added while a run was under way
        self.implied = set(implied)  # who waits for whom for the sake of jobs inside
        self.shutdowns: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.started: list[str] = []
        self.numbers = itertools.count()
        self._timers: list[Timer] = []

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` after the given number of seconds."""
        timer = Timer(self.now + seconds, next(self.numbers), action)
        heapq.heappush(self._timers, timer)
        return timer

    def step(self) -> None:
        """Advance to the next action."""
        timer = heapq.heappop(self._timers)
        if timer.live:
            if timer.when == self.now:
                self.exact = False
            self.now = timer.when
            timer.action()


class ModelJob:
    """A job, as its scheduler sees it."""

    def __init__(self, world: World, plan: Plan, parent: ModelScheduler | None) -> None:
        self.world, self.plan, self.parent = world, plan, parent
        self.state = "IDLE"
        self.started: float | None = None
        self.finished: float | None = None
        self.settled_as = math.inf  # its place in the order of settling
        self.cause: str | None = None  # of a failure
        self.root: ModelJob | None = None  # the job whose failure has blocked it
        self.only_cancelled = False  # it is BLOCKED because of cancel() alone
        self.waits_for: set[str] = set()
        self.asked = False  # to end, from outside
        self.by_run = False  # to end, as the run has come to its end
        self.ready = False  # a service
        self.calls = self.attempts = 0
        self.pause: Timer | None = None  # before the next attempt
        self.called_at = -1.0
        self.timers: list[Timer] = []
        world.jobs[plan.name] = self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the jobs whose results this job gets."""
        return inputs_of(self.plan)

    @property
    def is_service(self) -> bool:
        """Return whether the job counts as succeeded once it is ready."""
        return isinstance(self.plan, Leaf) and self.plan.service

    @property
    def is_waited_for(self) -> bool:
        """Return whether jobs that require this one have to wait."""
        return self.state in UNSETTLED and not self.ready

    @property
    def has_failed(self) -> bool:
        """Return whether the job counts as failed for the rules of its successors."""
        return self.state not in GOOD and not self.ready

    @property
    def criticality(self) -> bool | None:
        """Return the value of `critical` of the job, or else the nearest `critical_jobs` around it."""
        if self.plan.critical is not None:
            return self.plan.critical
        around = self.parent
        while around is not None and around.plan.critical_jobs is None:
            around = around.parent
        return None if around is None else around.plan.critical_jobs

    @property
    def counts(self) -> bool:
        """Return whether the failure of the job makes the run of its scheduler fail."""
        return self.state in ("FAILED", "BLOCKED") and self.criticality is not False and not self.only_cancelled

    def requires(self) -> list[ModelJob]:
        """Return the jobs that this job itself requires."""
        added = [earlier for later, earlier in self.world.bound if later == self.plan.name]
        return [self.world.jobs[name] for name in {*self.plan.requires, *self.inputs, *added}]

    def judge(self) -> tuple[str, str | None]:
        """Return the state that follows when all the job's requirements have settled, and the cause of BLOCKED."""
        required = self.requires()
        if self.plan.run_if == "failed" and not any(one.has_failed for one in required):
            return "SKIPPED", None
        inputs = [self.world.jobs[name] for name in self.inputs]
        essential = list(inputs)
        if self.plan.run_if == "succeeded":
            essential = [one for one in required if one in inputs or one.plan.name not in self.plan.settled]
        failed = [one for one in essential if one.has_failed and (one in inputs or one.criticality is not False)]
        if failed:
            first = min(failed, key=lambda one: one.settled_as)
            self.root, self.only_cancelled = first.root or first, all(one.was_cancelled for one in failed)
            return "BLOCKED", first.cause or "JobCancelled"
        if any(one.state == "SKIPPED" for one in inputs):
            return "SKIPPED", None
        if required and all(one.state == "SKIPPED" and one in essential for one in required):
            return "SKIPPED", None
        return "SCHEDULED", None

    @property
    def was_cancelled(self) -> bool:
        """Return whether the job, which counts as failed, was only cancelled, or blocked by what was."""
        if self.state in ("FAILED", "BLOCKED"):
            return self.only_cancelled
        return self.parent is None or self.parent.reason not in ("CRITICAL", "TIMEOUT")

    def start(self) -> None:
        """Begin an attempt of the job."""
        self.state = "RUNNING"
        if not self.attempts:
            self.started = self.world.now
        if self.plan.name not in self.world.started:
            self.world.started.append(self.plan.name)
        self.attempts += 1
        self.call()

    def cancel(self) -> None:
        """Cancel the job, once more if it unwinds already, or prevent its start."""
        if self.pause is not None:
            self.settle("CANCELLED")
        elif self.state == "RUNNING":
            self.asked = True
            self.unwind()
        elif self.state in ("IDLE", "SCHEDULED"):
            self.settle("CANCELLED")

    def end_with_run(self) -> None:
        """End the job because the run has come to its end."""
        self.by_run = self.by_run or not self.asked
        self.cancel()

    def settle(self, state: str, cause: str | None = None) -> None:
        """End the job in a final state."""
        if self.pause is not None:
            self.pause.live, self.pause = False, None
        self.state, self.finished, self.cause = state, self.world.now, cause
        self.ready = False
        self.settled_as = next(self.world.numbers)
        if self.parent is not None:
            self.parent.has_settled(self)

    def has_timed_out(self) -> None:
        """Fail or move on after a timeout."""
        if self.parent is not None and self.plan.on_timeout == "move_on":
            self.settle("SUCCEEDED")
        else:
            self.has_raised(f"JobTimeout {self.plan.name}")

    def has_raised(self, cause: str) -> None:
        """Fail or try again after an exception."""
        if self.parent is None or self.ready or self.asked or self.attempts > self.plan.retry:
            self.settle("FAILED", cause)
        elif self.parent.is_cleaning_up(self):
            if self.plan.pause:
                self.pause = self.world.after(self.plan.pause, self.start_in_place)
            else:
                self.start()
        elif self.parent.stopping:
            self.settle("CANCELLED")
        else:
            self.state = "SCHEDULED"
            self.parent.running.remove(self)
            if self.plan.pause:
                self.pause = self.world.after(self.plan.pause, self.be_ready_again)
            else:
                self.parent.queue.insert(0, self)
            self.parent.move()  # also for what it may have added

    def start_in_place(self) -> None:
        """Begin another attempt of a clean-up job, which waits for nothing but its pause."""
        self.pause = None
        self.start()

    def be_ready_again(self) -> None:
        """Wait for a slot, behind all others, when the pause is over."""
        assert self.parent is not None
        self.pause = None
        self.parent.queue.append(self)
        self.parent.move()

    def drop_timers(self) -> None:
        """Drop all timers."""
        for timer in self.timers:
            timer.live = False
        self.timers = []

    def note_call(self) -> None:
        """Count a call. Two calls at one instant make the prediction inexact: other jobs may run between them."""
        self.world.exact = self.world.exact and self.world.now != self.called_at
        self.called_at = self.world.now
        self.calls += 1

    def call(self) -> None:
        """Begin the body, or the run, for the first time or again."""
        raise NotImplementedError

    def unwind(self) -> None:
        """React to a cancellation, from outside or by the timeout."""
        raise NotImplementedError

    def shut_down(self) -> float:
        """Call `co_shutdown`; return the seconds that it takes."""
        raise NotImplementedError


class ModelLeaf(ModelJob):
    """The model of a leaf, that is a job that is not a scheduler."""

    plan: Leaf
    grown = False  # it has added what it adds

    def call(self) -> None:
        """Begin the nap of the body."""
        services = [self.world.jobs[name] for name in self.inputs if self.world.jobs[name].is_service]
        if any(service.state in ("CANCELLED", "FAILED") for service in services):
            self.world.exact = False  # it was ready, but has ended since: whether its value is still there is not said
        self.nap = self.plan.naps[min(self.calls, len(self.plan.naps) - 1)]
        self.fails = self.calls < self.plan.fails
        self.note_call()
        self.world.calls[self.plan.name] += 1
        self.unwinding = False
        if self.plan.timeout is not None and (self.nap or self.plan.service):
            self.timers.append(self.world.after(self.plan.timeout, self.unwind))
        if self.plan.service:
            self.timers.append(self.world.after(self.plan.ready_after, self.become_ready))
        else:
            self.take_nap()

    def become_ready(self) -> None:
        """Become ready, as a service whose timeout no longer counts."""
        assert self.parent is not None
        self.drop_timers()
        self.ready = True
        self.parent.has_become_ready(self)
        self.take_nap()

    def take_nap(self) -> None:
        """Sleep as planned."""
        if not self.nap:
            self.wake()
        elif self.nap < math.inf and self.state == "RUNNING" and not self.unwinding:
            self.timers.append(self.world.after(self.nap, self.wake))

    def wake(self) -> None:
        """End as planned."""
        self.drop_timers()
        assert self.parent is not None
        if not self.grown:
            self.grown = True
            self.parent.grow(self.plan)
        if self.fails:
            self.has_raised(f"Boom {self.plan.name}")
        else:
            self.settle("SUCCEEDED")

    def unwind(self) -> None:
        """Linger, then react; a further cancellation changes nothing but ends a wait without a shield."""
        if self.unwinding:
            self.again = True
            if self.timers:
                self.drop_timers()
                self.end()
            return
        self.unwinding, self.again = True, False
        self.drop_timers()
        if self.plan.linger:
            self.world.after(self.plan.linger, self.react)
        else:
            self.react()

    def react(self) -> None:
        """Wait, or end, after a cancellation."""
        if self.plan.reaction is Reaction.GO_ON and self.world.cancels_once and not self.again:
            self.timers.append(self.world.after(self.plan.unwinding, self.end))
        else:
            self.end()

    def end(self) -> None:
        """End after a cancellation."""
        if self.plan.reaction is Reaction.RETURN:
            if self.plan.service and not self.ready:
                self.has_raised("RuntimeError")
            else:
                self.settle("SUCCEEDED")
        elif self.plan.reaction is Reaction.FAIL:
            self.has_raised(f"Boom {self.plan.name}")
        elif self.asked:
            self.settle("SUCCEEDED" if self.ready and self.by_run else "CANCELLED")
        else:
            self.has_timed_out()

    def shut_down(self) -> float:
        """Count the shutdown, and return its seconds."""
        self.world.shutdowns[self.plan.name] += 1
        return self.plan.shutdown
