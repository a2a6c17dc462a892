"""Random `First` schedulers on virtual time, compared with a short simulation of the contract."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import First, Job, Scheduler

from ..bodies import CANCELLED, FAILED, IDLE, SUCCEEDED, nap

if TYPE_CHECKING:
    from trioflow import JobState

    from ..conftest import Virtual


@dataclass
class Race:
    """One `First`: how long each job takes, whether it succeeds, and the options."""

    seconds: list[float]
    succeeds: list[bool]
    enough: int
    stagger: float | None
    window: int | None

    @classmethod
    def drawn(cls, seed: int) -> Race:
        draw = random.Random(seed)
        count = draw.randint(1, 7)
        # No two events coincide: the ends differ by powers of two, which no stagger is a multiple of.
        seconds = [draw.randint(1, 6) + 2.0 ** -(10 + number) for number in range(count)]
        return cls(
            seconds,
            [draw.random() < 0.5 for _ in range(count)],
            draw.randint(1, min(count, 3)),
            draw.choice([None, None, 0.5 + 2.0**-30, 2 + 2.0**-30, 50.0]),
            draw.choice([None, None, 1, 2]),
        )

    def predict(self) -> tuple[float, list[JobState], list[int]]:
        """Return the time of the end, the state of each job, and the numbers of the winners in order."""
        count = len(self.seconds)
        states: list[JobState] = [IDLE] * count
        events: list[tuple[float, int, str, int]] = []
        order = itertools.count()
        ready: deque[int] = deque(range(1 if self.stagger is not None else count))
        opened = len(ready)
        running: set[int] = set()
        winners: list[int] = []
        losers: set[int] = set()
        now = 0.0
        while True:
            while ready and (self.window is None or len(running) < self.window):
                number = ready.popleft()
                running.add(number)
                heapq.heappush(events, (now + self.seconds[number], next(order), "end", number))
                if self.stagger is not None:
                    heapq.heappush(events, (now + self.stagger, next(order), "turn", number))
            now, _, kind, number = heapq.heappop(events)
            failed = False
            if kind == "end":
                running.remove(number)
                failed = not self.succeeds[number]
                states[number] = FAILED if failed else SUCCEEDED
                if failed:
                    losers.add(number)
                else:
                    winners.append(number)
                if len(winners) == self.enough or count - len(losers) < self.enough:
                    for other in (*running, *ready):
                        states[other] = CANCELLED
                    return now, states, winners
            if self.stagger is not None and opened == number + 1 < count and (kind == "turn" or failed):
                ready.append(opened)
                opened += 1


async def compete(seconds: float, succeeds: bool, value: int) -> int:
    await anyio.sleep(seconds)
    if not succeeds:
        raise OSError("broken")
    return value


@pytest.mark.parametrize("seeds", [range(100), pytest.param(range(100, 1000), marks=pytest.mark.soak)])
def test_a_first_ends_when_and_as_the_contract_says(virtual: Virtual, seeds: range) -> None:
    """The time of the end, the states of all jobs, and the result are those of the simulation."""
    for seed in seeds:
        race = Race.drawn(seed)
        jobs = [
            Job(compete, *arguments) for arguments in zip(race.seconds, race.succeeds, itertools.count(), strict=False)
        ]
        first = First(*jobs, enough=race.enough, stagger=race.stagger, jobs_window=race.window)
        received: list[Any] = []
        scheduler = Scheduler(first, Job(keep, first, received))

        async def timed(scheduler: Scheduler = scheduler) -> float:
            assert await scheduler.co_run()
            return anyio.current_time()

        ended_at = virtual(timed)
        expected_end, states, winners = race.predict()
        assert ended_at == pytest.approx(expected_end, abs=1e-6), (seed, race)
        assert [job.state for job in jobs] == states, (seed, race)
        if len(winners) < race.enough:
            error: Any = first.raised_exception()
            assert first.state is FAILED
            assert isinstance(error, ExceptionGroup)
            assert len(error.exceptions) == states.count(FAILED), (seed, race)
            assert received == []
        else:
            result = winners[0] if race.enough == 1 else winners
            assert (first.result(), received) == (result, [result]), (seed, race)


async def keep(value: Any, received: list[Any]) -> None:
    received.append(value)


async def count_running(running: list[int], seconds: float) -> None:
    running[0] += 1
    running[1] = max(running)
    try:
        await nap(seconds)
    finally:
        running[0] -= 1


@pytest.mark.parametrize("seed", range(10))
def test_hedges_never_exceed_what_a_limit_protects(virtual: Virtual, seed: int) -> None:
    """Several `First` together run no more jobs at a time than the pool of their scheduler has."""
    draw, running = random.Random(seed), [0, 0]
    total = draw.randint(1, 3)
    hedged = [
        First(
            *(Job(count_running, running, draw.randint(1, 5), needs={"server": 1}) for _ in range(3)),
            stagger=draw.choice([None, 0.5]),
        )
        for _ in range(6)
    ]
    from trioflow import Pool

    assert virtual(Scheduler(*hedged, pool=Pool(server=total)).co_run)
    assert all(first.is_succeeded() for first in hedged)
    assert running == [0, total]
