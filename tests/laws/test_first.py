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

from trioflow import Adaptive, Budget, First, Job, PerKey, Pool, Retry, Scheduler, Sequence, Trace
from trioflow._core.api.views import slot_users
from trioflow.abc import WaitCause

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
            await scheduler.co_run()
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
            assert scheduler.culprit is first
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
    assert virtual(Scheduler(*hedged, pool=Pool(server=total)).co_run)
    assert all(first.is_succeeded() for first in hedged)
    assert running == [0, total]


class Crowd:
    """Jobs, `First`s and nested schedulers in one window, which count how many of its slots their jobs take."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        self.size = draw.randint(1, 3)
        self.taken: dict[Any, int] = {}  # the number of running jobs in each window
        self.most: dict[Any, int] = {}
        self.sizes: dict[Any, int] = {self: self.size}
        jobs = [self.member([self], draw.randint(0, 2)) for _ in range(draw.randint(2, 7))]
        self.root = Scheduler(
            *jobs,
            jobs_window=Adaptive(1, self.size) if draw.random() < 0.3 else self.size,
            pool=Pool(cpu=2),
            policy=draw.choice(["fifo", "critical-path"]),
        )

    def member(self, windows: list[Any], depth: int) -> Any:
        draw, kind = self.draw, self.draw.random()
        options: dict[str, Any] = {"priority": draw.choice([0, 0, 1])}
        if draw.random() < 0.3:
            options["retry"] = Retry(1, first=draw.choice([0, 1]), jitter=False)
        if not depth or kind < 0.4:
            if draw.random() < 0.4 and windows[-1] is not None:
                options["needs"] = {"cpu": draw.randint(1, 2)}
            return Job(self.work, [one for one in windows if one is not None], draw.randint(1, 4), **options)
        if draw.random() < 0.3:
            options["needs"] = {"cpu": 2}
        if kind < 0.6:  # it takes one slot, whatever its jobs do
            members = [Job(nap, draw.randint(1, 3), needs=draw.choice([None, {"cpu": 1}])) for _ in range(2)]
            return Scheduler(Job(self.work, windows, 1), *members, jobs_window=1, label="group", **options)
        own: list[Any] = []
        window = draw.choice([None, None, 1])
        if window is not None:
            own = [object()]
            self.sizes[own[0]] = window
        members = [self.member([*windows, *own], depth - 1) for _ in range(draw.randint(1, 3))]
        if "needs" in options:
            for job in members:
                job.needs = None
        return First(
            *members,
            stagger=draw.choice([None, 0.5, 2]),
            enough=draw.randint(1, len(members)),
            jobs_window=window,
            **options,
        )

    async def work(self, windows: list[Any], seconds: int) -> None:
        for window in windows:
            self.taken[window] = self.taken.get(window, 0) + 1
            self.most[window] = max(self.most.get(window, 0), self.taken[window])
        try:
            await anyio.sleep(seconds)
            if self.draw.random() < 0.3:
                raise OSError("broken")
        finally:
            for window in windows:
                self.taken[window] -= 1


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 3000), marks=pytest.mark.soak)])
def test_the_jobs_of_a_first_take_slots_of_the_window_in_which_it_stands(virtual: Virtual, seeds: range) -> None:
    """With random limits, retries and nesting, no window holds more running jobs than it has slots, and all settle."""
    for seed in seeds:
        crowd = Crowd(seed)
        virtual(lambda crowd=crowd: crowd.root.co_run(timeout=1000))
        assert not crowd.root.timed_out, seed
        assert all(job.is_settled() for job in crowd.root), seed
        for window, most in crowd.most.items():
            assert most <= crowd.sizes[window], seed


@pytest.mark.parametrize("kind", ["amount", "budget", "key"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_first_that_keeps_needs_waits_for_no_slot_of_those_that_wait_for_them(
    virtual: Virtual, kind: str, depth: int
) -> None:
    """Between two of its jobs its slot once went to a group, which waited for needs that the `First` kept."""
    limit = {"amount": lambda: 1, "budget": lambda: Budget(2), "key": lambda: PerKey(1)}[kind]
    need: Any = {"x": "k" if kind == "key" else 1}
    first = First(Sequence(Job(nap, 1), Job(nap, 1)), needs=need)
    group = Scheduler(Job(nap, 1, needs=need if kind != "budget" else {"x": 2}), label="group", critical=False)
    scheduler = Scheduler(First(first, label="outer") if depth else first, group, jobs_window=1, pool=Pool(x=limit()))
    assert virtual(scheduler.co_run)
    assert group.started_at == 2


def test_the_slot_of_a_first_that_keeps_needs_is_not_given_away_by_one_in_it(virtual: Virtual) -> None:
    """A `First` whose only job is blocked at once gives its slot back to the one around it, not to the window."""
    running = [0, 0]
    a, c = Job(count_running, running, 1, needs={"usd": 1}), Job(count_running, running, 1)
    first = First(a, First(Job(nap, 1, needs={"usd": 1})), c, enough=2, needs={"usd": 1})
    others = [Job(count_running, running, 1) for _ in range(2)]
    assert virtual(Scheduler(first, others, jobs_window=1, pool=Pool(usd=Budget(1))).co_run)
    assert running == [0, 1]


def test_a_first_starts_in_its_turn_and_hedges_wait_in_theirs(virtual: Virtual) -> None:
    """A `First` starts when its first job can; a hedge waits behind what became ready before it."""
    first = First(Job(nap, 5), Job(nap, 1), stagger=1)
    jobs = [Job(nap, 2), Job(nap, 4), Job(nap, 9, required=first)]
    assert virtual(Scheduler(jobs[0], first, jobs[1], jobs[2], jobs_window=2).co_run)
    assert [first.started_at, *(job.started_at for job in [*first, *jobs])] == [0, 0, None, 0, 2, 5]


def test_views_know_which_slots_the_jobs_of_a_first_take(virtual: Virtual) -> None:
    """A hedge that waits for a slot says who has them; the trace and the monitor count those of its window."""
    first, other = First(Job(nap, 5, label="call"), Job(nap, 1, label="hedge"), stagger=1), Job(nap, 3, label="other")
    trace, texts, slots = Trace(), list[str](), list[list[str]]()
    scheduler = Scheduler(first, other, jobs_window=2, instruments=[trace])

    async def look() -> None:
        await anyio.sleep(2)
        slots.append([job.label for job in slot_users(scheduler) if job.is_running()])
        texts.append(first.explain([*first][1]))

    scheduler.add(Job(look, forever=True))
    assert virtual(scheduler.co_run)
    assert slots == [["other", "call"]]
    assert "waits for a slot: the window is full, with" in texts[0]
    assert "'call'" in texts[0]
    assert "'other'" in texts[0]
    (hedge,) = [span for span in trace.spans if span.label == "hedge"]
    assert [(wait.cause, wait.until) for wait in hedge.waits] == [(WaitCause.SLOT, 3)]
