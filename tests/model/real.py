"""The real jobs made of a scenario, a run of them on virtual time, and what was seen of it."""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock
import anyio
import trio
import trioflow
from trioflow import (
    Answer,
    Job,
    JobTimeout,
    PerKey,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    Throttled,
    current_job,
)
from trioflow._core.admission import _admission
from trioflow._core.backend import current_backend
from trioflow.abc import AbstractJob, Instrument
from trioflow.testing import run_virtual
from ..conftest import Ordered, Virtual
from .model import Fate, Outcome
from .scenario import LOOKS, Group, Leaf, Plan, Reaction, Resource, Scenario, walk
from .steps import (
    Add,
    Await,
    Bind,
    Cancel,
    Drain,
    Fail,
    Give,
    Nap,
    Progress,
    Started,
    Steer,
    Step,
    Throttle,
    Use,
)

IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
variable: contextvars.ContextVar[str] = contextvars.ContextVar(
    "variable", default="untouched"
)


class Boom(Exception):
    """The failure of the jobs of these scenarios."""


class Slow(Boom):
    """A failure that shows overload."""


class Recorder(Instrument):
    """Writes down the calls of hooks."""

    def __init__(self, run: RealRun) -> None:
        self._run = run

    def _note(self, hook: str, job: Any) -> None:
        self._run.hooks.append((self._run.now(), hook, self._run.names[job]))

    def before_run(self, scheduler: Any) -> None:
        self._note("before_run", scheduler)

    def job_scheduled(self, scheduler: Any, job: Any) -> None:
        self._note("scheduled", job)
        plan = self._run.plans[self._run.names[scheduler]]
        self._run.call_back(plan, "scheduled", job)

    def job_started(self, scheduler: Any, job: Any) -> None:
        self._note("started", job)

    def job_attempt(self, scheduler: Any, job: Any) -> None:
        self._note("attempt", job)

    def service_ready(self, scheduler: Any, job: Any) -> None:
        self._note("ready", job)

    def job_settled(self, scheduler: Any, job: Any) -> None:
        self._note("finished", job)

    def job_reopened(self, scheduler: Any, job: Any) -> None:
        self._note("reopened", job)

    def after_run(self, scheduler: Any) -> None:
        self._note("after_run", scheduler)


class PlannedJob(Job[str]):
    """A job of a plan: called in the worker's own frame, as `Job` is, but with a shutdown."""

    __slots__ = ("plan", "real_run")
    plan: Leaf
    real_run: RealRun

    async def co_shutdown(self) -> None:
        await self.real_run.shut_down(self.plan)


class PlannedService(Service[str]):
    """A service of a plan."""

    __slots__ = ("plan", "real_run")
    plan: Leaf
    real_run: RealRun

    async def co_shutdown(self) -> None:
        await self.real_run.shut_down(self.plan)


class PlannedAnswer(Answer[str]):
    """A question of a plan."""

    __slots__ = ("plan", "real_run")
    plan: Leaf
    real_run: RealRun

    async def co_shutdown(self) -> None:
        await self.real_run.shut_down(self.plan)


