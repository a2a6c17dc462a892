"""When a monitor computes an estimate, and what it shows between two of them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from trioflow import Job, Pool, Rate, Scheduler, Throttled
from trioflow.view.monitor import _eta

from ...bodies import nap
from ...conftest import Virtual
from .monitors import watched


class Clock:
    """The clock of the drawing thread, and the CPU time that it has used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.work = 0.0
        monkeypatch.setattr(_eta.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(_eta.time, "thread_time", lambda: self.work)


def forecast_of(monitor: Any) -> Any:
    return monitor._model.display._draw.__self__._forecast


def test_an_estimate_is_made_when_three_jobs_have_succeeded(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until three jobs have succeeded, no estimator is built; the next picture after that has an estimate."""
    clock = Clock(monkeypatch)
    seen: list[Any] = []

    async def look() -> None:
        forecast = forecast_of(monitor)
        for _ in range(4):
            await anyio.sleep(1)
            clock.now += 0.01
            seen.append((forecast.remaining_seconds(), forecast._estimator is None))

    scheduler, monitor = watched(*(Job(nap, 1) for _ in range(100)), jobs_window=1)
    scheduler.add(Job(look, forever=True))
    virtual(scheduler.co_run)
    assert seen[:2] == [(None, True)] * 2
    assert seen[3][0] == pytest.approx(96, abs=2)


def test_building_the_estimator_does_not_delay_the_next_estimate(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause between estimates is a multiple of the time of one estimate, not of building the estimator."""
    clock = Clock(monkeypatch)
    built = _eta.Estimator.__init__
    asked = _eta.Estimator.estimate_remaining_seconds

    def build(*args: Any) -> None:
        clock.work += 10
        built(*args)

    def ask(*args: Any) -> Any:
        clock.work += 0.02
        return asked(*args)

    monkeypatch.setattr(_eta.Estimator, "__init__", build)
    monkeypatch.setattr(_eta.Estimator, "estimate_remaining_seconds", ask)
    seen: list[Any] = []

    async def look() -> None:
        await anyio.sleep(3.5)
        forecast = forecast_of(monitor)
        first = forecast.remaining_seconds()
        clock.now += 4
        seen.extend([first, forecast.remaining_seconds(), forecast._next_estimate_at])

    scheduler, monitor = watched(*(Job(nap, 1) for _ in range(100)), jobs_window=1)
    scheduler.add(Job(look, forever=True))
    virtual(scheduler.co_run)
    assert seen[1] == seen[0] - 4, "it is counted down"
    assert seen[2] == pytest.approx(0.02 * _eta.PAUSE_FACTOR)


def test_an_expected_duration_gives_an_estimate_from_the_first_picture(virtual: Virtual) -> None:
    """If a job, even a nested one, has an expected duration, the first picture already has an estimate."""
    seen: list[Any] = []

    async def look() -> None:
        seen.append(forecast_of(monitor).remaining_seconds())

    inner = Scheduler(Job(nap, 5, expected_duration=5), label="inner")
    scheduler, monitor = watched(inner)
    scheduler.add(Job(look, forever=True))
    virtual(scheduler.co_run)
    assert seen == [pytest.approx(5, abs=0.1)]


def test_the_estimate_includes_waits_for_pools_rates_and_throttles(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate includes waits for pools, rates and throttles: five jobs on two GPUs take 12.5 seconds, not 7."""
    clock = Clock(monkeypatch)
    seen: list[float] = []
    refused: list[bool] = []

    async def ask() -> None:
        if not refused:
            refused.append(True)
            await anyio.sleep(1)
            raise Throttled("api", after=40)
        await anyio.sleep(1)

    async def look() -> None:
        forecast = forecast_of(monitor)
        for pause in (0.5, 1, 14):
            await anyio.sleep(pause)
            clock.now += 1000
            seen.append(forecast.remaining_seconds())

    trains = [Job(nap, one, expected_duration=one, needs={"gpu": 1}) for one in (3, 4, 5, 6, 7)]
    asks = [Job(ask, expected_duration=1, needs={"api": 1}) for _ in range(4)]
    inner = Scheduler(*asks, pool=Pool(api=Rate(requests=1, per=3, burst=1)))
    scheduler, monitor = watched(*trains, inner, pool=Pool(gpu=2), policy="fifo")
    scheduler.add(Job(look, forever=True))
    virtual(scheduler.co_run)
    assert seen == pytest.approx([12, 49.5, 35.5])
