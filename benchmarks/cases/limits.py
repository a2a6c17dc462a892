"""Servers with limits: how close a rate comes to the allowed one, and an adaptive window to the best fixed one."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from trioflow import Adaptive, Job, Pool, Rate, Scheduler, Throttled, current_job

from .. import limited, loops
from ..measuring import Contest, Contestant, Sample, Setting
from ..plans import Plan
from ..rivals import OURS

TOKENS: Final = 50  # that a server allows for each request
MARGIN: Final = 0.25
"""Seconds of the rate by which the burst is smaller than the server's: the first request may be late by so much."""
ADAPTIVE: Final = f"{OURS}, Adaptive(1, 32)"
CAPACITIES: Final = (8, 2, 12, 4)


# ---- a rate of requests and tokens per minute


def rates(plan: Plan) -> Iterator[Contest]:
    """Send requests for a while longer than the burst lasts."""
    for backend in plan.loops:
        for scarce in plan.scarce:
            setting = Setting(
                backend, f"scarce {scarce}", "request", plan.limited_seconds
            )
            attempt = partial(rate_attempt, setting, scarce, plan.requests_per_minute)
            yield Contest("rates", [Contestant(OURS, setting, attempt)], 1)


def rate_attempt(setting: Setting, scarce: str, per_minute: int) -> Sample:
    """Return the duration, as a multiple of the least that the server's limits allow, and the number of rejections."""
    allowed = {"requests": per_minute, "tokens": per_minute * TOKENS}
    chance = random.Random(1)
    asked: list[tuple[int, int]] = []  # estimated tokens, used tokens
    least = 0.0
    while least < setting.size:
        estimate = (
            chance.randrange(1, 20)
            if scarce == "requests"
            else chance.randrange(50, 150)
        )
        asked.append(
            (estimate, chance.randrange(estimate * 8 // 10, estimate * 12 // 10 + 1))
        )
        totals = {"requests": len(asked), "tokens": sum(used for _, used in asked)}
        least = max(
            (totals[key] - limit) / limit * 60 for key, limit in allowed.items()
        )
    refused = 0

    async def request(port: int, estimate: int, used: int) -> None:
        nonlocal refused
        status, number = await limited.ask(port, estimate, used)
        if status == 429:
            refused += 1
            raise Throttled("api", after=number)
        current_job().used(api={"tokens": number})

    async def main(port: int) -> float:
        burst = {key: limit - limit / 60 * MARGIN for key, limit in allowed.items()}
        jobs = [
            Job(request, port, *one, needs={"api": {"tokens": one[0]}}) for one in asked
        ]
        scheduler = Scheduler(
            *jobs, pool=Pool(api=Rate(**allowed, per=60, burst=burst)), jobs_window=100
        )
        start = time.perf_counter()
        await scheduler.co_run(check=True)
        return time.perf_counter() - start

    with limited.serving(limited.BY_RATE, *allowed.values()) as port:
        seconds = loops.run(setting.backend, partial(main, port))
    return {"limited wall": seconds / least, "refused": refused}


# ---- a server whose capacity changes


def adaptive(plan: Plan) -> Iterator[Contest]:
    """Send requests for some seconds, with fixed windows and with an adaptive one."""
    for backend in plan.loops:
        contestants: list[Contestant] = []
        for window in (*plan.limited_windows, None):
            setting = Setting(
                backend, "changing capacity", "request", plan.limited_seconds, window
            )
            name = ADAPTIVE if window is None else OURS
            contestants.append(
                Contestant(name, setting, partial(window_attempt, setting))
            )
        yield Contest("adaptive", contestants, plan.few_rounds)


def window_attempt(setting: Setting) -> Sample:
    """Return the time per served request."""

    async def request(port: int) -> None:
        status, number = await limited.ask(port, 0)
        if status == 429:
            raise Throttled("api", after=number)

    async def main(port: int) -> int:
        window: Any = setting.window or Adaptive(1, 32)
        jobs = [
            Job(request, port, needs={"api": 1}) for _ in range(int(setting.size * 300))
        ]
        scheduler = Scheduler(
            *jobs, jobs_window=window, pool=Pool(api=1000), timeout=setting.size
        )
        await scheduler.co_run()
        return sum(job.is_succeeded() for job in jobs)

    with limited.serving(
        limited.BY_CAPACITY, setting.size / len(CAPACITIES), *CAPACITIES
    ) as port:
        served = loops.run(setting.backend, partial(main, port))
    return {"run wall": setting.size / max(1, served) * 1e6}
