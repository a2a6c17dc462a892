"""Small graphs, run again and again in a loop that has other things to do: what they cost beyond their jobs."""

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable
import anyio
import pytest
from trioflow import CycleError, Job, Scheduler, Sequence
from trioflow._core.run._worker import MAX_SEARCHERS
from trioflow.testing import VirtualTimeEventLoop
from ..bodies import nothing
from ..conftest import Virtual

pytestmark = (
    pytest.mark.fast_way
)  # each job has a task of its own with direct isolation

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "diamond of 5": [(), (0,), (0,), (1, 2), (3,)],
    "4 layers of 5": [
        tuple(range(i // 5 * 5 - 5, i // 5 * 5)) if i >= 5 else () for i in range(20)
    ],
    "20 wide": [()] * 20,
}


async def checkpoint() -> None:
    await anyio.lowlevel.checkpoint()


async def nap() -> None:
    await anyio.sleep(0.002)


def by_scheduler(
    requirements: list[tuple[int, ...]], body: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable]:
    jobs: list[Job[None]] = []
    for required in requirements:
        jobs.append(Job(body, required=[jobs[number] for number in required]))
    return Scheduler(jobs).co_run


def by_hand(
    requirements: list[tuple[int, ...]], body: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable]:
    """Make a task for each job, which waits for the events of those that it requires."""

    async def run() -> None:
        ended = [anyio.Event() for _ in requirements]

        async def run_one(number: int) -> None:
            for required in requirements[number]:
                await ended[required].wait()
            await body()
            ended[number].set()

        async with anyio.create_task_group() as tasks:
            for number in range(len(requirements)):
                tasks.start_soon(run_one, number)

    return run


class CountingLoop(VirtualTimeEventLoop):
    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()


def turns_of(run: Callable[[], Awaitable]) -> int:
    """Return how many turns of the loop a run takes after a first one, on virtual time: naps end at the same moment."""

    async def main() -> int:
        await run()
        before = loop.turns
        await run()
        return loop.turns - before

    loop = CountingLoop()
    loop.set_task_factory(None)  # for tasks that one makes, nothing is counted along
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("body", [nothing, checkpoint, nap])
def test_a_small_graph_takes_few_more_turns_than_by_hand(
    body: Callable[[], Awaitable[None]], shape: str
) -> None:
    """A small graph takes as many turns as tasks made by hand, and one for each `MAX_SEARCHERS` jobs that wait at once.
    On asyncio alone: trio resumes tasks in any order, so the number of its turns is random."""
    requirements = SHAPES[shape]
    ours, theirs = (
        turns_of(way(requirements, body)) for way in (by_scheduler, by_hand)
    )
    at_once = len(requirements) if shape == "20 wide" and body is not nothing else 0
    assert ours <= theirs + at_once // MAX_SEARCHERS


def test_changes_of_a_graph_since_the_last_run_are_checked(virtual: Virtual) -> None:
    """A new run notices that a job was made forever, was given needs, or was given another requirement."""
    first = Job(nothing, label="first")
    scheduler = Scheduler(first, last := Job(nothing, label="last", required=first))
    virtual(scheduler.co_run)
    first.forever = True
    with pytest.raises(ValueError, match="'first', which is a forever job"):
        virtual(scheduler.co_run)
    first.forever, last.needs = False, {"cpu": 1}
    with pytest.raises(ValueError, match="which no enclosing pool has"):
        virtual(scheduler.co_run)
    last.needs = None
    virtual(scheduler.co_run)
    first.requires(last)
    with pytest.raises(CycleError):
        virtual(scheduler.co_run)


ASIDE = (
    "_core.words.", "_core.job._labels", "_core.job._option_descriptors", "_core.run._instruments",
    "_core.admission._policies", "_core.admission._admission", "_core.scheduler._checks",
    "_core.scheduler._members.topological_order",
)  # fmt: skip
"""What words, orders, looks up or watches."""


def test_a_run_that_completes_calls_nothing_that_words_or_orders(
    virtual: Virtual,
) -> None:
    """A run that nobody watches and in which nothing fails calls no code that words, orders, looks up or watches."""
    scheduler, called = Scheduler(Sequence(Job(nothing), Job(nothing))), set[str]()

    def record(frame: types.FrameType, event: str, argument: object) -> None:
        name = f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_qualname}".removeprefix(
            "trioflow."
        )
        if event == "call" and name.startswith(ASIDE):
            called.add(name)

    async def main() -> None:
        await scheduler.co_run()  # the first run checks the graph
        previous = sys.getprofile()
        sys.setprofile(record)
        try:
            await scheduler.co_run()
        finally:
            sys.setprofile(previous)

    virtual(main)
    assert called == {
        "_core.scheduler._checks.check_may_run"
    }  # it may have been closed since the first run
