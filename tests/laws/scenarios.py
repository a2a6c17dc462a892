"""Random scenarios: plans, which are plain data, and the strategies that draw them.

A plan says all that will happen. Two things are made of it independently: real jobs for the engine
(`tests.laws.real_run`), and a prediction (`tests.laws.oracle`). Names are unique within a scenario. No two durations
are equal: each is a whole number of seconds plus a jitter of its own, a multiple of 2**-30. Their sums are exact
floats, and two sums coincide about as often as two random numbers of 30 bits.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from enum import Enum, auto
from typing import Any

from hypothesis import strategies as st

from ..model.scenario import Reaction

MAX_JOBS = 60
MAX_DEPTH = 3
LAST_CALL = 5000.0 + 2.0**-20
"""When a scenario is cut that would not end by itself."""

# ---------------------------------------------------------------- plans


class ShortRepr:
    """A dataclass whose repr leaves out defaults, so that a falsifying example can be read."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = (
            f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if getattr(self, one.name) != one.default
        )  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(told)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Have Hypothesis print the dataclass by its repr."""
        printer.text(repr(self))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan(ShortRepr):
    """The common part of leaves and schedulers."""

    name: str
    requires: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()  # those that it requires whatever becomes of them
    critical: bool | None = None
    forever: bool = False
    own_task: bool = False
    timeout: float | None = None
    on_timeout: str = "fail"
    retry: int = 0
    pause: float = 0.0  # before each retry
    run_if: str = "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Leaf(Plan):
    """A job that naps."""

    naps: tuple[float, ...]  # of its calls in one run, the last for all further; 0: no await at all; inf: forever
    fails: float = 0  # so many of its calls in one run, the first ones
    inputs: tuple[str, ...] = ()  # leaves: siblings, or in an enclosing scheduler, or in one nested beside
    service: bool = False  # it naps for `ready_after`, says that it is ready, and naps again
    ready_after: float = 0.0
    linger: float = 0.0  # seconds, shielded, between a cancellation and the reaction
    reaction: Reaction = Reaction.OBEY
    unwinding: float = 0.0  # seconds, with the reaction GO_ON
    shutdown: float = 0.0
    shutdown_fails: bool = False
    changes_context: bool = False
    adds: tuple[Leaf | Group, ...] = ()  # to its own scheduler, at the end of a nap
    binds: tuple[tuple[str, str], ...] = ()  # siblings: the first requires the second, at the end of a nap


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Group(Plan):
    """A scheduler."""

    jobs: tuple[Leaf | Group, ...]  # each behind what it requires
    backwards: bool = False  # they are added from the last to the first
    window: int | None = None
    limiter: int | None = None  # its window is this one of the scenario's limiters
    shutdown_timeout: float = 1.0
    cleanup_timeout: float = 5.0
    critical_jobs: bool | None = None

    @property
    def in_order_added(self) -> tuple[Leaf | Group, ...]:
        """The members in the order in which the scheduler will list them."""
        return self.jobs[::-1] if self.backwards else self.jobs


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Scenario(ShortRepr):
    """The outermost scheduler, and what is done to it from outside."""

    root: Group
    tokens: tuple[int, ...] = ()  # of each limiter
    cut_at: float = LAST_CALL
    cancels: tuple[tuple[float, str], ...] = ()  # cancel(), when and of which


def walk(plan: Plan) -> Iterator[Plan]:
    """Yield a plan and all in it, those that are added while it runs included."""
    yield plan
    for inner in (*getattr(plan, "jobs", ()), *getattr(plan, "adds", ())):
        yield from walk(inner)


def inputs_of(plan: Plan) -> tuple[str, ...]:
    """Return the inputs of the job itself."""
    return plan.inputs if isinstance(plan, Leaf) else ()


def criticalities(plan: Plan, around: bool | None = None) -> Iterator[tuple[str, bool | None]]:
    """Yield the name of each plan in `plan`, and of itself, with its effective value of `critical`."""
    yield plan.name, around if plan.critical is None else plan.critical
    for inner in getattr(plan, "adds", ()):
        yield from criticalities(inner, around)
    for inner in getattr(plan, "jobs", ()):
        yield from criticalities(inner, around if plan.critical_jobs is None else plan.critical_jobs)  # type: ignore[attr-defined]


def usable_inputs(plan: Plan) -> Iterator[str]:
    """Yield the names in a plan that later plans may have as inputs."""
    if isinstance(plan, Group):
        for inner in plan.jobs if not plan.forever else ():
            yield from usable_inputs(inner)
    elif isinstance(plan, Leaf) and (plan.service or not plan.forever):
        yield plan.name


def inputs_in(plans: Iterable[Plan]) -> set[str]:
    """Return the names of all inputs of these plans, and of the plans in them."""
    return {name for plan in plans for inner in walk(plan) if isinstance(inner, Leaf) for name in inner.inputs}


# ---------------------------------------------------------------- drawing


class Trait(Enum):
    """A way in which a job differs from one that naps and returns; a job has few of them."""

    FAILS = auto()
    FAILS_ONCE = auto()
    CRITICAL = auto()
    HARMLESS = auto()
    INSTANT = auto()
    FOREVER = auto()
    SERVICE = auto()
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
    MOVE_ON = auto()
    RETRY = auto()
    ADDS = auto()
    BINDS = auto()
    USES = auto()
    IF_SETTLED = auto()
    IF_FAILED = auto()


REACTIONS = {Trait.GOES_ON: Reaction.GO_ON, Trait.RETURNS: Reaction.RETURN, Trait.FAILS_LATE: Reaction.FAIL}
TIMEOUTS = {Trait.TIMEOUT: "fail", Trait.MOVE_ON: "move_on"}
RULES = {Trait.IF_SETTLED: "settled", Trait.IF_FAILED: "failed"}
SECONDS = st.integers(0, 12)
TRAITS = st.lists(st.sampled_from(Trait), max_size=5, unique=True)
MAYBE = st.sampled_from([None, True, False])
LIMITERS = 2


class ScenarioMaker:
    """Draws one scenario."""

    def __init__(self, draw: st.DrawFn, shared: bool) -> None:
        self.draw = draw
        self.shared = shared
        self.jitter = random.Random(0)
        self.numbers = itertools.count()
        self.left = draw(st.integers(1, MAX_JOBS))

    def scenario(self) -> Scenario:
        root = self.group(MAX_DEPTH, {"name": "root"} | self.of_the_root(), [])
        names = [plan.name for plan in walk(root)]
        targets = self.draw(st.lists(st.sampled_from(names), max_size=2))
        return Scenario(
            root=root,
            tokens=tuple(self.draw(st.integers(1, 4)) for _ in range(LIMITERS)) if self.shared else (),
            cut_at=self.duration(30) if self.one_in(4) else LAST_CALL,
            cancels=tuple((self.duration(), name) for name in targets),
        )

    def of_the_root(self) -> dict[str, Any]:
        return {"timeout": self.duration()} if self.one_in(4) else {}

    def one_in(self, number: int) -> bool:
        return self.draw(st.integers(1, number)) == number

    def duration(self, more: int = 0) -> float:
        """Return a duration that no other equals."""
        return more * self.draw(st.integers(0, 1)) + self.draw(SECONDS) + (self.jitter.getrandbits(30) | 1) * 2.0**-30

    def group(self, depth: int, common: dict[str, Any], outside: list[str]) -> Group:
        size = self.draw(st.integers(0, self.left))
        jobs: list[Leaf | Group] = []
        for _ in range(size):
            if self.left <= 0:
                break
            usable = [*outside, *(name for job in jobs for name in usable_inputs(job))]
            jobs.append(self.job(depth - 1, [job.name for job in jobs if may_be_required(job)], usable))
        jobs = self.with_binds(jobs)
        limiter = self.draw(st.sampled_from([None, *range(LIMITERS)])) if self.shared else None
        # Inputs come in before what uses them, whatever the order: such groups are added as they are drawn.
        backwards = self.draw(st.booleans()) and inputs_in(jobs).isdisjoint(job.name for job in jobs)
        return Group(
            **common,
            jobs=tuple(jobs),
            backwards=backwards,
            window=None if limiter is not None else self.draw(st.sampled_from([None, 1, 2, 3, 5])),
            limiter=limiter,
            shutdown_timeout=self.duration() if self.draw(st.booleans()) else 1.0 + 2.0**-25,
            cleanup_timeout=self.duration() if self.draw(st.booleans()) else 5.0 + 2.0**-24,
            critical_jobs=self.draw(MAYBE),
        )

    def with_binds(self, jobs: list[Leaf | Group]) -> list[Leaf | Group]:
        """Let some jobs add requirements between others; a job still comes after all that it requires."""
        required = [job.name for job in jobs if may_be_required(job)]
        found = []
        for job in jobs:
            binds = []
            if isinstance(job, Leaf) and job.binds:
                for _ in range(self.draw(st.integers(1, 3))):
                    later = self.draw(st.sampled_from(jobs))
                    before = required[: required.index(later.name)] if later.name in required else []
                    if before:
                        binds.append((later.name, self.draw(st.sampled_from(before))))
            found.append(replace(job, binds=tuple(binds)) if isinstance(job, Leaf) else job)
        return found

    def job(self, depth: int, before: list[str], usable: list[str]) -> Leaf | Group:
        self.left -= 1
        traits = frozenset(self.draw(TRAITS))
        common = self.common(traits, before)
        if depth and self.left and self.one_in(6):
            return self.group(depth, common | self.limits(traits), usable)
        return self.leaf(depth, common, traits, before, usable)

    def common(self, traits: frozenset[Trait], before: list[str]) -> dict[str, Any]:
        requires = self.draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
        return {
            "name": f"j{next(self.numbers)}",
            "requires": tuple(requires),
            "settled": tuple(name for name in requires if self.one_in(4)),
            "critical": True if Trait.CRITICAL in traits else False if Trait.HARMLESS in traits else None,
            "forever": Trait.FOREVER in traits,
            "own_task": Trait.OWN_TASK in traits,
            "run_if": next((RULES[trait] for trait in RULES if trait in traits), "succeeded"),
        }

    def limits(self, traits: frozenset[Trait]) -> dict[str, Any]:
        """Return a timeout and retries, if there are traits for them."""
        limits: dict[str, Any] = {}
        if Trait.RETRY in traits:
            limits = {
                "retry": self.draw(st.integers(1, 2)),
                "pause": self.duration() if self.draw(st.booleans()) else 0.0,
            }
        on_timeout = next((TIMEOUTS[trait] for trait in TIMEOUTS if trait in traits), None)
        if on_timeout is not None:
            limits |= {"timeout": self.duration(), "on_timeout": on_timeout}
        return limits

    def leaf(
        self, depth: int, common: dict[str, Any], traits: frozenset[Trait], before: list[str], usable: list[str]
    ) -> Leaf:
        limits = self.limits(traits)
        service = Trait.SERVICE in traits
        common["forever"] = common["forever"] or service
        added: list[Leaf | Group] = []
        if Trait.ADDS in traits:
            known = [*before, *([] if common["forever"] else [common["name"]])]
            while self.left > 0 and len(added) < 2:
                new = self.job(depth, known, [name for name in known if name in usable])
                added.append(replace(new, binds=()) if isinstance(new, Leaf) else new)
                if isinstance(added[-1], Group) and inputs_in(added[-1:]) & set(known):
                    added.pop()  # what is added while the scheduler runs cannot wait for these
        inputs = self.draw(st.lists(st.sampled_from(usable), min_size=1, max_size=3)) if usable else []
        return Leaf(
            **common,
            **limits,
            naps=self.naps(traits),
            fails=math.inf if Trait.FAILS in traits else 1 if Trait.FAILS_ONCE in traits else 0,
            inputs=tuple(inputs) if Trait.USES in traits else (),
            service=service,
            ready_after=self.duration() if service else 0.0,
            linger=self.duration() if Trait.LINGERS in traits else 0.0,
            unwinding=self.duration() if Trait.GOES_ON in traits else 0.0,
            reaction=next((REACTIONS[trait] for trait in REACTIONS if trait in traits), Reaction.OBEY),
            shutdown=self.duration() / 4 if Trait.SLOW_SHUTDOWN in traits else 0.0,
            shutdown_fails=Trait.BAD_SHUTDOWN in traits,
            changes_context=Trait.CHANGES_CONTEXT in traits,
            adds=tuple(added),
            binds=(("", ""),) if Trait.BINDS in traits else (),  # drawn when all siblings are there
        )

    def naps(self, traits: frozenset[Trait]) -> tuple[float, ...]:
        if Trait.SERVICE in traits and Trait.INSTANT not in traits:
            return (math.inf,)
        if Trait.INSTANT in traits and Trait.SERVICE not in traits:
            return (0.0,)
        if Trait.ENDLESS in traits:
            return (math.inf,)
        return (self.duration(), self.duration())


def may_be_required(plan: Plan) -> bool:
    """Return whether siblings of a job may require it."""
    return not plan.forever or (isinstance(plan, Leaf) and plan.service)


@st.composite
def scenarios(draw: st.DrawFn, shared: bool = False) -> Scenario:
    """Draw a scenario; schedulers share limiters if `shared`."""
    return ScenarioMaker(draw, shared).scenario()
