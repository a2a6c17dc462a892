"""Run much of everything in one program, and see whether anything of the program grows.

    python -m tests.soak                       # a million jobs, 10,000 commands, 10,000 killed trees, an hour of all
    python -m tests.soak --seconds 20          # as much of each as fits into five seconds
    python -m tests.soak --part commands --count 2000 --backend asyncio

Jobs are added one by one to a scheduler that is open. Ten times in each part they are waited for, and what the program
has is counted: objects, descriptors, threads, child processes, files, memory. The table has how much of each there was
more at the end than at the third look; of memory, where all Python keeps some, the last column says how many bytes more
for each job. The exit code is 1 if anything has grown.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel

from trioflow import CommandJob, Events, Job, Journal, Pool, ProcessJob, Rate, Scheduler, ThreadJob, Trace
from trioflow.abc import AbstractJob, Instrument, duration_text

from ..bodies import fail_now, nothing

AT_ONCE: Final = 64
"""Jobs that are added before the oldest of them is waited for."""
LOOKS: Final = 10
SLACK: Final = 4000
"""Objects that may be more or fewer at any time."""
FIRST: Final = 2
"""The look, counted from 0, from which on nothing may grow: by then every cache of every library is full."""
PARTS: Final = {"jobs": 1_000_000, "traced": 100_000, "commands": 10_000, "trees": 10_000, "all": 10_000_000}
"""The parts, and how many jobs each has at most."""
HOUR: Final = 3600.0
MARK: Final = "TRIOFLOW_SOAK"
"""The variable that all processes inherit."""


@dataclass(frozen=True)
class Look:
    """What this program has at one moment."""

    done: int
    objects: int
    descriptors: int
    threads: int
    processes: int
    files: int
    memory: int

    @classmethod
    def now(cls, done: int, place: Path) -> Look:
        """Count it."""
        for _ in range(3):  # what a finalizer gives up is garbage at the next collection
            gc.collect()
        statm = Path("/proc/self/statm").read_text().split()
        return cls(
            done,
            len(gc.get_objects()),
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            sum(map(is_ours, Path("/proc").glob("[0-9]*/environ"))),
            sum(len(files) for _, _, files in os.walk(place)),
            int(statm[1]) * resource.getpagesize(),
        )


def is_ours(environ: Path) -> bool:
    """Return whether a process has been started by this program, or by one of those, wherever it has gone since."""
    try:
        return f"{MARK}={os.getpid()}\0".encode() in environ.read_bytes()
    except OSError:
        return False


@dataclass(frozen=True)
class Growth:
    """How much more of each there was at the end of a part."""

    name: str
    jobs: int
    seconds: float
    objects: int
    descriptors: int
    threads: int
    processes: int
    files: int
    memory: int
    allowed: int  # objects: a trace keeps some of each job, on purpose

    @classmethod
    def of(cls, name: str, looks: Sequence[Look], seconds: float, allowed: int) -> Growth:
        """Compare the last look with the one from which on nothing may grow."""
        first, last = astuple(looks[min(FIRST, len(looks) - 1)]), astuple(looks[-1])
        done, *more = (after - before for before, after in zip(first, last, strict=True))
        return cls(name, last[0], seconds, *more, allowed=allowed * done)

    @property
    def is_none(self) -> bool:
        """Whether nothing has grown: idle threads come and go, and trio keeps a thousand deadlines that are over."""
        counts = self.descriptors, self.threads, self.processes, self.files
        return self.objects - self.allowed <= SLACK and all(count <= 2 for count in counts)

    def row(self) -> str:
        """Return its line of the table."""
        each = self.memory / max(1, self.jobs)
        verdict = "" if self.is_none else "  GROWS"
        return (
            f"{self.name:<10}{self.jobs:>10,}{duration_text(self.seconds):>12}{self.objects:>+10,}{self.descriptors:>+8}"
            f"{self.threads:>+9}{self.processes:>+11}{self.files:>+7}"
            f"{self.memory / 2**20:>+10.1f}{each:>+10.1f}{verdict}"
        )


HEAD: Final = (
    f"{'part':<10}{'jobs':>10}{'time':>12}{'objects':>10}{'fds':>8}{'threads':>9}{'processes':>11}{'files':>7}"
    f"{'MiB':>10}{'bytes/job':>10}"
)


class Counting(Instrument):
    """Watches the run, and keeps nothing."""

    ended = 0

    def job_finished(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Count it."""
        self.ended += 1


def plain(number: int = 0) -> int:
    """Return a number."""
    return number


def tree() -> CommandJob:
    """Return a command with children, one of which does not heed SIGTERM: they are killed."""
    line = "sleep 1000 & (trap '' TERM; sleep 1000) & exec sleep 1000"
    return CommandJob(line, shell=True, timeout=0.02, terminate_grace=0.02)


