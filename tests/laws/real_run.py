"""The real jobs built from a plan, and a recording of each of their runs."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio

from trioflow import Job, JobTimeout, RequirementFailed, Retry, Scheduler, Service
from trioflow.abc import AbstractJob, Instrument

from ..bodies import task_now
from ..model.real import Boom
from ..model.scenario import Reaction
from .scenarios import Group, Leaf, Plan, Scenario

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="untouched")


class PlannedJob(Job[str]):
    """A job of a plan: called in the worker's own frame, as `Job` is, but with a shutdown."""

    __slots__ = ("plan", "real_run")

    def __init__(self, real_run: RealRun, plan: Leaf, *inputs: AbstractJob[Any], **options: Any) -> None:
        self.real_run, self.plan = real_run, plan
        super().__init__(real_run.act, plan, *inputs, **options)

    async def co_shutdown(self) -> None:
        await self.real_run.shut_down(self.plan)


class PlannedService(Service[str]):
    """A service of a plan."""

    __slots__ = ("plan", "real_run")

    def __init__(self, real_run: RealRun, plan: Leaf, *inputs: AbstractJob[Any], **options: Any) -> None:
        self.real_run, self.plan = real_run, plan
        super().__init__(real_run.act, plan, *inputs, **options)

    async def co_shutdown(self) -> None:
        await self.real_run.shut_down(self.plan)


@dataclass(frozen=True, slots=True)
class Fate:
    """The outcome of one job."""

    state: str
    started: float | None
    finished: float | None
    shutdowns: int
    calls: int = 0
    cause: str | None = None  # of FAILED: what it raised; of BLOCKED: where that began


