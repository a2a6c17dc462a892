"""Sending on non-blocking sockets: the sending task waits while the other end is full."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio

from ... import _posix as posix


async def send_all(there: socket.socket, data: bytes) -> None:
    """Send all data.

    Raises:
        OSError: the data was not sent, or only in part.

    """
    left = memoryview(data)
    while left:
        try:
            left = left[there.send(left) :]
        except BlockingIOError:
            await anyio.wait_writable(there)


async def send_with_descriptors(there: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    """Send a short message with descriptors; if this is cancelled, the message has not been sent.

    Raises:
        OSError: the message was not sent.

    """
    while True:
        try:
            posix.send_fds(there, [message], descriptors)
        except BlockingIOError:
            await anyio.wait_writable(there)
        else:
            return
