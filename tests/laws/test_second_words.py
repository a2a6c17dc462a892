"""A second call for the same reason changes nothing of how a run ends: jobs that clean up are left to it.

What is cancelled as a job, such as a nested scheduler, is another matter: on asyncio each cause cancels it once more.
Each scenario runs with one call, and with more of them, at drawn times; what its jobs have lived is compared."""

import itertools
import random
import statistics
import sys
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from anyio.lowlevel import checkpoint
from trioflow import Job, Retry, Scheduler, Service
from ..bodies import nap, nothing
from ..conftest import Virtual

Story = list[tuple[str, str, float]]
FIRST = 2.0
"""When the first call comes."""


class Scene:
    """A run with a nested one, whose jobs note each cancellation, and whether their clean-up came to its end."""

    def __init__(self) -> None:
        self.story: Story = []
        self.inner = Scheduler(
            self.job(0), Service(self.body, 3, label="service"), label="inner"
        )
        clean_up = Job(nap, 4, required=self.inner, run_if="failed", label="clean-up")
        jobs = [
            self.job(1),
            self.job(2, retry=Retry(2)),
            self.inner,
            clean_up,
            Job(nap, 1),
            Job(nap, 99),
        ]
        self.scheduler = Scheduler(jobs, log=False, shutdown_timeout=None)

    def job(self, number: int, **options: Any) -> Job[None]:
        return Job(self.body, number, label=str(number), **options)

    def note(self, name: object, event: str) -> None:
        self.story.append((str(name), event, anyio.current_time() - self.began_at))

    async def body(self, number: int, task_status: Any = None) -> None:
        if task_status is not None:
            task_status.started()
        try:
            await anyio.sleep(50)
        except anyio.get_cancelled_exc_class():
            self.note(number, "cancelled")
            try:
                if number != 1:  # which trio cancels once more as soon as it awaits
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(4 + number)
                await anyio.sleep(4 + number)
                self.note(number, "clean")
            except anyio.get_cancelled_exc_class():
                self.note(number, "cancelled again")
                raise
            raise

    async def live(
        self, call: Callable[["Scene"], object], times: list[float]
    ) -> Story:
        """Run, and make the call at these times; return what the jobs have lived."""
        self.began_at = anyio.current_time()

        async def call_at(when: float) -> None:
            await anyio.sleep(when)
            call(self)

        async with anyio.create_task_group() as tasks:
            for when in times:
                tasks.start_soon(call_at, when)
            await self.scheduler.co_run()
            self.note("run", str(self.scheduler.stop_reason))
            tasks.cancel_scope.cancel()
        for job in self.scheduler.iterate_jobs():
            self.story.append(
                (job.label, job.state.value, (job.finished_at or 0.0) - self.began_at)
            )
        return sorted(self.story)


CALLS: dict[str, Callable[[Scene], object]] = {
    "cancel": lambda scene: scene.scheduler.cancel(),
    "drain": lambda scene: scene.scheduler.drain(),
    "drain_inner": lambda scene: scene.inner.drain(),
    "drain_and_cancel": lambda scene: (
        scene.scheduler.drain(),
        scene.scheduler.cancel(),
    ),
}


@pytest.mark.both_backends
@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_for_the_same_reason_changes_nothing(
    virtual: Virtual, name: str
) -> None:
    """Two parts of a program asked to stop, and on asyncio none of the jobs could finish its clean-up."""
    call = CALLS[name]
    once = virtual(Scene().live, call, [FIRST])
    draw = random.Random(name)
    for count in (1, 1, 2, 3):
        later = [FIRST + draw.choice([0, 0.5, 1, 4, 5.5, 8]) for _ in range(count)]
        assert virtual(Scene().live, call, [FIRST, *later]) == once, later


# --- what a word of steering has made, its opposite unmakes, in cost, too: calls of functions are counted, not time

Word = Callable[[Scheduler], None]
SETTINGS = 2_000
"""More than the record of a run keeps."""


