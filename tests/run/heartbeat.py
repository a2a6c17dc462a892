"""Run mixed work in one loop for some time, with a heartbeat beside it, and say what made its longest gaps.

    python -m tests.run.heartbeat SECONDS [BACKEND]

The heart beats each `INTERVAL` seconds in the loop. One with nothing beside it beats in a process of its own: it shows
how late a busy machine makes it. A thread notes where the loop's own thread is while a beat is late."""

import contextlib
import itertools
import json
import logging
import operator
import random
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
import anyio
import anyio.to_thread
import trioflow
from trioflow import (
    CommandJob,
    Events,
    First,
    Job,
    Journal,
    Pool,
    Push,
    Rate,
    Retry,
    Scheduler,
    Service,
    SshJob,
)
from trioflow.abc import AbstractJob
from ..bodies import add, fail_now, nap, nothing, serve

INTERVAL: Final = 0.01
PATIENCE: Final = 0.01
"""How late a beat is, in seconds, when the thread looks what the loop does."""
SHOWN: Final = 8
"""The number of gaps that are shown."""
FLOOD: Final = (
    "i=0; while [ $i -lt 20000 ]; do "
    "echo line $i of the output of a service that never stops; i=$((i+1)); done"
)


class Gap(NamedTuple):
    """A time in which the heart did not beat."""

    seconds: float
    at: float
    cpu: float
    """The time of the processor that the loop's thread took meanwhile, in seconds."""
    place: str
    """Where the loop's thread was."""

    def __str__(self) -> str:
        return f"{1000 * self.seconds:6.1f} ms, {1000 * self.cpu:6.1f} ms of it at work: {self.place or 'not seen'}"


class Heart:
    """Beats in a loop, and keeps the longest gaps between its beats."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.beats = 0
        self._last = self._cpu = 0.0
        self._places: list[str] = []
        self._thread_id = threading.get_ident()
        self._is_over = False

    async def beat(self) -> None:
        while True:
            self._last, self._cpu, self._places = (
                time.monotonic(),
                time.thread_time(),
                [],
            )
            await anyio.sleep(INTERVAL)
            now, self.beats = time.monotonic(), self.beats + 1
            if (late := now - self._last - INTERVAL) > PATIENCE:
                place = (
                    max(set(self._places), key=self._places.count)
                    if self._places
                    else ""
                )
                self.gaps.append(
                    Gap(late, time.time(), time.thread_time() - self._cpu, place)
                )

    def watch(self) -> None:
        """Note where the loop's thread is while a beat is late; call this in a thread."""
        while not self._is_over:
            time.sleep(PATIENCE / 2)
            if self._last and time.monotonic() - self._last > INTERVAL + PATIENCE:
                frame = sys._current_frames().get(self._thread_id)
                lines = [
                    f"{Path(each.filename).name}:{each.lineno} {each.name}"
                    for each in traceback.extract_stack(frame)
                ]
                self._places.append(" < ".join(reversed(lines[-4:])))

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncGenerator[None]:
        thread = threading.Thread(target=self.watch)
        thread.start()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.beat)
                yield
                tasks.cancel_scope.cancel()
        finally:
            self._is_over = True
            thread.join()


# ---- the work
def wide(folder: str) -> Scheduler:
    return Scheduler(*(Job(nothing) for _ in range(5000)))


def chain(folder: str) -> Scheduler:
    """Return a chain that passes its sums on, behind a window."""
    last: AbstractJob[Any] = Job(add, 1)
    jobs = [last]
    for _ in range(1000):
        jobs.append(last := Job(add, last, 1))
    return Scheduler(*jobs, jobs_window=4)


def deep(folder: str) -> Scheduler:
    inner = Scheduler(Job(nap, 0.01))
    for _ in range(100):
        inner = Scheduler(inner, Job(nothing))
    return inner


def failing(folder: str) -> Scheduler:
    """Return failures that block others, in groups, with retries and clean-up."""
    groups = []
    for _ in range(100):
        bad = Job(fail_now, retry=Retry(2, first=0.001))
        groups.append(
            Scheduler(
                bad,
                Job(nothing, required=bad),
                Job(nothing, run_if="failed", required=bad),
            )
        )
    return Scheduler(*groups)


def needy(folder: str) -> Scheduler:
    """Return jobs with needs, rates, keys, timeouts and priorities behind a window that adapts."""
    pool = Pool(cpu=8, api=Rate(calls=2000, per=1))
    jobs = [
        Job(
            nap,
            0.002,
            needs={"cpu": 1 + i % 5, "api": {"calls": 1}},
            timeout=(0.001, 5)[i % 2],
            priority=i % 3,
        )
        for i in range(300)
    ]
    return Scheduler(*jobs, pool=pool, jobs_window=trioflow.Adaptive(2, 16))