class RealRun:
    """The jobs made of a scenario, inside an event loop; each call of `run` is a run of all of them."""

    def __init__(self, scenario: Scenario, **options: Any) -> None:
        self.scenario = scenario
        self.options = options
        self.limiters = [anyio.CapacityLimiter(tokens) for tokens in scenario.tokens]
        self.jobs: dict[str, AbstractJob[Any]] = {}  # those of the last run, by name
        self.names: dict[AbstractJob[Any], str] = {}  # all that ever were
        # How many may overtake a job, where it is not 64.
        self.backfill: dict[Any, int] = {}
        # Of all runs.
        if scenario.apart:
            self.pool = make_pool(scenario.root)
        else:
            self.pool = None
        if scenario.apart:
            self.runs_apart = [self.make(plan, {}) for plan in scenario.root.jobs]
        else:
            self.runs_apart = []
        if scenario.apart:
            self.root = None
        else:
            self.root = self.make(scenario.root, {})
        self.lasting = dict(self.jobs)  # those that are not added during a run
        self.start = 0.0
        self.plans: dict[str, Any] = {plan.name: plan for plan in walk(scenario.root)}
        self.own_tasks = {plan.name for plan in walk(scenario.root) if plan.own_task}
        self.bound: set[tuple[str, str]] = set()
        # The variable's value where a job, or its scheduler, was added.
        self.given: dict[str, str] = {}
        self.clear()

    def clear(self) -> None:
        """Forget what was seen of the run before."""
        # Of a body, by name and first start of its scheduler.
        self.calls: Counter[tuple[str, float | None]] = Counter()
        self.bodies: Counter[str] = Counter()
        self.shutdowns: Counter[str] = Counter()
        self.returned: dict[str, Any] = {}  # the last value of each
        self.grown: set[tuple[str, int, str]] = (
            set()
        )  # those that have added what they add
        self.hooks: list[tuple[float, str, str]] = []
        self.settled: list[tuple[str, str]] = []
        self.told: Counter[tuple[str, str]] = Counter()  # of `calls`
        self.started: list[str] = []
        self.strange: list[str] = []
        self.inside: Counter[str] = Counter()
        # On trio, by number: a task that is referred to is not shared.
        self.tasks: dict[int, set[str]] = {}
        self.looks: list[dict[str, Any]] = []

    def now(self) -> float:
        """Return the seconds since the run began."""
        return self.clock() - self.start

    # ---- building

    def make(self, plan: Plan, siblings: dict[str, AbstractJob[Any]]) -> Any:
        """Build the job, or the scheduler with all its jobs."""
        options: dict[str, Any] = {
            "label": self.options.get("labels", "{}").format(plan.name),
            "critical": plan.critical,
            "forever": plan.forever,
            "required": [siblings[name] for name in plan.requires],
            "timeout": plan.timeout,
            "on_timeout": plan.on_timeout,
            "idle_timeout": plan.idle_timeout,
            "own_task": plan.own_task,
            "retry": self.make_retry(plan),
            "run_if": plan.run_if,
            "needs": dict(plan.needs) or None,
            "priority": plan.priority,
            "expected_duration": plan.expected,
            "key": plan.name if isinstance(plan, Leaf) else None,
        }
        if isinstance(plan, Group):
            job = self.make_scheduler(plan, options)
        else:
            assert isinstance(plan, Leaf)
            job = self.make_leaf(plan, options)
        job.requires([siblings[name] for name in plan.settled], settled=True)
        self.jobs[plan.name] = job
        self.names[job] = plan.name
        return job

    def make_retry(self, plan: Plan) -> Retry | None:
        """Build the option `retry`."""
        retry = plan.retry
        if retry is None:
            return None
        on = Boom if retry.booms_only else Exception
        return Retry(
            retry.times,
            first=retry.first,
            factor=retry.factor,
            cap=retry.cap,
            jitter=False,
            on=on,
        )

    def make_leaf(self, plan: Leaf, options: dict[str, Any]) -> Any:
        """Build a job, a service or an answer."""
        job: Any
        if plan.answer:
            job = PlannedAnswer(f"what of {plan.name}?", **options)
        else:
            if plan.service:
                options.pop("forever")
            inputs = map(self.jobs.__getitem__, plan.inputs)
            has_shutdown = plan.shutdown or plan.shutdown_fails
            if not self.scenario.keep_jobs and not has_shutdown:
                # A job with a shutdown of its own would be kept until then.
                plain = Service if plan.service else Job
                return plain(self.act, plan, *inputs, **options)
            kind = PlannedService if plan.service else PlannedJob
            job = kind(self.act, plan, *inputs, **options)
        job.real_run = self
        job.plan = plan
        return job

    def make_scheduler(self, plan: Group, options: dict[str, Any]) -> Any:
        """Build a scheduler, or a `First`, with all its jobs."""
        members: dict[str, AbstractJob[Any]] = {}
        if plan.enough is not None:
            for inner in plan.jobs:
                members[inner.name] = self.make(inner, members)
            jobs = [members[inner.name] for inner in plan.jobs]
            return trioflow.First(
                *jobs, enough=plan.enough, stagger=plan.stagger, **options
            )
        if plan.limiter is None:
            window: Any = plan.window
        else:
            window = self.limiters[plan.limiter]
        if plan.adaptive is not None:
            window = trioflow.Adaptive(*plan.adaptive, slower_on=(Slow, Throttled))
        if plan.on_job_settled is not None or plan.calls:
            options["on_job_settled"] = partial(self.note_settled, plan)
        if self.scenario.apart and plan in self.scenario.root.jobs:
            options["pool"] = self.pool
        else:
            options["pool"] = make_pool(plan)
        scheduler = Scheduler(
            jobs_window=window,
            shutdown_timeout=plan.shutdown_timeout,
            cleanup_timeout=plan.cleanup_timeout,
            critical_jobs=plan.critical_jobs,
            policy=plan.policy,
            keep_jobs=self.scenario.keep_jobs,
            hold=plan.hold,
            **options,
        )
        self.backfill[scheduler] = plan.backfill
        # Each is in its scheduler before one nested beside may have it as an input.
        for inner in plan.jobs:
            members[inner.name] = job = self.make(inner, members)
            if not plan.backwards:
                scheduler.add(job)
        return scheduler.update([members[inner.name] for inner in plan.in_order_added])

    # ---- running

    async def run(self, *instruments: Instrument, **options: Any) -> Outcome:
        """Run the scenario once, and return what has become of it."""
        self.clock = current_backend().clock()
        self.start = self.clock()
        self.jobs = dict(self.lasting)
        self.clear()
        for limiter, tokens in zip(self.limiters, self.scenario.tokens, strict=True):
            limiter.total_tokens = tokens
        bound = frozenset(self.bound)
        result = None
        scenario = self.scenario
        backfill = property(lambda places: self.backfill.get(places.run.scheduler, 64))
        async with anyio.create_task_group() as others:
            others.start_soon(self.look_at_times)
            for when, name in scenario.cancels:
                others.start_soon(self.call_later, when, name, "cancel")
            for when, name in scenario.drains:
                others.start_soon(self.call_later, when, name, "drain")
            for when, step in scenario.steers:
                others.start_soon(self.steer_later, when, step)
            for when, number, tokens in scenario.resizes:
                others.start_soon(self.resize_later, when, number, tokens)
            patched = mock.patch.object(
                _admission.OrderedPlaces, "max_overtakes", backfill
            )
            with patched, anyio.move_on_after(scenario.cut_at):
                if scenario.apart:
                    async with anyio.create_task_group() as group:
                        for number, each in enumerate(self.runs_apart):
                            # A journal.
                            own = {
                                name: f"{value}{number}"
                                for name, value in options.items()
                            }
                            group.start_soon(
                                partial(
                                    self.run_one,
                                    each,
                                    [*instruments, Recorder(self)],
                                    **own,
                                )
                            )
                else:
                    result = await self.run_one(
                        self.root, [*instruments, Recorder(self)], **options
                    )
            outcome = self.look(result, bound)
            others.cancel_scope.cancel()
        return outcome

    async def run_one(
        self, scheduler: Any, instruments: list[Instrument], journal: str | None = None
    ) -> bool:
        """Run a scheduler; with `keep_jobs=False` as an open one, which drops each job that has settled."""
        if self.scenario.keep_jobs:
            return await scheduler.co_run(instruments=instruments, journal=journal)  # type: ignore[no-any-return]
        scheduler.instruments = instruments
        scheduler.journal = journal
        with contextlib.suppress(ExceptionGroup, JobTimeout, trioflow.JobCancelled):
            async with scheduler:
                pass
        return bool(scheduler.stop_reason is trioflow.StopReason.COMPLETED)

    def check_end(self) -> None:
        """Record what a run has left behind, whatever has become of it."""
        if any(self.inside.values()) or any(
            limiter.borrowed_tokens for limiter in self.limiters
        ):
            self.strange.append(f"bodies or tokens are left: {self.inside}")
        if any(
            names & self.own_tasks for names in self.tasks.values() if len(names) > 1
        ):
            self.strange.append(
                f"jobs do not have tasks of their own: {[*self.tasks.values()]}"
            )
        for name, job in self.jobs.items():
            if job.state.name in ("SCHEDULED", "RUNNING"):
                self.strange.append(f"{name} is left {job.state.name}")
            if isinstance(job, Scheduler) and job.pool is not None:
                total = job.pool.total
                left = {
                    one: free
                    for one, free in job.pool.free.items()
                    if one.startswith(("pool", "named"))
                }
                if any(free != total[one] for one, free in left.items()):
                    self.strange.append(f"the pool of {name} has {left}")

    def look(self, result: bool | None, bound: frozenset[tuple[str, str]]) -> Outcome:
        """Return what has become of each job and scheduler."""
        self.check_end()
        fates: dict[str, Fate] = {}
        verdicts: dict[str, tuple[str | None, str | None]] = {}
        for name, job in self.jobs.items():
            times = [
                None if when is None else when - self.start
                for when in (job.started_at, job.finished_at)
            ]
            cause = cause_of(job.raised_exception())
            value = None
            if job.is_succeeded():
                value = job.result()
            counts = self.bodies[name], self.shutdowns[name]
            fates[name] = Fate(
                job.state.name,
                cause,
                times[0],
                times[1],
                job.attempts,
                *counts,
                job.restored,
                value,
            )
            if isinstance(job, Scheduler):
                reason = job.stop_reason
                culprit = job.culprit
                verdicts[name] = (
                    reason and reason.name,
                    culprit and self.names[culprit],
                )
        return Outcome(
            result=result,
            ended_at=self.now(),
            fates=fates,
            verdicts=verdicts,
            started=self.started,
            settled=self.settled,
            hooks=self.hooks,
            doubts=Counter(self.strange),
            looks=self.looks,
            effects=set(),
            bound=bound,
            kept=frozenset(
                self.names[job]
                for job in self.root or ()
                if not self.scenario.keep_jobs
            ),
        )

    async def call_later(self, when: float, name: str, method: str) -> None:
        """Cancel or drain from outside, at the planned time, if its scheduler is running then."""
        await anyio.sleep(when)
        with contextlib.suppress(KeyError, RuntimeError):
            getattr(self.jobs[name], method)()

    async def steer_later(self, when: float, step: Steer) -> None:
        """Pause or resume a scheduler, or give it another window, at the planned time."""
        await anyio.sleep(when)
        self.take(step, None)

    async def resize_later(self, when: float, number: int, tokens: int) -> None:
        """Change the total of a limiter at the planned time."""
        await anyio.sleep(when)
        self.limiters[number].total_tokens = tokens

    async def look_at_times(self) -> None:
        """Look at what can be seen from outside, at the instants of `LOOKS`."""
        for when in LOOKS:
            await anyio.sleep(self.start + when - anyio.current_time())
            seen: dict[str, Any] = {
                f"tokens of limiter {number}": limiter.borrowed_tokens
                for number, limiter in enumerate(self.limiters)
            }
            pools = {self.scenario.root.name: self.pool}
            for name, job in self.jobs.items():
                scheduler: Any = job.scheduler
                if scheduler is not None:
                    seen[f"why {name}"] = scheduler.explain(job)
                if isinstance(job, Scheduler):
                    seen[f"the window of {name}"] = job.window_size
                    pools[name] = job.pool
            for name, pool in pools.items():
                for resource, amount in (pool.free if pool is not None else {}).items():
                    requests = amount
                    if isinstance(amount, dict):
                        requests = amount.get("requests", amount)
                    seen[f"{resource} of {name}"] = requests
            self.looks.append(seen)

    def note_settled(self, plan: Group, job: Any) -> None:
        self.settled.append((plan.name, self.names[job]))
        self.call_back(plan, "settled", job)

    def call_back(self, plan: Group, hook: str, job: Any) -> None:
        """Do what a function does that is told of a job."""
        name = self.names[job]
        number = self.told[hook, name]
        self.told[hook, name] += 1
        for call in plan.calls:
            if (call.hook, call.who, call.number) == (hook, name, number):
                self.take(call.step, job)

    async def shut_down(self, plan: Leaf) -> None:
        """Act as planned for `co_shutdown`."""
        self.shutdowns[plan.name] += 1
        if plan.shutdown:
            await anyio.sleep(plan.shutdown)
        if plan.shutdown_fails:
            raise Boom(plan.name)

    # ---- bodies

    async def act(self, plan: Leaf, *inputs: Any, task_status: Any = None) -> str:
        """Do what a body does, and react to a cancellation as planned."""
        job = self.jobs[plan.name]
        number = self.enter(plan, inputs)
        value = f"{plan.name}, call {number}"
        is_ready = False
        try:
            for step in plan.bodies[min(number, len(plan.bodies) - 1)]:
                if isinstance(step, Started):
                    self.returned[plan.name] = value
                    is_ready = True
                    task_status.started(value)
                elif isinstance(step, Nap):
                    await nap(step.seconds)
                elif isinstance(step, Await):
                    await self.wait_for(step)
                else:
                    self.take(step, job)
            self.returned[plan.name] = value
            return value
        except anyio.get_cancelled_exc_class():
            if plan.reaction is Reaction.START and not is_ready:
                self.returned[plan.name] = value
                task_status.started(value)
            with anyio.CancelScope(shield=True):
                if plan.linger:
                    await anyio.sleep(plan.linger)
            match plan.reaction:
                case Reaction.RETURN:
                    self.returned[plan.name] = value
                    return value
                case Reaction.FAIL:
                    raise Boom(plan.name) from None
                case Reaction.GO_ON:
                    await anyio.sleep(plan.unwinding)
            raise
        finally:
            self.inside[plan.name] -= 1
            if changes_context(plan) and variable.get() != plan.name:
                self.strange.append(f"{plan.name} sees the context of {variable.get()}")

    def enter(self, plan: Leaf, inputs: tuple[Any, ...]) -> int:
        """Record a call, and return how many calls there were before in this run of its scheduler."""
        scheduler: Any = self.jobs[plan.name].scheduler
        attempt = plan.name, scheduler.started_at, self.runs(scheduler)
        number = self.calls[attempt]  # type: ignore[index]
        self.calls[attempt] += 1  # type: ignore[index]
        self.bodies[plan.name] += 1
        if plan.name not in self.started:
            self.started.append(plan.name)
        self.inside[plan.name] += 1
        if trio.lowlevel.in_trio_run():
            self.tasks.setdefault(trio.lowlevel.current_task()._counter, set()).add(
                plan.name
            )
        if current_job() is not self.jobs[plan.name]:
            self.strange.append(f"current_job() in {plan.name} is {current_job()}")
        for name, value in zip(plan.inputs, inputs, strict=True):
            job = self.jobs[name]
            if job.restored or isinstance(job, Answer):
                continue
            moved_on = job.timed_out and job.on_timeout == "move_on"
            expected = self.returned.get(name, "no value at all")
            if moved_on and value is None:
                expected = None
            if value != expected:
                self.strange.append(
                    f"{plan.name} got {value!r} from {name} instead of {expected!r}"
                )
        given = self.given.get(plan.name)
        if variable.get() not in {"untouched", plan.name, given}:
            self.strange.append(f"{plan.name} sees the context of {variable.get()}")
        if changes_context(plan):
            variable.set(plan.name)
        return number

    def runs(self, scheduler: Any) -> int:
        """Return how many runs of a scheduler, and of those around it, have begun."""
        names = set()
        while scheduler is not None:
            names.add(self.names.get(scheduler, ""))
            scheduler = scheduler.scheduler
        begun = [name for _, hook, name in self.hooks if hook == "before_run"]
        return len([name for name in begun if name in names])

    async def wait_for(self, step: Await) -> None:
        """Await another job, or only that it has settled."""
        other = self.jobs.get(step.who)
        if other is not None:
            if step.only_settled:
                await other.wait_settled()
            else:
                await other

    def take(self, step: Step, job: Any) -> None:
        """Take a step that takes no time."""
        match step:
            case Fail(slow):
                raise (Slow if slow else Boom)(self.names[job])
            case Throttle(name, after):
                raise Throttled(name, after=after)
            case Progress():
                job.progress()
            case Use(name, amount):
                job.used(**{name: amount})
            case Cancel(who):
                with contextlib.suppress(KeyError, RuntimeError):
                    self.jobs[who].cancel()
            case Drain(who):
                with contextlib.suppress(KeyError, RuntimeError, AttributeError):
                    self.jobs[who].drain()  # type: ignore[attr-defined]
            case Steer(who, "try_again"):
                with contextlib.suppress(KeyError, RuntimeError):
                    self.jobs[who].try_again()
            case Steer(who, what):
                scheduler: Any = self.jobs.get(who)
                if (
                    isinstance(what, int)
                    and scheduler is not None
                    and not has_settled(scheduler)
                ):
                    scheduler.jobs_window = what
                elif not isinstance(what, int):
                    with contextlib.suppress(AttributeError, RuntimeError):
                        getattr(scheduler, what)()
            case Give(who):
                with contextlib.suppress(KeyError, RuntimeError):
                    self.jobs[who].answer("yes")  # type: ignore[attr-defined]
            case Add(jobs):
                self.grow(job, jobs)
            case Bind(later, earlier):
                with contextlib.suppress(KeyError, RuntimeError):
                    self.jobs[later].requires(self.jobs[earlier])
                    self.bound.add((later, earlier))

    def grow(self, job: Any, plans: Sequence[Plan]) -> None:
        """Add jobs, if the scheduler takes them; once, however often the job is called."""
        scheduler = job.scheduler
        once = self.names[job], self.runs(scheduler), plans[0].name
        if once in self.grown:
            return
        self.grown.add(once)
        # Not those of the scheduler, which may have dropped some.
        siblings = dict(self.jobs)
        before = dict(self.jobs)
        try:
            new = []
            for inner in plans:
                siblings[inner.name] = one = self.make(inner, siblings)
                # What is added to an open scheduler gets its adder's context; a hook has that of the job that ends.
                if not self.scenario.keep_jobs:
                    names = [plan.name for plan in walk(inner)]
                    self.given |= dict.fromkeys(names, variable.get())
                new.append(one)
            scheduler.update(new)
        except RuntimeError:  # a forever job adds them too late
            self.jobs = before


