"""Random scenarios: plans, which are plain data; the strategies that draw them; the jobs that a plan is made into.

A plan says all that will happen, so that two things can be made of it independently: a `Stage`, with real jobs for
the engine, and a prediction (`tests.oracle`). Names are unique within a scenario, and no two durations are alike:
each is a whole number of seconds plus a jitter of its own, a multiple of 2**-30. Their sums are exact floats, and
two of them coincide about as often as two random numbers of 30 bits.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from typing import Any

import anyio
import trio
from hypothesis import strategies as st

from trioflow import Job, Scheduler
from trioflow.abc import AbstractJob, Instrument

MAX_JOBS = 60
MAX_DEPTH = 3
LAST_CALL = 5000.0 + 2.0**-20
"""When a scenario is cut that would not end by itself."""

# ---------------------------------------------------------------- plans


class Told:
    """A dataclass whose repr tells only what is not as usual: a falsifying example is to be read."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = (
            f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if getattr(self, one.name) != one.default
        )  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(told)})"


class Reaction(Enum):
    """What a body does about a cancellation, when it has lingered."""

    OBEY = auto()
    GO_ON = auto()  # swallows it and waits again, without a shield: it is cancelled again at once
    RETURN = auto()
    FAIL = auto()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan(Told):
    """What leaves and schedulers have in common."""

    name: str
    requires: tuple[str, ...] = ()
    critical: bool | None = None
    forever: bool = False
    own_task: bool = False
    timeout: float | None = None
    on_timeout: str = "fail"
    restarts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Leaf(Plan):
    """A job that naps."""

    naps: tuple[float, ...]  # of its calls in one run, the last for all further; 0: no await at all; inf: for ever
    fails: bool = False
    linger: float = 0.0  # seconds, shielded, between a cancellation and the reaction
    reaction: Reaction = Reaction.OBEY
    shutdown: float = 0.0
    shutdown_fails: bool = False
    changes_context: bool = False
    adds: tuple[Leaf | Group, ...] = ()  # to its own scheduler, at the end of a nap


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Group(Plan):
    """A scheduler."""

    jobs: tuple[Leaf | Group, ...]  # each behind what it requires
    backwards: bool = False  # they are added from the last to the first
    window: int | None = None
    shared: bool = False  # its window is the scenario's one limiter
    shutdown_timeout: float = 1.0
    critical_jobs: bool | None = None

    @property
    def in_order_added(self) -> tuple[Leaf | Group, ...]:
        """Its members as the scheduler will list them."""
        return self.jobs[::-1] if self.backwards else self.jobs


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Scenario(Told):
    """The outermost scheduler, and what is done to it from outside."""

    root: Group
    tokens: int = 0  # of the shared limiter
    cut_at: float = LAST_CALL
    cancels: tuple[tuple[float, str], ...] = ()  # job.cancel(), when and of which


def walk(plan: Plan) -> Iterator[Plan]:
    """Yield a plan and all in it, those that are added while it runs included."""
    yield plan
    for inner in (*getattr(plan, "jobs", ()), *getattr(plan, "adds", ())):
        yield from walk(inner)


# ---------------------------------------------------------------- drawing


class Trait(Enum):
    """What can make a job different from one that naps and returns; a job has few."""

    FAILS = auto()
    CRITICAL = auto()
    HARMLESS = auto()
    INSTANT = auto()
    FOREVER = auto()
    ENDLESS = auto()
    OWN_TASK = auto()
    CHANGES_CONTEXT = auto()
    LINGERS = auto()
    GOES_ON = auto()
    RETURNS = auto()
    FAILS_LATE = auto()
    SLOW_SHUTDOWN = auto()
    BAD_SHUTDOWN = auto()
    TIMEOUT = auto()
    RESTART = auto()
    MOVE_ON = auto()
    ADDS = auto()


REACTIONS = {Trait.GOES_ON: Reaction.GO_ON, Trait.RETURNS: Reaction.RETURN, Trait.FAILS_LATE: Reaction.FAIL}
TIMEOUTS = {Trait.TIMEOUT: "fail", Trait.RESTART: "restart", Trait.MOVE_ON: "move_on"}
SECONDS = st.integers(0, 12)
TRAITS = st.lists(st.sampled_from(Trait), max_size=4, unique=True)
MAYBE = st.sampled_from([None, True, False])