def pause_and_resume(scheduler: Scheduler) -> None:
    scheduler.pause()
    scheduler.resume()


def shrink_and_grow(scheduler: Scheduler) -> None:
    size = scheduler.jobs_window
    assert isinstance(size, int)
    scheduler.jobs_window = 1
    scheduler.jobs_window = size


def set_often(scheduler: Scheduler) -> None:
    size = scheduler.jobs_window
    assert isinstance(size, int)
    for number in range(1, SETTINGS):
        scheduler.jobs_window = size + number % 2
    scheduler.jobs_window = size


class Calls:
    """A context manager that counts the calls of functions in this thread, of Python and of C."""

    def __enter__(self) -> "Calls":
        self.number = 0
        self._profile = sys.getprofile()
        sys.setprofile(self._on_call)
        return self

    def _on_call(self, _: object, event: str, __: object) -> None:
        self.number += event in ("call", "c_call")

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._profile)


def calls_of_a_run(
    backend: str, words: tuple[Word, ...], number: int, body: Any, **options: Any
) -> int:
    calls = Calls()

    async def steer() -> None:
        for word in words:
            word(scheduler)
        calls.__enter__()

    first = Job(steer)
    jobs = [Job(body, required=first) for _ in range(number)]
    for before, job in itertools.pairwise(jobs[number // 2 :]):
        job.requires(before)
    scheduler = Scheduler(first, jobs, **options)

    async def main() -> None:
        try:
            assert await scheduler.co_run()
        finally:
            calls.__exit__()

    anyio.run(main, backend=backend)
    return calls.number


@pytest.mark.sampled
@pytest.mark.parametrize("body", [nothing, checkpoint])
@pytest.mark.parametrize(
    ("words", "options"),
    [
        ((pause_and_resume,), {}),
        ((pause_and_resume,), {"jobs_window": 3}),
        ((shrink_and_grow,), {"jobs_window": 3}),
        ((set_often,), {"jobs_window": 3}),
        ((pause_and_resume, shrink_and_grow, pause_and_resume), {"jobs_window": 3}),
    ],
)
def test_after_a_word_and_its_opposite_a_job_costs_what_it_costs_in_a_fresh_run(
    backend: str, words: tuple[Word, ...], options: dict[str, Any], body: Any
) -> None:
    """After one pause, each job of a run without limits cost 2.3 times as much until the run ended."""

    def calls_per_job(words: tuple[Word, ...]) -> float:
        few, many = (
            calls_of_a_run(backend, words, number, body, **options)
            for number in (20, 120)
        )
        return (many - few) / 100

    assert calls_per_job(()) > 0  # the first run makes what is made at first use
    # The run gives way to the loop by the clock, which takes some calls.
    assert calls_per_job(words) <= 1.15 * calls_per_job(())


def test_a_window_that_was_set_often_is_set_at_the_cost_of_the_first_time(
    backend: str,
) -> None:
    found: list[int] = []

    async def steer() -> None:
        for number in range(SETTINGS):
            with Calls() as calls:
                scheduler.jobs_window = 3 + number % 2
            found.append(calls.number)

    scheduler = Scheduler(Job(steer), jobs_window=4)
    assert scheduler.run(backend=backend)
    # By the clock, some settings find that the run has to give way to the loop, which takes some calls more.
    assert statistics.mode(found[-100:]) == statistics.mode(found[1:101])


def test_a_smaller_window_costs_by_the_slots_that_are_too_many_and_not_by_the_jobs_that_wait(
    backend: str,
) -> None:
    """A window that shrank took all waiting jobs into other places and back: four times the calls of the run itself."""

    def calls_with(waiting: int) -> int:
        async def steer() -> None:
            scheduler.jobs_window = 4
            with calls:
                scheduler.jobs_window = 2

        calls = Calls()
        scheduler = Scheduler(
            Job(steer), [Job(nothing) for _ in range(waiting)], jobs_window=8
        )
        assert scheduler.run(backend=backend)
        return calls.number

    assert calls_with(50) == calls_with(500)
