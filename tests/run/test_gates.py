"""Resources of the run whose gate has to be opened before a job can take them, such as the sessions of a node."""

from collections.abc import Iterator
from functools import partial
from typing import Any
import anyio
import pytest
from trioflow import AbstractJob, First, Job, Pool, Retry, Scheduler, StopReason, Trace
from trioflow._core.job import _job_options
from trioflow._core.job._job_options import declare_run_resource
from trioflow._core.job._option_descriptors import set_run_need
from trioflow.abc import run_of
from trioflow.abc import waiting as waiting_of
from .. import bodies
from ..bodies import (
    CANCELLED,
    FAILED,
    SCHEDULED,
    SUCCEEDED,
    Flaw,
    at_once,
    fail,
    later,
    nap,
    nothing,
    running,
    timed,
)
from ..conftest import Virtual


class Door:
    """A gate that takes three seconds to open. It is closed to each job that has passed it once and failed."""

    def __init__(self) -> None:
        self.seconds = 3.0
        self.is_open = False
        self.opened = self.given_up = 0
        self.told: set[object] = set()

    def is_closed_to(self, job: AbstractJob[Any]) -> bool:
        return not self.is_open or job in self.told

    async def open(self, _jobs: object) -> None:
        self.opened += 1
        try:
            await anyio.sleep(self.seconds)
        except BaseException:
            self.given_up += 1
            raise
        self.is_open = True
        self.told.clear()


class RoomJob(Job[Any]):
    def check_before_run(self) -> None:
        set_run_need(self, "rooms", 1)


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    declare_run_resource(
        "rooms", lambda: 2, "opening the door", lambda job: run_of(job) and door
    )
    yield door
    del _job_options.RUN_RESOURCES["rooms"]


def timed_run(virtual: Virtual, scheduler: Scheduler) -> float:
    return virtual(timed, scheduler)[1]


def test_a_job_that_waits_at_a_gate_holds_nothing_and_its_time_has_not_begun(
    virtual: Virtual, door: Door
) -> None:
    """While the gate opens, jobs are SCHEDULED, others have the slots and the needs, and no timeout runs."""
    seen: list[Any] = []

    def look() -> None:
        seen.append(
            [(job.state, getattr(waiting_of(job), "text", "")) for job in rooms]
        )
        seen.append(scheduler.explain(rooms[0]))

    rooms = [
        RoomJob(nap, 1, timeout=2, needs={"cpu": 1}, label=f"room {number}")
        for number in range(3)
    ]
    others = [Job(nap, 1, needs={"cpu": 1}) for _ in range(3)]
    scheduler = Scheduler(
        *rooms, *others, Job(later, 0.5, look), pool=Pool(cpu=1), jobs_window=2
    )
    assert timed_run(virtual, scheduler) == pytest.approx(6)
    assert {job.state for job in scheduler} == {SUCCEEDED}
    assert seen == [
        [(SCHEDULED, "opening the door")] * 3,
        "'room 0' waits for rooms: opening the door",
    ]
    assert door.opened == 1


def test_a_trace_names_the_gate_for_which_a_job_waited(
    virtual: Virtual, door: Door
) -> None:
    """What else the job needs had been named, or the window, although both were free after the first second."""
    room, trace = RoomJob(nap, 1, needs={"cpu": 1}), Trace()
    scheduler = Scheduler(
        room, Job(nap, 1, needs={"cpu": 1}), pool=Pool(cpu=1), jobs_window=1
    )
    virtual(lambda: scheduler.co_run(instruments=[trace]))
    assert [(wait.words, wait.since, wait.until) for wait in trace.spans[1].waits] == [
        ("a slot", 0, 1),
        ("rooms", 1, 3),
    ]


def test_a_gate_is_opened_when_a_job_could_start_but_for_it(
    virtual: Virtual, door: Door
) -> None:
    assert timed_run(
        virtual, Scheduler(Job(nap, 2), RoomJob(nap, 1), jobs_window=1)
    ) == pytest.approx(2 + 3 + 1)
    door.is_open = False
    calls = [(0, "pause"), (10, "resume"), (11, "pause"), (20, "resume")]
    room = RoomJob(nap, 1, required=Job(nap, 1))
    scheduler = Scheduler(room, *room.required)
    scheduler.update(
        Job(later, seconds, getattr(scheduler, name)) for seconds, name in calls
    )
    assert timed_run(virtual, scheduler) == pytest.approx(20 + 1)
    assert (door.opened, door.given_up) == (2, 0)


