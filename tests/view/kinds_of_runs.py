"""Kinds of runs of which all views say the same."""

from collections.abc import Callable
from typing import Any
import anyio
from trioflow import First, Job, Pool, Retry, Scheduler, current_job
from ..bodies import fail, flaky, nap


async def fails_twice() -> None:
    await anyio.sleep(1)
    if current_job().attempts < 3:
        raise OSError("again")


def batch() -> Scheduler:
    """Return a run that grows and drops, as that of a batch."""

    async def feed() -> None:
        for number in range(30):
            scheduler.add(Job(nap, 1, label=f"line {number}"))
            await anyio.sleep(0.25)

    scheduler = Scheduler(
        Job(feed, label="feed"), keep_jobs=False, jobs_window=4, label="night"
    )
    return scheduler


def plain(**options: Any) -> Scheduler:
    jobs = [Job(nap, 0.3 + number / 8, label=f"job {number}") for number in range(12)]
    return Scheduler(jobs, label="night", jobs_window=3, **options)


def failures() -> Scheduler:
    bad = Job(fail, 1, label="bad")
    after = [Job(nap, 1, label=f"after {number}", required=bad) for number in range(3)]
    return Scheduler(
        bad,
        after,
        Job(fail, 2, label="optional", critical=False),
        Job(nap, 6),
        label="night",
    )


def groups() -> Scheduler:
    one = Scheduler(
        [Job(nap, 1, label=f"in {number}") for number in range(5)],
        jobs_window=2,
        label="one",
    )
    return Scheduler(
        one,
        Scheduler(Job(nap, 2), Job(fail, 3), label="two"),
        jobs_window=2,
        label="night",
    )


def more_required() -> Scheduler:
    """Return a run in which a job that waits gets another requirement."""

    async def grow() -> None:
        await anyio.sleep(3)
        last.requires(scheduler.add(Job(nap, 4, label="added")))

    first = Job(nap, 5, label="first")
    last = Job(nap, 2, label="last", required=first)
    scheduler = Scheduler(first, last, Job(grow, label="grow"), label="night")
    return scheduler


def tried_again() -> Scheduler:
    """Return a run with a group, whose jobs wait for its slot, and which is tried again."""

    async def try_again() -> None:
        await anyio.sleep(9)
        scheduler.try_again()

    jobs = [Job(nap, 2, label="a"), Job(nap, 2, label="b"), Job(flaky(1), label="c")]
    group = Scheduler(jobs, label="group", jobs_window=1)
    scheduler = Scheduler(group, Job(try_again, label="mend"), label="night")
    return scheduler


KINDS: dict[str, Callable[[], Scheduler]] = {
    "plain": plain,
    "failures": failures,
    "retry": lambda: Scheduler(
        [Job(fails_twice, label=f"f{n}", retry=2) for n in range(6)], label="night"
    ),
    "backoff": lambda: Scheduler(
        Job(fails_twice, retry=Retry(2, first=3, jitter=False)),
        Job(nap, 9),
        label="night",
    ),
    "groups": groups,
    "group tried again": tried_again,
    "requires more": more_required,
    "forever": lambda: Scheduler(
        Job(anyio.sleep_forever, forever=True), Job(nap, 5), label="night"
    ),
    "First": lambda: Scheduler(
        First(Job(nap, 4, label="a"), Job(nap, 2, label="b")),
        Job(nap, 3),
        label="night",
    ),
    "needs": lambda: Scheduler(
        [Job(nap, 1, label=f"n{n}", needs={"gpu": 1}) for n in range(7)],
        pool=Pool(gpu=2),
        label="night",
    ),
    "timeouts": lambda: Scheduler(
        Job(nap, 9, timeout=2, on_timeout="move_on"),
        Job(nap, 9, timeout=3, critical=False),
        label="night",
    ),
    "drops jobs": lambda: plain(keep_jobs=False),
    "batch": batch,
}
