"""Functions that send data through non-blocking sockets. The task waits while the buffer of the socket is full."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio

from ... import _posix as posix


async def send_all(peer: socket.socket, data: bytes) -> None:
    """Send all data.

    Raises:
        OSError: some of the data could not be sent.

    """
    remaining = memoryview(data)
    while remaining:
        try:
            remaining = remaining[peer.send(remaining) :]
        except BlockingIOError:
            await anyio.wait_writable(peer)


async def send_with_descriptors(peer: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    """Send a short message together with descriptors. If the call is cancelled, nothing was sent.

    Raises:
        OSError: nothing was sent.

    """
    while True:
        try:
            posix.send_fds(peer, [message], descriptors)
        except BlockingIOError:
            await anyio.wait_writable(peer)
        else:
            return
