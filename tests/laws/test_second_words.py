"""A second call for the same reason changes nothing of how a run ends: jobs that clean up are left to it.

What is cancelled as a job, such as a nested scheduler, is another matter: on asyncio each cause cancels it once more.
Each scenario runs with one call, and with more of them, at drawn times; what its jobs have lived is compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trioflow import Job, Retry, Scheduler, Service
from ..bodies import nap
from ..conftest import Virtual

Story = list[tuple[str, str, float]]
FIRST = 2.0
"""When the first call comes."""


class Scene:
    """A run with a nested one, whose jobs note each cancellation, and whether their clean-up came to its end."""

    def __init__(self) -> None:
        self.story: Story = []
        self.inner = Scheduler(self.job(0), Service(self.body, 3, label="service"), label="inner")
        clean_up = Job(nap, 4, required=self.inner, run_if="failed", label="clean-up")
        jobs = [self.job(1), self.job(2, retry=Retry(2)), self.inner, clean_up, Job(nap, 1), Job(nap, 99)]
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

    async def live(self, call: Callable[[Scene], None], times: list[float]) -> Story:
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
            self.story.append((job.label, job.state.value, (job.finished_at or 0.0) - self.began_at))
        return sorted(self.story)


def cancel(scene: Scene) -> None:
    scene.scheduler.cancel()


def drain_inner(scene: Scene) -> None:
    scene.inner.drain()


def drain(scene: Scene) -> None:
    scene.scheduler.drain()


def drain_and_cancel(scene: Scene) -> None:
    scene.scheduler.drain()
    scene.scheduler.cancel()


@pytest.mark.both_backends
@pytest.mark.parametrize("call", [cancel, drain, drain_inner, drain_and_cancel])
def test_a_second_call_for_the_same_reason_changes_nothing(virtual: Virtual, call: Callable[[Scene], None]) -> None:
    """Two parts of a program asked to stop, and on asyncio none of the jobs could finish its clean-up."""
    once = virtual(Scene().live, call, [FIRST])
    draw = random.Random(call.__name__)
    for count in (1, 1, 2, 3):
        later = [FIRST + draw.choice([0, 0.5, 1, 4, 5.5, 8]) for _ in range(count)]
        assert virtual(Scene().live, call, [FIRST, *later]) == once, later
