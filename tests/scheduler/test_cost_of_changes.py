"""Changes of a large scenario cost what they touch: more jobs must not make each call dearer."""

import functools
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import CycleError, Job, Scheduler
from trioflow._core.base import _graph_algorithms
from ..bodies import give, nothing, timed
from ..conftest import Virtual

CALLS = 50


def cost_of_requires(size: int) -> float:
    hold = Job(anyio.sleep, 100)
    jobs = [Job(nothing, required=hold) for _ in range(size)]
    scheduler = Scheduler(hold, *jobs)
    costs: list[float] = []

    async def work() -> None:
        jobs[-1].requires(jobs[0])  # the first call may look at all
        start = time.process_time()
        for job in jobs[-CALLS - 1 : -1]:
            job.requires(jobs[0], jobs[1])
        costs.append(time.process_time() - start)
        scheduler.cancel()

    scheduler.add(Job(work))
    anyio.run(scheduler.co_run)
    return costs[0] / CALLS


def cost_of_adopting(size: int) -> float:
    """Seconds for each of the last calls of `add` with an input that belongs to no scheduler."""
    costs: list[float] = []

    async def work() -> None:
        scheduler.update(Job(give, Job(nothing, required=hold)) for _ in range(size))
        start = time.process_time()
        for _ in range(CALLS):
            scheduler.add(Job(give, Job(nothing, required=hold)))
        costs.append(time.process_time() - start)
        scheduler.cancel()

    hold = Job(anyio.sleep, 100)
    scheduler = Scheduler(hold, Job(work))
    anyio.run(scheduler.co_run)
    return costs[0] / CALLS


# Thirty times as many jobs once cost as many times as much; but what was adopted was copied at only 10 ns each.
LIMITS = [(cost_of_requires, 15), (cost_of_adopting, 4)]


@pytest.mark.parametrize(("cost", "limit"), LIMITS)
def test_change_of_a_large_scenario_costs_no_more_than_of_a_small_one(cost: Callable[[int], float], limit: int) -> None:
    """Calls of `requires` and `add` once visited all jobs: with 100,000 of them a call took milliseconds."""
    small = min(cost(300) for _ in range(5))
    assert any(cost(10_000) < limit * small for _ in range(2))


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30), st.integers(0, 11), st.integers(0, 11))
def test_search_from_both_ends_finds_what_one_finds(edges: list[tuple[int, int]], end: int, start: int) -> None:
    forwards: Any = {node: [b for a, b in edges if a == node] for node in range(12)}
    backwards: Any = {node: [a for a, b in edges if b == node] for node in range(12)}
    reached = start in _graph_algorithms.reachable([end], forwards.__getitem__)
    assert _graph_algorithms.has_path([end], forwards.__getitem__, [start], backwards.__getitem__) is reached


@pytest.mark.parametrize("is_large_ahead", [False, True])
def test_search_from_both_ends_ends_with_the_smaller_side(is_large_ahead: bool) -> None:
    asked: list[int] = []

    def neighbors(node: int, limit: int) -> list[int]:
        asked.append(node)
        return [node + 1] if node < limit else []

    large, small = (functools.partial(neighbors, limit=limit) for limit in (1000, 3))
    sides = [([0], large), ([2000], small)]
    (ends, forwards), (starts, backwards) = sides if is_large_ahead else sides[::-1]
    assert not _graph_algorithms.has_path(ends, forwards, starts, backwards)
    assert len(asked) <= 4


def test_adding_a_requirement_that_closes_a_long_cycle_raises(virtual: Virtual) -> None:
    hold = Job(anyio.sleep, 5)
    jobs = [Job(nothing, required=hold, label="0")]
    for number in range(1, 40):
        jobs.append(Job(nothing, required=jobs[-1], label=str(number)))

    async def work() -> None:
        for first, last in [(0, 39), (0, 1), (20, 30)]:
            with pytest.raises(CycleError) as caught:
                jobs[first].requires(jobs[last])
            assert set(caught.value.cycle) == set(jobs[first : last + 1])
        jobs[39].requires(jobs[0])

    assert virtual(functools.partial(timed, Scheduler(hold, *jobs, Job(work)), check=True)) == (True, 5)
