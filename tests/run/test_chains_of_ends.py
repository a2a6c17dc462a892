"""Ends that cause each other, in a hook or in a callback of the job: each is told once, and a chain may be long."""

from collections import Counter
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import CommandJob, Job, Retry, Scheduler, Service, StopReason
from trioflow.abc import Instrument
from ..bodies import fail, nap, nothing, serve
from ..conftest import FRAMES

pytestmark = pytest.mark.usefixtures("few_frames")

LONG = FRAMES + 10
"""More than the frames that a recursion may have."""


def test_each_end_cancels_the_next_job(backend: Any) -> None:
    """It took four frames for each, and the run raised RecursionError."""
    jobs = [Job(anyio.sleep, 0.01, label=f"{number}") for number in range(LONG)]

    def cancel_next(job: Any) -> None:
        for after in jobs[int(job.label) + 1 :][:1]:
            after.cancel()

    assert Scheduler(*jobs, jobs_window=1, on_job_settled=cancel_next).run(
        backend=backend
    )
    assert Counter(job.state.name for job in jobs) == {
        "SUCCEEDED": 1,
        "CANCELLED": LONG - 1,
    }


def test_each_end_adds_a_job_that_is_blocked(backend: Any) -> None:
    def follow(job: Any) -> None:
        if len(scheduler) < LONG:
            scheduler.add(Job(nothing, required=job))

    scheduler = Scheduler(Job(fail), on_job_settled=follow, log=False)
    assert scheduler.run(backend=backend) is False
    assert (scheduler.stop_reason, len(scheduler)) == (StopReason.FAILED, LONG)


async def page(number: int) -> int:
    return number + 1


def test_each_end_adds_a_job_that_is_restored(backend: Any, tmp_path: Path) -> None:
    """A crawl of some 160 pages could not be resumed."""
    for _ in range(2):

        def follow(job: Any) -> None:
            if (number := job.result()) < LONG:
                job.scheduler.add(Job(page, number, key=number, label=f"page {number}"))

        scheduler = Scheduler(
            Job(page, 0, key=0, label="page 0"),
            on_job_settled=follow,
            journal=tmp_path / "run.db",
        )
        assert scheduler.run(backend=backend)
        assert len(scheduler) == LONG
    assert all(job.restored for job in scheduler)


@pytest.mark.parametrize(
    "word", ["cancel itself", "cancel others", "cancel all", "drain"]
)
def test_a_callback_of_a_job_in_its_backoff_ends_more(backend: Any, word: str) -> None:
    """The callback was called again for the same end, and the run waited for -100 jobs."""
    called, told = Counter[str](), Counter[str]()

    class Ends(Instrument):
        def job_settled(self, scheduler: Any, job: Any) -> None:
            told[job.label] += 1

    def act(job: Any) -> None:
        called[job.label] += 1
        if word == "drain":
            scheduler.drain()
        elif word == "cancel all":
            scheduler.cancel()
        else:
            for each in pair:
                if (each is job) is (word == "cancel itself"):
                    each.cancel()

    async def begin() -> None:
        while any(not job.attempts for job in pair):  # noqa: ASYNC110 - nothing tells that a backoff has begun
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        pair[0].cancel()

    pair = [
        CommandJob(
            ["false"], retry=Retry(3, first=99), on_settled=act, label=each, log=False
        )
        for each in "ab"
    ]
    scheduler = Scheduler(
        *pair, Job(begin, label="begin"), instruments=[Ends()], log=False
    )
    if word == "cancel itself":
        scheduler.add(Job(nap, 0.3, label="later"))
        scheduler.timeout = 5
    scheduler.run(backend=backend)
    ended = {"a", "b"}
    assert {
        label: number for label, number in called.items() if number
    } == dict.fromkeys(ended, 1)
    assert {label: told[label] for label in ended} == dict.fromkeys(ended, 1)


@pytest.mark.parametrize("is_service", [False, True])
def test_what_a_hook_ends_as_jobs_become_ready_comes_after_all_of_them(
    is_service: bool, backend: Any
) -> None:
    told: list[str] = []

    class Cancels(Instrument):
        def job_scheduled(self, scheduler: Any, job: Any) -> None:
            told.append(f"{job.label} ready")
            if job.label == "first":
                last.cancel()

        def job_settled(self, scheduler: Any, job: Any) -> None:
            told.append(f"{job.label} {job.state}")

    source: Any = Job(nothing, label="source")
    if is_service:
        source = Service(serve, label="source")
    users = [Job(nothing, required=source, label=name) for name in ("first", "second")]
    last = Job(nothing, required=users, label="last")
    scheduler = Scheduler(source, *users, last, instruments=[Cancels()])
    assert scheduler.run(backend=backend)
    told = [each for each in told if not each.startswith("source")]
    assert told[:3] == ["first ready", "second ready", "last cancelled"]
