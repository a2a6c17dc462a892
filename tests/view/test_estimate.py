"""The time left of a run: right within a factor of two, or not said, in random scenarios on a virtual clock."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Job, Pool, Rate, Scheduler, current_job
from trioflow._core.words._run_view import run_times, runs_in_progress
from trioflow.view._estimate import Estimate, TimeLeft
from trioflow.view.look._client import text_lines
from trioflow.view.look._console import WatchedRun, console
from trioflow.view.look._process_record import describe_process
from trioflow.view.look._watch import Watch
from trioflow.view.monitor._run_header import estimate_text
from ..conftest import Virtual
from .monitor.monitors import drawn
from .monitor.monitors import watched as watched_run

Said = list[tuple[float, float | None]]
"""At some times: what is left of the run, and what the estimate says."""


async def take(seconds: float, *_: Any) -> None:
    await anyio.sleep(seconds)


def said_of(
    virtual: Virtual, scheduler: Scheduler, interval: float = 1.0, **options: Any
) -> Said:
    """Run a scenario; return what was said of it every so often, beside what was left in fact."""
    said: list[tuple[float, float | None]] = []

    async def ask() -> None:
        while True:
            await anyio.sleep(interval)
            left = Estimate(scheduler).time_left()
            said.append(
                (
                    anyio.current_time(),
                    None if left is None or left.is_least else left.seconds,
                )
            )

    scheduler.add(Job(ask, forever=True, label="who asks"))
    virtual(lambda: scheduler.co_run(**options))
    ended = run_times(scheduler)[1]  # type: ignore[index]
    assert ended is not None
    return [(ended - time, seconds) for time, seconds in said]


class Draw:
    """A random scenario: stages of jobs of one kind each, some in groups, with chains, windows and needs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.longest = 0.0

    def scenario(self) -> Scheduler:
        draw, before, stages = self.random, list[Any](), list[Any]()
        for number in range(draw.randint(1, 3)):
            jobs = list(self.stage(number))
            if draw.random() < 0.5:
                for job in jobs:
                    job.requires(
                        draw.sample(before, min(len(before), draw.randint(0, 3)))
                    )
            before = jobs if draw.random() < 0.7 else [*before, *jobs]
            stages.append(jobs)
        window = draw.choice((None, 1, 2, 4, 9))
        pool = Pool(
            licence=draw.randint(1, 3),
            api=Rate(requests=draw.randint(1, 4), per=draw.choice((1, 5)), burst=1),
        )
        return Scheduler(*stages, jobs_window=window, pool=pool, label="run")

    def stage(self, number: int) -> Iterator[Any]:
        draw, seconds = self.random, self.random.choice((0.5, 2, 5, 10, 30))
        options: dict[str, Any] = {}
        if draw.random() < 0.3:
            options["expected_duration"] = seconds * draw.choice((0.7, 1, 1.4))
        if draw.random() < 0.3:
            options["needs"] = {draw.choice(("licence", "api")): 1}
        jobs: list[Any] = []
        for index in range(draw.choice((1, 3, 10, 40))):
            took = seconds * draw.uniform(0.85, 1.15)
            self.longest = max(self.longest, took)
            jobs.append(
                Job(take, took, label=f"stage{'abc'[number]} {index}", **options)
            )
        half = len(jobs) // 2 if draw.random() < 0.25 else 0
        if draw.random() < 0.2:
            for job, after in [
                *itertools.pairwise(jobs[:half]),
                *itertools.pairwise(jobs[half:]),
            ]:
                after.requires(job)
        if half:
            yield Scheduler(
                jobs[:half],
                label=f"group {number}",
                jobs_window=draw.choice((None, 1, 3)),
            )
        yield from jobs[half:]


def check(virtual: Virtual, seeds: range, interval: float = 1.0) -> None:
    """Check that the estimates of random scenarios are right within a factor of two, until the last jobs run."""
    ratios: list[float] = []
    answers = 0
    for seed in seeds:
        draw = Draw(seed)
        said = said_of(virtual, draw.scenario(), interval)
        answers += len(said)
        ratios += [
            seconds / left
            for left, seconds in said
            if seconds is not None and left > draw.longest
        ]
    wrong = [ratio for ratio in ratios if not 1 / 2 <= ratio <= 2]
    assert len(ratios) > answers / 3, "it has to say something"
    assert all(0.4 <= ratio <= 2.5 for ratio in wrong), sorted(wrong)
    assert len(wrong) <= len(ratios) / 1000, (len(wrong), len(ratios))