class Author:
    """Draws one scenario."""

    def __init__(self, draw: st.DrawFn, shared: bool) -> None:
        self.draw = draw
        self.shared = shared
        self.jitter = random.Random(0)
        self.numbers = itertools.count()
        self.left = draw(st.integers(1, MAX_JOBS))

    def scenario(self) -> Scenario:
        root = self.group(MAX_DEPTH, {"name": "root"})
        names = [plan.name for plan in walk(root)][1:]
        targets = self.draw(st.lists(st.sampled_from(names), max_size=2)) if names else []
        return Scenario(
            root=root,
            tokens=self.draw(st.integers(1, 4)),
            cut_at=self.duration(30) if self.draw(st.integers(0, 3)) == 3 else LAST_CALL,
            cancels=tuple((self.duration(), name) for name in targets),
        )

    def duration(self, more: int = 0) -> float:
        """A duration like no other."""
        return more * self.draw(st.integers(0, 1)) + self.draw(SECONDS) + (self.jitter.getrandbits(30) | 1) * 2.0**-30

    def group(self, depth: int, common: dict[str, Any]) -> Group:
        size = self.draw(st.integers(0, self.left))
        jobs: list[Leaf | Group] = []
        for _ in range(size):
            if self.left <= 0:
                break
            jobs.append(self.job(depth - 1, [job.name for job in jobs if not job.forever]))
        shared = self.shared and self.draw(st.booleans())
        return Group(
            **common,
            jobs=tuple(jobs),
            backwards=self.draw(st.booleans()),
            window=None if shared else self.draw(st.sampled_from([None, 1, 2, 3, 5])),
            shared=shared,
            shutdown_timeout=self.duration() if self.draw(st.booleans()) else 1.0 + 2.0**-25,
            critical_jobs=self.draw(MAYBE),
        )

    def job(self, depth: int, before: list[str]) -> Leaf | Group:
        self.left -= 1
        traits = frozenset(self.draw(TRAITS))
        common = self.common(traits, before)
        if depth and self.left and self.draw(st.integers(0, 5)) == 5:
            return self.group(depth, common | self.limits(traits, infinite=False))
        return self.leaf(depth, common, traits, before)

    def common(self, traits: frozenset[Trait], before: list[str]) -> dict[str, Any]:
        requires = self.draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
        return {
            "name": f"j{next(self.numbers)}",
            "requires": tuple(requires),
            "critical": True if Trait.CRITICAL in traits else False if Trait.HARMLESS in traits else None,
            "forever": Trait.FOREVER in traits,
            "own_task": Trait.OWN_TASK in traits,
        }

    def limits(self, traits: frozenset[Trait], infinite: bool) -> dict[str, Any]:
        """A timeout, if there is a trait for it."""
        on_timeout = next((TIMEOUTS[trait] for trait in TIMEOUTS if trait in traits), None)
        if on_timeout is None:
            return {}
        restarts = self.draw(st.sampled_from([0, 1, 2, *([None] if infinite else [])]))
        return {"timeout": self.duration(), "on_timeout": on_timeout, "restarts": restarts}

    def leaf(self, depth: int, common: dict[str, Any], traits: frozenset[Trait], before: list[str]) -> Leaf:
        limits = self.limits(traits, infinite=True)
        added: list[Leaf | Group] = []
        if Trait.ADDS in traits:
            known = [*before, *([] if common["forever"] else [common["name"]])]
            while self.left > 0 and len(added) < 2:
                added.append(self.job(depth, known))
        return Leaf(
            **common,
            **limits,
            naps=self.naps(traits, limits),
            fails=Trait.FAILS in traits,
            linger=self.duration() if Trait.LINGERS in traits else 0.0,
            reaction=next((REACTIONS[trait] for trait in REACTIONS if trait in traits), Reaction.OBEY),
            shutdown=self.duration() / 4 if Trait.SLOW_SHUTDOWN in traits else 0.0,
            shutdown_fails=Trait.BAD_SHUTDOWN in traits,
            changes_context=Trait.CHANGES_CONTEXT in traits,
            adds=tuple(added),
        )

    def naps(self, traits: frozenset[Trait], limits: dict[str, Any]) -> tuple[float, ...]:
        if Trait.INSTANT in traits:
            return (0.0,)
        if Trait.ENDLESS in traits and limits.get("restarts", 0) is not None:
            return (math.inf,)
        naps = (self.duration(), self.duration())
        if limits.get("restarts", 0) is None:  # it must come to an end
            return (*naps, limits["timeout"] / 2)
        return naps


