"""The record that an attempt has begun is for what was killed alone: each end takes it away, whatever its outcome.

The record once stayed after a failure, and after a success whose result was not stored. The next attempt took that for
a kill, and a database that a person had mended, or that the job had extended, was renamed under it."""

import contextlib
import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import (
    AbstractJob,
    First,
    Job,
    JobState,
    Journal,
    Pool,
    Retry,
    Scheduler,
    Throttled,
    current_scheduler,
)
from trioflow.abc import Instrument
from trioflow.journal._judgement import Evidence, Finding, judge
from trioflow.journal._requirement_forms import NOTHING, Counted
from trioflow.journal._store import JournalStore, StoredJob
from trioflow.view.text._verdict import run_verdict
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


def run_draw(
    dice: random.Random, backend: str, place: Path
) -> list[tuple[str | None, str | None]]:
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
        job = Job(
            extend, number // 2, label="extend", writes=[person.file], retry=retry
        )
        around = dice.choice(["none", "group", "first"])
        top: AbstractJob[Any] = job
        if around != "none":
            top = Scheduler(job, label="in") if around == "group" else First(job)
        scheduler = Scheduler(
            top, log=False, timeout=30, hold=dice.random() < 0.5, instruments=[person]
        )
        tries = iter(range(dice.randrange(3)))

        def hold(scheduler: Scheduler = scheduler, tries: Any = tries) -> None:
            scheduler.resume() if next(tries, None) is None else scheduler.try_again()

        run_held(scheduler, place / "run.db", backend, hold)
    return person.found


def run_held(
    scheduler: Scheduler, journal: Path, backend: str, hold: Callable[[], None]
) -> None:
    def incident(
        at: Any, job: Any, message: str, exception: BaseException | None
    ) -> None:
        if "is held" in message:
            threading.Thread(target=hold).start()

    scheduler.run(
        backend=backend,
        journal=Journal(journal),
        instruments=[hooked(incident=incident)],
    )


@pytest.mark.parametrize(
    "first",
    [0, *(pytest.param(first, marks=pytest.mark.ci) for first in range(5, 30, 5))],
)
def test_an_attempt_finds_what_the_last_has_left_or_a_person_since(
    tmp_path: Path, backend: str, first: int
) -> None:
    """Whatever became of an attempt, the next finds the file as it was left, byte for byte: none was killed."""
    for number in range(first, first + 5):
        (place := tmp_path / f"{number}").mkdir()
        for left, found in run_draw(
            random.Random(f"{number} {backend}"), backend, place
        ):
            assert found == left, number


def test_what_is_restored_was_not_killed(tmp_path: Path, backend: str) -> None:
    """A person has put the file of the run before in its place again."""
    file, out = tmp_path / "run.db", tmp_path / "out"

    def is_restored() -> bool:
        job = Job(write, writes=[out], label="write")
        assert Scheduler(job).run(backend=backend, journal=file)
        return job.restored

    async def write() -> None:
        out.write_text("x")

    assert not is_restored()
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        (record,) = store.job_records()
        store.record_start(record.path, "{}")
    assert is_restored()
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        assert store.find_stamps_before_start(record.path) is None


# --- an attempt that began with another fingerprint than that of the record ends the validity of the record
FAILS_AT_LAST: list[tuple[str, dict[str, Any]]] = [
    ("succeeds", {}), ("fails", {}), ("is retried", {"retry": 1}), ("cannot be stored", {}),
    ("moves on", {"timeout": 0.05, "on_timeout": "move_on"}), ("times out", {"timeout": 0.05}), ("is cancelled", {}),
    ("stops the run", {}), ("is cancelled in a backoff", {"retry": Retry(1, first=99)}),
    ("is cancelled while throttled", {"needs": {"api": 1}}),
    ("is not saved", {"save": None}), ("fails unsaved", {"save": None}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "options"), FAILS_AT_LAST, ids=[end for end, _ in FAILS_AT_LAST]
)
def test_what_has_begun_otherwise_runs_again(
    tmp_path: Path, backend: Any, end: str, options: dict[str, Any]
) -> None:
    """A failed attempt had left half a table: once its arguments were the first again, both jobs were restored."""
    table = tmp_path / "table"

    async def load(day: str) -> object:
        table.write_text(day)
        if day == "tue":
            match end:
                case "fails" | "is retried" | "fails unsaved":
                    raise OSError(day)
                case "is cancelled in a backoff":
                    raise OSError(day)
                case "is cancelled while throttled":
                    raise Throttled("api", after=99)
                case "cannot be stored":
                    return object()
                case "moves on" | "times out":
                    await anyio.sleep(9)
                case "is cancelled":
                    jobs[0].cancel()
                    await anyio.sleep(9)
                case "stops the run":
                    jobs[0].scheduler.cancel()
                    await anyio.sleep(9)
        return day

    async def count() -> str:
        return table.read_text()

    async def cancel() -> None:
        while jobs[0].state is not JobState.SCHEDULED or table.read_text() != "tue":
            await anyio.lowlevel.checkpoint()
        jobs[0].cancel()

    jobs: list[Any] = []
    for number, (day, restored) in enumerate(
        [("mon", False), ("mon", True), ("tue", False), ("mon", False)]
    ):
        loads = Job(
            load, day, label="load", log=False, **(options if day == "tue" else {})
        )
        jobs[:] = loads, Job(count, label="count", required=loads)
        others = (
            [Job(cancel, save=None)]
            if day == "tue" and end.startswith("is cancelled ")
            else []
        )
        pool = Pool(api=1)
        Scheduler(*jobs, *others, log=False, pool=pool).run(
            backend=backend, journal=tmp_path / "run.db"
        )
        assert {job.restored for job in jobs} == {restored}, number
    assert jobs[1].result() == "mon"


