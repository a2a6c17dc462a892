"""What a job costs while many others wait for their turn, for resources, or behind one that they have passed.

Each scenario is measured at several sizes: the cost of a job must not grow with them. By hand, groups are nurseries in
a nursery, a pool is a semaphore, and amounts of a resource are given out first come first served.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final
from unittest import mock

import trio

from trioflow import Job, Pool, Scheduler
from trioflow._core.admission import _admission

from .. import loops
from ..bodies import BODIES
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals import OURS
from .groups import BY_HAND, tasks

SECONDS: Final = 0.001
"""For how long a job computes: as long as a turn of the loop may take."""
FIVE: Final = 5
SLOTS: Final = 8
MIN_NEED: Final = 10_000_000
"""The least that a job needs; the largest needs half as much again, and there is as much as eight of the least need."""

Run = Callable[[], Awaitable[Any]]
Body = Callable[[], Awaitable[None]]
Build = Callable[[str, int, Body], Run]
"""Takes the backend, the number of jobs, and the body; builds what can be built in advance."""


class Burning:
    """A body that computes for a while, and adds up its time."""

    def __init__(self) -> None:
        self.spent = 0.0

    async def __call__(self) -> None:
        begun = time.process_time()
        while (now := time.process_time()) < begun + SECONDS:
            pass
        self.spent += now - begun


# ---- with trioflow


def groups(backend: str, size: int, body: Body) -> Run:
    """Groups of two jobs."""
    return partial(
        Scheduler([Scheduler(Job(body), Job(body)) for _ in range(size // 2)]).co_run,
        check=True,
    )


def fives(backend: str, size: int, body: Body) -> Run:
    """Groups of five jobs."""
    inner = [Scheduler([Job(body) for _ in range(FIVE)]) for _ in range(size // FIVE)]
    return partial(Scheduler(inner).co_run, check=True)


def kinds(backend: str, size: int, body: Body) -> Run:
    """Return jobs that each need a different amount of one resource."""
    jobs = [Job(body, needs={"memory": amount(number, size)}) for number in range(size)]
    return partial(
        Scheduler(jobs, pool=Pool(memory=SLOTS * MIN_NEED)).co_run, check=True
    )


def pool(backend: str, size: int, body: Body) -> Run:
    """Return groups of five jobs in one pool."""
    inner = [
        Scheduler([Job(body, needs={"slot": 1}) for _ in range(FIVE)])
        for _ in range(size // FIVE)
    ]
    return partial(Scheduler(inner, pool=Pool(slot=SLOTS)).co_run, check=True)


def passed(backend: str, size: int, body: Body) -> Run:
    """Return pairs of jobs, where all second ones pass all first ones, for which too little is free until then."""
    left, done = size // 2, loops.event(backend)

    async def small() -> None:
        nonlocal left
        await body()
        left -= 1
        if not left:
            done.set()

    pairs = [
        [Job(body, needs={"slot": 3}), Job(small, needs={"slot": 1})]
        for _ in range(size // 2)
    ]
    scheduler = Scheduler(Job(done.wait, needs={"slot": 1}), pairs, pool=Pool(slot=3))

    async def run() -> None:
        with mock.patch.object(_admission.OrderedPlaces, "max_overtakes", size):
            await scheduler.co_run(check=True)

    return run


# ---- by hand


def groups_by_hand(backend: str, size: int, body: Body) -> Run:
    return lambda: in_groups(backend, size // 2, 2, body)


def fives_by_hand(backend: str, size: int, body: Body) -> Run:
    return lambda: in_groups(backend, size // FIVE, FIVE, body)


def pool_by_hand(backend: str, size: int, body: Body) -> Run:
    slots: Any = (
        trio.Semaphore(SLOTS) if backend == "trio" else asyncio.Semaphore(SLOTS)
    )

    async def job() -> None:
        async with slots:
            await body()

    return lambda: in_groups(backend, size // FIVE, FIVE, job)


def kinds_by_hand(backend: str, size: int, body: Body) -> Run:
    free = SLOTS * MIN_NEED
    waiting = deque[tuple[int, loops.Event]]()

    def start_next() -> None:
        nonlocal free
        while waiting and waiting[0][0] <= free:
            needed, begin = waiting.popleft()
            free -= needed
            begin.set()

    async def job(needed: int) -> None:
        nonlocal free
        begin = loops.event(backend)
        waiting.append((needed, begin))
        start_next()
        await begin.wait()
        await body()
        free += needed
        start_next()

    async def run() -> None:
        async with tasks(backend) as start:
            for number in range(size):
                start(job, amount(number, size))

    return run


async def in_groups(backend: str, number: int, members: int, body: Body) -> None:
    """Run groups of tasks, each in a nursery or task group of its own."""

    async def group() -> None:
        async with tasks(backend) as start:
            for _ in range(members):
                start(body)

    async with tasks(backend) as start:
        for _ in range(number):
            start(group)


def amount(number: int, size: int) -> int:
    return MIN_NEED + number * (MIN_NEED // 2) // size


# ---- all of them

BURN: Final = "1 ms burn"
KINDS: Final = "different needs"
SCENARIOS: Final[dict[str, tuple[str, Build, Build | None]]] = {
    "groups of two that compute": (BURN, groups, groups_by_hand),
    "groups of five": ("no-op", fives, fives_by_hand),
    KINDS: ("checkpoint", kinds, kinds_by_hand),
    "a pool around groups of five": ("checkpoint", pool, pool_by_hand),
    "a pool around groups of five that nap": ("nap", pool, pool_by_hand),
    "pairs, one passes the others": ("checkpoint", passed, None),
}
"""What is measured: the body, with trioflow, and by hand."""


def waiting(plan: Plan) -> Iterator[Contest]:
    """Measure each scenario at each size."""
    for backend in plan.loops:
        for scenario in plan.scenarios or SCENARIOS:
            body, ours, by_hand = SCENARIOS[scenario]
            for size in (
                *plan.waiting_sizes,
                *(plan.grouped_sizes if ours is fives else ()),
            ):
                setting = Setting(backend, scenario, body, size)
                builds = (
                    {OURS: ours}
                    if by_hand is None
                    else {OURS: ours, BY_HAND[backend]: by_hand}
                )
                contestants = [
                    Contestant(name, setting, partial(attempt, build, setting))
                    for name, build in builds.items()
                ]
                yield Contest("waiting", contestants, plan.few_rounds)


def attempt(build: Build, setting: Setting) -> Sample:
    """Build once and run once; the computation of the bodies is not counted."""
    burning, watch = Burning(), Stopwatch()

    async def other_body() -> None:
        await BODIES[setting.backend][setting.body](0)

    async def main() -> None:
        run = build(
            setting.backend,
            setting.size,
            burning if setting.body == BURN else other_body,
        )
        with watch:
            await run()

    loops.run(setting.backend, main)
    return {"overhead": (watch.cpu - burning.spent) * 1e6 / setting.size}
