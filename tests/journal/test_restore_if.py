"""`restore_if=`: a stored result that does not hold any more lets its job run again."""

import contextlib
import contextvars
import functools
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import (
    Answer,
    First,
    Job,
    JobState,
    Retry,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
    Trace,
    simulate,
)
from trioflow._core.run import _standstill
from trioflow._core.run._undecided import MAX_READS
from trioflow.abc import AbstractJob, Instrument
from trioflow.view import listing
from trioflow.view.text._verdict import Tally, run_verdict
from ..cli.command_line import trioflow
from ..conftest import Virtual

TENANT = contextvars.ContextVar("tenant", default="nobody")


class Database:
    """Tables that jobs load. `has` is what jobs give as `restore_if=`."""

    def __init__(self) -> None:
        self.tables: set[str] = set()
        self.loaded: list[str] = []
        self.asked: list[str] = []

    async def load(self, table: str, *_: Any) -> str:
        self.tables.add(table)
        self.loaded.append(table)
        return table

    def has(self, table: str) -> bool:
        self.asked.append(table)
        return table in self.tables

    async def has_async(self, table: str) -> bool:
        await anyio.lowlevel.checkpoint()
        return self.has(table)

    def has_later(self, table: str) -> Any:
        return self.has_async(table)

    def fails(self, table: str) -> bool:
        self.asked.append(table)
        raise OSError("no database")

    def restarted(self, *dropped: str) -> None:
        """Forget what was loaded and asked, and drop tables."""
        self.tables -= {*dropped}
        self.loaded.clear()
        self.asked.clear()


@pytest.fixture
def database() -> Database:
    return Database()


def chain(database: Database, function: Callable[[str], Any]) -> Scheduler:
    orders = Job(database.load, "orders", label="orders", restore_if=function)
    totals = Job(database.load, "totals", orders, label="totals")
    other = Job(database.load, "other", label="other")
    report = Job(database.load, "report", label="report", required=totals)
    return Scheduler(orders, totals, other, report, label="night")


FUNCTIONS = ["has", "has_async", "has_later"]


@pytest.mark.both_backends
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_result_that_does_not_hold_runs_again_with_what_follows(
    file: Path, backend: str, database: Database, name: str
) -> None:
    """With the database deleted, the next run was: 36 restored."""
    function = getattr(database, name)
    assert chain(database, function).run(backend=backend, journal=file)
    assert database.asked == []
    database.restarted()
    assert chain(database, function).run(backend=backend, journal=file)
    assert (database.loaded, database.asked) == ([], ["orders"])
    database.restarted("orders")
    assert chain(database, function).run(backend=backend, journal=file)
    assert (database.loaded, database.asked) == (
        ["orders", "totals", "report"],
        ["orders"],
    )


@pytest.mark.both_backends
@pytest.mark.parametrize("name", ["has", "fails"])
def test_each_view_names_the_reason(
    file: Path, backend: str, database: Database, name: str
) -> None:
    """The listing, `explain`, the verdict, the trace, the command and its `why` agree."""
    assert chain(database, getattr(database, name)).run(backend=backend, journal=file)
    database.restarted("orders")
    trace = Trace()
    scheduler = chain(database, getattr(database, name))
    assert scheduler.run(backend=backend, journal=file, instruments=[trace])
    orders, totals, *_ = scheduler
    reason, cause = {
        "has": (
            "restore_if= has returned False",
            "restore_if= of 'orders' has returned False",
        ),
        "fails": (
            "restore_if= has raised OSError('no database')",
            "restore_if= of 'orders' has raised OSError",
        ),
    }[name]
    shown = {
        "explain": scheduler.explain(orders),
        "listing": listing(scheduler, details=True),
        "why": trioflow("journal", file, "why").stdout,
        "show": trioflow("journal", file, "show", "orders").stdout,
    }
    assert [view for view, text in shown.items() if reason not in text] == []
    assert cause in scheduler.explain(totals)
    sentences = [
        run_verdict(scheduler, scheduler.stop_reason).sentence,
        trioflow("journal", file).stdout,
    ]
    assert [
        text for text in sentences if f"3 run again, because {cause}" not in text
    ] == []
    assert (
        trace._get_record().tally.reruns
        == Tally.for_scheduler(scheduler).reruns
        == {cause: 3}
    )


