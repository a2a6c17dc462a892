"""A scenario as plain data: the schedulers, their jobs, what each body does, and what happens from outside.

Two things are made of it independently: real jobs for the engine (`real`), and a prediction (`model`). Names are
unique. All durations are whole numbers of seconds plus a fraction of their own, so their sums do not coincide: what
happens at one instant has one cause."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from trioflow._core.admission._policies import PolicyName
from .steps import Add, Call, Nap, ShortRepr, Steer, Step

LAST_CALL = 5000.0 + 2.0**-20
"""When a run is cut that would not end by itself."""
LOOKS = tuple(
    seconds + 2.0**-22 for seconds in (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32)
)
"""When a run is looked at; no event is at these instants."""


class Reaction(Enum):
    """What a body does after a cancellation, once it has lingered."""

    OBEY = auto()
    # Waits for `unwinding` without a shield: on trio it is cancelled again at once.
    GO_ON = auto()
    RETURN = auto()
    FAIL = auto()
    START = auto()  # a service says that it is ready before it lingers, and obeys


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Retry(ShortRepr):
    """The option `retry`, without jitter."""

    times: int
    first: float = 0.0
    factor: float = 2.0
    cap: float = 60.0
    booms_only: bool = False

    def backoff(self, number: int) -> float:
        """Return the backoff before the retry of this number, which counts from 1."""
        return min(self.cap, self.first * self.factor ** (number - 1))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan(ShortRepr):
    """What leaves and schedulers have in common."""

    name: str
    requires: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()  # those that it requires whatever becomes of them
    critical: bool | None = None
    forever: bool = False
    own_task: bool = False
    timeout: float | None = None
    on_timeout: str = "fail"
    idle_timeout: float | None = None
    retry: Retry | None = None
    run_if: str = "succeeded"
    needs: tuple[tuple[str, float | str], ...] = ()
    priority: int = 0
    expected: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Leaf(Plan):
    """A job with a body."""

    # Of its calls in one run, the last for all further.
    bodies: tuple[tuple[Step, ...], ...] = ((),)
    # Leaves: siblings, or in an enclosing scheduler, or in one nested beside.
    inputs: tuple[str, ...] = ()
    service: bool = False
    answer: bool = False
    linger: float = 0.0  # seconds, shielded, between a cancellation and the reaction
    reaction: Reaction = Reaction.OBEY
    unwinding: float = 0.0  # seconds, with the reaction GO_ON
    shutdown: float = 0.0
    shutdown_fails: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Resource(ShortRepr):
    """An entry of a pool: "amount", "named", "rate", "budget", or "keys"."""

    name: str
    kind: str
    total: float  # of a rate: its limit per `per` seconds; of keys: the amount of each
    per: float = 0.0
    burst: float = 0.0
    gap: float = 0.0  # of keys: after each job
    give_up: float | None = None  # of a rate
    of_rates: bool = False  # each key has a rate of its own, of which a job takes 1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Group(Plan):
    """A scheduler, or a `First`."""

    jobs: tuple[Leaf | Group, ...]  # each behind what it requires
    backwards: bool = False  # they are added from the last to the first
    window: int | None = None
    limiter: int | None = None  # its window is this one of the scenario's limiters
    adaptive: tuple[int, int] | None = None
    pool: tuple[Resource, ...] = ()
    backfill: int = 64
    policy: PolicyName = "fifo"
    shutdown_timeout: float = 1.0
    cleanup_timeout: float = 5.0
    critical_jobs: bool | None = None
    enough: int | None = None  # it is a `First`
    stagger: float | None = None
    on_job_settled: float | None = None  # the seconds that each of its calls takes
    hold: bool = False  # only of the outermost scheduler
    calls: tuple[Call, ...] = ()  # what functions do that are told of its jobs

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
    drains: tuple[tuple[float, str], ...] = ()
    steers: tuple[tuple[float, Steer], ...] = ()
    # When which of the limiters gets how many tokens.
    resizes: tuple[tuple[float, int, int], ...] = ()
    killed_at: float | None = (
        None  # it has a journal; at this time the program is killed, and then it is started again
    )
    keep_jobs: bool = True
    apart: bool = (
        False  # the schedulers in `root` are runs of their own, which share its pool
    )


def walk(plan: Plan) -> Iterator[Plan]:
    """Yield a plan and all in it, those that are added while it runs included."""
    yield plan
    for inner in members(plan):
        yield from walk(inner)


def members(plan: Plan) -> Iterator[Plan]:
    """Yield what stands in a scheduler, or what a leaf adds beside itself."""
    if isinstance(plan, Group):
        yield from plan.jobs
        for call in plan.calls:
            if isinstance(call.step, Add):
                yield from call.step.jobs
    elif isinstance(plan, Leaf):
        for step in steps(plan):
            if isinstance(step, Add):
                yield from step.jobs


def steps(plan: Leaf) -> Iterator[Step]:
    """Yield the steps of all bodies, those of a repeated one once."""
    seen: list[Step] = []
    for step in chain.from_iterable(plan.bodies):
        if not (isinstance(step, Add) and step in seen):
            seen.append(step)
            yield step


def inputs_of(plan: Plan) -> tuple[str, ...]:
    inputs: tuple[str, ...] = getattr(plan, "inputs", ())
    return inputs


def implied(root: Group) -> Iterator[tuple[str, str]]:
    """Yield pairs of siblings of which the first waits for the second because of inputs inside them."""
    for group in walk(root):
        if not isinstance(group, Group):
            continue
        homes = {plan.name: plan.name for plan in group.jobs}
        for plan in group.jobs:
            if isinstance(plan, Group):
                homes.update((inner.name, plan.name) for inner in walk(plan))
        for plan in group.jobs:
            # Jobs that a leaf adds are its siblings, not jobs inside it.
            inside: Iterable[Plan] = [plan]
            if isinstance(plan, Group):
                inside = walk(plan)
            names = set(chain.from_iterable(map(inputs_of, inside)))
            for name in names & homes.keys():
                if homes[name] != plan.name:
                    yield plan.name, homes[name]


def endless(body: tuple[Step, ...]) -> bool:
    """Return whether a body never ends by itself."""
    return any(isinstance(step, Nap) and step.seconds == math.inf for step in body)
