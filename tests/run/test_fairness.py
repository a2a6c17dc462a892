"""Jobs share the event loop fairly: timers, other tasks and cancellation are on time."""

import gc
import itertools
import types
import weakref
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, JobState, Scheduler, Sequence, StopReason
from trioflow._core.run._worker import TimeSlice, Worker
from ..bodies import at_once, nothing, pass_time, running, ticking, turns
from ..conftest import Virtual

STOPPED: Any = SimpleNamespace(
    clock=lambda: lambda: 0.0, threadsafe_caller=lambda: None
)
"""A backend whose clock stands still."""
SHAPES: dict[str, Callable[[Callable[[], Any]], Scheduler]] = {
    "wide": lambda work: Scheduler([Job(work) for _ in range(500)]),
    "chain": lambda work: Scheduler(Sequence([Job(work) for _ in range(500)])),
    "timeouts": lambda work: Scheduler([Job(work, timeout=9) for _ in range(300)]),
    "nested": lambda work: Scheduler(
        [Scheduler([Job(work) for _ in range(15)]) for _ in range(40)]
    ),
    "small": lambda work: Scheduler([Scheduler(Job(work)) for _ in range(200)]),
}


def longest_gap(numbers: list[Any]) -> float:
    return max(after - before for before, after in itertools.pairwise(numbers))


# Not nested with a checkpoint: what 40 schedulers have started goes on by itself in the next turn, as any task does.
CASES = [
    (shape, checkpoints)
    for shape in SHAPES
    for checkpoints in (0, 1)
    if (shape, checkpoints) != ("nested", 1)
]


@pytest.mark.parametrize(("shape", "checkpoints"), CASES)
def test_jobs_run_for_a_millisecond_between_turns_of_the_loop(
    virtual: Virtual, shape: str, checkpoints: int
) -> None:
    """All jobs together, nested ones included, run for about a millisecond between two turns of the loop. Each nested
    run once had a millisecond of its own: 40 of them kept everything else waiting for 16."""
    times: list[float] = []

    async def work() -> None:
        for _ in range(checkpoints):
            await anyio.lowlevel.checkpoint()
        pass_time(virtual.backend, 0.0001)

    assert virtual(
        ticking, lambda: times.append(anyio.current_time()), SHAPES[shape](work).co_run
    )
    assert (
        longest_gap(times) < 0.005
    )  # trio shuffles: a ticker that is first in one turn and last in the next sees two of them


@pytest.mark.parametrize("again", [False, True])
def test_concurrent_runs_in_one_loop_share_a_millisecond_per_turn(
    virtual: Virtual, again: bool
) -> None:
    """All runs in a loop together have a millisecond per turn, as programs with a run for each request need. Each run
    once had a millisecond of its own, and they kept everything else waiting for 40."""
    times: list[float] = []

    async def request() -> None:
        for _ in range(1 + again):
            assert await Scheduler(
                [
                    Job(at_once, lambda: pass_time(virtual.backend, 0.0001))
                    for _ in range(15)
                ]
            ).co_run()

    async def main() -> None:
        async with anyio.create_task_group() as requests:
            for _ in range(40):
                requests.start_soon(request)

    virtual(ticking, lambda: times.append(anyio.current_time()), main)
    assert longest_gap(times) < 0.005


def test_the_limit_of_waiting_workers_follows_the_last_turn() -> None:
    """Twice as many workers may wait for a turn as had time in the last one, within bounds."""
    turn = TimeSlice(STOPPED)
    for found, most in [(1, 2), (5, 10), (12, 24), (13, 24)]:
        last = turn.turn_number
        assert all(turn.begin(last, turn.ends_at) for _ in range(found))
        assert not turn.begin(last, turn.ends_at + 1)
        turn.begin(turn.turn_number, turn.ends_at)
        assert turn.max_waiting == most


def test_workers_beyond_the_limit_queue_for_a_turn() -> None:
    @types.coroutine
    def suspended(*_: object) -> Generator[None]:
        yield

    class Waiting:
        run = SimpleNamespace(
            backend=SimpleNamespace(yield_to_loop=suspended, wait_until_woken=suspended)
        )

    turn = TimeSlice(STOPPED)
    workers: list[Any] = [Waiting() for _ in range(turn.max_waiting + 2)]
    waiting = [turn.wait(worker) for worker in workers]
    for one in waiting:
        one.send(None)
    assert (turn.waiting_count, list(turn.queue)) == (turn.max_waiting, workers[-2:])
    for one in waiting:
        one.close()


