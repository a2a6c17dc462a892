"""Fixtures as users of pytest-trio write them: an open scheduler for the test, and a connection for its jobs."""

from collections.abc import AsyncIterator, Iterator
import pytest
import trio
from trioflow import Scheduler, Service
from pytest_trio import trio_fixture


class Connection:
    """A connection for the jobs of a test: it records its requests, and whether it is open."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_open = False

    async def ask(self, what: str) -> str:
        if not self.is_open:
            raise ConnectionError(f"{what}: nobody is there")
        await trio.sleep(1)
        self.asked.append(what)
        return what.upper()


@pytest.fixture
def connection() -> Connection:
    return Connection()


@trio_fixture
async def scheduler(connection: Connection) -> AsyncIterator[Scheduler]:
    """Hold a scheduler open for the test, with a service that keeps the connection."""

    async def keep(task_status: trio.TaskStatus[Connection]) -> None:
        await trio.sleep(5)
        connection.is_open = True
        task_status.started(connection)
        try:
            await trio.sleep_forever()
        finally:
            connection.is_open = False

    async with Scheduler(label="of the test") as opened:
        opened.add(Service(keep, label="connection"))
        yield opened


@pytest.fixture
def closed_afterwards(connection: Connection) -> Iterator[Connection]:
    """Check that the scheduler has ended its service after the test; this fixture outlives the scheduler."""
    yield connection
    assert not connection.is_open