def anything(source: random.Random, number: int) -> AbstractJob[Any]:
    """Return a job of any kind, which ends in any way."""
    label = f"job {number}"
    made: list[Callable[[], AbstractJob[Any]]] = [
        lambda: Job(nothing, label=label),
        lambda: Job(anyio.sleep, 0.001, needs={"slots": 1}, label=label),
        lambda: Job(fail_now, retry=1, label=label),
        lambda: Job(anyio.sleep, 10, timeout=0.002, label=label),
        lambda: ThreadJob(plain, number, label=label),
        lambda: Job(nothing, needs={"calls": 1}, own_task=True, label=label),
        lambda: Scheduler(Job(nothing), Job(fail_now), Scheduler(Job(anyio.sleep, 0.001)), jobs_window=1, label=label),
        lambda: Scheduler(Job(fail_now, critical=True), Job(anyio.sleep, 10), label=label),
    ]
    slow: list[Callable[[], AbstractJob[Any]]] = [
        lambda: CommandJob(["true"], label=label),
        lambda: CommandJob(["false"], label=label),
        lambda: ProcessJob(plain, number, label=label),
        tree,
    ]
    return source.choice(made if source.random() < 0.98 else slow)()


async def soak(name: str, most: int, seconds: float, place: Path) -> tuple[list[Look], float]:
    """Add jobs of one part until there are enough, or the time is over; return the looks, and how long it took."""
    source = random.Random(1)
    make: Callable[[int], AbstractJob[Any]] = {
        "jobs": lambda number: Job(nothing, label=f"job {number}", needs={"slots": 1}),
        "traced": lambda number: Job(nothing, label=f"job {number}"),
        "commands": lambda number: CommandJob(["true"], stdout=-1 if number % 2 else None),
        "trees": lambda number: tree(),
        "all": lambda number: anything(source, number),
    }[name]
    pool = Pool(slots=8, calls=Rate(requests=1_000_000, per=1))
    watching: list[Instrument] = [Counting(), Events(os.devnull), *([Trace()] if name == "traced" else [])]
    window = 4 if name in ("commands", "trees") else 16
    scheduler = Scheduler(jobs_window=window, pool=pool, instruments=watching, keep_jobs=False, label=name)
    start = time.monotonic()
    looks: list[Look] = []
    number = 0
    async with opened(scheduler, Journal(place / f"{name}.db") if name in ("jobs", "all") else None):
        while number < most and time.monotonic() - start < seconds:
            reached = time.monotonic() - start + seconds / LOOKS
            until = number + most // LOOKS
            while number < until and time.monotonic() - start < reached:
                batch = [make(number + one) for one in range(min(AT_ONCE, until - number))]
                for job in batch:
                    scheduler.add(job)
                number += len(batch)
                for job in batch:
                    await job.wait_settled()
                del job
            batch.clear()
            await anyio.sleep(0.05)
            looks.append(Look.now(number, place))
    return looks, time.monotonic() - start


@contextlib.asynccontextmanager
async def opened(scheduler: Scheduler, journal: Journal | None) -> AsyncIterator[None]:
    """Keep a run open during the block: `async with` has no journal."""
    began, end = anyio.Event(), anyio.Event()

    async def wait() -> None:
        began.set()
        await end.wait()

    scheduler.add(Job(wait, label="open"))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: scheduler.co_run(journal=journal))
        await began.wait()
        yield
        end.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak the parts that the command line asks for, and print the table; return 1 if anything has grown."""
    options = parse(arguments)
    print(HEAD, flush=True)
    grows = False
    logging.disable()  # failures on purpose
    os.environ[MARK] = str(os.getpid())
    try:
        for name in options.part or PARTS:
            growth = tried(name, options)
            grows |= not growth.is_none
            print(growth.row(), flush=True)
    finally:
        del os.environ[MARK]
        logging.disable(logging.NOTSET)
    return int(grows)


def tried(name: str, options: argparse.Namespace) -> Growth:
    """Soak one part."""
    share = HOUR if options.seconds is None else options.seconds / len(options.part or PARTS)
    with tempfile.TemporaryDirectory() as directory:
        most = options.count or PARTS[name]
        looks, seconds = anyio.run(soak, name, most, share, Path(directory), backend=options.backend)
    return Growth.of(name, looks, seconds, allowed=3 if name == "traced" else 0)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="default: each")
    parser.add_argument("--seconds", type=float, help="for all parts together; default: an hour for each, at most")
    parser.add_argument("--count", type=int, help="jobs of each part; default: as above")
    parser.add_argument("--backend", default="trio", choices=["trio", "asyncio"], help="default: trio")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