class Event(NamedTuple):
    """One event that an instrument received."""

    when: float
    hook: str
    scheduler: str
    job: str  # "" if it is about the scheduler
    state: str  # of the job


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one scheduler."""

    reason: str | None
    culprit: str | None


@dataclass(slots=True)
class Recording:
    """A recording of one run of a scenario. Times count from its start."""

    scenario: Scenario
    result: bool | None = None  # None: cut from outside
    ended_at: float = 0.0
    fates: dict[str, Fate] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    bodies: list[tuple[float, str, str]] = field(default_factory=list)  # when, "enter" or "cancelled" or "leave", who
    leaks: list[tuple[str, str]] = field(default_factory=list)  # jobs that saw another's value of `variable`
    tasks: list[tuple[str, Any]] = field(default_factory=list)  # in which task each job was, one entry a call
    events: list[Event] = field(default_factory=list)
    strange_values: list[tuple[str, str, Any, Any]] = field(default_factory=list)  # who got what instead of what
    bound: frozenset[tuple[str, str]] = frozenset()  # requirements that runs before this one have added
    left_borrowed: float = 0


class Recorder(Instrument):
    """Writes the events of a run into its recording."""

    def __init__(self, real_run: RealRun) -> None:
        self.real_run = real_run

    def _note(self, hook: str, scheduler: Any, job: Any = None) -> None:
        names, now = self.real_run.names, self.real_run.now()
        who, state = (names[job], job.state.name) if job is not None else ("", "")
        self.real_run.seen.events.append(Event(now, hook, names[scheduler], who, state))

    def before_run(self, scheduler: Any) -> None:
        self._note("before_run", scheduler)

    def job_scheduled(self, scheduler: Any, job: Any) -> None:
        self._note("scheduled", scheduler, job)

    def job_started(self, scheduler: Any, job: Any) -> None:
        self._note("started", scheduler, job)

    def job_ready(self, scheduler: Any, job: Any) -> None:
        self._note("ready", scheduler, job)

    def job_finished(self, scheduler: Any, job: Any) -> None:
        self._note("finished", scheduler, job)

    def after_run(self, scheduler: Any) -> None:
        self._note("after_run", scheduler)


class RealRun:
    """The jobs made of a scenario, inside an event loop; each call of `run` is a run of all of them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.limiters = [anyio.CapacityLimiter(tokens) for tokens in scenario.tokens]
        self.jobs: dict[str, AbstractJob[Any]] = {}  # those of the last run, by name
        self.names: dict[AbstractJob[Any], str] = {}  # all that ever were
        self.root = self.make(scenario.root, {})
        self.lasting = dict(self.jobs)  # those that are not added during a run
        self.start = 0.0
        self.holds_tasks = True
        self.calls: Counter[tuple[str, float | None]] = Counter()  # of a body, by name and start of its job
        self.shutdowns: Counter[str] = Counter()
        self.returned: dict[str, str] = {}  # the last value of each
        self.bound: set[tuple[str, str]] = set()
        self.grown: set[tuple[str, float | None]] = set()  # those that have added what they add
        self.seen = Recording(scenario)

    def now(self) -> float:
        """Return the seconds since the run began."""
        return anyio.current_time() - self.start

    def make(self, plan: Plan, siblings: dict[str, AbstractJob[Any]]) -> Any:
        """Build the job, or the scheduler with all its jobs."""
        options: dict[str, Any] = {
            "label": plan.name,
            "critical": plan.critical,
            "forever": plan.forever,
            "required": [siblings[name] for name in plan.requires],
            "timeout": plan.timeout,
            "on_timeout": plan.on_timeout,
            "own_task": plan.own_task,
            "retry": Retry(plan.retry, first=plan.pause, factor=1, cap=plan.pause, jitter=False)
            if plan.retry
            else None,
            "run_if": plan.run_if,
        }
        job: AbstractJob[Any]
        if isinstance(plan, Group):
            job = self.make_scheduler(plan, options)
        else:
            assert isinstance(plan, Leaf)
            job = (PlannedService if plan.service else PlannedJob)(
                self, plan, *map(self.jobs.__getitem__, plan.inputs), **options
            )
        job.requires([siblings[name] for name in plan.settled], settled=True)
        self.jobs[plan.name] = job
        self.names[job] = plan.name
        return job

    def make_scheduler(self, plan: Group, options: dict[str, Any]) -> Scheduler:
        scheduler = Scheduler(
            jobs_window=plan.window if plan.limiter is None else self.limiters[plan.limiter],
            shutdown_timeout=plan.shutdown_timeout,
            cleanup_timeout=plan.cleanup_timeout,
            critical_jobs=plan.critical_jobs,
            **options,
        )
        members: dict[str, AbstractJob[Any]] = {}
        for inner in plan.jobs:  # each is in its scheduler before one nested beside may have it as an input
            members[inner.name] = job = self.make(inner, members)
            if not plan.backwards:
                scheduler.add(job)
        return scheduler.update([members[inner.name] for inner in plan.in_order_added])

    # ---- running

    async def run(self, watched: bool, *others: Instrument, holds_tasks: bool = True) -> Recording:
        """Run the scenario once, with an instrument or without, and with others.

        If the recording holds the tasks of jobs, as programs may, each worker runs one job only.
        """
        self.holds_tasks = holds_tasks
        self.start = anyio.current_time()
        self.jobs = dict(self.lasting)
        self.calls.clear()
        self.shutdowns.clear()
        self.returned.clear()
        self.grown.clear()
        self.seen = Recording(self.scenario, bound=frozenset(self.bound))
        async with anyio.create_task_group() as cancellers:
            for when, name in self.scenario.cancels:
                cancellers.start_soon(self.cancel_later, when, name)
            with anyio.move_on_after(self.scenario.cut_at):
                self.seen.result = await self.root.co_run(instruments=[*others, *([Recorder(self)] if watched else [])])
            self.look()
            cancellers.cancel_scope.cancel()
        return self.seen

    def look(self) -> None:
        """Record the outcome of each job and scheduler."""
        seen = self.seen
        seen.ended_at = self.now()
        seen.left_borrowed = sum(limiter.borrowed_tokens for limiter in self.limiters)
        for name, job in self.jobs.items():
            started, finished = (
                None if when is None else when - self.start for when in (job.started_at, job.finished_at)
            )
            calls = sum(what == "enter" and who == name for _, what, who in seen.bodies)
            seen.fates[name] = Fate(
                job.state.name, started, finished, self.shutdowns[name], calls, cause_of(job.raised_exception())
            )
            if isinstance(job, Scheduler):
                reason, culprit = job.stop_reason, job.culprit
                seen.verdicts[name] = Verdict(reason and reason.name, self.names[culprit] if culprit else None)

    async def cancel_later(self, when: float, name: str) -> None:
        """Cancel one job from outside, or the whole run, at the planned time if its scheduler is running then."""
        await anyio.sleep(when)
        with contextlib.suppress(KeyError, RuntimeError):
            self.jobs[name].cancel()

    async def shut_down(self, plan: Leaf) -> None:
        """Act as planned for `co_shutdown`."""
        self.shutdowns[plan.name] += 1
        if plan.shutdown:
            await anyio.sleep(plan.shutdown)
        if plan.shutdown_fails:
            raise Boom(plan.name)

    async def act(self, plan: Leaf, *inputs: Any, task_status: Any = None) -> str:
        """Act as planned for `co_run`."""
        number = self.enter(plan, inputs)
        nap = plan.naps[min(number, len(plan.naps) - 1)]
        value = f"{plan.name} at {self.now()}"
        try:
            if task_status is not None:
                await anyio.sleep(plan.ready_after)
                self.returned[plan.name] = value
                task_status.started(value)
            if nap:
                await (anyio.sleep_forever() if nap == math.inf else anyio.sleep(nap))
            self.grow(plan)
            if number < plan.fails:
                raise Boom(plan.name)
            self.returned[plan.name] = value
            return value
        except anyio.get_cancelled_exc_class():
            return await self.react(plan, value)
        finally:
            self.check_context(plan, changed=plan.changes_context)
            self.seen.bodies.append((self.now(), "leave", plan.name))

    def enter(self, plan: Leaf, inputs: tuple[Any, ...]) -> int:
        """Record a call, and return how many calls there were before."""
        attempt = plan.name, self.jobs[plan.name].started_at
        number = self.calls[attempt]
        self.calls[attempt] += 1
        self.seen.bodies.append((self.now(), "enter", plan.name))
        if self.holds_tasks:
            self.seen.tasks.append((plan.name, task_now()))
        self.check_inputs(plan, inputs)
        if number == 0 or plan.run_if != "failed":  # clean-up jobs are called again in the same task
            self.check_context(plan, changed=False)
        if plan.changes_context:
            variable.set(plan.name)
        return number

    def check_inputs(self, plan: Leaf, inputs: tuple[Any, ...]) -> None:
        """Record each input that differs from the result of its job."""
        for name, value in zip(plan.inputs, inputs, strict=True):
            moved_on = self.jobs[name].timed_out and self.jobs[name].on_timeout == "move_on"
            expected = None if moved_on and value is None else self.returned.get(name, "no value at all")
            if value != expected:
                self.seen.strange_values.append((plan.name, name, value, expected))

    def check_context(self, plan: Leaf, changed: bool) -> None:
        """Record a context that another job has changed."""
        if variable.get() != (plan.name if changed else "untouched"):
            self.seen.leaks.append((plan.name, variable.get()))

    async def react(self, plan: Leaf, value: str) -> str:
        self.seen.bodies.append((self.now(), "cancelled", plan.name))
        with anyio.CancelScope(shield=True):
            if plan.linger:
                await anyio.sleep(plan.linger)
        match plan.reaction:
            case Reaction.RETURN:
                self.returned[plan.name] = value
                return value
            case Reaction.FAIL:
                raise Boom(plan.name)
            case Reaction.GO_ON:
                await anyio.sleep(plan.unwinding)
        raise

    def grow(self, plan: Leaf) -> None:
        """Add jobs and requirements, if the scheduler takes them; once, however often the job is called."""
        once = plan.name, self.jobs[plan.name].started_at
        if once in self.grown:
            return
        self.grown.add(once)
        scheduler = self.jobs[plan.name].scheduler
        assert scheduler is not None
        if plan.adds:
            siblings = {self.names[job]: job for job in scheduler}
            before = dict(self.jobs)
            try:
                scheduler.update([self.make(inner, siblings) for inner in plan.adds])
            except RuntimeError:  # a forever job adds them too late
                self.jobs = before
        for later, earlier in plan.binds:
            with contextlib.suppress(RuntimeError):  # it is not idle any more, or all is stopping
                self.jobs[later].requires(self.jobs[earlier])
                self.bound.add((later, earlier))


def cause_of(error: BaseException | None) -> str | None:
    """Return an exception's class and its job; for RequirementFailed, those of the first failure; for a group, all."""
    if isinstance(error, RequirementFailed):
        return cause_of(error.__cause__)
    if isinstance(error, ExceptionGroup):
        return f"ExceptionGroup {', '.join(cause_of(one) or '' for one in error.exceptions)}"
    who = error.job.label if isinstance(error, JobTimeout) else error.args[0] if isinstance(error, Boom) else ""
    return None if error is None else f"{type(error).__name__} {who}".rstrip()
