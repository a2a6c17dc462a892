"""Jobs that are added during a run with a journal: they are identified by names that no order of adding changes."""

import contextlib
import functools
import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import First, Job, JobState, JournalError, Scheduler, current_scheduler
from trioflow.abc import AbstractJob
from trioflow.journal import _session
from trioflow.journal._store import AMBIGUOUS_PREFIX, JournalStore
from ..bodies import fail
from ..conftest import Virtual
from .stage import found

calls: list[Any] = []


async def double(number: Any, *_: Any) -> Any:
    calls.append(number)
    await anyio.lowlevel.checkpoint()
    return 2 * number


async def total(*numbers: int) -> int:
    calls.append(numbers)
    return sum(numbers)


Body = Callable[[Scheduler], Awaitable[Any]]


def opened(virtual: Virtual, file: Path, body: Body, **options: Any) -> Any:
    async def main() -> Any:
        async with Scheduler(journal=file, **options) as scheduler:
            return await body(scheduler)

    calls.clear()
    return virtual(main)


def test_a_job_added_to_an_open_scheduler_is_restored_by_add(
    virtual: Virtual, file: Path
) -> None:
    """A job that an earlier run has recorded is SUCCEEDED when `add` returns, and `await job` gives its result."""

    async def body(scheduler: Scheduler) -> tuple[JobState, int, bool]:
        job = scheduler.add(Job(double, 21))
        return job.state, await job, job.restored

    assert opened(virtual, file, body)[1:] == (42, False)
    assert opened(virtual, file, body) == (JobState.SUCCEEDED, 42, True)
    assert calls == []


def test_a_job_added_as_an_open_scheduler_begins_is_restored_by_add(
    virtual: Virtual, file: Path
) -> None:
    """The jobs that the scheduler has from the beginning are looked up before it, in the same call."""

    async def main() -> tuple[JobState, int, bool]:
        before = Job(double, 1, label="before")
        async with Scheduler(before, journal=file) as scheduler:
            job = scheduler.add(Job(double, 21, label="added"))
            return job.state, await job, before.restored

    assert virtual(main)[1:] == (42, False)
    assert virtual(main) == (JobState.SUCCEEDED, 42, True)


def test_jobs_added_in_another_order_are_restored(virtual: Virtual, file: Path) -> None:
    """Whatever the order of adding is, jobs are restored by label, by key, by their arguments, and inside of others."""

    async def grow() -> None:
        scheduler = current_scheduler()
        scheduler.add(Job(double, 4, label="grown"))

    def steps(scheduler: Scheduler) -> list[Callable[[], list[AbstractJob[Any]]]]:
        first = Job(double, 1, label="first")
        return [
            lambda: [scheduler.add(Job(double, 1, label="one"))],
            lambda: [
                scheduler.add(Job(double, number, object(), key=number))
                for number in (2, 3)
            ],
            lambda: [scheduler.add(Job(double, number)) for number in (2, 3)],
            lambda: scheduler.map(double, [5, 6], label="mapped"),
            lambda: scheduler.map(
                double,
                [5, 6],
                [object()] * 2,
                label="keyed",
                key=lambda number, _: number,
            ),
            lambda: [scheduler.add(Job(total, first, label="sum")), first],
            lambda: list(
                scheduler.add(Scheduler(Job(double, 7), Job(double, 7), label="inner"))
            ),
            lambda: [
                *[
                    scheduler.add(Scheduler(Job(double, n), label="alike", key=n))
                    for n in (8, 9)
                ][1]
            ],
            lambda: [scheduler.add(Job(grow, label="grow"))],
        ]

    async def body(scheduler: Scheduler) -> list[Any]:
        jobs = [job for step in order(steps(scheduler)) for job in step()]
        return [await job for job in jobs if job.label != "grow"]

    order: Any = list
    first = opened(virtual, file, body)
    ran = len(calls)
    order = reversed
    second = opened(virtual, file, body)
    assert calls == []
    assert sorted(first) == sorted(second)
    assert ran == len(found(file))


