"""Contests: the contestants take turns, round after round, and every sample is kept."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

METRICS: Final = {
    "build": ("µs/job", "CPU time to build"),
    "build wall": ("µs/job", "time to build"),
    "run": ("µs/job", "CPU time to run"),
    "run wall": ("µs/job", "time to run"),
    "together": ("µs/job", "CPU time to build and run"),
    "again": ("µs/run", "CPU time of a small run, built before"),
    "built": ("µs/run", "CPU time of a small run, building included"),
    "turns": ("turns/run", "turns of the event loop in a small run"),
    "overhead": ("µs/job", "CPU time to run, without what the jobs compute"),
    "waiting": ("bytes/job", "memory while all wait for one job"),
    "running": ("bytes/job", "memory while all run"),
    "peak": ("bytes/job", "peak memory from building to the end"),
    "held": ("bytes", "peak memory of a whole run"),
    "cancel": ("ms", "CPU time from cancel() to the return"),
    "cancel wall": ("ms", "time from cancel() to the return"),
    "makespan": ("", "time on a virtual clock, as a multiple of the lower bound"),
    "command wall": ("µs/command", "time from the first to the end of the last"),
    "node": ("MiB/node", "memory here for one more connection, without a command"),
    "session": ("MiB/command", "memory here for one more command that runs"),
    "limited wall": (
        "",
        "time, as a multiple of the least that a server's limits allow",
    ),
    "refused": ("requests", "requests that a server refused"),
}
"""What is measured, each with its unit; less is always better."""

Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Setting:
    """The conditions of a measurement."""

    backend: str
    shape: str = ""
    body: str = ""
    size: int = 0
    window: int | None = None
    conditions: str = ""  # of CONDITIONS

    def __str__(self) -> str:
        window = f"window {self.window}" if self.window else ""
        return " ".join(
            filter(None, (self.backend, self.shape, self.body, window, self.conditions))
        )


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from running: on a small heap, one more collection decides some figures."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def large_heap() -> Iterator[None]:
    """Hold as many objects as a program of some size, 200 MB, which the garbage collector has to go through."""
    heap = [{number: [number]} for number in range(600_000)]
    gc.collect()
    yield
    heap.clear()


CONDITIONS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "": nullcontext,
    "collector off": collector_off,
    "200 MB heap": large_heap,
}
"""What an attempt runs under, by name."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A contestant: `attempt` returns one sample, `rehearse` raises if its result is wrong."""

    name: str
    setting: Setting
    attempt: Callable[[], Sample]
    rehearse: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Contest:
    """Contestants that are compared, and therefore take turns."""

    case: str
    contestants: Sequence[Contestant]
    rounds: int

    @property
    def steps(self) -> int:
        return self.rounds * len(self.contestants)


@dataclass(frozen=True, slots=True)
class Measurement:
    """All samples of one metric of one contestant."""

    case: str
    contestant: str
    setting: Setting
    metric: str
    samples: tuple[float, ...]

    @property
    def best(self) -> float:
        """The least sample, because a disturbance can only make a measurement longer."""
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """How far the median lies above the best, as a part of the best."""
        return (self.median - self.best) / self.best if self.best else 0.0


class Stopwatch:
    """CPU time of the whole process, and wall time, in seconds, from `start` to `stop` or for a `with` block."""

    cpu = wall = 0.0

    def start(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        self.wall = time.perf_counter() - self._wall
        self.cpu = time.process_time() - self._cpu

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()


@dataclass
class Log:
    """The samples of one contest, by contestant and metric."""

    contest: Contest
    samples: dict[tuple[Contestant, str], list[float]] = field(default_factory=dict)

    def note(self, contestant: Contestant, sample: Sample) -> None:
        for metric, value in sample.items():
            self.samples.setdefault((contestant, metric), []).append(value)

    def measurements(self) -> Iterator[Measurement]:
        for (contestant, metric), samples in self.samples.items():
            yield Measurement(
                self.contest.case,
                contestant.name,
                contestant.setting,
                metric,
                tuple(samples),
            )


def hold(contest: Contest, tell: Callable[[Contestant], None]) -> Iterable[Measurement]:
    """Rehearse, then go through the rounds; `tell` is called after each attempt.

    Each round begins with another contestant, so that none always follows the same one.
    """
    log = Log(contest)
    for contestant in contest.contestants:
        contestant.rehearse()
    for number in range(contest.rounds):
        first = number % len(contest.contestants)
        for contestant in (*contest.contestants[first:], *contest.contestants[:first]):
            gc.collect()
            with CONDITIONS[contestant.setting.conditions]():
                log.note(contestant, contestant.attempt())
            tell(contestant)
    return log.measurements()
