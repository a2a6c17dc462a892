"""A real TCP server as a service, a second one that uses it, and clients as jobs: real sockets, real time."""

from collections.abc import Callable
from typing import Any
import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from trioflow import Job, JobState, Scheduler, Service, StopReason
from ...bodies import crash, interrupt
from ...places import PATIENCE, patiently

HOST = "127.0.0.1"


class Servers:
    """`store` answers a word by its capitals; `front` asks the store and adds a mark. Both write down what they do."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.store = Service(self.serve, "store", self.capitals, label="store")
        self.front = Service(
            self.serve, "front", self.marked, kwargs={"uses": self.store}, label="front"
        )

    async def serve(
        self,
        name: str,
        answer: Callable[..., Any],
        *,
        task_status: Any,
        uses: Any = None,
    ) -> None:
        async def handle(client: SocketStream) -> None:
            async with client:
                word = await client.receive()
                await client.send(await answer(word, uses))

        async with await anyio.create_tcp_listener(local_host=HOST) as listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            self.log.append(f"{name} listens")
            try:
                await listener.serve(handle)
            finally:
                if uses is not None:
                    with anyio.CancelScope(
                        shield=True
                    ):  # what it uses is alive as long as it unwinds
                        self.log.append((await ask(uses, b"bye")).decode())
                self.log.append(f"{name} is gone")

    async def capitals(self, word: bytes, _: Any) -> bytes:
        return word.upper()

    async def marked(self, word: bytes, uses: int) -> bytes:
        return await ask(uses, word) + b"!"


async def ask(port: int, word: bytes) -> bytes:
    async with await anyio.connect_tcp(HOST, port) as stream:
        await stream.send(word)
        return await stream.receive()


async def wait(port: int) -> None:
    await anyio.sleep_forever()


GONE = ["store listens", "front listens", "BYE", "front is gone", "store is gone"]


def is_gone(port: int, backend: Any) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the kernel's words for it differ
        anyio.run(ask, port, b"anybody", backend=backend)


@pytest.mark.parametrize("window", [None, 3])
def test_tcp_servers_answer_their_clients(backend: Any, window: int | None) -> None:
    """Clients get the address of a TCP server as an argument when it is ready, and the servers are gone in the end."""
    servers = Servers()
    clients = [Job(ask, servers.front, b"word %d" % number) for number in range(10)]
    scheduler = Scheduler(servers.front, servers.store, clients, jobs_window=window)
    assert scheduler.run(backend=backend, timeout=PATIENCE, check=True) is True
    assert [client.result() for client in clients] == [
        b"WORD %d!" % number for number in range(10)
    ]
    assert servers.log == GONE
    assert [servers.store.state, servers.front.state] == [JobState.SUCCEEDED] * 2
    is_gone(servers.front.result(), backend)


@pytest.mark.parametrize(
    "how", [crash, interrupt, Scheduler.cancel, "timeout", "outside"]
)
@patiently(0.3, 30)
def test_tcp_servers_end_in_order(backend: Any, how: Any, unit: float) -> None:
    """However the run ends, the front server can use the one behind it until the front server is gone itself."""
    servers = Servers()
    scopes: list[anyio.CancelScope] = []

    async def happen(port: int) -> None:
        assert await ask(port, b"there") == b"THERE!"
        if how == "outside":
            scopes[0].cancel()
        elif callable(how):
            how(scheduler)
        await anyio.sleep_forever()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await scheduler.co_run(timeout=unit if how == "timeout" else PATIENCE)

    scheduler = Scheduler(servers.store, servers.front, Job(wait, servers.front))
    scheduler.add(Job(happen, servers.front, critical=True))
    if how is interrupt:
        with pytest.raises(KeyboardInterrupt):
            anyio.run(main, backend=backend)
    else:
        anyio.run(main, backend=backend)
    expected = {
        "timeout": StopReason.TIMEOUT,
        crash: StopReason.CRITICAL,
        interrupt: StopReason.INTERRUPTED,
    }
    assert scheduler.stop_reason is expected.get(how, StopReason.CANCELLED)
    assert servers.log == GONE
    is_gone(servers.store.result(), backend)


def test_tcp_servers_answer_the_body_of_an_open_scheduler(backend: Any) -> None:
    servers = Servers()

    async def main() -> None:
        async with Scheduler(servers.store, servers.front) as scheduler:
            client = scheduler.add(Job(ask, servers.front, b"word"))
            await client.wait_settled()
            assert client.result() == b"WORD!"
            assert await ask(servers.front.result(), b"body") == b"BODY!"
        assert servers.log == GONE

    anyio.run(main, backend=backend)


def test_a_tcp_server_whose_port_is_in_use_fails_and_blocks_its_clients(
    backend: Any,
) -> None:
    servers = Servers()

    async def take(port: int, *, task_status: Any) -> None:
        async with await anyio.create_tcp_listener(local_host=HOST, local_port=port):
            task_status.started(port)
            await anyio.sleep_forever()

    second = Service(take, servers.store)
    client = Job(ask, second, b"word")
    assert Scheduler(servers.store, second, client).run(backend=backend) is False
    assert (second.state, client.state) == (JobState.FAILED, JobState.BLOCKED)
    cause = client.raised_exception()
    assert cause is not None
    assert isinstance(cause.__cause__, OSError)