def has_settled(scheduler: Any) -> bool:
    """Return whether a scheduler, or one around it, has settled: then it accepts no other window."""
    while scheduler is not None and not scheduler.is_settled():
        scheduler = scheduler.scheduler
    return scheduler is not None


def changes_context(plan: Leaf) -> bool:
    """Return whether a job sets `variable`, after which its task runs no other job; some do."""
    return sum(map(ord, plan.name)) % 4 == 0


def make_pool(plan: Group) -> Pool | None:
    if not plan.pool:
        return None
    return Pool(**{one.name: make_resource(one) for one in plan.pool})


def make_resource(plan: Resource) -> Any:
    """Build a resource of a pool."""
    match plan.kind:
        case "named":
            return [f"{plan.name}{number}" for number in range(int(plan.total))]
        case "rate":
            return Rate(
                requests=plan.total,
                per=plan.per,
                burst=plan.burst or None,
                give_up=plan.give_up,
            )
        case "budget":
            return trioflow.Budget(plan.total)
        case "keys":
            if plan.of_rates:
                return PerKey(
                    Rate(
                        requests=plan.total,
                        per=plan.per,
                        burst=plan.burst or None,
                        give_up=None,
                    )
                )
            return PerKey(int(plan.total), gap=plan.gap)
    return int(plan.total)


