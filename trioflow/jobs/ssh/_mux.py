"""A client of OpenSSH's multiplexing protocol: sessions over a shared connection, without an ssh process for each.

An ssh that shares its connection (ControlMaster) listens on a socket. To run a command, a second ssh sends a short
request to that socket (PROTOCOL.mux in OpenSSH's source), and then waits. Starting this second ssh takes 6 ms of CPU
and 1 MiB of memory. This module sends the same request in a fraction of a millisecond.

```
controller ─► hello, version 4                                      ──► the ssh that holds the connection
          ◄── hello, version 4
          ──► new session: variables, the command line
          ──► three descriptors, each with one byte: input, output, error
          ◄── opened, or refused and the reason
          ◄── the exit code
          ◄── end of the socket: the session is over, and all its output has been written to the descriptors
```

A message consists of its length and its type, four bytes each, and numbers and strings. This module relies on the
following properties of the protocol, which are as old as version 4 (2010) and used by OpenSSH's own clients:

- Only a complete request, with all three descriptors, opens a session. If sending fails, nothing has started. An ssh
  process is then started instead, which succeeds or reports the problem.
- When either side closes the socket, the session's input ends on the node, as if an ssh were killed. If this program is
  killed, the system closes the socket, and so the commands on the node end, too.
- A socket that closes before the exit code means a lost connection.
- The ssh that holds the connection passes on only the variables that the user's SendEnv allows. Forwarding of X11 and
  of the agent is always requested, but takes place only if the user's settings enable it.
- That ssh reads one message at a time from the socket, so a descriptor sent after a message is not received with it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from ... import _posix as posix
from ...abc import RunHandle
from ..posix._sockets import send_all, send_with_descriptors

PROTOCOL_VERSION: Final = 4
HELLO: Final = 0x0000_0001
NEW_SESSION: Final = 0x1000_0002
DENIED: Final = 0x8000_0002
FAILURE: Final = 0x8000_0003
EXITED: Final = 0x8000_0004
OPENED: Final = 0x8000_0006
NO_TERMINAL: Final = 0x8000_0008
NO_ESCAPE: Final = 0xFFFF_FFFF
MAX_REQUEST_BYTES: Final = 256 * 1024
"""The maximum size of a request, in bytes (CHANNEL_MUX_MAX_PACKET)."""
MAX_ANSWER_BYTES: Final = 1 << 16
"""The maximum size of an answer, in bytes. An answer consists of a few numbers, or a reason."""
READ_SIZE: Final = 4096
LOST_SESSION_CODE: Final = 255
"""The exit code of a session whose connection was lost, as in ssh."""
REFUSED_PREFIX: Final = "the shared ssh connection refused a new session"
"""The prefix of the message when a session is refused."""


class MuxUnavailable(Exception):
    """The protocol cannot be used, and no session was requested. An ssh process must request it instead.

    Attributes:
        is_final: whether another attempt is useless, because the ssh on the socket does not speak the protocol.

    """

    def __init__(self, *, is_final: bool = False) -> None:
        super().__init__(is_final)
        self.is_final: Final = is_final


async def request_session(
    run: RunHandle, path: str, line: str, variables: Mapping[bytes, bytes], streams: Sequence[int]
) -> MuxSession:
    """Request a session from the ssh that listens on a socket, and return the session before the answer arrives.

    Args:
        run: the run to which the session belongs.
        path: the path of the socket.
        line: the command line for the login shell of the node.
        variables: the environment of this program; ssh sends the node those that the user's settings name (SendEnv).
        streams: the descriptors for the session's standard input, output and error.

    Raises:
        MuxUnavailable: no session was requested.

    """
    request = _encode_request(os.fsencode(line), variables)
    sock = socket.socket(posix.AF_UNIX)
    try:
        sock.setblocking(False)
        messages = MessageReader(sock)
        try:
            sock.connect(path)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_REQUEST_BYTES)  # a whole request fits
            sock.send(_encode_message(struct.pack(">II", HELLO, PROTOCOL_VERSION)))
            while not (answers := messages.read()):
                if messages.is_closed:
                    raise MuxUnavailable
                await run.wait_readable(sock.fileno())
            if answers[0][:8] != struct.pack(">II", HELLO, PROTOCOL_VERSION):
                raise MuxUnavailable(is_final=True)
            await _send(sock, request, streams)
        except OSError as error:
            raise MuxUnavailable from error
        return MuxSession(sock, messages)
    except BaseException:
        sock.close()
        raise


async def _send(sock: socket.socket, request: bytes, streams: Sequence[int]) -> None:
    """Send a request, then the descriptors one by one.

    Raises:
        OSError: the request was not sent completely.

    """
    await send_all(sock, request)
    for stream in streams:
        await send_with_descriptors(sock, b"\0", [stream])


def _encode_request(command: bytes, variables: Mapping[bytes, bytes]) -> bytes:
    words = [b"", command, *(name + b"=" + value for name, value in variables.items())]  # the first is an empty TERM
    # After the type: the request's number; a reserved number; whether to use a terminal, X11 forwarding, agent
    # forwarding and a subsystem; the escape character.
    numbers = struct.pack(">8I", NEW_SESSION, 0, 0, False, True, True, False, NO_ESCAPE)
    message = _encode_message(numbers + b"".join(map(_encode_message, words)))
    if len(message) > MAX_REQUEST_BYTES or b"\0" in command:
        raise MuxUnavailable
    return message


def _encode_message(data: bytes) -> bytes:
    """Prefix bytes with their length, as the protocol encodes both messages and strings."""
    return len(data).to_bytes(4, "big") + data


class MessageReader:
    """A reader of the messages that arrive on a socket.

    Attributes:
        is_closed: whether no more messages will come, because the socket was closed or a message is too long.

    """

    def __init__(self, sock: socket.socket) -> None:
        self.is_closed = False
        self._socket: Final = sock
        self._buffer = b""

    def read(self) -> Sequence[bytes]:
        """Read once without blocking, and return the messages that are now complete."""
        with contextlib.suppress(BlockingIOError):
            try:
                data = self._socket.recv(READ_SIZE)
            except ConnectionError:
                data = b""
            self.is_closed = self.is_closed or not data
            self._buffer += data
        messages = list[bytes]()
        while (end := 4 + int.from_bytes(self._buffer[:4], "big")) <= len(self._buffer):
            messages.append(self._buffer[4:end])
            self._buffer = self._buffer[end:]
        self.is_closed = self.is_closed or end > MAX_ANSWER_BYTES
        return messages


class MuxSession:
    """A requested session, which lasts until its socket closes.

    Attributes:
        exit_descriptor: the descriptor of the socket, readable when a message has arrived or the socket has closed.
        refusal: the error message if the session was refused, otherwise empty.

    """

    def __init__(self, sock: socket.socket, messages: MessageReader) -> None:
        self.exit_descriptor: Final = sock.fileno()
        self.refusal: bytes = b""
        self._socket: Final = sock
        self._messages: Final = messages
        self._code = LOST_SESSION_CODE

    def has_ended(self) -> bool:
        """Process new messages, and return whether the session has ended."""
        for message in self._messages.read():
            kind, body = int.from_bytes(message[:4], "big"), message[4:]
            if kind == EXITED and len(body) >= 8:
                self._code = body[7]  # the last of the code's four bytes, because exit codes have 8 bits
            elif kind in (DENIED, FAILURE):
                self.refusal = REFUSED_PREFIX.encode() + b": " + body[8:]
                return True
            elif kind not in (OPENED, NO_TERMINAL):
                return True  # an unknown message
        return self._messages.is_closed

    def kill(self) -> None:
        """Shut down the socket, which ends the session even if a forked process has a copy of the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def finish(self) -> int:
        self._socket.close()
        return self._code
