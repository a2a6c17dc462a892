"""Six faults that all tests pass, until one day things happen in another order; explore finds each, and tells how.

Run it:  python examples/six_faults.py
"""

from typing import Any

import anyio

from trioflow import Job, Scheduler
from trioflow.testing import explore


def join_runs_twice(world):
    """Whoever finds that both parts are there joins them. But while one saves its part, the other may come."""
    parts, world["joins"] = [], []

    async def part(name, seconds):
        await anyio.sleep(seconds)
        parts.append(name)
        await anyio.sleep(0.1)  # saves it
        if len(parts) == 2:
            world["joins"].append(name)

    return Scheduler(
        Job(part, "left", 1, label="left"), Job(part, "right", 2, label="right")
    )


def joined_once(scheduler, world):
    assert len(world["joins"]) <= 1, f"joined {len(world['joins'])} times"


def slot_is_lost():
    """A slot is given back at the end of the work; not if the work fails."""
    slots = anyio.Semaphore(1)

    async def work():
        await slots.acquire()
        await anyio.sleep(1)
        slots.release()

    return Scheduler(Job(work, label=name) for name in ("a", "b", "c"))


def wake_up_is_lost():
    """A consumer that finds nothing waits to be woken. But what comes before it waits wakes nobody."""
    queue: list[str] = []
    sleepers: list[anyio.Event] = []

    async def consume():
        if not queue:
            await anyio.sleep(0.1)  # tells its user that it waits
            sleepers.append(anyio.Event())
            await sleepers[-1].wait()
        queue.pop()

    async def produce():
        await anyio.sleep(1)
        queue.append("work")
        for sleeper in sleepers:
            sleeper.set()

    return Scheduler(Job(consume, label="consumer"), Job(produce, label="producer"))


def two_locks():
    """Each of two transfers locks its own account first, and then the other's."""
    locks = {"alice": anyio.Lock(), "bob": anyio.Lock()}

    async def transfer(source, target, seconds):
        await anyio.sleep(seconds)
        async with locks[source]:
            await anyio.sleep(0.1)  # looks up the balance
            async with locks[target]:
                await anyio.sleep(0.1)

    there = Job(transfer, "alice", "bob", 1, label="there")
    return Scheduler(there, Job(transfer, "bob", "alice", 2, label="back"))


def charged_twice(world):
    """A card is charged, and then the receipt is sent. If the program is killed in between, a resume does both."""
    charges = world.setdefault("charges", [])

    async def charge(customer):
        charges.append(customer)
        await anyio.sleep(0.1)  # sends the receipt
        return f"receipt for {customer}"

    return Scheduler(
        Job(charge, name, label=f"charge {name}") for name in ("ann", "bob")
    )


def each_was_charged_once(scheduler, world):
    twice = sorted(
        {name for name in world["charges"] if world["charges"].count(name) > 1}
    )
    assert not twice, f"charged twice: {', '.join(twice)}"


def connection_is_closed_early():
    """The last user of a shared connection closes it: who is the last one now, if a job comes later?"""
    users: set[str] = set()
    closed: list[str] = []

    async def query(name, seconds):
        assert not closed, f"{closed[0]} has closed the connection"
        users.add(name)
        try:
            await anyio.sleep(seconds)
        finally:
            users.discard(name)
            if not users:
                closed.append(name)

    first = Job(query, "first", 1, label="first")
    return Scheduler(
        first,
        Job(query, "long", 5, label="long"),
        Job(query, "next", 2, label="next", required=first),
    )


SIX: dict[
    Any, Any
] = {  # with what is checked after each run, and what may happen in it
    join_runs_twice: (joined_once, ["order", "durations"]),
    slot_is_lost: (None, ["failures"]),
    wake_up_is_lost: (None, ["order", "durations"]),
    two_locks: (None, ["order", "durations"]),
    charged_twice: (each_was_charged_once, ["crash"]),
    connection_is_closed_early: (None, ["failures"]),
}


def main():
    for scenario, (check, faults) in SIX.items():
        try:
            explore(scenario, check=check, faults=faults, seed=1)
        except AssertionError as broken:
            print(f"{scenario.__name__}: {scenario.__doc__}\n\n{broken}\n\n")


if __name__ == "__main__":
    main()