@pytest.mark.parametrize(
    "seeds",
    [range(3, 6), pytest.param(range(20), marks=pytest.mark.ci)],
    ids=["few", "more"],
)
def test_an_estimate_is_right_within_a_factor_of_two(
    virtual: Virtual, seeds: range
) -> None:
    """In 999 of 1,000 answers for random scenarios; nothing is said while the jobs of one kind are unknown."""
    check(virtual, seeds, interval=2.0)


@pytest.mark.soak
def test_estimates_of_many_scenarios_are_right(virtual: Virtual) -> None:
    check(virtual, range(20, 800))


def test_nothing_is_said_of_jobs_of_which_nothing_is_known(virtual: Virtual) -> None:
    """60 short jobs say nothing of the twelve long ones after them; three of these do. The mean of all jobs once said
    "5 s left" of 100 s."""
    short = [Job(take, 1, label=f"page {number}") for number in range(60)]
    long = [
        Job(take, 30, label=f"film {number}", required=short) for number in range(12)
    ]
    said = said_of(virtual, Scheduler(short, long, jobs_window=4))
    assert {seconds for left, seconds in said if left > 60} == {None}
    assert all(
        seconds == pytest.approx(left, rel=0.2)
        for left, seconds in said
        if 30 < left < 60
    )


def test_what_few_unlike_jobs_take_is_not_in_a_lower_bound(virtual: Virtual) -> None:
    """One step at the end that is unlike the others once kept a run without any estimate."""
    steps = [Job(take, 1, label=f"step {number}") for number in range(20)]
    scheduler, said = (
        Scheduler(steps, Job(take, 5, required=steps, label="last"), jobs_window=2),
        list[Any](),
    )

    async def ask() -> None:
        while True:
            await anyio.sleep(1)
            said.append(Estimate(scheduler).time_left())

    scheduler.add(Job(ask, forever=True, label="who asks"))
    virtual(scheduler.co_run)
    assert said[0] is None
    assert said[3].is_least
    assert 5 <= said[3].seconds <= 7
    assert said[11] is None  # only the last one is left


def test_a_lower_bound_is_about_half_of_what_is_left_or_more(virtual: Virtual) -> None:
    """A step that is unlike the others, and takes at most twice as long, does not double what was said."""
    bounds: list[tuple[float, float]] = []
    for seed in range(5):
        draw, said = random.Random(seed), list[tuple[float, TimeLeft | None]]()
        steps = [
            Job(take, draw.uniform(0.9, 1.1), label=f"step {number}")
            for number in range(40)
        ]
        last = Job(take, draw.uniform(0, 2), required=steps, label="last")
        scheduler = Scheduler(steps, last, jobs_window=draw.choice((1, 2)))

        async def ask(
            scheduler: Scheduler = scheduler,
            said: list[tuple[float, TimeLeft | None]] = said,
        ) -> None:
            while True:
                await anyio.sleep(0.5)
                said.append((anyio.current_time(), Estimate(scheduler).time_left()))

        scheduler.add(Job(ask, forever=True, label="who asks"))
        virtual(scheduler.co_run)
        ended = run_times(scheduler)[1]  # type: ignore[index]
        assert ended is not None
        bounds += [
            (left.seconds, ended - time)
            for time, left in said
            if left is not None and left.is_least
        ]
    assert len(bounds) > 50
    wrong = [
        (round(seconds, 2), round(left, 2))
        for seconds, left in bounds
        if not 0.45 * left <= seconds <= 1.1 * left
    ]
    assert wrong == []