@st.composite
def scenarios(draw: st.DrawFn, shared: bool = False) -> Scenario:
    """Draw a scenario; some schedulers share one limiter if `shared`."""
    return Author(draw, shared).scenario()


# ---------------------------------------------------------------- the real thing


def current_task() -> object:
    """The native task: unlike anyio's view of it, it keeps its identity to itself as long as it is referred to."""
    return trio.lowlevel.current_task() if trio.lowlevel.in_trio_run() else asyncio.current_task()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="untouched")


class Boom(Exception):
    """What the jobs of these scenarios fail with."""


class Actor(Job[str]):
    """A job of a stage: called in the worker's own frame, as `Job` is, with a shutdown besides."""

    __slots__ = ("plan", "stage")

    def __init__(self, stage: Stage, plan: Leaf, **options: Any) -> None:
        self.stage, self.plan = stage, plan
        super().__init__(stage.act, plan, **options)

    async def co_shutdown(self) -> None:
        self.stage.shutdowns[self.plan.name] += 1
        if self.plan.shutdown:
            await anyio.sleep(self.plan.shutdown)
        if self.plan.shutdown_fails:
            raise Boom(self.plan.name)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one job."""

    state: str
    started: float | None
    finished: float | None
    shutdowns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one scheduler."""

    reason: str | None
    culprit: str | None


@dataclass(slots=True)
class Performance:
    """One run of a scenario, as it was seen. Times count from its beginning."""

    scenario: Scenario
    result: bool | None = None  # None: cut from outside
    ended_at: float = 0.0
    fates: dict[str, Fate] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    bodies: list[tuple[float, str, str]] = field(default_factory=list)  # when, "enter" or "cancelled" or "leave", who
    leaks: list[tuple[str, str]] = field(default_factory=list)  # jobs that saw another's value of `variable`
    tasks: list[tuple[str, Any]] = field(default_factory=list)  # in which task each job was, one entry a call
    events: list[tuple[float, str, str, str]] = field(default_factory=list)  # when, hook, scheduler, job or ""
    left_borrowed: float = 0