@pytest.mark.parametrize("fails", [False, True])
def test_what_has_begun_with_what_cannot_be_stored_runs_again(
    tmp_path: Path, backend: Any, fails: bool
) -> None:
    """Once its argument was the first again, it was restored, though another attempt had replaced its table."""
    table = tmp_path / "table"

    async def load(day: object) -> None:
        table.write_text(str(day))
        if fails and day != "mon":
            raise OSError

    for day, restored in (("mon", False), ("mon", True), (load, False), ("mon", False)):
        job = Job(load, day, label="load", log=False)
        Scheduler(Scheduler(job, label="group"), log=False).run(
            backend=backend, journal=tmp_path / "run.db"
        )
        assert job.restored is restored
    assert table.read_text() == "mon"


def test_what_has_not_begun_leaves_the_record_alone(
    tmp_path: Path, backend: Any
) -> None:
    async def load(day: str) -> str:
        return day

    async def cancel() -> None:
        loads.cancel()

    for day, restored in (("mon", False), ("tue", False), ("mon", True)):
        loads = Job(load, day, label="load")
        first = Job(
            cancel if day == "tue" else anyio.lowlevel.checkpoint,
            label="first",
            save=None,
        )
        loads.requires(first, order_only=True)
        Scheduler(first, loads).run(backend=backend, journal=tmp_path / "run.db")
        assert loads.restored is restored, day


@pytest.mark.parametrize("around", [None, "group"])
def test_what_has_changed_is_still_the_reason_in_the_next_attempt(
    tmp_path: Path, backend: Any, around: Any
) -> None:
    """A changed job that failed, and was tried again, once was said to have run in an attempt of its scheduler."""

    async def load(day: str) -> None:
        reasons.append(current_scheduler().explain(jobs[0]))
        if len(reasons) == 2:
            raise OSError(day)

    async def again() -> None:
        await jobs[0].wait_settled()
        if not jobs[0].is_succeeded():
            jobs[0].try_again()

    reasons: list[str] = []
    for day in ("mon", "tue"):
        jobs: list[AbstractJob[Any]] = [Job(load, day, label="load")]
        if around is None:
            jobs.append(Job(again, save=None))
        top = (
            jobs
            if around is None
            else [Scheduler(jobs, label="in", retry=Retry(1, first=0), critical=True)]
        )
        scheduler = Scheduler(top, log=False)
        assert scheduler.run(backend=backend, journal=tmp_path / "run.db")
    assert (
        "1 run again, because 'load' has changed"
        in run_verdict(scheduler, scheduler.stop_reason).sentence
    )
    assert ['has changed from "mon" to "tue"' in reason for reason in reasons] == [
        False,
        True,
        True,
    ]


# --- the judgement of recorded work: each row of its table, and which row comes first
RECORDED = StoredJob(
    "a",
    "work",
    "json",
    "1",
    None,
    None,
    run=3,
    restored=None,
    settled=30.0,
    took=1.0,
    why=None,
)
BEFORE, SINCE = (
    Counted("b", 1, (2, 20.0), None),
    Counted("b", 1, (3, 31.0), "'b' has run since"),
)


@pytest.mark.parametrize(
    ("record", "fingerprint", "required", "is_cut", "finding"),
    [
        (None, "work", NOTHING, False, Finding.NO_RECORD), (RECORDED, "work", NOTHING, False, Finding.MATCHES),
        (RECORDED, "work", BEFORE, False, Finding.MATCHES), (RECORDED, "work", SINCE, False, Finding.DIFFERS),
        (RECORDED, "other", NOTHING, False, Finding.DIFFERS), (RECORDED, "work", NOTHING, True, Finding.DIFFERS),
    ],
)  # fmt: skip
def test_a_record_matches_with_the_same_fingerprint_and_no_requirement_that_has_run_since(
    record: StoredJob | None,
    fingerprint: str,
    required: Counted,
    is_cut: bool,
    finding: Finding,
) -> None:
    """With requirements left out, nothing matches before what changed has been sought."""
    assert judge(Evidence(record, fingerprint, required, is_cut)) is finding


def test_the_first_row_that_holds_decides() -> None:
    """An ambiguous path is never stored, whatever else is true; a record of this run restores nothing."""
    rows = (Finding.AMBIGUOUS, Finding.RAN_BEFORE, Finding.DAMAGED)
    for flags in itertools.product((False, True), repeat=len(Evidence._fields[4:])):
        *holds, has_moved = flags
        for record in (None, RECORDED):
            found = judge(Evidence(record, "work", NOTHING, False, *flags))
            missing = Finding.MOVED if has_moved else Finding.NO_RECORD
            last = missing if record is None else Finding.MATCHES
            assert found is next(
                (row for row, is_so in zip(rows, holds, strict=True) if is_so), last
            )
