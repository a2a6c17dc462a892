"""When jobs start: their order, and the intervals between starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, Scheduler, Service
from trioflow.abc import AbstractJob, Instrument

from ..bodies import CANCELLED, SUCCEEDED, later, nap, naps, starts, timed

if TYPE_CHECKING:
    from ..conftest import Virtual


class Watch(Instrument):
    """The order of starts."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.order.append(job.label)


# --- the order of starts


def labelled(names: str, seconds: float = 1, **options: Any) -> Iterator[Job[Any]]:
    return (Job(nap, seconds, label=name, **options) for name in names)


def order_of(virtual: Virtual, make: Callable[[], Scheduler]) -> str:
    async def main() -> str:
        watch = Watch()
        await make().co_run(instruments=[watch], timeout=99)
        return "".join(watch.order)

    run: Callable[[], Awaitable[str]] = main
    return virtual(run)


@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_jobs_start_in_the_order_added(virtual: Virtual, window: int | None) -> None:
    """Of those that are ready together the first added starts first; forever jobs too, also with a full window."""

    def make() -> Scheduler:
        ordinary = list(labelled("abcdefghij"))
        forever = list(labelled("ABCDEFGHIJ", forever=True))
        return Scheduler(list(zip(ordinary, forever, strict=True)), jobs_window=window)

    order = order_of(virtual, make)
    assert [name for name in order if name.islower()] == list("abcdefghij")
    assert [name for name in order if name.isupper()] == list("ABCDEFGHIJ")
    if window is None:
        assert order == "aAbBcCdDeEfFgGhHiIjJ"


def test_jobs_start_in_the_order_in_which_they_became_ready(virtual: Virtual) -> None:
    """The job that became ready first starts first, in whatever order they were added."""

    def make() -> Scheduler:
        two, one, more = Job(nap, 2, label="2"), Job(nap, 1, label="1"), Job(nap, 5, label="5")
        late = [Job(nap, label=name, required=two) for name in "ab"]
        early = [Job(nap, label=name, required=one) for name in "cd"]
        return Scheduler(two, one, more, late, early, jobs_window=3)

    assert order_of(virtual, make) == "215cdab"


def test_ties_go_in_the_order_added_whenever_the_requirement_came(virtual: Virtual) -> None:
    """A requirement that is added during the run changes nothing: ready together, they start in the order added."""

    def make() -> Scheduler:
        gate, other = Job(nap, 2, label="2"), Job(nap, 1, label="1")
        first = Job(nap, label="a", required=other)
        second = Job(nap, label="b", required=gate)

        async def join() -> None:
            first.requires(gate)

        return Scheduler(gate, other, Job(join, label="j"), first, second)

    assert order_of(virtual, make) == "21jab"


def test_jobs_that_join_a_run_keep_the_order_added(virtual: Virtual) -> None:
    """Jobs that are added while it runs start in that order, behind those that were ready before."""

    def make() -> Scheduler:
        scheduler = Scheduler(jobs_window=1)

        async def join() -> None:
            scheduler.update(labelled("xyz"))
            scheduler.add(next(labelled("!")))

        scheduler.update([Job(join, label="j"), *labelled("ab")])
        return scheduler

    assert order_of(virtual, make) == "jabxyz!"


@pytest.mark.parametrize("priority", [0, 1])
def test_own_task_keeps_its_place_in_the_order(virtual: Virtual, priority: int) -> None:
    """A job with a task of its own starts in its turn, also where priorities decide."""

    def make() -> Scheduler:
        first = labelled("ab", priority=priority)
        return Scheduler([*first, *labelled("c", own_task=True), *labelled("def")], jobs_window=2)

    assert order_of(virtual, make) == "abcdef"


def test_limiter_keeps_the_order(virtual: Virtual) -> None:
    """With a limiter jobs start in the same order."""
    assert order_of(virtual, lambda: Scheduler(labelled("abcdef"), jobs_window=anyio.CapacityLimiter(2))) == "abcdef"


