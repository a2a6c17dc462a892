"""The scenarios of examples/six_faults.py without their faults: no injected fault breaks them."""

from typing import Any
import anyio
from trioflow import Job, Scheduler

World = dict[str, Any]


def join_runs_once(world: World) -> Scheduler:
    world["joins"] = []

    async def part(seconds: float) -> None:
        await anyio.sleep(seconds)

    async def join() -> None:
        world["joins"].append("join")

    parts = [Job(part, 1, label="left"), Job(part, 2, label="right")]
    return Scheduler(*parts, Job(join, label="join", required=parts))


def slot_is_given_back() -> Scheduler:
    """Hold the slot by `async with`."""
    slots = anyio.Semaphore(1)

    async def work() -> None:
        async with slots:
            await anyio.sleep(1)

    return Scheduler(Job(work, label=name) for name in ("a", "b", "c"))


def wake_up_is_kept() -> Scheduler:
    """The producer's end wakes the consumer, even if it comes before the consumer waits."""

    async def consume() -> None:
        await anyio.sleep(0.1)
        await producer.wait_settled()

    producer = Job(anyio.sleep, 1, label="producer")
    return Scheduler(producer, Job(consume, label="consumer"), timeout=100)


def two_locks_in_order() -> Scheduler:
    """Lock the accounts in the same order in both transfers."""
    locks = {"alice": anyio.Lock(), "bob": anyio.Lock()}

    async def transfer(source: str, target: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        first, second = sorted((source, target))
        async with locks[first]:
            await anyio.sleep(0.1)
            async with locks[second]:
                await anyio.sleep(0.1)

    there = Job(transfer, "alice", "bob", 1, label="there")
    return Scheduler(there, Job(transfer, "bob", "alice", 2, label="back"))


def charged_once(world: World) -> Scheduler:
    """Give each charge a number, under which it is made once however often it is requested."""
    charges = world.setdefault("charges", [])

    async def charge(customer: str) -> str:
        if customer not in charges:
            charges.append(customer)
        await anyio.sleep(0.1)
        return f"receipt for {customer}"

    return Scheduler(Job(charge, name, label=f"charge {name}") for name in ("ann", "bob"))


def connection_is_closed_last() -> Scheduler:
    """Close the connection in a job that requires all its users."""
    closed: list[bool] = []

    async def query(seconds: float) -> None:
        assert not closed
        try:
            await anyio.sleep(seconds)
        finally:
            assert not closed

    async def close() -> None:
        closed.append(True)

    first, long = Job(query, 1, label="first"), Job(query, 5, label="long")
    following = Job(query, 2, label="next", required=first)
    return Scheduler(first, long, following, Job(close, label="close", required=[first, long, following]))


def no_more_than_once(scheduler: Scheduler, world: World) -> None:
    """Check that the scenario did everything at most once."""
    assert len(world.get("joins", ())) <= 1
    charges = world.get("charges", [])
    assert len(set(charges)) == len(charges)


MENDED = (
    join_runs_once, slot_is_given_back, wake_up_is_kept, two_locks_in_order, charged_once, connection_is_closed_last,
)  # fmt: skip
