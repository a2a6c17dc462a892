"""The record that an attempt has begun is for what was killed alone: each end takes it away, whatever its outcome.

The record once stayed after a failure, and after a success whose result was not stored. The next attempt took that for
a kill, and a database that a person had mended, or that the job had extended, was renamed under it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trioflow import AbstractJob, First, Job, Journal, Retry, Scheduler, current_scheduler
from trioflow.abc import Instrument
from ..bodies import hooked, nothing


class Unstorable:
    """What JSON cannot store, such as a table."""


class Person(Instrument):
    """Looks at a file whenever an attempt has ended, and writes it anew, shorter, longer, or not at all."""

    def __init__(self, file: Path, dice: random.Random) -> None:
        self.file, self.dice = file, dice
        self.left: str | None = None
        self.found: list[tuple[str | None, str | None]] = []

    def read(self) -> str | None:
        return self.file.read_text() if self.file.exists() else None

    def begin(self) -> None:
        """Note what an attempt finds, beside what was left for it."""
        self.found.append((self.left, self.read()))

    def visit(self) -> None:
        if self.dice.random() < 0.4:
            self.file.write_text("mended\n" * self.dice.randrange(1, 9))
        self.left = self.read()

    def job_scheduled(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if job.attempts:
            self.visit()

    def job_settled(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if job.label == "extend":
            self.visit()


def add_job() -> None:
    current_scheduler().add(Job(nothing, label="more"))


def fail() -> None:
    raise OSError("the database is corrupt")


ENDS: dict[str, Callable[[], Any]] = {
    "stored": lambda: 1, "unstorable": Unstorable, "adds": add_job, "fails": fail, "fails again": fail,
}  # fmt: skip


def run_draw(dice: random.Random, backend: str, place: Path) -> list[tuple[str | None, str | None]]:
    """Run a job that extends a file, several times, and return what each attempt found, and should have found."""
    person = Person(place / "db", dice)
    if dice.random() < 0.5:
        person.file.write_text("older\n" * dice.randrange(5, 9))
    person.left = person.read()

    async def extend(number: int) -> object:
        person.begin()
        end = dice.choice([*ENDS])
        mode = dice.choice("aaw")
        with person.file.open(mode) as file:
            file.write(f"row {end}\n")
        return ENDS[end]()

    retry = Retry(dice.randrange(1, 4), first=0) if dice.random() < 0.5 else None
    for number in range(4):
        job = Job(extend, number // 2, label="extend", writes=[person.file], retry=retry)
        around = dice.choice(["none", "group", "first"])
        top: AbstractJob[Any] = job
        if around != "none":
            top = Scheduler(job, label="in") if around == "group" else First(job)
        scheduler = Scheduler(top, log=False, timeout=30, hold=dice.random() < 0.5, instruments=[person])
        tries = iter(range(dice.randrange(3)))

        def hold(scheduler: Scheduler = scheduler, tries: Any = tries) -> None:
            scheduler.resume() if next(tries, None) is None else scheduler.try_again()

        run_held(scheduler, place / "run.db", backend, hold)
    return person.found


def run_held(scheduler: Scheduler, journal: Path, backend: str, hold: Callable[[], None]) -> None:
    def incident(at: Any, job: Any, message: str, exception: BaseException | None) -> None:
        if "is held" in message:
            threading.Thread(target=hold).start()

    scheduler.run(backend=backend, journal=Journal(journal), instruments=[hooked(incident=incident)])


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_an_attempt_finds_what_the_last_has_left_or_a_person_since(tmp_path: Path, backend: str, first: int) -> None:
    """Whatever became of an attempt, the next finds the file as it was left, byte for byte: none was killed."""
    for number in range(first, first + 20):
        (place := tmp_path / f"{number}").mkdir()
        for left, found in run_draw(random.Random(f"{number} {backend}"), backend, place):
            assert found == left, number
