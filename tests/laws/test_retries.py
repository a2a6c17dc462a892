"""Random retries on virtual time: between two attempts a job holds nothing, and no attempt exceeds a limit."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, Pool, Rate, Retry, Scheduler, current_job

from ..bodies import FAILED, SUCCEEDED

if TYPE_CHECKING:
    from trioflow.abc import AbstractJob

    from ..conftest import Virtual

TOLERANCE = 1e-6


class Scenario:
    """Jobs that fail some times, under a window, a pool and a rate, in nested schedulers; each attempt is recorded."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        self.window = draw.choice([None, 1, 2, 3])
        self.cpu = draw.randint(1, 3)
        self.limiter = anyio.CapacityLimiter(draw.randint(1, 3)) if draw.random() < 0.3 else None
        self.requests, self.per = draw.randint(1, 4), draw.choice([1.0, 5.0])
        self.attempts: defaultdict[AbstractJob[Any], list[tuple[float, float]]] = defaultdict(list)
        self.retries: dict[AbstractJob[Any], Retry] = {}
        self.fails: dict[AbstractJob[Any], int] = {}
        self.needs: dict[AbstractJob[Any], dict[str, Any]] = {}
        self.running: defaultdict[str, int] = defaultdict(int)
        self.most: defaultdict[str, int] = defaultdict(int)
        self.starts: list[float] = []
        jobs: list[Any] = [self.job() for _ in range(draw.randint(2, 8))]
        self.nested = [self.group() for _ in range(draw.randint(0, 2))]
        self.root = Scheduler(
            *jobs,
            *self.nested,
            jobs_window=self.limiter or self.window,
            pool=Pool(cpu=self.cpu, api=Rate(requests=self.requests, per=self.per)),
            critical_jobs=False,
        )

    def retry(self) -> Any:
        draw = self.draw
        if draw.random() < 0.2:
            return draw.randint(1, 3)
        on: Any = draw.choice([Exception, OSError, (OSError, KeyError), lambda error: 2.5, lambda error: True])
        first, factor = draw.choice([0.0, 0.5, 2.0]), draw.choice([1.0, 2.0])
        return Retry(draw.randint(1, 3), first=first, factor=factor, cap=3.0, jitter=draw.random() < 0.5, on=on)

    def job(self) -> Job[None]:
        draw = self.draw
        needs = {"cpu": draw.randint(0, 1), "api": draw.randint(0, 1)}
        job = Job(self.attempt, retry=self.retry(), needs=needs)
        self.needs[job], self.fails[job] = needs, draw.randint(0, 4)
        return job

    def group(self) -> Scheduler:
        """Return a nested scheduler that is retried as a whole when its job fails."""
        job = self.job()
        job.retry = None
        job.critical = True
        return Scheduler(job, retry=self.retry())

    async def attempt(self) -> None:
        job, began = current_job(), anyio.current_time()
        if self.needs[job]["api"]:
            self.starts.append(began)
        held = [name for name in ("cpu",) if self.needs[job][name]]
        members = current_job().scheduler is self.root
        for name in [*held, *(["slots"] if members else []), "tokens"]:
            self.running[name] += 1
            self.most[name] = max(self.most[name], self.running[name])
        try:
            await anyio.sleep(self.draw.choice([0, 0.25, 1]))
            if len(self.attempts[job]) < self.fails[job]:
                raise OSError("broken")
        finally:
            self.attempts[job].append((began, anyio.current_time()))
            for name in [*held, *(["slots"] if members else []), "tokens"]:
                self.running[name] -= 1