def waiting(folder: str) -> Scheduler:
    """Return jobs that await one, and competitors of which one wins."""
    slow = Job(nap, 0.05)

    async def wait() -> None:
        await slow

    first = First(*(Job(nap, 0.01 * (1 + i)) for i in range(200)), stagger=0.001)
    return Scheduler(slow, first, *(Job(wait) for _ in range(300)))


def programs(folder: str) -> Scheduler:
    """Return commands, of which one floods its output, and a service."""
    service = Service(serve)
    jobs = [CommandJob(["true"], required=service) for _ in range(20)]
    flood = CommandJob(FLOOD, shell=True, on_line=lambda *_: None, timeout=20)
    return Scheduler(
        service,
        *jobs,
        CommandJob(["false"]),
        CommandJob(["sleep", "9"], timeout=0.1),
        flood,
    )


def node(folder: str) -> Scheduler:
    """Return commands and a copy on a node that is this machine, one with a large input."""
    here, big = trioflow.LocalNode(), Path(folder, "big")
    if not big.exists():
        big.write_bytes(bytes(50_000_000))
    jobs: list[AbstractJob[Any]] = [SshJob(here, ["true"]) for _ in range(5)]
    return Scheduler(
        *jobs,
        SshJob(here, "cat >/dev/null", stdin=str(big)),
        SshJob(here, Push(str(big), to=f"{folder}/copy")),
    )


def elsewhere(folder: str) -> Scheduler:
    """Return calls in threads and in processes."""
    calls = [trioflow.ThreadJob(time.sleep, 0.01) for _ in range(30)]
    return Scheduler(
        *calls,
        *(trioflow.ProcessJob(operator.add, i, i) for i in range(10)),
        processes=2,
    )


numbers = itertools.count()


def durable(folder: str) -> Scheduler:
    """Return jobs whose results a journal keeps, and some that it has already."""
    jobs = [Job(add, i, 1, label=f"{i}") for i in range(300)]
    return Scheduler(
        *jobs,
        journal=Journal(f"{folder}/{next(numbers) // 2}.db"),
        instruments=[Events(f"{folder}/events")],
    )


KINDS: Final[tuple[Callable[[str], Scheduler], ...]] = (
    wide, chain, deep, failing, needy, waiting, programs, node, elsewhere, durable,
)  # fmt: skip


async def work(seconds: float, folder: str, counts: dict[str, int]) -> None:
    """Run work of all kinds until the time is over, one after another."""
    kinds, end = list(KINDS), time.monotonic() + seconds
    while time.monotonic() < end:
        random.shuffle(kinds)
        for kind in kinds:
            if time.monotonic() < end:
                scheduler = await anyio.to_thread.run_sync(
                    kind, folder
                )  # only what runs is measured
                await scheduler.co_run()
                counts[kind.__name__] = counts.get(kind.__name__, 0) + 1


async def measure(seconds: float, is_bare: bool) -> dict[str, Any]:
    """Return the gaps of a heart that beats beside the work, or, if it is bare, beside nothing."""
    heart, counts = Heart(), dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        async with heart.beating():
            if is_bare:
                await anyio.sleep(seconds)
            else:
                async with anyio.create_task_group() as tasks:
                    for name in "ab":
                        (Path(folder) / name).mkdir()
                        tasks.start_soon(work, seconds, f"{folder}/{name}", counts)
    return {"gaps": heart.gaps, "beats": heart.beats, "counts": counts}


def describe(found: dict[str, Any], bare: dict[str, Any]) -> list[str]:
    """Return the lines of a report: the longest gaps of the heart beside the work, and of the bare one."""
    gaps, others = [[Gap(*gap) for gap in each["gaps"]] for each in (found, bare)]
    lines = [
        f"{found['beats']} beats beside {sum(found['counts'].values())} runs: {found['counts']}"
    ]
    longest = max((gap.seconds for gap in others), default=0)
    lines += [
        f"bare: {len(others)} of {bare['beats']} late, at most {1000 * longest:.1f} ms"
    ]
    lines += [f"late: {len(gaps)}; the longest, by the clock:"]
    lines += [f"  {gap}" for gap in sorted(gaps, reverse=True)[:SHOWN]]
    lines += ["the longest, by the time that the loop's thread was at work:"]
    return lines + [
        f"  {gap}" for gap in sorted(gaps, key=lambda gap: -gap.cpu)[:SHOWN]
    ]


def main(seconds: str, backend: str = "asyncio", is_bare: str = "") -> int:
    """Measure, and print a report; the bare heart prints what it found, for the other one."""
    logging.disable()
    if is_bare:
        print(json.dumps(anyio.run(measure, float(seconds), True, backend=backend)))
        return 0
    command = [sys.executable, "-m", __spec__.name, seconds, backend, "bare"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as beside:
        found = anyio.run(measure, float(seconds), False, backend=backend)
        output, _ = beside.communicate()
    print(*describe(found, json.loads(output)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