def test_a_secret_result_is_quoted_in_no_reason(file: Path, backend: str) -> None:
    async def load() -> str:
        return "hunter2"

    def fails(value: str) -> bool:
        raise OSError(f"no {value}")

    for _ in range(2):
        job = Job(load, label="load", redact=True, restore_if=fails)
        scheduler = Scheduler(job)
        assert scheduler.run(backend=backend, journal=file)
    assert "restore_if= has raised OSError" in scheduler.explain(job)
    assert (
        "hunter2"
        not in scheduler.explain(job) + trioflow("journal", file, "why").stdout
    )


def test_a_plain_function_runs_in_a_thread_with_the_context(
    file: Path, backend: str
) -> None:
    async def load() -> int:
        return 1

    def holds(value: int) -> bool:
        seen.append(
            (threading.get_ident() == threading.main_thread().ident, TENANT.get())
        )
        return True

    seen: list[tuple[bool, str]] = []
    token = TENANT.set("acme")
    try:
        for _ in range(2):
            assert Scheduler(Job(load, label="load", restore_if=holds)).run(
                backend=backend, journal=file
            )
    finally:
        TENANT.reset(token)
    assert seen == [(False, "acme")]


def test_only_what_would_be_restored_is_asked_for(
    file: Path, backend: str, database: Database
) -> None:
    """A job that runs for another reason, that is no member, or that no journal would restore, asks nothing."""

    def load(version: int = 1) -> Job[str]:
        return Job(
            database.load, "a", label="a", version=version, restore_if=database.has
        )

    assert Scheduler(load()).run(backend=backend, journal=file)
    assert Scheduler(load(version=2)).run(backend=backend, journal=file)
    assert Scheduler(load(version=2)).run(backend=backend)
    assert simulate(Scheduler(load(version=2)), durations={"a": 1.0}).makespan == 1.0
    assert database.asked == []


@pytest.mark.both_backends
def test_what_does_not_hold_counts_no_more_once_its_job_has_begun(
    file: Path, backend: str, database: Database
) -> None:
    """The attempt creates the table, and fails or is killed: the function finds the table, and the rows are missing."""

    async def load() -> str:
        database.tables.add("orders")
        if is_broken:
            raise OSError("the connection was lost")
        return "orders"

    is_broken = False
    for is_broken, restored in (
        (False, False),
        (False, True),
        (True, False),
        (False, False),
        (False, True),
    ):
        if is_broken:
            database.tables.clear()
        job = Job(load, label="load", restore_if=database.has)
        assert Scheduler(job).run(backend=backend, journal=file) is not is_broken
        assert job.restored is restored


def test_a_group_that_is_tried_again_asks_once(
    file: Path, backend: str, database: Database
) -> None:
    async def flaky() -> None:
        attempts.append(1)
        if len(attempts) % 2:
            raise OSError("flaky")

    attempts: list[int] = []
    for asked in ([], ["a"]):
        database.restarted()
        group = Scheduler(
            first := Job(database.load, "a", label="a", restore_if=database.has),
            Job(flaky, label="flaky", required=first, save=None, critical=True),
            label="group",
            retry=Retry(1, first=0.0),
        )
        assert Scheduler(group).run(backend=backend, journal=file)
        assert database.asked == asked


@pytest.mark.both_backends
@pytest.mark.parametrize("place", ["group", "First", "nested First"])
def test_a_result_in_a_group_is_asked_for_wherever_it_is(
    file: Path, backend: str, database: Database, place: str
) -> None:
    def scenario() -> Scheduler:
        member = Job(database.load, "a", label="a", restore_if=database.has)
        group: Any = (
            Scheduler(member, label="g")
            if place == "group"
            else First(member, label="g")
        )
        if place == "nested First":
            group = First(group, label="outer")
        user = Job(database.load, "user", label="user", required=group)
        return Scheduler(group, user)

    assert scenario().run(backend=backend, journal=file)
    database.restarted()
    assert scenario().run(backend=backend, journal=file)
    assert (database.loaded, database.asked) == ([], ["a"])
    database.restarted("a")
    assert scenario().run(backend=backend, journal=file)
    assert (database.loaded, database.asked) == (["a", "user"], ["a"])


