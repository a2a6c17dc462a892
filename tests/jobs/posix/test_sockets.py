"""Sending through a socket with a slow reader."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

from trioflow.jobs.posix import _sockets

MANY = 1_000_000
"""Bytes, more than the kernel keeps for a socket."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a socket that do not block."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        yield here, there


async def all_that_comes(there: socket.socket, size: int, step: Callable[[], Any]) -> None:
    """Receive the given number of bytes, a part in each turn of the loop; `step` receives."""
    left = size
    while left:
        await anyio.wait_readable(there)
        left -= len(step())


def meanwhile(backend: str, send: Callable[[], Coroutine[Any, Any, None]], receive: Callable[[], Any]) -> None:
    """Send and receive at the same time, in one event loop."""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            tasks.start_soon(receive)

    anyio.run(main, backend=backend)


def test_send_all_waits_until_the_socket_has_room(backend: str, pair: tuple[socket.socket, socket.socket]) -> None:
    """`send_all` waits until the socket has room, while the event loop runs on, and all bytes arrive."""
    here, there = pair
    parts: list[bytes] = []

    def step() -> bytes:
        parts.append(there.recv(65536))
        return parts[-1]

    message = os.urandom(MANY)
    meanwhile(backend, lambda: _sockets.send_all(here, message), lambda: all_that_comes(there, MANY, step))
    assert b"".join(parts) == message


def test_send_with_descriptors_waits_until_the_socket_has_room(
    backend: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    """`send_with_descriptors` waits until the socket has room, and its message arrives with the descriptors."""
    here, there = pair
    before = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            before += here.send(bytes(65536))
    descriptors: list[int] = []

    def step() -> bytes:
        received, found, _, _ = socket.recv_fds(there, 65536, 1)
        descriptors.extend(found)
        return received

    with open(os.devnull, "rb") as file:
        meanwhile(
            backend,
            lambda: _sockets.send_with_descriptors(here, b"take this", [file.fileno()]),
            lambda: all_that_comes(there, before + len(b"take this"), step),
        )
        [descriptor] = descriptors
        assert os.path.sameopenfile(descriptor, file.fileno())
        os.close(descriptor)