async def described(*args: Any, **kwargs: Any) -> str:
    calls.append((args, kwargs))
    return f"{args} {[*kwargs.items()]}"


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), ((1,), {}), ((2,), {}), ((1, 2), {}), ((2, 1), {}), (((1, 2),), {}), (([1, 2],), {}), (("1",), {}),
    ((1.5,), {}), ((None,), {}), ((True,), {}), (("",), {}), (("x=1",), {}),
    ((), {"x": 1}), ((), {"y": 1}), ((), {"x": 2}), ((), {"x": "1"}), ((1,), {"x": 1}),
    ((), {"x": 1, "y": 2}), ((), {"x": 2, "y": 1}), ((), {"x": [1, 2]}), ((), {"x": {"y": 1}}), ((), {"x": {"z": 1}}),
    ((), {"x": "a" * 70}), ((), {"y": "a" * 70}), (("a" * 70,), {}), (("a" * 71,), {}),
]  # fmt: skip


def test_added_calls_that_differ_in_one_part_have_different_names(
    virtual: Virtual, file: Path
) -> None:
    """Jobs that are added are known by all of their call: a value, a name, a place, a type. All are stored, and each is
    restored with its own result. Above the length of a name, its hash tells two calls apart."""

    async def body(scheduler: Scheduler) -> list[str]:
        jobs = [
            scheduler.add(Job(described, *args, kwargs=kwargs))
            for args, kwargs in CALLS
        ]
        return [await job for job in jobs]

    expected = [f"{args} {[*kwargs.items()]}" for args, kwargs in CALLS]
    assert opened(virtual, file, body) == expected
    assert len(calls) == len(found(file)) == len(CALLS)
    assert opened(virtual, file, body) == expected
    assert calls == []