def test_restored_jobs_are_no_evidence(virtual: Virtual, tmp_path: Path) -> None:
    """Of a chain behind 20 restored jobs, what is said comes from the chain: its pace once was that of all jobs."""

    def scenario(more: int) -> Scheduler:
        jobs = [Job(take, 2.0, label=f"old {number}") for number in range(20)]
        chain = [Job(take, 2.0, label=f"new {number}") for number in range(more)]
        for job, after in itertools.pairwise(chain):
            after.requires(job)
        return Scheduler(jobs, chain, label="run")

    path = tmp_path / "run.db"
    virtual(lambda: scenario(0).co_run(journal=path))
    said = said_of(virtual, scenario(8), journal=path)
    assert {seconds for left, seconds in said if left > 10} == {None}
    known = [(left, seconds) for left, seconds in said if seconds is not None]
    assert known
    assert all(seconds == pytest.approx(left, abs=0.1) for left, seconds in known)


def test_all_views_say_the_same_of_the_time_that_is_left(virtual: Virtual) -> None:
    """The page, `look` in text and JSON, and the monitor's header have one estimate."""
    found: dict[str, str] = {}

    async def ask() -> None:
        await anyio.sleep(5)
        (run,) = describe_process()["runs"]
        watched = WatchedRun()
        watched.update(
            json.loads(
                json.dumps(
                    {"may_steer": False, **Watch(runs_in_progress()[0]).answer()},
                    default=str,
                )
            )
        )
        found["page"] = console(watched, "", has_ended=False)["left"]
        found["JSON"] = estimate_text(run["left"])
        (line,) = [
            line
            for line in text_lines(1, {"command": ["x"], "runs": [run]})
            if " left" in line
        ]
        found["text"] = line.partition(", about ")[2].removesuffix(" left")
        found["monitor"] = drawn(monitor)[0].partition("≈ ")[2].removesuffix(" left")

    jobs = [
        Job(take, 1000, label=f"night {number}", expected_duration=1000)
        for number in range(3)
    ]
    scheduler, monitor = watched_run(*jobs, Job(ask, forever=True, label="who asks"))
    virtual(scheduler.co_run)
    assert found == dict.fromkeys(("page", "JSON", "text", "monitor"), "17 min")


def test_expected_durations_count_as_much_longer_as_those_before_took(
    virtual: Virtual,
) -> None:
    """Jobs of ten seconds take fifteen: from the third on, the estimate knows."""
    jobs = [
        Job(take, 15, label=f"job {number}", expected_duration=10)
        for number in range(8)
    ]
    said = said_of(virtual, Scheduler(jobs, jobs_window=1), interval=7)
    known = [(left, seconds) for left, seconds in said if 15 < left < 70]
    assert len(known) > 5
    for left, seconds in known:
        assert seconds == pytest.approx(left)


def test_nothing_is_said_of_a_run_that_is_paused(virtual: Virtual) -> None:
    """A pause lasts as long as a person likes. When the run goes on, the estimate is there again."""
    said: list[bool] = []
    scheduler = Scheduler(
        [Job(take, 10, expected_duration=10) for _ in range(6)], jobs_window=1
    )

    async def ask() -> None:
        for say in (scheduler.pause, scheduler.resume, scheduler.pause):
            await anyio.sleep(11)
            said.append(Estimate(scheduler).time_left() is not None)
            say()
            said.append(Estimate(scheduler).time_left() is not None)
        scheduler.resume()

    scheduler.add(Job(ask, forever=True))
    assert virtual(scheduler.co_run)
    assert said == [True, False, False, True, True, False]


def test_another_attempt_takes_as_long_as_the_first(virtual: Virtual) -> None:
    """The time since the first start says nothing of the attempt that runs."""

    async def fail_once() -> None:
        await anyio.sleep(10)
        if current_job().attempts == 1:
            raise OSError

    job = Job(fail_once, expected_duration=10, retry=1, log=False)
    said = said_of(virtual, Scheduler(job, Job(take, 1, expected_duration=1)))
    just_begun = [seconds for left, seconds in said if 5 < left < 10]
    assert len(just_begun) == 4
    assert [seconds for seconds in just_begun if (seconds or 0) < 5] == []


def test_the_mean_of_jobs_counts_once_three_have_ended(virtual: Virtual) -> None:
    jobs = [Job(take, 10, label=f"step {number}") for number in range(6)]
    said = said_of(virtual, Scheduler(jobs, jobs_window=1))
    assert {seconds for left, seconds in said if left > 31} == {None}
    later = [seconds for left, seconds in said if 1 < left < 30]
    assert len(later) > 20
    assert None not in later
