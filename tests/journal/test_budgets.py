"""Budgets in runs with a journal: a run that was stopped goes on with the rest of its budget."""

import itertools
import random
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    Budget,
    BudgetSpent,
    First,
    Job,
    Pool,
    Retry,
    Scheduler,
    Sequence,
    current_job,
)
from ..bodies import later, nap
from ..conftest import Virtual


async def end(fails: bool) -> None:
    if fails and current_job().attempts == 1:
        raise OSError("broken")


async def pay(used: float, fails: int = 0) -> None:
    await nap(1)
    current_job().used(usd=used)
    if current_job().attempts <= fails:
        raise OSError("broken")


@pytest.mark.parametrize("how", ["retry", "group", "member", "twice"])
def test_a_job_that_its_group_runs_again_counts_what_it_has_used_each_time(
    virtual: Virtual, tmp_path: Path, how: str
) -> None:
    """By `retry` of the group, as a whole, or alone, once or twice: the next run has as much left as this one."""
    lefts: list[float] = []
    for number in range(2):
        paid = Job(pay, 0.75, needs={"usd": 1}, label="paid")
        ends = Job(end, how == "retry" and not number, label="ends", required=paid)
        group = Scheduler(paid, ends, label="group", retry=1)
        pool = Pool(usd=Budget(10))
        scheduler = Scheduler(group, pool=pool, log=False)
        words = (
            {"group": [group], "member": [paid], "twice": [paid, group]}.get(how, [])
            if not number
            else []
        )
        for position, job in enumerate(words, 1):
            scheduler.add(
                Job(
                    later,
                    9 * position,
                    job.try_again,
                    label=f"again {position}",
                    save=None,
                )
            )
        assert virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        lefts.append(pool.free["usd"])
        assert paid.restored == bool(number)
    assert lefts == [10 - 0.75 * (3 if how == "twice" else 2)] * 2


def test_a_restored_job_counts_what_it_had_used_in_all_its_attempts(
    virtual: Virtual, tmp_path: Path
) -> None:
    def make() -> tuple[list[Job[Any]], Pool, Scheduler]:
        jobs: list[Job[Any]] = [
            Job(pay, 0.5, needs={"usd": 1}, label="reported"),
            Job(nap, 1, needs={"usd": 1}, label="unreported"),
            Job(
                pay, 0.25, 1, needs={"usd": 1}, retry=Retry(1, first=0), label="retried"
            ),
        ]
        pool = Pool(usd=Budget(4))
        return jobs, pool, Scheduler(*jobs, pool=pool)

    lefts: list[float] = []
    for _ in range(2):
        jobs, pool, scheduler = make()
        more = scheduler.add(Job(pay, 0, needs={"usd": 3}, required=jobs))
        virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        lefts.append(pool.free["usd"])
        assert isinstance(more.raised_exception(), BudgetSpent)
    assert [job.restored for job in jobs] == [True] * 3
    assert lefts == [2, 2]


def test_a_restored_job_is_named_as_the_user_of_what_it_had_used(
    virtual: Virtual, tmp_path: Path
) -> None:
    texts: list[str] = []
    for _ in range(2):
        first = Job(pay, 3, needs={"usd": 1}, label="first")
        late = Job(pay, 1, needs={"usd": 2}, required=first, label="late")
        scheduler = Scheduler(first, late, pool=Pool(usd=Budget(4)))
        virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        texts.append(str(late.raised_exception()))
    assert first.restored
    assert texts == ["'late' needs usd=2, but 1 of 4 left; 'first' used most: 3"] * 2


async def spend(seconds: float) -> None:
    current_job().used(usd=2)
    await nap(seconds)


def make_first(kind: str, first_run: bool) -> tuple[Pool, Scheduler]:
    pool, inner, outermost = (
        Pool(usd=Budget(4)),
        Pool(usd=Budget(4)),
        Pool(other=Budget(4)),
    )
    needs = {} if kind == "no longer needed" and not first_run else {"usd": 1}
    job = Job(nap, 1, needs=needs, label="pays")
    match kind:
        case "of what a loser requires":
            loser = Job(nap, 9, job, label="loser")
            first, outermost = (
                First(loser, Job(nap, 2, label="wins"), label="first"),
                pool,
            )
        case "of a loser":
            loser = Job(spend, 9, label="loser", needs={"usd": 3})
            first, outermost = (
                First(loser, Job(nap, 2, label="wins"), label="first"),
                pool,
            )
        case "of a loser that fails twice":
            loser = Job(pay, 1, 9, label="loser", needs={"usd": 1}, retry=1)
            first, outermost = (
                First(
                    Scheduler(loser, label="inner"),
                    Job(nap, 2, label="wins"),
                    label="first",
                ),
                pool,
            )
        case "around":
            first, outermost = First(Scheduler(job, label="inner"), label="first"), pool
        case "of a First":
            first = First(Scheduler(job, label="inner"), pool=inner, label="first")
        case "in a First":
            first = First(Scheduler(job, pool=inner, label="inner"), label="first")
        case "in a First, and around":
            first, outermost = (
                First(Scheduler(job, pool=inner, label="inner"), label="first"),
                pool,
            )
        case _:
            first, outermost = (
                First(job, label="first"),
                pool if first_run else outermost,
            )
    return pool, Scheduler(first, pool=outermost)


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("around", 3), ("of what a loser requires", 3), ("of a loser", 2), ("of a loser that fails twice", 2),
        ("of a First", 4), ("in a First", 4), ("in a First, and around", 4), ("no longer needed", 4),
    ],
)  # fmt: skip
def test_restored_first_counts_what_its_jobs_had_used(
    kind: str, left: float, virtual: Virtual, tmp_path: Path
) -> None:
    """What its jobs had used of a pool in the `First`, or of one that they no longer need, counts nowhere."""
    for first_run in (True, False):
        pool, scheduler = make_first(kind, first_run)
        assert virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
    assert [job.restored for job in scheduler] == [True]
    assert pool.free["usd"] == left