@pytest.mark.parametrize("how", ["cancel", "drain", "stop", "timeout", "failure"])
def test_an_opening_ends_when_no_job_waits_for_it(
    virtual: Virtual, door: Door, how: str
) -> None:
    """A run ends at once if its last job that waits at a gate is cancelled, or if it drains or stops."""
    door.seconds = 100
    rooms = [RoomJob(nap, 1), RoomJob(nap, 1)]
    scheduler = Scheduler(*rooms, label="s", timeout=1 if how == "timeout" else None)
    if how == "cancel":
        scheduler.add(Job(later, 1, lambda: [job.cancel() for job in rooms]))
    elif how == "failure":
        scheduler.add(Job(fail, 1, critical=True))
    elif how != "timeout":
        scheduler.add(
            Job(later, 1, scheduler.drain if how == "drain" else scheduler.cancel)
        )
    assert timed_run(virtual, scheduler) == pytest.approx(1)
    assert {job.state for job in rooms} == {CANCELLED}
    assert (door.opened, door.given_up) == (1, 1)
    reasons = {
        "cancel": StopReason.COMPLETED,
        "drain": StopReason.DRAINED,
        "stop": StopReason.CANCELLED,
    }
    others = {"timeout": StopReason.TIMEOUT, "failure": StopReason.CRITICAL}
    assert scheduler.stop_reason is {**reasons, **others}[how]


def test_job_that_begins_to_wait_while_opening_is_given_up_has_gate_opened_again(
    virtual: Virtual, door: Door
) -> None:
    first, second = RoomJob(nap, 1), RoomJob(nap, 1)

    async def main() -> float:
        began = anyio.current_time()
        async with Scheduler() as scheduler:
            scheduler.add(first)
            await anyio.sleep(1)
            first.cancel()
            scheduler.add(second)
        return anyio.current_time() - began

    assert virtual(main) == pytest.approx(1 + 3 + 1)
    assert (first.state, second.state) == (CANCELLED, SUCCEEDED)


def test_a_job_that_is_cancelled_at_a_gate_holds_up_no_others(
    virtual: Virtual, door: Door
) -> None:
    """The gate once opened with an error if a job behind the first one that waited had been cancelled."""
    rooms = [RoomJob(nap, 1) for _ in range(4)]
    scheduler = Scheduler(*rooms, Job(later, 1, rooms[1].cancel))
    assert timed_run(virtual, scheduler) == pytest.approx(3 + 2)
    assert [job.state for job in rooms] == [SUCCEEDED, CANCELLED, SUCCEEDED, SUCCEEDED]


def test_runs_may_begin_to_share_a_pool_while_a_gate_is_opened(
    virtual: Virtual, door: Door
) -> None:
    """Jobs at a gate once competed where their run had been before, with queues of runs that had ended."""
    pool, first, room = Pool(cpu=2, gpu=1), Job(nap, 1), RoomJob(nap, 1)
    late = Job(nap, 1, needs={"cpu": 1}, required=first)
    inner = Scheduler(
        RoomJob(nap, 1),
        Job(nap, 1, needs={"gpu": 1}),
        first,
        late,
        timeout=2,
        critical=False,
    )
    one = Scheduler(Job(nap, 9, needs={"gpu": 1}), room, inner, pool=pool)
    other = Scheduler(Job(nap, 10, needs={"cpu": 1}), pool=pool)

    async def main() -> None:
        async with running(other) as tasks:
            tasks.start_soon(one.co_run)

    virtual(main)
    assert one.stop_reason is StopReason.COMPLETED
    assert room.elapsed == pytest.approx(1)
    assert room.started_at == pytest.approx((first.started_at or 0) + 3)


def test_a_nested_run_that_ends_leaves_the_opening_to_others(
    virtual: Virtual, door: Door
) -> None:
    inner = Scheduler(RoomJob(nap, 1), timeout=2, critical=False)
    outer = RoomJob(nap, 1)
    assert timed_run(virtual, Scheduler(inner, outer)) == pytest.approx(4)
    assert (inner.stop_reason, outer.state, door.opened, door.given_up) == (
        StopReason.TIMEOUT,
        SUCCEEDED,
        1,
        0,
    )