class Recorder(Instrument):
    """Writes the events of a run into its performance."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def _note(self, hook: str, scheduler: Any, job: Any = None) -> None:
        names = self.stage.names
        self.stage.seen.events.append((self.stage.now(), hook, names[scheduler], names[job] if job else ""))

    def before_run(self, scheduler: Any) -> None:
        self._note("before_run", scheduler)

    def job_scheduled(self, scheduler: Any, job: Any) -> None:
        self._note("scheduled", scheduler, job)

    def job_started(self, scheduler: Any, job: Any) -> None:
        self._note("started", scheduler, job)

    def job_finished(self, scheduler: Any, job: Any) -> None:
        self._note("finished", scheduler, job)

    def after_run(self, scheduler: Any) -> None:
        self._note("after_run", scheduler)


class Stage:
    """The jobs made of a scenario, inside an event loop; each call of `perform` is a run."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.limiter = anyio.CapacityLimiter(scenario.tokens)
        self.jobs: dict[str, AbstractJob[Any]] = {}  # those of the last run, by name
        self.names: dict[AbstractJob[Any], str] = {}  # all that ever were
        self.root = self.make(scenario.root, {})
        self.lasting = dict(self.jobs)  # those that are not added during a run
        self.start = 0.0
        self.calls: Counter[tuple[str, float | None]] = Counter()  # of a body, by name and start of its job
        self.shutdowns: Counter[str] = Counter()
        self.seen = Performance(scenario)

    def now(self) -> float:
        """Seconds since the run began."""
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
            "restarts": plan.restarts,
            "own_task": plan.own_task,
        }
        job = self.make_scheduler(plan, options) if isinstance(plan, Group) else Actor(self, plan, **options)  # type: ignore[arg-type]
        self.jobs[plan.name] = job
        self.names[job] = plan.name
        return job

    def make_scheduler(self, plan: Group, options: dict[str, Any]) -> Scheduler:
        members: dict[str, AbstractJob[Any]] = {}
        for inner in plan.jobs:
            members[inner.name] = self.make(inner, members)
        return Scheduler(
            [members[inner.name] for inner in plan.in_order_added],
            jobs_window=self.limiter if plan.shared else plan.window,
            shutdown_timeout=plan.shutdown_timeout,
            critical_jobs=plan.critical_jobs,
            **options,
        )

    # ---- running

    async def perform(self, watched: bool) -> Performance:
        """Run the scenario once, with an instrument or without."""
        self.start = anyio.current_time()
        self.jobs = dict(self.lasting)
        self.calls.clear()
        self.shutdowns.clear()
        self.seen = Performance(self.scenario)
        async with anyio.create_task_group() as meddlers:
            for when, name in self.scenario.cancels:
                meddlers.start_soon(self.meddle, when, name)
            with anyio.move_on_after(self.scenario.cut_at):
                self.seen.result = await self.root.co_run(instruments=[Recorder(self)] if watched else [])
            self.look()
            meddlers.cancel_scope.cancel()
        return self.seen

    def look(self) -> None:
        """Write down what became of it all."""
        seen = self.seen
        seen.ended_at = self.now()
        seen.left_borrowed = self.limiter.borrowed_tokens
        for name, job in self.jobs.items():
            started, finished = (
                None if when is None else when - self.start for when in (job.started_at, job.finished_at)
            )
            seen.fates[name] = Fate(job.state.name, started, finished, self.shutdowns[name])
            if isinstance(job, Scheduler):
                reason, culprit = job.stop_reason, job.culprit
                seen.verdicts[name] = Verdict(reason and reason.name, self.names[culprit] if culprit else None)

    async def meddle(self, when: float, name: str) -> None:
        """Cancel one job from outside, if it is there and its scheduler runs."""
        await anyio.sleep(when)
        try:
            self.jobs[name].cancel()
        except (KeyError, RuntimeError):
            pass

    async def act(self, plan: Leaf) -> str:
        """Be the body of a job."""
        nap = self.enter(plan)
        try:
            if nap:
                await (anyio.sleep_forever() if nap == math.inf else anyio.sleep(nap))
            if plan.adds:
                self.add(plan)
            if plan.fails:
                raise Boom(plan.name)
            return plan.name
        except anyio.get_cancelled_exc_class():
            return await self.react(plan)
        finally:
            self.check_context(plan, changed=plan.changes_context)
            self.seen.bodies.append((self.now(), "leave", plan.name))

    def enter(self, plan: Leaf) -> float:
        """Take note of a call, and return how long it is to nap."""
        attempt = plan.name, self.jobs[plan.name].started_at
        number = self.calls[attempt]
        self.calls[attempt] += 1
        self.seen.bodies.append((self.now(), "enter", plan.name))
        self.seen.tasks.append((plan.name, current_task()))
        # A second call within one attempt sees what the first has changed: it is the same job.
        self.check_context(plan, changed=plan.changes_context and number > 0)
        if plan.changes_context:
            variable.set(plan.name)
        return plan.naps[min(number, len(plan.naps) - 1)]

    def check_context(self, plan: Leaf, changed: bool) -> None:
        """Take note of a context that somebody else has changed."""
        if variable.get() != (plan.name if changed else "untouched"):
            self.seen.leaks.append((plan.name, variable.get()))

    async def react(self, plan: Leaf) -> str:
        self.seen.bodies.append((self.now(), "cancelled", plan.name))
        with anyio.CancelScope(shield=True):
            if plan.linger:
                await anyio.sleep(plan.linger)
        match plan.reaction:
            case Reaction.RETURN:
                return plan.name
            case Reaction.FAIL:
                raise Boom(plan.name)
            case Reaction.GO_ON:
                await anyio.sleep(1)
        raise

    def add(self, plan: Leaf) -> None:
        scheduler = self.jobs[plan.name].scheduler
        assert scheduler is not None
        siblings = {self.names[job]: job for job in scheduler}
        before = dict(self.jobs)
        try:
            scheduler.update([self.make(inner, siblings) for inner in plan.adds])
        except RuntimeError:  # a forever job adds them too late
            self.jobs = before