def test_a_job_that_is_added_is_asked_for(
    file: Path, backend: str, database: Database
) -> None:
    async def program() -> list[bool]:
        async with Scheduler(journal=file) as scheduler:
            jobs = [
                scheduler.add(
                    Job(database.load, name, label=name, restore_if=database.has_async)
                )
                for name in "abc"
            ]
            for job in jobs:
                await job
        return [job.restored for job in jobs]

    run = functools.partial(anyio.run, program, backend=backend)
    assert run() == [False] * 3
    database.restarted("b")
    assert run() == [True, False, True]
    assert (database.loaded, database.asked) == (["b"], ["a", "b", "c"])


@pytest.mark.parametrize("dropped", ["", "build", "strip"])
def test_files_that_are_changed_in_place_are_made_anew_by_all_or_none(
    tmp_path: Path, file: Path, backend: str, database: Database, dropped: str
) -> None:
    """`strip` changes what `build` has written: if one of them runs again, so does the other, on a fresh file."""
    out = tmp_path / "out"

    def build() -> str:
        out.write_text("built")
        database.tables.add("build")
        return "build"

    def strip() -> str:
        out.write_text(f"{out.read_text()}, stripped")
        database.tables.add("strip")
        return "strip"

    def scenario() -> Scheduler:
        first = ThreadJob(build, label="build", writes=out, restore_if=database.has)
        second = ThreadJob(
            strip,
            label="strip",
            reads=out,
            writes=out,
            restore_if=database.has,
            required=first,
        )
        return Scheduler(first, second)

    assert scenario().run(backend=backend, journal=file)
    database.restarted(dropped)
    scheduler = scenario()
    assert scheduler.run(backend=backend, journal=file)
    assert out.read_text() == "built, stripped"
    assert [job.restored for job in scheduler] == [not dropped] * 2
    assert len(database.asked) == len({*database.asked})


def test_a_question_is_asked_again_whose_answer_does_not_hold(
    file: Path, backend: str
) -> None:
    def holds(answer: str) -> bool:
        return answer in valid

    valid: list[str] = []
    for given, now, restored in (
        ("yes", "yes", False),
        (None, "yes", True),
        ("no", "no", False),
    ):
        valid[:] = [now]
        question = Answer("deploy?", label="deploy", restore_if=holds)

        async def answer(
            question: Answer[str] = question, given: str | None = given
        ) -> None:
            if given is not None and not question.is_settled():
                question.answer(given)

        assert Scheduler(question, Job(answer, label="person", save=None)).run(
            backend=backend, journal=file
        )
        assert (question.restored, question.result()) == (restored, given or "yes")


@pytest.mark.both_backends
def test_functions_of_jobs_that_are_ready_are_asked_at_once_up_to_a_bound(
    file: Path, backend: str
) -> None:
    """As many as the bound wait for each other; the one beyond it is asked when they have answered."""

    async def work(number: int) -> int:
        return number

    async def holds(number: int) -> bool:
        asked.append(number)
        if number == MAX_READS:
            assert len(answered) == MAX_READS
        if len(asked) == MAX_READS:
            all_asked.set()
        await all_asked.wait()
        answered.append(number)
        return number != 2

    def scenario(**options: Any) -> Scheduler:
        jobs = [
            Job(work, number, label=f"work {number}", **options)
            for number in range(MAX_READS + 1)
        ]
        return Scheduler(jobs, jobs_window=1)

    async def program() -> Scheduler:
        nonlocal all_asked
        all_asked = anyio.Event()
        scheduler = scenario(restore_if=holds)
        with anyio.fail_after(60):
            assert await scheduler.co_run(journal=file)
        return scheduler

    asked: list[int] = []
    answered: list[int] = []
    all_asked: Any = None
    assert scenario().run(backend=backend, journal=file)
    jobs = [*anyio.run(program, backend=backend)]
    assert sorted(asked) == [*range(MAX_READS + 1)]
    assert [job for job in jobs if not job.restored] == [jobs[2]]


@pytest.mark.both_backends
def test_a_job_that_is_cancelled_waits_for_no_function(
    file: Path, backend: str
) -> None:
    """Nor do the jobs behind it; the second that is cancelled, and its sibling that answers, are as if alone."""

    async def work(label: str) -> str:
        return label

    async def holds(label: str) -> bool:
        if label == "c":
            for job in jobs[:2]:
                job.cancel()
            return True
        await anyio.sleep_forever()
        return True

    def scenario(**options: Any) -> list[Job[str]]:
        found = [Job(work, name, label=name, **options) for name in "abc"]
        return [*found, Job(work, "last", label="last", required=found[2])]

    assert Scheduler(scenario()).run(backend=backend, journal=file)
    jobs = scenario(restore_if=holds)
    jobs[3].restore_if = None
    assert Scheduler(jobs).run(backend=backend, journal=file)
    assert [job.state.value for job in jobs] == ["cancelled"] * 2 + ["succeeded"] * 2
    assert [job.restored for job in jobs[2:]] == [True, True]


