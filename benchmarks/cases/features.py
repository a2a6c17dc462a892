"""What users' jobs cost besides running: timeouts, retry, groups in groups, data, background jobs, threads, sockets.

Each feature is written by hand too, by somebody who needs just this: a task for each job in a nursery or a `TaskGroup`.
What is written by hand keeps no results, states or times, and knows nothing of a job that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
import trio

from trioflow import Job, Scheduler, ThreadJob

from .. import loops
from ..bodies import BODIES, Body
from ..echo import OF_LINES, OF_PATHS, EchoServer
from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals import OURS

HOUR: Final = 3600.0  # seconds: a timeout that nothing reaches
GROUP: Final = 5
THREADS: Final = 16
ORDER_ALONE: Final = f"{OURS}, order alone"
WITH_ANYIO: Final = "anyio task group"
BY_HAND: Final = {"trio": "nursery", "asyncio": "TaskGroup"}

Run = Callable[[], Awaitable[Any]]
Build = Callable[[str, int, Body], Run]
"""Takes the backend, the number of bodies to run, and the body; builds what can be built in advance."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that users want of jobs: with trioflow, and by hand."""

    name: str
    bodies: tuple[str, ...]
    builds: dict[str, Build]  # by the name of the contestant; "by hand" is named after what each backend has
    size_of: Callable[[Plan], int] = lambda plan: plan.features


# ---- with trioflow


def scheduler(*jobs: Any, **options: Any) -> Run:
    return partial(Scheduler(*jobs, **options).co_run, check=True)


def with_timeout(backend: str, size: int, body: Body) -> Run:
    return scheduler(*(Job(body, number, timeout=HOUR) for number in range(size)))


def with_retry(backend: str, size: int, body: Body) -> Run:
    return scheduler(*(Job(body, number, retry=2) for number in range(size)))


def groups(backend: str, size: int, body: Body) -> Run:
    return scheduler(
        *(
            Scheduler(*(Job(body, number) for number in range(first, min(first + GROUP, size))))
            for first in range(0, size, GROUP)
        )
    )