# --- intervals between starts


INTERVALS: dict[str, tuple[Callable[[], Scheduler], list[float]]] = {
    "alone": (lambda: Scheduler(naps(4, 5), start_interval=2), [0, 2, 4, 6]),
    "window, jobs are shorter": (lambda: Scheduler(naps(4, 1), start_interval=2, jobs_window=1), [0, 2, 4, 6]),
    "window, jobs are longer": (lambda: Scheduler(naps(4, 5), start_interval=2, jobs_window=2), [0, 2, 5, 7]),
    "limiter": (
        lambda: Scheduler(naps(4, 5), start_interval=2, jobs_window=anyio.CapacityLimiter(2)),
        [0, 2, 5, 7],
    ),
    "own task": (lambda: Scheduler(naps(3, 0, own_task=True), start_interval=2), [0, 2, 4]),
    "mixed with own task": (lambda: Scheduler(naps(1, 1), naps(2, 0, own_task=True), start_interval=2), [0, 2, 4]),
    "own task in the same worker": (
        lambda: Scheduler(naps(1, 3), naps(2, 3, own_task=True), start_interval=2, jobs_window=1),
        [0, 3, 6],
    ),
    "forever": (
        lambda: Scheduler(naps(2, 99, forever=True), naps(2), naps(1, 99, forever=True), start_interval=2),
        [0, 2, 4, 6],
    ),
    "forever beside a full window": (
        lambda: Scheduler(naps(1, 5), naps(1, 99, forever=True), naps(1, 5), start_interval=2, jobs_window=1),
        [0, 2, 5],
    ),
    "nested": (lambda: Scheduler(Scheduler(naps(3, 5)), naps(2, 5), start_interval=2), [0, 2, 4]),
}


@pytest.mark.parametrize("case", INTERVALS)
def test_start_interval(virtual: Virtual, case: str) -> None:
    """Two starts are start_interval seconds apart, and no more if a job and a slot are available."""
    make, expected = INTERVALS[case]

    async def main() -> list[float | None]:
        scheduler = make()
        await scheduler.co_run(timeout=99)
        return [one for one in starts(scheduler) if one is not None]

    assert virtual(main) == expected


def test_start_interval_counts_from_the_last_start(virtual: Virtual) -> None:
    """A job that becomes ready when the interval has long passed starts at once."""
    first = Job(nap, 5)
    scheduler = Scheduler(first, [Job(nap, 1, required=first) for _ in range(2)], start_interval=2)
    assert virtual(timed, scheduler) == (True, 8)
    assert starts(scheduler) == [0, 5, 7]


def test_a_lent_token_is_not_kept_during_an_interval(virtual: Virtual) -> None:
    """A service, which needs no token, was the last to start. Until the interval was over, the token lay idle."""

    async def serve(task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def main() -> tuple[float | None, list[float | None]]:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(Service(serve), naps(2, 1), jobs_window=limiter, start_interval=5)
        other = Job(nap, 1)
        await Scheduler(inner, other, jobs_window=limiter).co_run()
        assert limiter.borrowed_tokens == 0
        return other.started_at, starts(inner)

    for _ in range(5):  # trio's workers look in any order
        assert virtual(main) == (0, [0, 5, 10])


def test_job_cancelled_before_its_start_uses_up_no_interval(virtual: Virtual) -> None:
    """Intervals are between starts: a job that never starts does not put off the next."""
    jobs = naps(3, 9)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 1, jobs[1].cancel)
            await Scheduler(jobs, start_interval=2).co_run()

    virtual(main)
    assert [job.started_at for job in jobs] == [0, None, 2]


def test_stop_ends_the_waiting_for_the_interval(virtual: Virtual) -> None:
    """A run that is stopped between two starts is over at once."""
    scheduler = Scheduler(naps(3, 9), start_interval=50, timeout=10)
    assert virtual(timed, scheduler) == (False, 10)
    assert [job.state for job in scheduler] == [SUCCEEDED, CANCELLED, CANCELLED]
