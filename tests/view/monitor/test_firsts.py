"""A `First` in a monitor: it is one job in the bar, the counts, the causes of waits and the estimate."""

from __future__ import annotations

from typing import Any

from trioflow import First, Job, Pool, Rate, Scheduler, Sequence

from ...bodies import fail, nap
from ...conftest import Virtual
from .monitors import drawn, look, pictured, watched


def hedged(seconds: float, **options: Any) -> First:
    return First(Job(nap, seconds, label="ask", **options), Job(nap, seconds, label="hedge", **options), stagger=5)


def test_hedges_are_not_counted(virtual: Virtual) -> None:
    """Half of the calls have an answer: that is 50 %, although no hedge has started.

    The total once included the hedges, so that a run in which all calls succeeded ended at 50 %.
    """
    calls = [hedged(1) for _ in range(4)]
    scheduler, monitor = watched(*calls, jobs_window=1)
    lines = pictured(virtual, scheduler, monitor, 2.5)
    assert "50%  2/4" in lines[0]
    assert lines[1].startswith(" ✓ 2 succeeded   ▸ 1 running   ✗ 0 failed   · 1 waiting")


def test_the_jobs_of_a_failed_first_are_no_failures(virtual: Virtual) -> None:
    """A `First` that fails is one failure, and its jobs are none; a loser beside a winner is none, either."""
    scheduler, monitor = watched(First(Job(fail), Job(fail)), First(Job(fail), Job(nap)), Job(nap, 9))
    lines = pictured(virtual, scheduler, monitor, 3)
    assert lines[1].startswith(" ✓ 1 succeeded   ▸ 1 running   ✗ 1 failed   · 0 waiting")


def test_a_first_whose_jobs_all_wait_is_waiting(virtual: Virtual) -> None:
    """A `First` counts as running while one of its jobs runs. If all wait for a rate, so does the `First`."""
    calls = [hedged(1.5, needs={"api": 1}) for _ in range(9)]
    scheduler, monitor = watched(*calls, *(Job(nap, 9) for _ in range(30)), pool=Pool(api=Rate(requests=1, per=1)))
    lines = pictured(virtual, scheduler, monitor, 3.2)
    assert lines[1].startswith(" ✓  2 succeeded   ▸ 32 running   ✗  0 failed   ·  5 waiting")
    assert lines[2] == " waiting: 5 for api"


def test_the_estimate_counts_a_first_once(virtual: Virtual) -> None:
    """What is left of ten calls after five is as long as these took: the hedges that never start take no time."""
    calls = [First(Job(nap, 2), Job(nap, 2), stagger=9) for _ in range(10)]
    scheduler, monitor = watched(*calls, jobs_window=1)
    pictures: list[list[str]] = []

    async def draw() -> None:
        await nap(10.5)
        pictures.append(drawn(monitor))

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert pictures[0][0].endswith("≈ 10 s left")


def test_the_estimate_counts_the_rate_that_calls_need(virtual: Virtual) -> None:
    """The first job of each `First` needs the rate, so that 20 calls that are left take 20 s at one per second.

    An estimate of such calls once raised a KeyError, and the monitor with it.
    """
    calls = [hedged(0.5, needs={"api": 1}) for _ in range(30)]
    scheduler, monitor = watched(*calls, pool=Pool(api=Rate(requests=1, per=1, burst=1)))
    lines = pictured(virtual, scheduler, monitor, 9.9)
    assert lines[0].endswith("≈ 20 s left")


def test_a_symbol_that_a_count_before_has_keeps_its_word(virtual: Virtual) -> None:
    stopped = Scheduler(Sequence(Job(fail, 1, critical=True), *(Job(nap) for _ in range(3))))
    scheduler, monitor = watched(stopped, Job(nap, 9), *(Job(nap) for _ in range(2)), jobs_window=2)
    eyes, lines = zip(*(look(monitor, 2, columns=columns) for columns in (150, 40, 30)), strict=True)
    scheduler.update(eyes)
    virtual(scheduler.co_run)
    wide, narrow, narrower = (line[1] for line in lines)
    assert "· 1 waiting" in wide
    assert "· 3 never started" in wide
    assert "· 1  · 3 never started" in narrow
    assert "· 1" in narrower
    assert "· 3" not in narrower


def test_tolerated_failures_are_shown_at_80_columns(virtual: Virtual) -> None:
    """They have the symbol of the failures that count, behind which they once were missing, of 5,019 jobs."""
    optional = [Job(fail, critical=False) for _ in range(30)]
    group = Scheduler(Job(nap, 9), timeout=1)
    jobs = optional, [Job(fail) for _ in range(10)], [Job(nap, 0) for _ in range(4970)], [Job(nap, 9) for _ in range(8)]
    scheduler, monitor = watched(*jobs, group, Job(nap, required=group))
    lines = pictured(virtual, scheduler, monitor, 2, columns=80)
    assert lines[1] == " ✓ 4970   ▸ 8   ✗ 10   ✗ 30 tolerated   · 0   ✗ 1 group failed   ⊗ 1   ⊘ 1   ∞ 1"