def pairs(backend: str, size: int, body: Body) -> Run:
    """Give the second job of each pair the result of the first."""
    function: Any = body  # what the first one returns is the second one's number
    return scheduler(*(Job(function, Job(function, number)) for number in range(size // 2)))


def ordered_pairs(backend: str, size: int, body: Body) -> Run:
    """Have the second job of each pair only wait for the first."""
    jobs = list[Job[Any]]()
    for number in range(size // 2):
        first = Job(body, number)
        jobs += first, Job(body, number, required=first)
    return scheduler(*jobs)


def background(backend: str, size: int, body: Body) -> Run:
    return scheduler(
        *(Job(loops.sleep, backend, HOUR, forever=True) for _ in range(size - 1)), Job(all_begun, backend, body)
    )


def threads(backend: str, size: int, body: Body) -> Run:
    return scheduler(*(ThreadJob(body, number) for number in range(size)), jobs_window=THREADS)


# ---- by hand


@asynccontextmanager
async def tasks(backend: str) -> Any:
    """Yield a function that starts a task, and one that cancels all of them."""
    if backend == "trio":
        async with trio.open_nursery() as nursery:
            yield nursery.start_soon, nursery.cancel_scope.cancel
    else:
        started = list[asyncio.Task[Any]]()
        async with asyncio.TaskGroup() as group:

            def start(function: Callable[..., Any], *args: Any) -> None:
                started.append(group.create_task(function(*args)))

            yield start, lambda: [task.cancel() for task in started]


def each(job: Callable[[str, int, Body], Awaitable[Any]], backend: str, size: int, body: Body, step: int = 1) -> Run:
    """Run `job` in a task for each number, or for each first number of a group."""

    async def run() -> None:
        async with tasks(backend) as (start, _):
            for number in range(0, size, step):
                start(job, backend, number, body)

    return run


def timeout(backend: str, seconds: float) -> Any:
    return trio.fail_after(seconds) if backend == "trio" else asyncio.timeout(seconds)


async def timed_by_hand(backend: str, number: int, body: Body) -> None:
    limit = timeout(backend, HOUR)
    if backend == "trio":
        with limit:
            await body(number)
    else:
        async with limit:
            await body(number)


async def retried_by_hand(backend: str, number: int, body: Body) -> None:
    for _ in range(2):
        try:
            await body(number)
        except Exception:
            pass
        else:
            return
    await body(number)


async def group_by_hand(backend: str, first: int, body: Body) -> None:
    if backend == "trio":
        async with trio.open_nursery() as nursery:
            for number in range(first, first + GROUP):
                nursery.start_soon(body, number)
    else:
        async with asyncio.TaskGroup() as group:
            for number in range(first, first + GROUP):
                group.create_task(body(number))


async def pair_by_hand(backend: str, number: int, body: Body) -> None:
    await body(await body(number) or number)


def background_by_hand(backend: str, size: int, body: Body) -> Run:
    async def run() -> None:
        try:
            async with tasks(backend) as (start, cancel):
                for _ in range(size - 1):
                    start(loops.sleep, backend, HOUR)
                await all_begun(backend, body)
                cancel()
        except asyncio.CancelledError:
            pass

    return run


def threads_by_hand(backend: str, size: int, body: Body) -> Run:
    limiter = anyio.CapacityLimiter(THREADS)

    async def job(backend: str, number: int, body: Body) -> None:
        await anyio.to_thread.run_sync(body, number, limiter=limiter)

    return each(job, backend, size, body)


async def all_begun(backend: str, body: Body) -> None:
    """Let all background jobs begin, then do the work that they are there for."""
    for _ in range(3):
        await loops.checkpoint(backend)
    await body(0)


# ---- sockets


def requests(window: int) -> Feature:
    """Return a feature: requests to an echo server in another process, no more than `window` at once."""

    def ours(backend: str, size: int, body: Body) -> Run:
        return scheduler(*(Job(body, number) for number in range(size)), jobs_window=window)

    def by_hand(backend: str, size: int, body: Body) -> Run:
        limiter: Any = trio.CapacityLimiter(window) if backend == "trio" else asyncio.Semaphore(window)

        async def job(backend: str, number: int, body: Body) -> None:
            async with limiter:
                await body(number)

        return each(job, backend, size, body)

    def with_anyio(backend: str, size: int, body: Body) -> Run:
        limiter = anyio.CapacityLimiter(window)

        async def job(number: int) -> None:
            async with limiter:
                await body(number)

        async def run() -> None:
            async with anyio.create_task_group() as group:
                for number in range(size):
                    group.start_soon(job, number)

        return run

    return Feature(
        f"requests, {window} at once",
        tuple(PROGRAMS),
        {OURS: ours, "by hand": by_hand, WITH_ANYIO: with_anyio},
        lambda plan: plan.requests,
    )


PROGRAMS: Final = {"own streams": OF_LINES, "anyio's streams": OF_LINES, "httpx": OF_PATHS}
"""How requests are sent, and the server that answers them."""


def asking(server: EchoServer, backend: str, streams: str) -> Body:
    """Return a body that connects, sends a line, and waits for the answer."""
    host, port = server.address

    async def by_trio(number: int) -> None:
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(b"%d\n" % number)
            assert await stream.receive_some(100) == b"%d\n" % number

    async def by_asyncio(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"%d\n" % number)
        assert await reader.readline() == b"%d\n" % number
        writer.close()
        await writer.wait_closed()

    async def by_anyio(number: int) -> None:
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(b"%d\n" % number)
            assert await stream.receive(100) == b"%d\n" % number

    return by_anyio if streams == "anyio's streams" else by_trio if backend == "trio" else by_asyncio


@asynccontextmanager
async def asking_by_http(server: EchoServer) -> AsyncIterator[Body]:
    """Yield a body that sends a request, and waits for the answer; one client for all, as httpx recommends."""
    import httpx

    host, port = server.address
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", limits=limits) as client:

        async def ask(number: int) -> None:
            assert (await client.get(f"/{number}")).text == f"/{number}"

        yield ask


@asynccontextmanager
async def body_of(setting: Setting, server: EchoServer | None) -> AsyncIterator[Body]:
    """Yield what the jobs do, which may ask a server."""
    if setting.body == "no-op in a thread":
        yield BODIES["threads"]["no-op"]
    elif server is None:
        yield BODIES[setting.backend][setting.body]
    elif setting.body == "httpx":
        async with asking_by_http(server) as body:
            yield body
    else:
        yield asking(server, setting.backend, setting.body)


# ---- all of them

FEATURES: Final = (
    Feature("timeout", ("no-op", "nap"), {OURS: with_timeout, "by hand": partial(each, timed_by_hand)}),
    Feature("retry", ("no-op",), {OURS: with_retry, "by hand": partial(each, retried_by_hand)}),
    Feature(
        "groups of five",
        ("no-op", "checkpoint"),
        {OURS: groups, "by hand": partial(each, group_by_hand, step=GROUP)},
    ),
    Feature(
        "pairs",
        ("no-op", "checkpoint"),
        {
            OURS: pairs,
            ORDER_ALONE: ordered_pairs,
            "by hand": lambda backend, size, body: each(pair_by_hand, backend, size // 2, body),
        },
    ),
    Feature("background jobs", ("no-op",), {OURS: background, "by hand": background_by_hand}),
    Feature(
        "threads",
        ("no-op in a thread",),
        {OURS: threads, "by hand": threads_by_hand},
        lambda plan: plan.threads,
    ),
    requests(16),
    requests(64),
    requests(200),
)


def features(plan: Plan) -> Iterator[Contest]:
    """Measure each feature with each of its bodies."""
    for backend in plan.loops:
        for feature in FEATURES:
            for body in feature.bodies if feature.name not in plan.features_left_out else ():
                setting = Setting(backend, feature.name, body, feature.size_of(plan))
                contestants = [
                    Contestant(
                        BY_HAND[backend] if name == "by hand" else name,
                        setting,
                        partial(attempt, build, setting),
                        partial(verify, name, build, setting),
                    )
                    for name, build in feature.builds.items()
                ]
                rounds = plan.few_rounds if body in PROGRAMS else plan.rounds
                yield Contest("features", contestants, rounds)


def attempt(build: Build, setting: Setting) -> Sample:
    """Build once and run once, inside a loop that is already running."""
    building, running = Stopwatch(), Stopwatch()

    async def main() -> None:
        async with body_of(setting, server) as body:
            with building:
                run = build(setting.backend, setting.size, body)
            with running:
                await run()

    with EchoServer(PROGRAMS.get(setting.body)) as server:
        loops.run(setting.backend, main)
    in_µs = 1e6 / setting.size
    return {"build": building.cpu * in_µs, "run": running.cpu * in_µs, "together": (building.cpu + running.cpu) * in_µs}


class WrongWay(Exception):
    """What is to be measured does not run each body once."""


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

    def counted_in_thread(number: int) -> None:
        nonlocal ran
        ran += 1

    loops.run(
        setting.backend,
        build(setting.backend, size, counted_in_thread if setting.shape == "threads" else counted),
    )
    expected = 1 if setting.shape == "background jobs" else size
    if ran != expected:
        raise WrongWay(f"{name}, {setting.shape}: {ran} bodies ran, not {expected}")