def allowed(job: AbstractJob[Any]) -> float:
    """Return how many retries a job has."""
    retry: Any = job.retry
    return 0 if retry is None else math.inf if retry.times is None else retry.times


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 1000), marks=pytest.mark.soak)])
def test_no_attempt_exceeds_a_limit(virtual: Virtual, seeds: range) -> None:
    """Windows, pools, tokens and rates hold at each instant, whatever is retried."""
    for seed in seeds:
        scenario = Scenario(seed)
        assert virtual(scenario.root.co_run), seed
        most = scenario.most
        assert most["cpu"] <= scenario.cpu, seed
        if scenario.limiter is not None:
            assert most["tokens"] <= scenario.limiter.total_tokens, seed
        elif scenario.window is not None:
            assert most["slots"] <= scenario.window, seed
        # At most the burst, and what accrues since: all requests between two starts, both included.
        for (i, first), (j, last) in itertools.combinations(enumerate(scenario.starts), 2):
            accrued = scenario.requests + (last - first) * scenario.requests / scenario.per
            assert j - i + 1 <= accrued + TOLERANCE, (seed, scenario.starts)


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 1000), marks=pytest.mark.soak)])
def test_attempts_come_as_often_and_no_earlier_than_a_retry_says(virtual: Virtual, seeds: range) -> None:
    """A job that fails often enough is attempted `times` times more, each after its pause, and has those attempts."""
    for seed in seeds:
        scenario = Scenario(seed)
        assert virtual(scenario.root.co_run), seed
        for job, attempts in scenario.attempts.items():
            retried = job if job.scheduler is scenario.root else job.scheduler
            assert retried is not None
            expected = min(scenario.fails[job], allowed(retried)) + 1
            assert len(attempts) == retried.attempts == expected, (seed, job)
            assert retried.state is (SUCCEEDED if expected > scenario.fails[job] else FAILED), (seed, job)
            assert retried is not job or retried.started_at == attempts[0][0], (seed, job)
            retry: Any = retried.retry
            for number, ((_, ended), (began, _)) in enumerate(itertools.pairwise(attempts), 1):
                if isinstance(retry, Retry):
                    fixed = retry.on(OSError()) if not isinstance(retry.on, (type, tuple)) else True
                    pause = retry._pause_before(number) / (2 if retry.jitter else 1) if fixed is True else fixed
                    assert began >= ended + pause - TOLERANCE, (seed, job)


def test_a_paused_job_holds_nothing(virtual: Virtual) -> None:
    """While a job waits for its next attempt, others have its slot, its needs and its token."""
    pauses: list[float] = []

    async def flaky() -> None:
        if current_job().attempts < 3:
            raise OSError("broken")

    async def use() -> None:
        pauses.append(anyio.current_time())
        await anyio.sleep(2)

    for window in (1, anyio.CapacityLimiter(1)):
        pauses.clear()
        job = Job(flaky, needs={"cpu": 1}, retry=Retry(2, first=5, factor=1, jitter=False))
        others = [Job(use, needs={"cpu": 1}) for _ in range(3)]
        assert virtual(Scheduler(job, *others, jobs_window=window, pool=Pool(cpu=1)).co_run)
        assert (pauses, job.attempts, job.elapsed) == ([0, 2, 4], 3, 11)


def test_a_nested_scheduler_holds_nothing_between_its_attempts(virtual: Virtual) -> None:
    """A nested scheduler with needs gives them back while it waits for its next attempt."""

    async def flaky() -> None:
        if nested.attempts < 2:
            raise OSError("broken")

    nested = Scheduler(Job(flaky, critical=True), needs={"cpu": 1}, retry=Retry(1, first=9, jitter=False))
    other = Job(anyio.sleep, 3, needs={"cpu": 1})
    assert virtual(Scheduler(nested, other, jobs_window=1, pool=Pool(cpu=1)).co_run)
    assert (other.started_at, nested.state, nested.elapsed) == (0, SUCCEEDED, 9)


def test_a_function_decides_on_the_pause(virtual: Virtual) -> None:
    """The seconds that `on` returns take the place of the pause; False, None and a wrong value end the attempts."""

    class Busy(Exception):
        pass

    async def ask(error: BaseException) -> None:
        raise error

    def retry_after(error: Exception) -> Any:
        return error.args[0] if isinstance(error, Busy) else False

    expected = [(7, 14), (0, 0), (False, 0), (None, 0), ("later", 0)]
    for value, elapsed in expected:
        job = Job(ask, Busy(value), retry=Retry(2, first=60, on=retry_after), label="job")
        assert not virtual(Scheduler(job).co_run)
        assert (job.elapsed, job.attempts) == (elapsed, 3 if type(value) is int else 1)
    assert isinstance(job.raised_exception(), TypeError)
    assert str(job.raised_exception()).startswith("on='later' of the Retry of 'job', which returned that: give a")


def test_what_is_said_during_a_pause(virtual: Virtual) -> None:
    """`explain` names the rest of the pause, the number of the attempt and the last failure; `cancel()` ends it."""
    explained: list[str] = []

    async def broken() -> None:
        raise OSError("broken")

    async def look() -> None:
        await anyio.sleep(2)
        explained.append(scheduler.explain(job))
        assert (job.attempts, job.is_scheduled()) == (1, True)
        job.cancel()

    job = Job(broken, label="job", retry=Retry(4, first=5, jitter=False))
    scheduler = Scheduler(job, Job(look))
    assert virtual(scheduler.co_run)
    assert explained == ["'job' will be retried in 3 s, attempt 2 of 5, after OSError: broken"]
    assert (job.state.name, job.attempts, job.elapsed) == ("CANCELLED", 1, 2)
