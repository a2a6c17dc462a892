"""Sessions over the connection of one ssh, without an ssh for each: a client of OpenSSH's multiplexing protocol.

An ssh that shares its connection (ControlMaster) listens on a socket. To run a command, another ssh sends a short
request on that socket (PROTOCOL.mux in OpenSSH's source), and then waits. Starting it takes 6 ms of CPU and 1 MiB;
sending the same request from here, a fraction of a millisecond.

```
controller ─► hello, version 4                                      ──► the ssh that holds the connection
          ◄── hello, version 4
          ──► new session: variables, the command line
          ──► three times a byte with a descriptor: input, output, error
          ◄── opened, or refused, and why
          ◄── the exit code
          ◄── end of the socket: the session is over, and all its output has been written to the descriptors
```

A message is its length and its type, each in four bytes, followed by numbers and strings. This relies on the following,
all of it as old as version 4 (2010) and also used by OpenSSH's own clients:

- Only a complete request, with all three descriptors, opens a session. So after an earlier error, nothing has
  started. Then an ssh is started instead, which reports the problem or succeeds.
- When the socket closes, at either end, the session's input ends on the node, as when an ssh is killed. So no command
  runs on there when this program is killed: the system closes the socket.
- The end of the socket without an exit code means a lost connection.
- It passes on the variables that the user's SendEnv allows. Forwarding of X11 and of the agent is always requested,
  and happens only as the user's settings say. No terminal is requested, and no escape character.
- It reads one message at a time from the socket, so that descriptors arrive where they are expected.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ... import _posix as posix
from ..posix._sockets import send_all, send_with_descriptors

if TYPE_CHECKING:
    from ...abc import RunHandle

VERSION: Final = 4
HELLO: Final = 0x0000_0001
NEW_SESSION: Final = 0x1000_0002
DENIED: Final = 0x8000_0002
FAILURE: Final = 0x8000_0003
EXITED: Final = 0x8000_0004
OPENED: Final = 0x8000_0006
NO_TERMINAL: Final = 0x8000_0008
NO_ESCAPE: Final = 0xFFFF_FFFF
LONGEST_REQUEST: Final = 256 * 1024
"""The largest size of a request, in bytes (CHANNEL_MUX_MAX_PACKET)."""
LONGEST_ANSWER: Final = 1 << 16
"""The largest size of an answer, in bytes: a few numbers, or a reason."""
PIECE_BYTES: Final = 4096
"""The maximum number of bytes read at once."""
LOST_SESSION_CODE: Final = 255
"""The exit code of a lost session, as of ssh itself."""
REFUSED_PREFIX: Final = "the ssh that holds the connection opens no session"
"""The prefix of the message when a session is refused."""


class MuxUnavailable(Exception):
    """The protocol cannot be used, so an ssh must request the session; nothing was requested yet.

    Attributes:
        is_final: the master does not speak this protocol, so trying again is useless.

    """

    def __init__(self, *, is_final: bool = False) -> None:
        super().__init__(is_final)
        self.is_final: Final = is_final


async def ask_for_session(
    run: RunHandle, path: str, line: str, variables: Mapping[bytes, bytes], streams: Sequence[int]
) -> MuxSession:
    """Request a session from the ssh that listens on a socket, and return it without waiting for the answer.

    Args:
        run: the run that the session belongs to.
        path: the path of the socket.
        line: the line for the login shell of the node.
        variables: the environment of this program; the node gets those that the user's settings name.
        streams: the descriptors of its standard input, output and error.

    Raises:
        MuxUnavailable: nothing was requested.

    """
    request = _request(os.fsencode(line), variables)
    there = socket.socket(posix.AF_UNIX)
    try:
        there.setblocking(False)
        messages = Messages(there)
        try:
            there.connect(path)
            there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_REQUEST)  # a whole request fits
            there.send(_message(struct.pack(">II", HELLO, VERSION)))
            while not (answers := messages.read()):
                if messages.are_over:
                    raise MuxUnavailable
                await run.wait_readable(there.fileno())
            if answers[0][:8] != struct.pack(">II", HELLO, VERSION):
                raise MuxUnavailable(is_final=True)
            await _send(there, request, streams)
        except OSError as error:
            raise MuxUnavailable from error
        return MuxSession(there, messages)
    except BaseException:
        there.close()
        raise


async def _send(there: socket.socket, request: bytes, streams: Sequence[int]) -> None:
    """Send a request, and the descriptors one by one.

    Raises:
        OSError: the request was not sent, or only in part.

    """
    await send_all(there, request)
    for stream in streams:
        await send_with_descriptors(there, b"\0", [stream])


def _request(command: bytes, variables: Mapping[bytes, bytes]) -> bytes:
    words = [b"", command, *(name + b"=" + value for name, value in variables.items())]  # the first is TERM: none
    # the number of the request, and a reserved number; no terminal, X11, the agent, no subsystem
    numbers = struct.pack(">8I", NEW_SESSION, 0, 0, False, True, True, False, NO_ESCAPE)
    message = _message(numbers + b"".join(map(_message, words)))
    if len(message) > LONGEST_REQUEST or b"\0" in command:
        raise MuxUnavailable
    return message


def _message(data: bytes) -> bytes:
    """Prefix bytes with their length, as the protocol encodes messages and the strings in them."""
    return len(data).to_bytes(4, "big") + data


class Messages:
    """A parser of the messages from a socket.

    Attributes:
        are_over: whether the socket is closed, or sends an invalid message.

    """

    def __init__(self, there: socket.socket) -> None:
        """Read messages from the socket `there`."""
        self.are_over = False
        self._socket: Final = there
        self._buffer = b""

    def read(self) -> Sequence[bytes]:
        """Return the messages that are complete now, without blocking."""
        with contextlib.suppress(BlockingIOError):
            try:
                data = self._socket.recv(PIECE_BYTES)
            except ConnectionError:
                data = b""
            self.are_over = self.are_over or not data
            self._buffer += data
        messages = list[bytes]()
        while (end := 4 + int.from_bytes(self._buffer[:4], "big")) <= len(self._buffer):
            messages.append(self._buffer[4:end])
            self._buffer = self._buffer[end:]
        self.are_over = self.are_over or end > LONGEST_ANSWER
        return messages


class MuxSession:
    """A requested session, until its socket closes.

    Attributes:
        exit_descriptor: readable when there is a message; see `has_ended`.
        complaint: the reason why the session was refused; empty otherwise.

    """

    def __init__(self, there: socket.socket, messages: Messages) -> None:
        """Adopt the socket of the request."""
        self.exit_descriptor: Final = there.fileno()
        self.complaint: bytes = b""
        self._socket: Final = there
        self._messages: Final = messages
        self._code = LOST_SESSION_CODE

    def has_ended(self) -> bool:
        """Handle new messages; return whether the session is over."""
        for message in self._messages.read():
            kind, body = int.from_bytes(message[:4], "big"), message[4:]
            if kind == EXITED and len(body) >= 8:
                self._code = body[7]  # the last of four bytes, as in an exit code
            elif kind in (DENIED, FAILURE):
                self.complaint = REFUSED_PREFIX.encode() + b": " + body[8:]
                return True
            elif kind not in (OPENED, NO_TERMINAL):
                return True  # an unknown message
        return self._messages.are_over

    def kill(self) -> None:
        """End the session, as if its ssh were killed, even if a forked process has a copy of the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def finish(self) -> int:
        """Close the socket, and return the exit code."""
        self._socket.close()
        return self._code