@pytest.mark.parametrize("kind", [Scheduler, First])
def test_a_run_does_not_wait_for_a_gate_of_a_forever_group(
    virtual: Virtual, door: Door, kind: type[Scheduler]
) -> None:
    door.seconds = 100
    group = kind(RoomJob(nap, 1), forever=True)
    assert timed_run(virtual, Scheduler(group, Job(nap, 2))) == pytest.approx(2)
    assert (group.state, door.opened, door.given_up) == (CANCELLED, 1, 1)


def test_a_gate_is_opened_for_clean_up_by_the_nested_run_that_waits(
    virtual: Virtual, door: Door
) -> None:
    direct, nested = RoomJob(nap, 1, run_if="failed"), RoomJob(nap, 1)
    failing = Job(fail, 1, critical=True)
    group = Scheduler(nested, run_if="failed", required=failing)
    direct.requires(failing)
    scheduler = Scheduler(failing, direct, group, cleanup_timeout=100)
    assert timed_run(virtual, scheduler) == pytest.approx(1 + 3 + 1)
    assert (direct.state, nested.state) == (SUCCEEDED, SUCCEEDED)
    assert direct.elapsed == pytest.approx(1)
    assert direct.finished_at is not None
    assert nested.finished_at == pytest.approx(direct.finished_at + 3)


def test_each_attempt_of_a_job_waits_at_a_gate_that_is_closed_to_it(
    virtual: Virtual, door: Door
) -> None:
    """Jobs that have failed behind a gate wait for it again, and pass others to which it is open."""

    async def fail_once() -> None:
        if door.opened == 1:
            door.told.add(job)
            raise Flaw
        await anyio.sleep(1)

    job, other = RoomJob(fail_once, retry=Retry(1, first=0)), RoomJob(nap, 1)
    assert timed_run(virtual, Scheduler(job, other)) == pytest.approx(3 + 3 + 1)
    assert (job.state, other.state, door.opened, job.attempts) == (
        SUCCEEDED,
        SUCCEEDED,
        2,
        2,
    )


