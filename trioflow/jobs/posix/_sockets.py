"""Sending on sockets that do not block: whoever sends waits while the other end takes no more."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio

from ... import _posix as posix


async def send_all(there: socket.socket, data: bytes) -> None:
    """Send all of it.

    Raises:
        OSError: it was not sent, or only in part.

    """
    left = memoryview(data)
    while left:
        try:
            left = left[there.send(left) :]
        except BlockingIOError:
            await anyio.wait_writable(there)


async def send_with_descriptors(there: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    """Send a short message with descriptors; it has not been sent if this is cancelled.

    Raises:
        OSError: it was not sent.

    """
    while True:
        try:
            posix.send_fds(there, [message], descriptors)
        except BlockingIOError:
            await anyio.wait_writable(there)
        else:
            return
