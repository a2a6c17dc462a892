"""The order in which jobs start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from trioflow import Job, Pool, Scheduler
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


def labelled(names: str, **options: Any) -> Iterator[Job[Any]]:
    return (Job(nap, 1, label=name, **options) for name in names)


def order_of(virtual: Virtual, make: Callable[[], Scheduler]) -> str:
    async def main() -> str:
        watch = Watch()
        await make().co_run(instruments=[watch], timeout=99)
        return "".join(watch.order)

    run: Callable[[], Awaitable[str]] = main
    return virtual(run)


@pytest.mark.parametrize("total", [None, 99])
@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_jobs_start_in_the_order_added(virtual: Virtual, window: int | None, total: int | None) -> None:
    """Jobs that are ready together start in the order added, forever jobs too, even under a full window."""

    def make() -> Scheduler:
        needs = None if total is None else {"cpu": 1}
        ordinary = list(labelled("abcdefghij", needs=needs))
        forever = list(labelled("ABCDEFGHIJ", forever=True, needs=needs))
        pool = None if total is None else Pool(cpu=total)
        return Scheduler(list(zip(ordinary, forever, strict=True)), jobs_window=window, pool=pool)

    order = order_of(virtual, make)
    assert [name for name in order if name.islower()] == list("abcdefghij")
    assert [name for name in order if name.isupper()] == list("ABCDEFGHIJ")
    if window is None:
        assert order == "aAbBcCdDeEfFgGhHiIjJ"


@pytest.mark.parametrize("priority", [0, 1])
def test_a_job_with_own_task_keeps_its_place_in_the_order(virtual: Virtual, priority: int) -> None:
    """A job with `own_task` starts in its turn, with and without priorities."""

    def make() -> Scheduler:
        first = labelled("ab", priority=priority)
        return Scheduler([*first, *labelled("c", own_task=True), *labelled("def")], jobs_window=2)

    assert order_of(virtual, make) == "abcdef"
