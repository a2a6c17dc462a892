"""Groups of five, jobs with a timeout, chains and jobs in a window, compared with code written by hand for just this.

By hand there is a task for each job, in a nursery or a `TaskGroup`, which keeps no results, states or times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import trio

from trioflow import Job, Scheduler, Sequence

from .. import loops
from ..bodies import BODIES, Body
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals import OURS

HOUR: Final = 3600.0  # seconds: a timeout that nothing reaches
GROUP: Final = 5
BY_HAND: Final = {"trio": "nursery", "asyncio": "TaskGroup"}
GROUPS: Final = "groups of five"
TIMEOUT: Final = "timeout"
CHAINS: Final = "chains in a window"
LIMITER: Final = "a limiter as window"
CHAIN: Final = 50
WINDOW: Final = 8

Run = Callable[[], Awaitable[Any]]
Build = Callable[[str, int, Body], Run]
"""Takes the backend, the number of bodies to run, and the body; builds what can be built in advance."""


def groups_of_ours(backend: str, size: int, body: Body) -> Run:
    groups = [
        Scheduler([Job(body, number) for number in range(GROUP)])
        for _ in range(size // GROUP)
    ]
    return partial(Scheduler(groups).co_run, check=True)


def timed_by_us(backend: str, size: int, body: Body) -> Run:
    return partial(
        Scheduler([Job(body, number, timeout=HOUR) for number in range(size)]).co_run,
        check=True,
    )


def chains_of_ours(backend: str, size: int, body: Body) -> Run:
    chains = [
        Sequence(Job(body, number) for number in chain) for chain in chains_of(size)
    ]
    return partial(Scheduler(chains, jobs_window=WINDOW).co_run, check=True)


def limited_by_us(backend: str, size: int, body: Body) -> Run:
    scheduler = Scheduler([Job(body, number) for number in range(size)])

    async def run() -> None:
        scheduler.jobs_window = limiter_of(backend)
        await scheduler.co_run(check=True)

    return run


def limiter_of(backend: str) -> Any:
    """Return a limiter for the loop that runs."""
    return (
        trio.CapacityLimiter(WINDOW)
        if backend == "trio"
        else anyio.CapacityLimiter(WINDOW)
    )


def chains_of(size: int) -> list[range]:
    return [range(first, min(first + CHAIN, size)) for first in range(0, size, CHAIN)]


# ---- by hand


@asynccontextmanager
async def tasks(backend: str) -> Any:
    """Yield a function that starts a task; all have ended when the block is left."""
    if backend == "trio":
        async with trio.open_nursery() as nursery:
            yield nursery.start_soon
    else:
        async with asyncio.TaskGroup() as group:

            def start(function: Callable[..., Any], *args: Any) -> None:
                group.create_task(function(*args))

            yield start


def groups_by_hand(backend: str, size: int, body: Body) -> Run:
    async def group() -> None:
        async with tasks(backend) as start:
            for number in range(GROUP):
                start(body, number)

    async def run() -> None:
        async with tasks(backend) as start:
            for _ in range(size // GROUP):
                start(group)

    return run


def timed_by_hand(backend: str, size: int, body: Body) -> Run:
    async def on_trio(number: int) -> None:
        with trio.fail_after(HOUR):
            await body(number)

    async def on_asyncio(number: int) -> None:
        async with asyncio.timeout(HOUR):
            await body(number)

    async def run() -> None:
        async with tasks(backend) as start:
            for number in range(size):
                start(on_trio if backend == "trio" else on_asyncio, number)

    return run


def chains_by_hand(backend: str, size: int, body: Body) -> Run:
    async def chain(numbers: range, semaphore: Any) -> None:
        for number in numbers:
            async with semaphore:
                await body(number)

    async def run() -> None:
        semaphore = (
            trio.Semaphore(WINDOW) if backend == "trio" else asyncio.Semaphore(WINDOW)
        )
        async with tasks(backend) as start:
            for numbers in chains_of(size):
                start(chain, numbers, semaphore)

    return run


def limited_by_hand(backend: str, size: int, body: Body) -> Run:
    async def limited(number: int, limiter: Any) -> None:
        async with limiter:
            await body(number)

    async def run() -> None:
        limiter = limiter_of(backend)
        async with tasks(backend) as start:
            for number in range(size):
                start(limited, number, limiter)

    return run


# ---- all of them

SCENARIOS: Final[dict[str, tuple[tuple[str, tuple[str, ...], Build, Build], ...]]] = {
    "groups": (
        (GROUPS, ("no-op", "checkpoint"), groups_of_ours, groups_by_hand),
        (TIMEOUT, ("no-op", "nap"), timed_by_us, timed_by_hand),
    ),
    "windows": (
        (CHAINS, ("no-op", "checkpoint"), chains_of_ours, chains_by_hand),
        (LIMITER, ("no-op", "checkpoint"), limited_by_us, limited_by_hand),
    ),
}
"""For each case the name, the bodies, ours, and by hand."""


def beside_hand(case: str, plan: Plan) -> Iterator[Contest]:
    """Measure each scenario of a case with each of its bodies."""
    for backend in plan.loops:
        for name, bodies, ours, by_hand in SCENARIOS[case]:
            for body in bodies:
                setting = Setting(backend, name, body, plan.grouped)
                contestants = [
                    Contestant(
                        who,
                        setting,
                        partial(attempt, build, setting),
                        partial(verify, who, build, setting),
                    )
                    for who, build in ((OURS, ours), (BY_HAND[backend], by_hand))
                ]
                yield Contest(case, contestants, plan.rounds)


def attempt(build: Build, setting: Setting) -> Sample:
    """Build once and run once, inside a loop that is already running."""
    watch = Stopwatch()

    async def main() -> None:
        run = build(
            setting.backend, setting.size, BODIES[setting.backend][setting.body]
        )
        with watch:
            await run()

    loops.run(setting.backend, main)
    return {"run": watch.cpu * 1e6 / setting.size}


class WrongWay(Exception):
    """A contestant does not run each body once."""


def verify(name: str, build: Build, setting: Setting, size: int = 20) -> None:
    """Run a few bodies, and count them.

    Raises:
        WrongWay: some did not run, or ran twice.

    """
    ran = 0

    async def counted(number: int) -> None:
        nonlocal ran
        ran += 1
        await loops.checkpoint(setting.backend)

    loops.run(setting.backend, build(setting.backend, size, counted))
    if ran != size:
        raise WrongWay(f"{name}, {setting.shape}: {ran} bodies ran, not {size}")
