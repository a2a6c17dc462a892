"""Functions that send data through non-blocking sockets. The task waits while the buffer of the socket is full."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio

from ... import _posix as posix


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Send all data.

    Raises:
        OSError: some of the data could not be sent.

    """
    remaining = memoryview(data)
    while remaining:
        try:
            remaining = remaining[sock.send(remaining) :]
        except BlockingIOError:
            await anyio.wait_writable(sock)


async def send_with_descriptors(sock: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    """Send a short message together with descriptors. If the call is cancelled, nothing has been sent.

    Raises:
        OSError: nothing could be sent.

    """
    while True:
        try:
            posix.send_fds(sock, [message], descriptors)
            return
        except BlockingIOError:
            await anyio.wait_writable(sock)