@pytest.mark.parametrize("place", ["find", "open", "stays closed"])
def test_if_a_gate_cannot_be_opened_jobs_start_and_find_out_themselves(
    virtual: Virtual, door: Door, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """An error on the way to a gate is no fault of the engine: each job meets it itself. So it is if nothing opens."""

    def find(_: object) -> Door:
        if place == "find":
            raise OSError
        return door

    async def fail_to_open(_jobs: object) -> None:
        if place == "open":
            raise OSError

    monkeypatch.setattr(door, "open", fail_to_open)
    declare_run_resource("rooms", lambda: 2, "opening the door", find)
    scheduler = Scheduler(RoomJob(nap, 1), RoomJob(fail, 1))
    assert timed_run(virtual, scheduler) == pytest.approx(1)
    assert [job.state for job in scheduler] == [SUCCEEDED, FAILED]


def test_a_gate_that_closes_is_opened_again_for_jobs_that_wait(
    virtual: Virtual, door: Door
) -> None:
    """A connection may be lost while jobs wait for a session: those that have not started wait for it again."""
    close = partial(setattr, door, "is_open", False)
    rooms = [
        RoomJob(later, 1, close),
        RoomJob(later, 1, close),
        RoomJob(nap, 1, timeout=2),
    ]
    assert timed_run(virtual, Scheduler(*rooms)) == pytest.approx(3 + 1 + 3 + 1)
    assert rooms[2].elapsed == pytest.approx(1)
    assert door.opened == 2


def test_competitors_of_a_first_pass_one_that_waits_at_a_gate(
    virtual: Virtual, door: Door
) -> None:
    room, other = RoomJob(nap, 1), Job(nap, 1)
    assert timed_run(
        virtual, Scheduler(First(room, other), jobs_window=1)
    ) == pytest.approx(1)
    assert (room.state, other.state, door.given_up) == (CANCELLED, SUCCEEDED, 1)


def test_a_job_at_a_gate_is_dropped_and_forgotten_as_any_other(
    virtual: Virtual, door: Door
) -> None:
    async def main() -> int:
        async with Scheduler(keep_jobs=False, jobs_window=1) as scheduler:
            for _ in range(4):
                scheduler.add(RoomJob(nothing))
            await anyio.sleep(10)
            return len(scheduler)

    assert virtual(main) == 0


def test_jobs_at_a_gate_keep_their_order(virtual: Virtual, door: Door) -> None:
    order: list[int] = []
    scheduler = Scheduler(
        *(
            RoomJob(at_once, partial(order.append, number), priority=number % 3)
            for number in range(30)
        ),
        jobs_window=1,
    )
    assert timed_run(virtual, scheduler) == pytest.approx(3)
    assert order == sorted(range(30), key=lambda number: (-(number % 3), number))


def test_a_job_that_waited_for_a_token_comes_to_the_gate_before_it_starts(
    virtual: Virtual, door: Door
) -> None:
    """It gave its token to the next one, and is SCHEDULED: it had started, and kept the token while the gate opened."""
    room, third = RoomJob(nap, 1, timeout=2), Job(nap, 1)

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        assert await Scheduler(Job(nap, 2), room, third, jobs_window=limiter).co_run()
        assert limiter.borrowed_tokens == 0

    virtual(main)
    assert (third.finished_at, room.finished_at) == (
        pytest.approx(2 + 1),
        pytest.approx(2 + 3 + 1),
    )
    assert (room.elapsed, door.opened) == (pytest.approx(1), 1)


class Counters:
    """A gate to counters, each of which serves one job at a time and takes two seconds to set up."""

    def __init__(self) -> None:
        self.idle = 0
        self.claims: set[object] = set()
        self.asked: list[list[object]] = []

    def is_closed_to(self, job: object) -> bool:
        return not self.idle

    async def open(self, jobs: list[AbstractJob[Any]]) -> None:
        if not self.idle:
            self.asked.append([job.label for job in jobs])
            await anyio.sleep(2)
            self.idle += len(jobs)

    def enter(self, job: object) -> None:
        if self.idle:
            self.idle -= 1
            self.claims.add(job)

    def leave(self, job: object) -> None:
        if job in self.claims:
            self.claims.discard(job)
            self.idle += 1


@pytest.fixture
def counters() -> Iterator[Counters]:
    counters = Counters()
    declare_run_resource("rooms", lambda: 3, "setting up", lambda _: counters)
    yield counters
    del _job_options.RUN_RESOURCES["rooms"]


@pytest.mark.parametrize(
    ("limits", "number"),
    [
        ({}, 3), ({"jobs_window": 2}, 2), ({"pool": Pool(cpu=2)}, 2), ({"jobs_window": 2, "pool": Pool(cpu=1)}, 1),
        ({"jobs_window": "limiter"}, 2),
    ],
)  # fmt: skip
def test_a_gate_is_opened_for_as_many_jobs_as_could_start_together(
    virtual: Virtual, counters: Counters, limits: dict[str, Any], number: int
) -> None:
    """Not for all that wait: what one counter costs would be spent for jobs that have no slot, or no CPU."""
    jobs = [
        RoomJob(nap, 1, label=str(each), needs={"cpu": 1} if "pool" in limits else {})
        for each in range(6)
    ]

    async def main() -> None:
        window = limits.get("jobs_window")
        scheduler = Scheduler(
            *jobs,
            **{
                **limits,
                "jobs_window": anyio.CapacityLimiter(2)
                if window == "limiter"
                else window,
            },
        )
        assert await scheduler.co_run()

    virtual(main)
    assert counters.asked == [[str(each) for each in range(number)]]


def test_jobs_at_a_gate_take_in_order_what_one_gives_back(
    virtual: Virtual, counters: Counters
) -> None:
    order: list[int] = []
    counters.idle = 1
    scheduler = Scheduler(
        RoomJob(bodies.noted, order, number, 0.1) for number in range(8)
    )
    assert timed_run(virtual, scheduler) == pytest.approx(0.8)
    assert order == list(range(8))


def test_what_has_a_room_and_what_waits_at_its_gate_wait_anew_together(
    virtual: Virtual, door: Door
) -> None:
    """As the room came back, the gate looked for the first of those that were parked at it, and none was left."""
    door.seconds = 0

    async def collect() -> None:
        await anyio.sleep(1)
        door.told = {waits} if source.attempts == 1 else set()

    source = Job(collect, needs={"cpu": 1}, required=RoomJob(nap))
    enters = RoomJob(nap, required=source)
    waits = RoomJob(nap, required=source)
    rejects = Job(at_once, source.try_again, needs={"cpu": 1}, required=source.required)
    scheduler = Scheduler(
        source.required, source, rejects, enters, waits, pool=Pool(cpu=1)
    )
    assert virtual(scheduler.co_run)
    assert [job.attempts for job in scheduler] == [1, 2, 1, 1, 1]
