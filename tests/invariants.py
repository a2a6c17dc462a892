"""Whenever a run gives control back to the loop, in any test of the engine: the invariants that its files state.

They are looked at as the run's own task begins to wait, and when a worker has left: then no step is half done."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from trioflow import JobState
from trioflow._core.base._states import RunPhase
from trioflow._core.run._attempts import BackoffTimer
from trioflow._core.run._run import Run
from trioflow._core.run._worker import Crew

MAX_JOBS = 60
"""Larger runs are not looked at: each look goes through all jobs."""


def places_of(run: Run) -> Counter[Any]:
    """Return how many places each ready job has: in the line, in that for tokens, in that of a backoff."""
    places: Counter[Any] = Counter()
    for line in {run.crew.line, run.open_crew.line}:
        places.update(line.startable)
        if line.tokens is not None:
            places.update([*line.tokens.waiting])
        places.update([entry[2] for entry in line.places.entries()])
    if (timer := run.part(BackoffTimer)) is not None:
        waiting = [
            (job, until) for until, _, job in timer._heap if job._extras is not None
        ]
        places.update(
            [job for job, until in waiting if job._extras.backoff_until == until]
        )
    return places


def count_jobs(run: Run, jobs: list[Any]) -> Iterator[str]:
    """Each member that has not settled is counted once."""
    unsettled = Counter(
        job._options.forever for job in jobs if not job._state.is_settled
    )
    if run.counts.unsettled != unsettled[False]:
        yield f"{run.counts.unsettled} jobs are counted as unsettled, and {unsettled[False]} are"
    if run.counts.forever_unsettled != unsettled[True]:
        yield f"{run.counts.forever_unsettled} forever jobs are counted as unsettled, and {unsettled[True]} are"


def find_ready(run: Run, jobs: list[Any]) -> Iterator[str]:
    """Each job that is ready has one place, and each that runs has a worker."""
    places = places_of(run)
    for job in jobs:
        if job._state is JobState.SCHEDULED and places[job] != 1:
            yield f"{job.label!r} is ready, in {places[job]} places"
        if job._state is JobState.RUNNING and job._worker is None:
            yield f"{job.label!r} is running without a worker"


def find_holders(run: Run, jobs: list[Any]) -> Iterator[str]:
    """Slots and needs belong to jobs that were admitted: they may start, or run."""
    for job in run.line.holders:
        if job._state not in (JobState.SCHEDULED, JobState.RUNNING):
            yield f"{job.label!r} has a slot, and is {job._state.value}"
    for job in jobs:
        if (
            job._state.is_settled
            and job._extras is not None
            and job._extras.grant is not None
        ):
            yield f"{job.label!r} has its needs, and is {job._state.value}"


def find_searchers(run: Run, jobs: list[Any]) -> Iterator[str]:
    """Some worker will take what may start, and each worker that searches is counted."""
    crew, line = run.crew, run.line
    searching = sum(worker.is_searching for worker in crew.alive)
    if crew.searchers != searching:
        yield f"{crew.searchers} workers are counted as searching, and {searching} are"
    if not (crew.searchers or line.is_paused) and any(
        job._state is JobState.SCHEDULED for job in line.startable
    ):
        yield "a job may start, and no worker searches"


def count_requirements(run: Run, jobs: list[Any]) -> Iterator[str]:
    """A job that waits for others has counted those that hold it back."""
    if run.reopening is not None and any(
        step.is_uncounted for step in run.reopening.steps.values()
    ):
        return
    for job in jobs:
        if job._state is JobState.IDLE:
            number = sum(
                each._holds_back() for each in run.members.all_requirements(job)
            )
            if job._pending != number:
                yield f"{job.label!r} has counted {job._pending} open requirements, and has {number}"


INVARIANTS: tuple[Callable[[Run, list[Any]], Iterator[str]], ...] = (
    count_jobs, find_ready, find_holders, find_searchers, count_requirements,
)  # fmt: skip


class Look:
    """What was found wrong, and how many looks were taken."""

    def __init__(self) -> None:
        self.wrong: dict[str, None] = {}
        self.count = 0
        self.is_on = True

    def __call__(self, run: Run, invariants: tuple[Any, ...] = INVARIANTS) -> None:
        if not self.is_on or len(run.members.jobs) > MAX_JOBS:
            return
        if run.phase is not RunPhase.RUNNING or run.ends.depth:
            return
        self.count += 1
        jobs = list(run.members.jobs)
        # The steps of a look are none of those that a test counts.
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            for invariant in invariants:
                for each in invariant(run, jobs):
                    self.wrong[f"{invariant.__name__}: {each}"] = None
        finally:
            sys.settrace(tracer)


@contextmanager
def checked() -> Iterator[Look]:
    """Look at each run until the end of the block."""
    look, leave, wait = Look(), Crew.leave, Run._wait_while_running
    ready = Run.ready

    def leave_and_look(self: Any, worker: Any) -> None:
        run = self.run
        leave(self, worker)
        if worker not in self.alive:
            # One that has left may search for a moment, and the next of its task takes what it has found.
            look(run, tuple(each for each in INVARIANTS if each is not find_searchers))

    async def look_and_wait(self: Any) -> None:
        if self.ends.depth or self.ends.waiting:
            look.wrong["a step goes on, or waits, as the run waits"] = None
        look(self)
        await wait(self)

    def ready_in_a_step(self: Any, job: Any, line: Any) -> None:
        if self.notify_scheduled is not None and not self.ends.depth:
            look.wrong[f"a hook is told of {job.label!r} outside of a step"] = None
        ready(self, job, line)

    Crew.leave, Run._wait_while_running = leave_and_look, look_and_wait  # type: ignore[method-assign]
    Run.ready = ready_in_a_step  # type: ignore[method-assign]
    try:
        yield look
    finally:
        Crew.leave, Run._wait_while_running = leave, wait  # type: ignore[method-assign]
        Run.ready = ready  # type: ignore[method-assign]
