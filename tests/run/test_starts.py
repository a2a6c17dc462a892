"""The order in which jobs start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, Scheduler
from trioflow.abc import AbstractJob, Instrument

from ..bodies import nap

if TYPE_CHECKING:
    from ..conftest import Virtual


class Watch(Instrument):
    """An instrument that records the order of starts."""

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
    """Jobs that are ready together start in the order added, forever jobs too, even under a full window."""

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
    """Jobs start in the order in which they became ready, whatever the order in which they were added."""

    def make() -> Scheduler:
        two, one, more = Job(nap, 2, label="2"), Job(nap, 1, label="1"), Job(nap, 5, label="5")
        late = [Job(nap, label=name, required=two) for name in "ab"]
        early = [Job(nap, label=name, required=one) for name in "cd"]
        return Scheduler(two, one, more, late, early, jobs_window=3)

    assert order_of(virtual, make) == "215cdab"


def test_jobs_that_join_a_run_keep_the_order_added(virtual: Virtual) -> None:
    """Jobs added during the run start in the order added, behind those that were ready before."""

    def make() -> Scheduler:
        scheduler = Scheduler(jobs_window=1)

        async def join() -> None:
            scheduler.update(labelled("xyz"))
            scheduler.add(next(labelled("!")))

        scheduler.update([Job(join, label="j"), *labelled("ab")])
        return scheduler

    assert order_of(virtual, make) == "jabxyz!"


@pytest.mark.parametrize("priority", [0, 1])
def test_a_job_with_own_task_keeps_its_place_in_the_order(virtual: Virtual, priority: int) -> None:
    """A job with `own_task` starts in its turn, with and without priorities."""

    def make() -> Scheduler:
        first = labelled("ab", priority=priority)
        return Scheduler([*first, *labelled("c", own_task=True), *labelled("def")], jobs_window=2)

    assert order_of(virtual, make) == "abcdef"


def test_jobs_start_in_the_order_added_under_a_limiter(virtual: Virtual) -> None:
    """With a limiter as the window, jobs still start in the order added."""
    assert order_of(virtual, lambda: Scheduler(labelled("abcdef"), jobs_window=anyio.CapacityLimiter(2))) == "abcdef"