def nested_first(draw: random.Random) -> First:
    """Return a random `First` of jobs, chains, groups and `First`s that use a budget. Some fail, some are not saved."""
    numbers = itertools.count()

    async def work(name: str, seconds: float, used: float | None, fails: bool) -> str:
        if used is not None:
            current_job().used(usd=used)
        if seconds:
            await nap(seconds)
        if fails:
            raise OSError(name)
        return name

    def options(depth: int) -> dict[str, Any]:
        return {
            "label": f"{next(numbers)}",
            "needs": draw.choice([{}, {"usd": 80 / 4**depth}]),
        }

    def job(**more: Any) -> Job[Any]:
        name = f"job{next(numbers)}"
        values = (
            draw.choice([0, 1, 1, 2, 4]),
            draw.choice([None, 0, 2]),
            draw.random() < 0.3,
        )
        needs = {"usd": draw.randint(1, 3)}
        more |= {"save": None} if draw.random() < 0.1 else {}
        return Job(
            work,
            name,
            values[0],
            values[1],
            values[2],
            label=name,
            key=name,
            needs=needs,
            **more,
        )

    def member(depth: int) -> Any:
        match draw.choice(
            ["job", "job", "retry", "chain", "group", "first", "first"][
                : 4 if depth == 2 else 7
            ]
        ):
            case "job":
                return job()
            case "retry":
                return job(retry=Retry(1, first=draw.choice([0, 1])))
            case "chain":
                return Sequence(job(), job(run_if="settled"))
            case "group":
                return Scheduler(
                    *[member(depth + 1) for _ in range(2)], **options(depth)
                )
            case _:
                return First(
                    *[member(depth + 1) for _ in range(draw.randint(1, 3))],
                    **options(depth),
                )

    return First(
        *[member(0) for _ in range(draw.randint(2, 3))],
        enough=draw.randint(1, 2),
        label="first",
    )


@pytest.mark.parametrize(
    "seeds", [range(2), pytest.param(range(2, 200), marks=pytest.mark.soak)]
)
def test_a_restored_first_uses_as_much_as_its_first_run(
    virtual: Virtual, tmp_path: Path, seeds: range
) -> None:
    """Each loser counts once, however `First`s are nested, and wherever an earlier run has stopped."""
    compared = 0
    for seed in seeds:
        for stop in (None, 0.5, 1.5, 2.5, 4.5):
            lefts: list[float] = []
            for timeout in (stop, None, None):
                pool, first = Pool(usd=Budget(1000)), nested_first(random.Random(seed))
                scheduler = Scheduler(
                    first,
                    pool=pool,
                    timeout=timeout,
                    jobs_window=1 + seed % 3,
                    log=False,
                )
                journal = tmp_path / f"{seed}-{stop}.db"
                virtual(
                    lambda scheduler=scheduler, journal=journal: scheduler.co_run(
                        journal=journal
                    )
                )
                lefts.append(pool.free["usd"])
            if first.restored:
                compared += 1
                assert lefts[1] == lefts[2], (seed, stop)
    assert compared


@pytest.mark.parametrize(
    ("critical", "rule"),
    [(None, {"run_if": "settled"}), (None, {"run_if": "failed"}), (False, {})],
    ids=["settled", "alarm", "after a tolerated job"],
)
def test_what_follows_a_job_that_its_budget_ends_in_a_backoff_starts(
    virtual: Virtual, tmp_path: Path, critical: bool | None, rule: dict[str, Any]
) -> None:
    """The end of the one that was blocked made it ready, when nobody looked for jobs any more: the run stood still."""
    spends = Job(
        pay,
        1,
        9,
        needs={"usd": 1},
        retry=Retry(2, first=1),
        critical=critical,
        label="spends",
    )
    follows = Job(nap, 1, required=spends, label="follows", **rule)
    virtual(
        lambda: Scheduler(
            spends, follows, pool=Pool(usd=Budget(1)), journal=tmp_path / "run.db"
        ).co_run()
    )
    assert isinstance(spends.raised_exception(), BudgetSpent)
    assert follows.is_succeeded()
