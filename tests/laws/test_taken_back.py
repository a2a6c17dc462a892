"""What is taken back is gone at once, and what runs again is what a journal would run if the same job had run since."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import First, Job, Pool, Scheduler, Service, current_job
from trioflow.abc import enclosing_schedulers
from ..bodies import fail_now, serve
from ..conftest import Virtual

pytestmark = pytest.mark.both_backends

# --- The same jobs run again in the run in progress and in the next run: a law over random trees
CALLS = list[str]()
GENERATION = ["first"]
"""A part of the results, so that no job returns the same as before."""


async def work(name: str, seconds: float, *values: Any) -> list[Any]:
    CALLS.append(name)
    await anyio.sleep(seconds)
    # Without a record, it runs in each run, and must not change what uses it.
    return [name, *(GENERATION if current_job().save else ()), *values]


class Tree:
    """Jobs in groups, which use each other across the groups, with one of them `changed` in the next run."""

    def __init__(self, seed: int, changed: str | None = None) -> None:
        self.random, self.changed = Random(f"followers {seed}"), changed
        self.scheduler = Scheduler(label="root", log=False)
        self.jobs: list[Any] = []
        self.homes: list[Any] = [self.scheduler]
        for number in range(self.random.randint(1, 4)):
            home, label = self.random.choice(self.homes), f"g{number}"
            # Without a job, it would last as long as its services.
            jobs = [
                self.job(f"{label}.{way}") for way in range(self.random.randint(1, 2))
            ]
            self.jobs += jobs
            self.homes.append(
                home.add(
                    self.random.choice((First, Scheduler, Scheduler, Scheduler))(
                        *jobs, label=label
                    )
                )
            )
        for number in range(self.random.randint(4, 14)):
            self.add(f"j{number}", self.random.choice(self.homes))
        for group in self.homes[1:]:
            if self.random.random() < 0.25:
                self.require(group)

    def add(self, name: str, home: Any) -> None:
        if self.random.random() < 0.05 and not isinstance(home, First):
            job: Any = Service(serve, 0, label=name)
        else:
            around = {home, *enclosing_schedulers(home)}
            # A `First` that is restored as a whole does not reach its jobs.
            usable = [
                each
                for each in self.jobs
                if not each.forever and firsts_around(each) <= around
            ]
            inputs = [
                each for each in usable if self.random.random() < 0.8 / len(self.jobs)
            ]
            save = (
                None
                if self.random.random() < 0.05 and not isinstance(home, First)
                else "default"
            )
            job = self.job(name, *inputs, save=save)
        home.add(job)
        self.jobs.append(job)
        self.require(job)

    def job(self, name: str, *inputs: Any, save: Any = "default") -> Any:
        run_if = self.random.choice(["succeeded"] * 17 + ["settled", "failed"])
        seconds, version = self.random.uniform(1, 8), 2 if name == self.changed else 1
        return Job(
            work,
            name,
            seconds,
            *inputs,
            label=name,
            run_if=run_if,
            save=save,
            version=version,
        )

    def require(self, job: Any) -> None:
        beside = [
            each
            for each in job.scheduler
            if each is not job and each not in job.required
        ]
        beside = [
            each for each in beside if not each.forever or isinstance(each, Service)
        ]
        for each in self.random.sample(
            beside, min(len(beside), self.random.choice((0, 0, 1, 2)))
        ):
            job.requires(
                each,
                settled=self.random.random() < 0.2,
                order_only=self.random.random() < 0.2,
            )

    def named(self, name: str) -> Any:
        return next(
            each for each in self.scheduler.iterate_jobs() if each.label == name
        )


def firsts_around(job: Any) -> set[Any]:
    return {level for level in enclosing_schedulers(job) if isinstance(level, First)}


def take_back(seed: int, virtual: Virtual, journal: Path) -> str:
    """Take a success back in a run, and change the same job between two others. Compare what has run again."""
    GENERATION[:] = ["first"]
    tree, told, random = Tree(seed), list[str](), Random(seed)
    if not tree.scheduler.is_runnable():
        return "cannot run"

    async def mend() -> None:
        await anyio.sleep(1000)
        done = [
            job
            for job in tree.jobs
            if job.is_succeeded() and job.save == "default" and not job.forever
        ]
        if not done:
            return
        chosen = random.choice(done)
        GENERATION[:] = ["second"]
        told.append(chosen.label)
        CALLS.clear()
        # Of a `First`, a journal knows only the winners.
        succeeded.update(job.label for job in done if not firsts_around(job))
        try:
            chosen.try_again()
        except RuntimeError as error:
            told.append(str(error))

    succeeded = set[str]()
    tree.scheduler.add(Job(mend, label="mend", save=None))
    virtual(lambda: tree.scheduler.co_run(journal=journal / "live"))
    live = Counter(CALLS)
    if len(told) != 1:
        assert all("is running" in error for error in told[1:])
        return "refused" if told else "nothing"
    (name,) = told
    assert max(live.values(), default=1) == 1, (seed, name, live)
    for generation in ("first", "second"):
        CALLS.clear()
        GENERATION[:] = [generation]
        changed = Tree(seed, name if generation == "second" else None).scheduler
        virtual(partial(changed.co_run, journal=journal / "next"))
    assert {*live} & succeeded == {*CALLS} & succeeded, (seed, name)
    # What has run again is stored.
    CALLS.clear()
    virtual(lambda: Tree(seed).scheduler.co_run(journal=journal / "live"))
    assert {*CALLS} & succeeded == set(), (seed, name)
    return "compared"


# --- A kill at any moment after the word: the next run restores nothing that was rejected
def rejected_parts(value: Any, gone: set[str]) -> list[str]:
    """Return the jobs whose rejected results are in a result, at any depth."""
    if type(value) is not list:
        return []
    found = [name for part in value for name in rejected_parts(part, gone)]
    if value[1:2] == ["first"] and value[0] in gone:
        found.append(value[0])
    return found


def kill_after_a_word(seed: int, virtual: Virtual, folder: Path) -> str:
    """Take successes back in a run with a journal, and copy the journal in the same step or later, as a kill leaves it.
    Run again with the copy."""
    GENERATION[:] = ["first"]
    tree, random, gone = Tree(seed), Random(f"kill {seed}"), set[str]()
    if not tree.scheduler.is_runnable():
        return "cannot run"

    async def mend() -> None:
        await anyio.sleep(1000)
        GENERATION[:] = ["second"]
        for _ in range(random.choice((1, 1, 2))):
            done = [
                job
                for job in tree.jobs
                if job.is_succeeded() and job.save == "default" and not job.forever
            ]
            if not done:
                break
            with contextlib.suppress(RuntimeError):
                random.choice(done).try_again()
            gone.update(job.label for job in done if not job.is_settled())
        for _ in range(random.choice((0, 0, 1, 2, 9))):
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(random.choice((0, 0, random.uniform(0, 20))))
        shutil.copytree(folder / "live", folder / "killed")

    (folder / "live").mkdir()
    tree.scheduler.add(Job(mend, label="mend", save=None))
    virtual(lambda: tree.scheduler.co_run(journal=folder / "live" / "j"))
    if not gone:
        return "nothing taken back"
    GENERATION[:] = ["third"]
    following = Tree(seed)
    virtual(lambda: following.scheduler.co_run(journal=folder / "killed" / "j"))
    for job in following.jobs:
        if job.restored:
            assert rejected_parts(job.result(), gone) == [], (seed, job.label)
    return "killed"


def hold(
    law: Callable[[int, Virtual, Path], str],
    count: int,
    virtual: Virtual,
    tmp_path: Path,
) -> Counter[str]:
    """Ask a law of this many random trees. Return how often each end has come."""
    ends = Counter[str]()
    for seed in range(count):
        folder = tmp_path / str(seed)
        folder.mkdir()
        ends[law(seed, virtual, folder)] += 1
        shutil.rmtree(folder)
    return ends


@pytest.mark.parametrize("count", [8, pytest.param(1200, marks=pytest.mark.soak)])
def test_what_runs_again_is_what_a_journal_would_run(
    virtual: Virtual, tmp_path: Path, count: int
) -> None:
    ends = hold(take_back, count, virtual, tmp_path)
    assert ends["compared"] > count / 5, ends


@pytest.mark.parametrize("count", [8, pytest.param(1200, marks=pytest.mark.soak)])
def test_a_kill_after_a_word_leaves_no_rejected_result(
    virtual: Virtual, tmp_path: Path, count: int
) -> None:
    ends = hold(kill_after_a_word, count, virtual, tmp_path)
    assert ends["killed"] >= count / 4, ends


# --- What a word takes back is gone in its step, wherever it is, however it waits, and however the run ends
PLACES = {
    "top": lambda job, use: [job, use],
    "group": lambda job, use: [Scheduler(job, label="group"), use],
    "both in a group": lambda job, use: [Scheduler(job, use, label="group")],
    "group in a group": lambda job, use: [
        Scheduler(Scheduler(job, label="inner"), label="group"),
        use,
    ],
    "a group as a whole": lambda job, use: [Scheduler(job, label="group"), use],
    "first": lambda job, use: [First(job, label="group"), use],
    "follower in a group": lambda job, use: [
        job,
        Scheduler(use, Job(idle, label="beside"), label="group"),
    ],
    "groups that fail": lambda job, use: [
        Scheduler(job, use, Job(fail_now, OSError(), label="fails"), label="group")
    ],
}


async def idle() -> None:
    CALLS.append("beside")


async def count() -> str:
    CALLS.append("count")
    return "wrong" if CALLS.count("count") == 1 else "right"


async def use_it(value: str) -> str:
    CALLS.append(f"use {value}")
    return value


def counted_and_used() -> tuple[Any, Any]:
    job = Job(count, label="count", key=1)
    return job, Job(use_it, job, label="use", key=2)


@pytest.mark.sampled
@pytest.mark.parametrize("end", ["kill", "cancel", "drain", "timeout"])
@pytest.mark.parametrize("waits", ["slot", "pause", "need"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_taken_back_is_gone_at_once(
    virtual: Virtual, tmp_path: Path, place: str, waits: str, end: str
) -> None:
    CALLS.clear()
    job, use = counted_and_used()
    members = PLACES[place](job, use)
    options: dict[str, Any] = {
        "need": {"pool": Pool(one=1)},
        "slot": {"jobs_window": 2},
    }.get(waits, {})
    scheduler = Scheduler(*members, **options, timeout=50, label="root")
    if waits == "need":
        job.needs = {"one": 1}
    hour = Job(
        anyio.sleep,
        3600,
        label="hour",
        save=None,
        needs={"one": 1} if waits == "need" else {},
    )
    said: list[str] = []

    async def person() -> None:
        await anyio.sleep(5)
        scheduler.add(hour)
        await anyio.sleep(5)
        if waits == "pause":
            scheduler.pause()
        (job.scheduler if place == "a group as a whole" else job).try_again()
        gone = [job, use, *([] if job.scheduler is scheduler else [job.scheduler])]
        assert [each.label for each in gone if each.is_settled()] == []
        assert [each.result(default=None) for each in (job, use)] == [None, None]
        assert not {job, use} & scheduler.results().keys()
        assert "succeeded" not in scheduler.explain(job)
        shutil.copytree(tmp_path / "now", tmp_path / "killed")
        said.append("taken back")
        if end in ("drain", "cancel"):
            getattr(scheduler, end)()
            hour.cancel()
        else:
            await anyio.sleep_forever()

    (tmp_path / "now").mkdir()
    scheduler.add(Job(person, label="person", save=None, priority=1))
    virtual(lambda: scheduler.co_run(journal=tmp_path / "now" / "j"))
    assert said
    assert not {job, use} & scheduler.results().keys()
    job, use = counted_and_used()
    CALLS[:] = ["count"]
    folder = tmp_path / ("killed" if end == "kill" else "now")
    virtual(
        lambda: Scheduler(*PLACES[place](job, use), label="root").co_run(
            journal=folder / "j"
        )
    )
    assert [call for call in CALLS if call != "beside"] == [
        "count",
        "count",
        "use right",
    ]