@pytest.mark.both_backends
def test_jobs_behind_a_cancelled_one_do_not_wait_for_the_thread_of_its_function(
    file: Path, backend: str
) -> None:
    released = threading.Event()
    held: list[bool] = []

    async def work(label: str) -> str:
        if label == "last":
            released.set()
        return label

    def is_held(_: str) -> bool:
        held.append(released.wait(60))
        return True

    async def cancels(_: str) -> bool:
        jobs[0].cancel()
        return True

    def scenario() -> list[Job[str]]:
        first, second = (Job(work, name, label=name) for name in "ab")
        last = Job(work, "last", label="last", required=second, save=None)
        return [first, second, last]

    assert Scheduler(scenario()).run(backend=backend, journal=file)
    jobs = scenario()
    jobs[0].restore_if = is_held
    jobs[1].restore_if = cancels
    released.clear()
    assert Scheduler(jobs).run(backend=backend, journal=file)
    assert held == [True]
    assert [job.state.value for job in jobs] == ["cancelled", "succeeded", "succeeded"]


@pytest.mark.parametrize("ends", ["job", "run"])
def test_a_thread_of_a_function_that_outlasts_its_cancellation_is_named(
    file: Path, backend: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has to wait for it, and nothing else shows for what."""
    monkeypatch.setattr(_standstill, "STUCK_REPORT_DELAY", 0.01)
    released = threading.Event()
    told: list[str] = []

    class Watch(Instrument):
        def incident(self, scheduler: Any, job: Any, message: str, *_: Any) -> None:
            told.append(message)
            released.set()

    async def work() -> str:
        return "done"

    def is_held(_: str) -> bool:
        ended[ends].cancel()
        return released.wait(60)

    assert Scheduler(Job(work, label="a")).run(backend=backend, journal=file)
    job = Job(work, label="a", restore_if=is_held)
    scheduler = Scheduler(job)
    ended: dict[str, AbstractJob[Any]] = {"job": job, "run": scheduler}
    scheduler.run(backend=backend, journal=file, instruments=[Watch()])
    assert [text.partition(" and is")[::2] for text in told] == [
        (
            "'a' was cancelled 0.01 s ago",
            " still running, and the run waits for the thread that reads its files, or calls its restore_if=",
        )
    ]


@pytest.mark.both_backends
def test_a_function_that_two_look_ups_come_to_is_asked_once(
    file: Path, tmp_path: Path, backend: str
) -> None:
    """Whether the file of a job still is as it was depends on the job that changes it, and so on what that requires."""
    table = tmp_path / "table"
    asked = list[str]()

    async def work(label: str) -> str:
        with table.open("a") as text:
            text.write(label)
        return label

    async def holds(label: str) -> bool:
        asked.append(label)
        await anyio.sleep(0.1)
        return len(asked) == 1

    def scenario() -> list[Job[str]]:
        first = Job(work, "a", label="a", writes=table)
        second = Job(work, "b", label="b", restore_if=holds)
        last = Job(work, "c", label="c", required=[first, second], writes=table)
        return [first, second, last]

    assert Scheduler(scenario()).run(backend=backend, journal=file)
    jobs = scenario()
    assert Scheduler(jobs).run(backend=backend, journal=file)
    assert asked == ["b"]
    assert [job.restored for job in jobs] == [True, True, True]


@pytest.mark.parametrize("end", ["timeout", "cancel", "outside", "group"])
def test_a_run_ends_while_a_function_still_waits(
    end: str, file: Path, virtual: Virtual
) -> None:
    asked: list[str] = []

    async def work() -> str:
        return "result"

    async def waits(result: str) -> bool:
        asked.append(result)
        if end == "cancel":
            scheduler.cancel()
        if end == "outside":
            outside.cancel()
        await anyio.sleep_forever()
        return True

    group = Scheduler(Job(work, label="b"), label="g")
    assert virtual(Scheduler(Job(work, label="a"), group, journal=file).co_run)

    async def run() -> None:
        nonlocal scheduler, outside
        timeout = 9 if end in ("timeout", "group") else None
        if end == "group":
            job = Job(work, label="b", restore_if=waits)
            scheduler = Scheduler(Scheduler(job, label="g", timeout=timeout))
            timeout = None
        else:
            job = Job(work, label="a", restore_if=waits)
            scheduler = Scheduler(job, Job(work, label="after", required=job))
        with anyio.CancelScope() as outside:
            assert not await scheduler.co_run(journal=file, timeout=timeout)
        assert job.is_idle()

    scheduler = Scheduler()
    outside: Any = None
    for _ in range(2):
        virtual(run)
    assert asked == ["result", "result"]


@pytest.mark.both_backends
@pytest.mark.parametrize("word", ["cancel", "drain", "cancel of the job"])
def test_a_run_ends_at_once_in_any_turn_before_or_while_a_function_waits(
    word: str, file: Path, virtual: Virtual
) -> None:
    """A word in the turn before the function was asked did not reach it, and only `cancel()` ended the wait at all."""

    async def main(turns: int) -> float:
        job = Job(nothing, label="a", restore_if=sleep_and_hold)
        scheduler = Scheduler(job, journal=file)
        words = {"cancel of the job": job.cancel, "drain": scheduler.drain}

        async def say() -> None:
            while not scheduler.is_running():
                await anyio.lowlevel.checkpoint()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            words.get(word, scheduler.cancel)()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say)
            await scheduler.co_run()
        assert job.state in (JobState.IDLE, JobState.CANCELLED)
        return anyio.current_time()

    assert virtual(Scheduler(Job(nothing, label="a"), journal=file).co_run)
    assert [virtual(main, turns) for turns in range(8)] == [0.0] * 8


@pytest.mark.both_backends
def test_a_run_goes_on_while_a_function_waits(file: Path, virtual: Virtual) -> None:
    """No backoff ended, nothing was committed, and the search for a standstill took each turn of the loop."""
    attempts: list[float] = []

    async def flaky() -> None:
        attempts.append(anyio.current_time())
        if len(attempts) == 1:
            raise OSError("flaky")

    async def look() -> set[str]:
        await anyio.sleep(2)
        with contextlib.closing(sqlite3.connect(file)) as db:
            return {path for (path,) in db.execute("SELECT path FROM jobs")}

    def scenario(*others: Job[Any]) -> Scheduler:
        asked = Job(nothing, label="asked", restore_if=sleep_and_hold)
        first = Job(nothing, label="first", save=None)
        asked.requires(first)
        return Scheduler(*others, first, asked, journal=file)

    assert virtual(scenario().co_run)
    retried = Job(flaky, label="flaky", retry=Retry(1, jitter=False), save=None)
    looks = Job(look, label="look", save=None)
    assert virtual(scenario(retried, Job(nothing, label="quick"), looks).co_run)
    assert attempts == [0, 1]
    assert looks.result() == {"asked", "quick"}


def test_a_function_whose_own_tasks_are_cancelled_ends_no_run_with_an_error(
    file: Path, virtual: Virtual
) -> None:
    async def waits(_: object) -> bool:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(anyio.sleep_forever)
        return True

    assert virtual(Scheduler(Job(nothing, label="a"), journal=file).co_run)
    job = Job(nothing, label="a", restore_if=waits)
    scheduler = Scheduler(job, timeout=9, journal=file)
    assert not virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.TIMEOUT


async def sleep_and_hold(_: object) -> bool:
    await anyio.sleep(9)
    return True


async def nothing(*_: object, **__: object) -> None: ...


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Job(nothing, restore_if=bool, save=None),
            "with save=None, no result is stored",
        ),
        (lambda: Job(nothing, restore_if=bool, forever=True), "is never restored"),
        (lambda: Service(nothing, restore_if=bool), "is never restored"),
        (lambda: Scheduler(restore_if=bool), "give it to the jobs in it"),
        (lambda: First(Job(nothing), restore_if=bool), "give it to the jobs in it"),
        (
            lambda: setattr(Job(nothing, restore_if=bool), "save", None),
            "with save=None, no result is stored",
        ),
    ],
)
def test_where_it_can_have_no_effect_it_is_refused(
    make: Callable[[], object], text: str
) -> None:
    with pytest.raises(ValueError, match=f"restore_if= of .*: .*{text}"):
        make()
