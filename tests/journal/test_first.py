"""A `First` in a run with a journal: what an earlier run has paid for decides, before anything starts."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trioflow import First, Job, Scheduler, StopReason

from ..bodies import IDLE, nap

if TYPE_CHECKING:
    from ..conftest import Virtual


class Server:
    """Answers after a time, and counts the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def ask(self, name: str, seconds: float) -> str:
        self.calls.append(name)
        await nap(seconds)
        return name

    def __repr__(self) -> str:
        return "server"


def test_a_restored_winner_wins_before_any_other_job_starts(virtual: Virtual, tmp_path: Path) -> None:
    """The winner was the second of two, with an input; the first, which never succeeded, is not called again."""
    server = Server()

    def make() -> Scheduler:
        question = Job(server.ask, "question", 1, label="question", key="question")
        first = First(
            Job(server.ask, "slow", 9, key="slow"),
            Job(relay, server, question, key="fast"),
            stagger=0.5,
            label="first",
        )
        return Scheduler(first, Job(relay, server, first, label="after", key="after"))

    journal = tmp_path / "run.db"
    for calls in (["slow", "question", "relay question", "relay relay question"], []):
        server.calls.clear()
        scheduler = make()
        assert virtual(lambda scheduler=scheduler: scheduler.co_run(journal=journal))
        assert server.calls == calls
        first: Any = next(iter(scheduler))
        assert first.result() == "relay question"
    slow, *_ = first
    assert slow.state is IDLE


async def relay(server: Server, question: str) -> str:
    return await server.ask(f"relay {question}", 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_stopped_first_continues_with_what_was_recorded(virtual: Virtual, tmp_path: Path, seed: int) -> None:
    """A run that times out at a random instant and is started again calls no recorded job, and keeps their order."""
    draw = random.Random(seed)
    count = draw.randint(2, 6)
    enough = draw.randint(1, count)
    times = draw.sample(range(1, 20), count)
    server = Server()

    def make(timeout: float | None) -> tuple[Scheduler, First]:
        first = First(
            *(Job(server.ask, str(number), seconds, key=number) for number, seconds in enumerate(times)),
            enough=enough,
            stagger=draw.choice([None, 0.5]),
            label="first",
        )
        return Scheduler(first, timeout=timeout), first

    paid: list[str] = []
    for attempt in itertools.count(1):
        scheduler, first = make(None if attempt == 3 else draw.uniform(0.1, 20))
        server.calls.clear()
        virtual(lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db"))
        assert not {*paid} & {*server.calls}
        called = [job for job in first if job.is_succeeded() and not job.restored]
        paid += [job.result() for job in sorted(called, key=lambda job: job.finished_at or 0)]
        if scheduler.stop_reason is StopReason.COMPLETED:
            break
    result = first.result()
    assert ([result] if enough == 1 else result) == paid[:enough]
    assert len(paid) == enough


def test_a_job_that_joins_a_running_first_and_is_restored_wins(virtual: Virtual, tmp_path: Path) -> None:
    """A job that is added to a running `First`, and that an earlier run has paid for, is the result at once."""
    server = Server()

    def make() -> Scheduler:
        async def add() -> None:
            await nap(1)
            first.add(Job(server.ask, "late", 1, label="late", key="late"))

        first = First(Job(nap, 100, save=None), label="first")
        return Scheduler(first, Job(add, save=None))

    for calls in (["late"], []):
        server.calls.clear()
        scheduler = make()
        assert virtual(lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db"))
        assert server.calls == calls
        assert next(iter(scheduler)).result() == "late"
