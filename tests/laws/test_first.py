"""What random scenarios have found of `First`, and what its views show; `tests/model` predicts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Budget, First, Job, PerKey, Pool, Scheduler, Sequence, Trace
from trioflow._core.api.views import slot_users
from trioflow.abc import WaitCause

from ..bodies import nap

if TYPE_CHECKING:
    from ..conftest import Virtual


async def count_running(running: list[int], seconds: float) -> None:
    running[0] += 1
    running[1] = max(running)
    try:
        await nap(seconds)
    finally:
        running[0] -= 1


@pytest.mark.parametrize("kind", ["amount", "budget", "key"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_first_that_keeps_needs_waits_for_no_slot_of_those_that_wait_for_them(
    virtual: Virtual, kind: str, depth: int
) -> None:
    """Between two of its jobs its slot once went to a group, which waited for needs that the `First` kept."""
    limit = {"amount": lambda: 1, "budget": lambda: Budget(2), "key": lambda: PerKey(1)}[kind]
    need: Any = {"x": "k" if kind == "key" else 1}
    first = First(Sequence(Job(nap, 1), Job(nap, 1)), needs=need)
    group = Scheduler(Job(nap, 1, needs=need if kind != "budget" else {"x": 2}), label="group", critical=False)
    scheduler = Scheduler(First(first, label="outer") if depth else first, group, jobs_window=1, pool=Pool(x=limit()))
    assert virtual(scheduler.co_run)
    assert group.started_at == 2


def test_the_slot_of_a_first_that_keeps_needs_is_not_given_away_by_one_in_it(virtual: Virtual) -> None:
    """A `First` whose only job is blocked at once gives its slot back to the one around it, not to the window."""
    running = [0, 0]
    a, c = Job(count_running, running, 1, needs={"usd": 1}), Job(count_running, running, 1)
    first = First(a, First(Job(nap, 1, needs={"usd": 1})), c, enough=2, needs={"usd": 1})
    others = [Job(count_running, running, 1) for _ in range(2)]
    assert virtual(Scheduler(first, others, jobs_window=1, pool=Pool(usd=Budget(1))).co_run)
    assert running == [0, 1]


def test_a_first_starts_in_its_turn_and_hedges_wait_in_theirs(virtual: Virtual) -> None:
    """A `First` starts when its first job can; a hedge waits behind what became ready before it."""
    first = First(Job(nap, 5), Job(nap, 1), stagger=1)
    jobs = [Job(nap, 2), Job(nap, 4), Job(nap, 9, required=first)]
    assert virtual(Scheduler(jobs[0], first, jobs[1], jobs[2], jobs_window=2).co_run)
    assert [first.started_at, *(job.started_at for job in [*first, *jobs])] == [0, 0, None, 0, 2, 5]


def test_a_slot_that_a_first_cannot_use_yet_goes_to_a_job_of_another(virtual: Virtual) -> None:
    """A hedge that became ready after a `First` starts with its slot while the jobs of that one wait for needs."""
    hedge, before = Job(nap, 1), Job(nap, 0.1)
    other = First(Job(nap, 9), hedge, stagger=0.2)
    first = First(Job(nap, 1, needs={"x": 1}), required=before)
    jobs = [other, Job(nap, 2, needs={"x": 1}), before, Job(nap, 3), Job(nap, 0.4, required=before), first]
    assert virtual(Scheduler(*jobs, jobs_window=4, pool=Pool(x=1)).co_run)
    assert (first.started_at, hedge.started_at, next(iter(first)).started_at) == (0.5, 0.5, 2)


def test_views_know_which_slots_the_jobs_of_a_first_take(virtual: Virtual) -> None:
    """A hedge that waits for a slot says who has them; the trace and the monitor count those of its window."""
    first, other = First(Job(nap, 5, label="call"), Job(nap, 1, label="hedge"), stagger=1), Job(nap, 3, label="other")
    trace, texts, slots = Trace(), list[str](), list[list[str]]()
    scheduler = Scheduler(first, other, jobs_window=2, instruments=[trace])

    async def look() -> None:
        await anyio.sleep(2)
        slots.append([job.label for job in slot_users(scheduler) if job.is_running()])
        texts.append(first.explain([*first][1]))

    scheduler.add(Job(look, forever=True))
    assert virtual(scheduler.co_run)
    assert slots == [["other", "call"]]
    assert "waits for a slot: the window is full, with" in texts[0]
    assert "'call'" in texts[0]
    assert "'other'" in texts[0]
    (hedge,) = [span for span in trace.spans if span.label == "hedge"]
    assert [(wait.cause, wait.until) for wait in hedge.waits] == [(WaitCause.SLOT, 3)]