def cause_of(error: BaseException | None) -> str | None:
    """Return an exception's class and its job; for RequirementFailed, those of the first failure; for a group, all."""
    if isinstance(error, trioflow.RequirementFailed):
        return cause_of(error.__cause__)
    if isinstance(error, ExceptionGroup):
        return f"ExceptionGroup {', '.join(cause_of(one) or '' for one in error.exceptions)}"
    who = (
        error.job.plan.name
        if isinstance(error, JobTimeout) and hasattr(error.job, "plan")
        else ""
    )
    if isinstance(error, JobTimeout) and not who:
        who = error.job.label
    if isinstance(error, Boom):
        who = error.args[0]
    if error is None:
        return None
    return f"{type(error).__name__} {who}".rstrip()


async def nap(seconds: float) -> None:
    if seconds == math.inf:
        await anyio.sleep_forever()
    else:
        await anyio.sleep(seconds)


def observe_restart(scenario: Scenario, backend: str) -> list[Outcome]:
    """Run a scenario with a journal until it is killed, and then once more, from the beginning."""

    async def both() -> list[Outcome]:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
            journal = f"{folder}/run.db"
            first = RealRun(replace(scenario, cut_at=scenario.killed_at))
            return [
                await first.run(journal=journal),
                await RealRun(scenario).run(journal=journal),
            ]

    return run_virtual(both, backend=backend)  # type: ignore[arg-type]


def observe(
    scenario: Scenario,
    backend: str,
    runs: int = 1,
    *instruments: Instrument,
    order: int | None = None,
    **options: Any,
) -> list[Outcome]:
    """Run a scenario some times, one after the other, in one event loop on virtual time; `order` is a seed of turns."""

    async def all_runs() -> list[Outcome]:
        real = RealRun(scenario, **options)
        return [await real.run(*instruments) for _ in range(runs)]

    if order is None:
        return Virtual(backend)(all_runs)
    return Ordered(backend, order)(all_runs)