def test_of_jobs_with_one_name_none_is_stored(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of jobs with one label, none is stored or restored, in this run or later ones; the log says so once in each."""

    async def body(scheduler: Scheduler) -> list[bool]:
        jobs = [scheduler.add(Job(double, number, label="same")) for number in numbers]
        [await job for job in jobs]
        jobs.append(
            scheduler.add(Job(double, 4, label="same"))
        )  # the others have settled
        assert [await job for job in jobs] == [2 * number for number in (*numbers, 4)]
        assert "it is not stored: several jobs have had this name" in scheduler.explain(
            jobs[1]
        )
        return [job.restored for job in jobs]

    for order in (1, 2, 3), (1, 2, 3), (3, 1, 2):
        numbers = order
        caplog.clear()
        with caplog.at_level(logging.WARNING, "trioflow"):
            assert opened(virtual, file, body) == [False] * 4
        (message,) = [record.getMessage() for record in caplog.records]
        assert message.startswith("the journal does not store 'same")
        assert message.endswith(
            "several jobs have had this name; give each a label of its own, or key="
        )

    async def alone(scheduler: Scheduler) -> bool:
        return (await scheduler.add(job := Job(double, 1, label="same")), job.restored)[
            1
        ]

    assert [opened(virtual, file, alone) for _ in range(2)] == [False, False]
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.forget(["same"])
    assert [opened(virtual, file, alone) for _ in range(2)] == [False, True]


def returns(number: int) -> Callable[..., Awaitable[int]]:
    async def closure(*_: object) -> int:
        calls.append(number)
        await anyio.sleep(number)
        return number

    return closure


def test_a_closure_is_stored_if_its_label_its_key_or_its_arguments_identify_it(
    virtual: Virtual, file: Path
) -> None:
    async def body(scheduler: Scheduler) -> list[bool]:
        jobs = [
            scheduler.add(Job(returns(7))), scheduler.add(Job(returns(1), label="label")),
            scheduler.add(Job(returns(2), key=1)), scheduler.add(Job(returns(3), "argument")),
            *scheduler.map(returns(4), ["of map"]), scheduler.add(Job(returns(5), version=1)),
            scheduler.add(Job(double, 6)),
        ]  # fmt: skip
        assert [await job for job in jobs] == [7, 1, 2, 3, 4, 5, 12]
        return [job.restored for job in jobs]

    assert opened(virtual, file, body) == [False] * 7
    assert opened(virtual, file, body) == [False] + [True] * 6


def test_closures_that_only_their_order_distinguishes_are_not_stored(
    virtual: Virtual, file: Path
) -> None:
    """In a scenario that was built before the run, closures of one label are stored if their defaults differ."""

    async def run(*jobs: AbstractJob[Any]) -> list[tuple[Any, bool]]:
        assert await Scheduler(*jobs).co_run(journal=file)
        return [(job.result(), job.restored) for job in jobs]

    def build(*numbers: int) -> list[AbstractJob[Any]]:
        closures: list[AbstractJob[Any]] = [Job(returns(number)) for number in numbers]
        named = [Job(returns(number), label=f"named {number}") for number in numbers]
        return [
            *closures,
            *named,
            *[Job(lambda n=number: double(n)) for number in numbers],
        ]

    assert not any(restored for _, restored in virtual(run, *build(1, 2)))
    wanted = [(1, False), (2, False), (1, True), (2, True), (2, True), (4, True)]
    assert virtual(run, *build(1, 2)) == wanted
    assert virtual(run, *build(2, 1)) == [wanted[number] for number in (1, 0, 3, 2)] + [
        (4, False),
        (2, False),
    ]


def alike(number: int) -> list[AbstractJob[Any]]:
    """Return new jobs that nothing but their order tells from those of other numbers."""
    used = Job(returns(number))
    return [
        Job(returns(number), key="one key"),
        Job(returns(number), version=1),
        Scheduler(
            Scheduler(Job(returns(number), label="job"), label="inner"), label="outer"
        ),
        Scheduler(used, Job(total, used), First(Job(returns(number)))),
    ]


def test_jobs_that_only_order_of_their_schedulers_distinguishes_are_not_stored(
    virtual: Virtual, file: Path
) -> None:
    """In a scenario that was built before the run, no closure gets the result of another when the order changes.
    Whether their schedulers or they themselves have equal labels, keys and versions makes no difference. What the
    results of their inputs tell apart is restored."""

    async def run(*numbers: int) -> dict[int, list[tuple[Any, bool]]]:
        built = {number: alike(number) for number in numbers}
        assert await Scheduler(
            *[job for jobs in built.values() for job in jobs]
        ).co_run(journal=file)
        return {
            number: [
                (job.result(), job.restored)
                for outer in jobs
                for job in (
                    outer.iterate_jobs() if isinstance(outer, Scheduler) else [outer]
                )
                if not isinstance(job, Scheduler) or isinstance(job, First)
            ]
            for number, jobs in built.items()
        }

    for order in (1, 2), (1, 2), (2, 1), (2,):
        for number, outcomes in virtual(run, *order).items():
            assert {value for value, _ in outcomes} == {number}
            assert sum(restored for _, restored in outcomes) <= 1  # that of `total`


def test_a_nested_scheduler_with_the_label_of_another_has_no_stored_jobs(
    virtual: Virtual, file: Path
) -> None:
    async def body(scheduler: Scheduler) -> list[tuple[int, bool]]:
        found: list[tuple[int, bool]] = []
        for number in numbers:
            job = Job(returns(number), label="job")
            await scheduler.add(Scheduler(job, label="inner"))
            found.append((job.result(), job.restored))
        jobs = [job for job in scheduler if job.label == "static"]
        jobs += [
            scheduler.add(Job(returns(number), label="static")) for number in numbers
        ]
        return found + [(await job, job.restored) for job in jobs]

    async def main() -> Any:
        async with Scheduler(
            Job(returns(9), label="static"), journal=file
        ) as scheduler:
            return await body(scheduler)

    for order in (1, 2), (2, 1):
        numbers = order
        wanted = [(number, False) for number in (*numbers, 9, *numbers)]
        assert virtual(main) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_a_job_never_gets_the_result_of_another(
    virtual: Virtual, file: Path, seed: int
) -> None:
    """Whatever closures of one name are added, in which order, up to any crash: no run ends with a wrong value. A
    result that was stored before a crash, and restored before a second job with its name was added, ends the run."""
    rng = random.Random(seed)
    ways: list[Callable[[int], AbstractJob[Any]]] = [
        lambda n: Job(returns(n)), lambda n: Job(returns(n), label="label"), lambda n: Job(returns(n), "argument"),
        lambda n: Job(returns(n), label=f"label {n}"), lambda n: Job(returns(n), key=n),
        lambda n: Job(double, n / 2, label="double"),
    ]  # fmt: skip
    chosen = [rng.choice(ways) for _ in range(rng.choice((6, 12)))]

    async def body(scheduler: Scheduler) -> bool:
        order = rng.sample(range(len(chosen)), len(chosen))
        crash = rng.choice((*order, *[None] * len(order)))
        added: dict[int, AbstractJob[Any]] = {}
        for number in order:
            added[number] = scheduler.add(chosen[number](number))
            if rng.random() < 0.5:
                await anyio.sleep(rng.choice((0, 2, 20)))
            if number == crash:
                raise Crash
        for number, job in added.items():
            assert await job == number
        return True

    for _ in range(10):
        with contextlib.suppress(Crash, JournalError, RuntimeError):
            opened(virtual, file, body, keep_jobs=rng.random() < 0.5)


class Crash(Exception):
    """The body of an open scheduler ends as it does when the process is killed: with what was committed."""


def test_a_result_that_may_be_that_of_another_job_ends_the_run(
    virtual: Virtual, file: Path
) -> None:
    async def body(scheduler: Scheduler) -> list[Any]:
        jobs = [scheduler.add(Job(returns(number), label="same")) for number in numbers]
        await anyio.sleep(3)
        return [await job for job in jobs]

    numbers: tuple[int, ...] = (1,)
    assert opened(virtual, file, body) == [1]  # killed before the second one was added
    numbers = (2, 1)
    with pytest.raises(
        JournalError,
        match="several jobs have the name 'same'; one of them was restored",
    ):
        opened(virtual, file, body)
    assert opened(virtual, file, body) == [2, 1]


def test_a_retried_scheduler_stores_no_job_whose_name_it_uses_twice(
    virtual: Virtual, file: Path
) -> None:
    attempts: list[int] = []

    async def grow() -> None:
        scheduler = current_scheduler()
        attempts.append(1)
        if len(attempts) % 2:
            raise ValueError("the first attempt")
        found.extend(
            [
                await scheduler.add(Job(returns(number), label="grown"))
                for number in (1, 2)
            ]
        )

    async def body(scheduler: Scheduler) -> None:
        await scheduler.add(
            Scheduler(Job(grow, label="grow", critical=True), label="inner", retry=1)
        )

    found: list[int] = []
    for _ in range(2):
        opened(virtual, file, body)
    assert found == [1, 2, 1, 2]


def test_a_name_is_free_again_when_its_job_has_failed(
    virtual: Virtual, file: Path
) -> None:
    async def body(scheduler: Scheduler) -> bool:
        job: Job[Any] = scheduler.add(Job(fail, label="try", critical=False))
        await job.wait_settled()
        job = scheduler.add(Job(double, 1, label="try"))
        await job
        return job.restored

    assert [opened(virtual, file, body, keep_jobs=False) for _ in range(2)] == [
        False,
        True,
    ]


def test_jobs_that_a_retried_scheduler_adds_again_are_stored(
    virtual: Virtual, file: Path
) -> None:
    attempts: list[int] = []

    async def grow() -> None:
        scheduler = current_scheduler()
        await scheduler.add(Job(double, 1, label="grown"))
        attempts.append(1)
        if len(attempts) % 2:
            raise ValueError("the first attempt")

    async def body(scheduler: Scheduler) -> None:
        await scheduler.add(
            Scheduler(Job(grow, label="grow", critical=True), label="inner", retry=1)
        )

    opened(virtual, file, body)
    assert calls == [1, 1]
    opened(virtual, file, body)
    assert calls == [1]  # the first attempt has restored it
    assert found(file) == ["inner/grown"]


def test_the_journal_of_a_scheduler_is_used_unless_a_run_gets_another(
    virtual: Virtual, file: Path
) -> None:
    """`Scheduler(journal=)` is used by each of its runs; the argument of a run takes precedence, None included."""
    scheduler = Scheduler(
        Job(double, 1),
        Scheduler(Job(double, 2), label="in", journal=file.with_name("inner.db")),
    )
    jobs = [job for job in scheduler.iterate_jobs() if not isinstance(job, Scheduler)]
    scheduler.journal = file
    assert scheduler.journal == str(file)
    for argument, restored in (
        ({}, False),
        ({}, True),
        ({"journal": None}, False),
        ({"journal": f"{file}2"}, False),
    ):
        assert virtual(functools.partial(scheduler.co_run, **argument))
        assert {job.restored for job in jobs} == {restored}
    assert not file.with_name("inner.db").exists()
    with pytest.raises(
        TypeError, match="journal=5 of 'Scheduler': give a Journal, or the path of one"
    ):
        Scheduler(journal=5)  # type: ignore[arg-type]


def test_a_journal_that_cannot_be_used_is_raised_when_the_block_is_entered(
    virtual: Virtual, file: Path
) -> None:
    file.write_text("no journal")

    async def body(scheduler: Scheduler) -> None:
        raise AssertionError

    with pytest.raises(JournalError, match="this file is not a journal"):
        opened(virtual, file, body)


@pytest.mark.parametrize("has_own_journal", [True, False])
def test_a_job_that_adds_jobs_to_its_own_run_is_stored(
    virtual: Virtual, file: Path, has_own_journal: bool
) -> None:
    async def opens() -> int:
        async with Scheduler(
            journal=file.with_name("inner.db") if has_own_journal else None
        ) as inner:
            return await inner.add(Job(double, 1))

    for restored in (False, True):
        scheduler = Scheduler(job := Job(opens), journal=file)
        assert virtual(scheduler.co_run)
        assert (job.restored, job.result()) == (restored, 2)


def test_as_settled_yields_jobs_that_were_restored_before_it_was_called(
    virtual: Virtual, file: Path
) -> None:
    """With `keep_jobs=False`, jobs that `add` has restored are dropped, and still among those that have settled."""

    async def body(scheduler: Scheduler) -> list[tuple[int, bool]]:
        added = scheduler.map(double, [1, 2, 3])
        settled = [(job.result(), job.restored) async for job in scheduler.as_settled()]
        settled += [
            (job.result(), job.restored) async for job in scheduler.as_settled()
        ]  # they have been seen
        assert [await job for job in added] == [2, 4, 6]
        return settled

    for restored in (False, True):
        assert sorted(opened(virtual, file, body, keep_jobs=False)) == [
            (number, restored) for number in (2, 4, 6)
        ]


def test_as_settled_yields_no_jobs_that_an_earlier_run_has_restored(
    virtual: Virtual, file: Path
) -> None:
    async def adds() -> None:
        await anyio.sleep(1)
        scheduler.add(Job(double, 1))
        if len(seen) == 1:
            seen.append([])
            scheduler.cancel()
        else:
            seen.append([job.label async for job in scheduler.as_settled()])

    seen: list[list[str]] = []
    scheduler = Scheduler(Job(adds), keep_jobs=False)
    for journal in (file, file, None):
        virtual(functools.partial(scheduler.co_run, journal=journal))
    assert seen == [["double(1)"], [], ["double(1)"]]


def test_an_open_scheduler_that_drops_its_jobs_keeps_nothing_of_them(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[_session.JournalSession] = []
    opened_session = _session.JournalSession.__init__
    monkeypatch.setattr(
        _session.JournalSession,
        "__init__",
        lambda self, *args, **options: (
            sessions.append(self),
            opened_session(self, *args, **options),
        )[1],
    )

    def sizes() -> list[int]:
        (session,) = sessions
        facts = session.facts
        parts = [
            facts,
            facts.fingerprint_builder,
            facts.file_stamper,
            facts.notes,
            session,
            session.questions,
        ]
        parts.append(session._look_up)
        return [
            len(value)
            for part in parts
            for value in vars(part).values()
            if hasattr(value, "__len__")
        ]

    async def body(scheduler: Scheduler) -> list[list[int]]:
        seen: list[list[int]] = []
        for number in range(20):
            first = scheduler.add(Job(double, number, label=f"label {number}"))
            await first
            added = [
                scheduler.add(Job(total, first, number)),
                *scheduler.map(double, [number], label="mapped"),
                scheduler.add(Job(double, number, key=number, label="key")),
                scheduler.add(Scheduler(Job(double, number), label=f"inner {number}")),
            ]
            [await job for job in added]
            await anyio.sleep(1)
            if number in (9, 19):
                seen.append(sizes())
        return seen

    for _ in range(2):
        sessions.clear()
        before, after = opened(virtual, file, body, keep_jobs=False)
        assert before == after
    assert calls == []


async def tell(name: str) -> str:
    return name


@pytest.mark.parametrize("is_added", [False, True])
def test_a_label_with_a_slash_is_not_taken_for_a_job_in_a_group(
    virtual: Virtual, file: Path, is_added: bool
) -> None:
    """The job "a/b", and "b" in a group "a", keep their results apart, in whichever order they come."""

    async def run(order: tuple[int, int]) -> list[tuple[str, bool]]:
        made = (
            Job(tell, "outer", label="a/b", key=1),
            Job(tell, "inner", label="b", key=1),
        )
        members = made[0], Scheduler(made[1], label="a")
        async with Scheduler(*() if is_added else members, journal=file) as scheduler:
            scheduler.update(members[number] for number in order if is_added)
        return [(job.result(), job.restored) for job in made]

    assert virtual(run, (0, 1)) == [("outer", False), ("inner", False)]
    assert virtual(run, (1, 0)) == [("outer", True), ("inner", True)]


@pytest.mark.parametrize("old", [None, 3])
@pytest.mark.parametrize(
    ("steps", "fails"),
    [("add 1, add 2, wait 1", 1), ("add 1, add 2, wait 1, again 1", 0), ("add 1, add 2, wait 1, again 1", 1),
     ("add 1, wait 1, add 2, wait 2, again 1", 0), ("add 1, wait 1, add 2, wait 2, again 1", 1),
     ("add 1, wait 1, add 2, wait 2, again 1", 2)],
)  # fmt: skip
def test_a_name_of_several_jobs_stays_marked(
    virtual: Virtual, file: Path, steps: str, fails: int, old: Any
) -> None:
    """The first of two, which failed or was tried again, once left a record of its own in place of the mark."""
    left = [OSError("failed")] * fails

    async def work(number: int) -> int:
        await anyio.sleep(1)
        if number == 1 and left:
            raise left.pop()
        return number

    async def add(plan: str) -> None:
        jobs: dict[str, AbstractJob[Any]] = {}
        for action, name in map(str.split, plan.split(", ")):
            if action == "add":
                jobs[name] = current_scheduler().add(Job(work, int(name), label="same"))
            elif action == "again":
                jobs[name].try_again()
            await (anyio.sleep(0.1) if action == "add" else jobs[name].wait_settled())

    for plan in [f"add {old}, wait {old}"] * (old is not None) + [steps]:
        virtual(
            functools.partial(
                Scheduler(Job(add, plan, label="add", save=None)).co_run, journal=file
            )
        )
    with contextlib.closing(JournalStore(file, writes=False)) as store:
        (record,) = store.job_records()
        assert record.fingerprint.startswith(AMBIGUOUS_PREFIX)