def waits_for_a_turn(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    waits: list[Worker] = []
    wait_for_next = TimeSlice.wait

    async def counted(self: TimeSlice, worker: Worker) -> int:
        waits.append(worker)
        return await wait_for_next(self, worker)

    monkeypatch.setattr(TimeSlice, "wait", counted)
    return waits


def test_few_workers_wake_in_a_turn_that_one_job_uses_up(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 groups of jobs that compute for longer than a turn, few look for a job in each: the rest are queued. The
    workers of all groups once woke in each turn, and one started a job: quadratic in the number of groups."""
    waits = waits_for_a_turn(monkeypatch)
    groups = [
        Scheduler(
            [Job(at_once, lambda: pass_time(virtual.backend, 0.002)) for _ in range(2)]
        )
        for _ in range(100)
    ]
    assert virtual(Scheduler(groups).co_run)
    assert len(waits) < 8 * 2 * len(groups)


@pytest.mark.parametrize("end", ["cancel", "critical", "timeout", "drain"])
def test_runs_whose_workers_queue_for_a_turn_may_be_stopped(
    virtual: Virtual, end: str
) -> None:
    started: list[str] = []

    async def work(name: str) -> None:
        started.append(name)
        pass_time(virtual.backend, 0.002)

    async def stop() -> None:
        pass_time(virtual.backend, 0.01)
        if end == "critical":
            raise OSError
        if end != "timeout":
            [group.cancel() if end == "cancel" else group.drain() for group in stopped]

    def group(name: str) -> Scheduler:
        return Scheduler([Job(work, name) for _ in range(3)], label=name)

    stopped, others = (
        [group("stopped") for _ in range(50)],
        [group("other") for _ in range(50)],
    )
    around = Scheduler(
        [Job(stop), *stopped],
        critical=False,
        critical_jobs=end == "critical",
        timeout=0.02,
    )
    assert virtual(Scheduler(around, others).co_run)
    assert started.count("other") == 150
    assert started.count("stopped") < 150
    assert {job.state for one in stopped for job in one} <= {
        JobState.SUCCEEDED,
        JobState.CANCELLED,
        JobState.IDLE,
    }


def test_ended_run_does_not_wait_for_its_workers_in_the_queue_for_a_turn(
    virtual: Virtual,
) -> None:
    late: list[float] = []

    async def group() -> None:
        scheduler = Scheduler(
            [Job(at_once, lambda: pass_time(virtual.backend, 0.002)) for _ in range(2)]
        )
        await scheduler.co_run()
        late.append(
            anyio.current_time() - max(job.finished_at or 0.0 for job in scheduler)
        )

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(group)

    virtual(main)
    assert max(late) < 0.02


def test_a_finished_run_can_be_garbage_collected(virtual: Virtual) -> None:
    """A finished run can be collected: the record that all runs of a loop share does not refer to it."""

    async def main() -> None:
        scheduler = Scheduler([Job(nothing) for _ in range(30)])
        await scheduler.co_run()
        gone = weakref.ref(scheduler)
        del scheduler
        await turns()  # the last worker's task ends after the run
        gc.collect()
        assert gone() is None

    virtual(main)


def test_thousands_of_jobs_that_never_await_leave_turns_to_other_tasks(
    virtual: Virtual,
) -> None:
    """Beside 5,000 jobs that never await, another task still gets many turns of the loop."""
    seen: list[int] = []
    done: list[int] = []
    scheduler = Scheduler([Job(at_once, lambda: done.append(1)) for _ in range(5000)])
    assert virtual(ticking, lambda: seen.append(len(done)), scheduler.co_run)
    assert longest_gap(seen) <= 1000


def test_job_that_endlessly_adds_jobs_without_await_can_be_cancelled(
    virtual: Virtual,
) -> None:
    async def more() -> None:
        scheduler.add(Job(more))

    scheduler = Scheduler(Job(more))

    async def main() -> None:
        async with running(scheduler) as tasks:
            for _ in range(6):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    virtual(main)
    assert len(scheduler) > 1
    assert scheduler.stop_reason is StopReason.CANCELLED
