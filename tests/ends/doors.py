"""What is done to a run from outside: each door tries again what has ended; the run is paused, drained, cancelled."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any
import anyio
from trioflow import JobNotDone, JobState, Scheduler
from trioflow._core.words._job_queries import attempt_mark
from trioflow._core.words._run_view import runs_in_progress
from trioflow.abc import is_scheduler
from trioflow.view.look import _steering
from .worlds import STEP, World

ENDED_BADLY = (JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED)
UPSTREAM = 0.3
"""How often a job is tried again, or a group, that may have ended well."""
MOST_WAITS = 200
"""How often a run gets seconds to end by itself: with one slot, groups that are tried again take long."""
REFUSALS = (RuntimeError, ValueError)
"""What a door raises if it cannot do what was asked."""


class Doors:
    """The doors of one run.

    Args:
        world: the run.
        seed: decides what is done, and when.

    """

    def __init__(self, world: World, seed: str) -> None:
        self._world, self._random = world, Random(f"doors {seed}")
        doors: dict[str, tuple[int, Callable[[Any], Any]]] = {
            "job": (4, self._job), "scheduler": (2, self._scheduler), "group": (2, self._group),
            "look": (2, self._look), "thread": (1, self._thread), "cancel": (2, self._cancel),
            "pause": (1, self._pause), "resume": (1, self._resume),
        }  # fmt: skip
        if self._random.random() < 0.2:
            doors["drain"] = 1, self._drain
        names = [name for name, (weight, _) in doors.items() for _ in range(weight)]
        self.acts: list[tuple[float, Callable[[Any], Any]]] = []
        seconds = STEP / 2
        for _ in range(self._random.randint(3, 14)):
            seconds += self._random.randint(1, 12) * STEP
            self.acts.append((seconds, doors[self._random.choice(names)][1]))

    async def act(self, ended: anyio.Event) -> None:
        """Do what was drawn, each at its time; then let the run end, or cancel it if it does not."""
        for seconds, act in self.acts:
            if await self._has_ended(seconds - anyio.current_time(), ended):
                return
            await self._attempt(act)
        for number in range(MOST_WAITS):
            if await self._has_ended(7 + STEP / 2, ended):
                return
            await self._attempt(
                self._scheduler if number % 2 and number < 12 else self._resume
            )
        if not ended.is_set():
            self._world.problems.append("the run does not end")
            self._world.scheduler.cancel()

    async def _has_ended(self, seconds: float, ended: anyio.Event) -> bool:
        with anyio.move_on_after(max(0, seconds)):
            await ended.wait()
        return ended.is_set()

    async def _attempt(self, act: Callable[[Any], Any]) -> None:
        there = [job for job in self._world.jobs if job.scheduler is not None]
        bad = [job for job in there if job.state in ENDED_BADLY]
        if self._random.random() < UPSTREAM:
            bad = [job for job in there if job.state is JobState.SUCCEEDED]
        job = self._random.choice(bad or there or self._world.jobs)
        try:
            done = act(job)
            if isinstance(done, Awaitable):
                await done
        except REFUSALS:
            return

    def _job(self, job: Any) -> None:
        job.try_again()

    def _scheduler(self, job: Any) -> None:
        self._world.scheduler.try_again()

    def _group(self, job: Any) -> None:
        groups = [
            each
            for each in self._world.jobs
            if is_scheduler(each) and each.scheduler is not None
        ]
        if groups:
            self._random.choice(groups).try_again()

    def _look(self, job: Any) -> None:
        jobs = self._random.choice([[job], [job], None])
        for run in runs_in_progress():
            if run.scheduler is self._world.scheduler:
                word, seen = (
                    self._random.choice(["try-again", "try-again --cancel"]),
                    [attempt_mark(job)],
                )
                _steering._act(
                    _steering.SteeringRequest(
                        run, word, jobs, "a person", None, None, seen
                    )
                )

    async def _thread(self, job: Any) -> None:
        await anyio.to_thread.run_sync(job.try_again)

    def _cancel(self, job: Any) -> None:
        there = [each for each in self._world.jobs if each.scheduler is not None]
        if there:
            self._random.choice(there).cancel()

    def _pause(self, job: Any) -> None:
        self._world.scheduler.pause()

    def _resume(self, job: Any) -> None:
        self._world.scheduler.resume()

    def _drain(self, job: Any) -> None:
        self._world.scheduler.drain()


class Loops:
    """Iterations over all jobs and over chosen ones, and waits for single jobs, beside a run."""

    def __init__(self, world: World, seed: str) -> None:
        self._world, random = world, Random(f"loops {seed}")
        members = [job for job in world.scheduler if not job.forever]
        self.chosen: dict[str, list[Any] | None] = {}
        if random.random() < 0.6:
            self.chosen["all"] = None
        if random.random() < 0.5 and not world.plan.is_open:
            self.chosen["some"] = [job for job in members if random.random() < 0.6]
        self._tries_again = {name: random.random() < 0.4 for name in self.chosen}
        self.awaited = [
            job for job in world.jobs if not job.forever and random.random() < 0.1
        ]
        self._takes_result = {job: random.random() < 0.5 for job in self.awaited}
        self.yielded: dict[str, dict[Any, list[tuple[int, str]]]] = {
            name: {} for name in self.chosen
        }
        """For each iteration and job, which of its ends was yielded, counted from 1, and in which state."""
        self.numbers_at_end: dict[str, dict[Any, int]] = {}
        """For each iteration that has ended, the number of ends of each job then: later ones do not concern it."""

    def begin(self, tasks: Any) -> None:
        for name in self.chosen:
            tasks.start_soon(self._iterate, name)
        for job in self.awaited:
            tasks.start_soon(self._wait, job)

    async def _iterate(self, name: str) -> None:
        story, chosen, scheduler = (
            self._world.story,
            self.chosen[name],
            self._world.scheduler,
        )
        yielded = self.yielded[name]
        async for job in (
            scheduler.as_settled() if chosen is None else scheduler.as_settled(chosen)
        ):
            number = len(story.ends(job))
            yielded.setdefault(job, []).append((number, job.state.name))
            if self._tries_again[name]:
                self._world.try_again(job, len(yielded[job]))
        self.numbers_at_end[name] = {job: len(story.ends(job)) for job in story.by_job}

    async def _wait(self, job: Any) -> None:
        name, outcome = (
            ("await", "") if self._takes_result[job] else ("wait_settled()", None)
        )
        try:
            if self._takes_result[job]:
                outcome = repr(await job)
            else:
                await job.wait_settled()
        except JobNotDone:  # no run will reach it
            return
        except Exception as error:
            outcome = repr(error)
        last = self._world.story.last(job)
        if not job.is_settled() or last is None:
            self._world.problems.append(
                f"{name} of {job.label} has returned, and it is {job.state.value}"
            )
        elif outcome is not None and last.outcome not in ("", outcome):
            self._world.problems.append(
                f"await of {job.label} has {outcome}, and it has ended as {last}"
            )


async def run(
    world: World, doors: Doors | None, loops: Loops | None, instruments: list[Any]
) -> None:
    """Run a world in virtual time, and record its story."""
    ended = anyio.Event()
    async with anyio.create_task_group() as tasks:
        if loops is not None:
            loops.begin(tasks)
        tasks.start_soon(_run, world, ended, instruments)
        if doors is not None:
            await doors.act(ended)


async def _run(world: World, ended: anyio.Event, instruments: list[Any]) -> None:
    scheduler = world.scheduler
    try:
        if world.plan.is_open:
            await _run_open(scheduler, world, instruments)
        else:
            await scheduler.co_run(instruments=instruments)
    except Exception as error:  # the failures of an open block
        if not world.plan.is_open:
            world.problems.append(f"the run has raised {error!r}")
    finally:
        ended.set()


async def _run_open(scheduler: Scheduler, world: World, instruments: list[Any]) -> None:
    members = list(scheduler)
    for job in reversed(members):
        scheduler.remove(job)
    scheduler.instruments = instruments
    async with scheduler:
        for job in members:
            scheduler.add(job)
        await anyio.sleep(world.random.randint(0, 40) * STEP)
