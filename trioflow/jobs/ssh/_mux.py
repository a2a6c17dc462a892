"""Sessions over the connection that an ssh holds, without an ssh for each: what that would say is said from here.

An ssh that holds a connection for others (ControlMaster) listens on a socket. To run a command there, another ssh says
little on that socket (PROTOCOL.mux in OpenSSH's source), and then waits. To start it takes 6 ms of CPU and 1 MiB, and
to say the same from here a fraction of a millisecond.

```
conductor ──► hello, version 4                                      ──► the ssh that holds the connection
          ◄── hello, version 4
          ──► new session: variables, the command line
          ──► three times a byte with a descriptor: input, output, errors
          ◄── opened, or refused, and why
          ◄── the exit code
          ◄── the end of the socket: the session is over, and all that came has been written to the descriptors
```

A message is its length and its type, each in four bytes, and numbers and strings. The following is relied on, all of
it as old as version 4 (2010), and what OpenSSH's own clients rely on:

- Only a request that has come whole, with all three descriptors, opens a session. So if anything fails before, nothing
  has started. An ssh is started then: whatever is wrong, that one says it as it always did, or gets through.
- When the socket closes, whoever closes it, the session's input ends on the node, as when an ssh is killed. So nothing
  goes on there when this program is killed: the system closes the socket.
- An end of the socket without an exit code is a connection that was lost.
- Of the variables it passes on those that the user's SendEnv allows. Forwarding of X11 and of the agent is asked for
  always: it forwards what the user's settings say, no more. No terminal is asked for, and no escape character.
- It reads no more than a message from the socket, so that the descriptors come to where they are expected.
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
"""Bytes of a request, at most (CHANNEL_MUX_MAX_PACKET)."""
LONGEST_ANSWER: Final = 1 << 16
"""Bytes of an answer, at most: they have a few numbers, or a reason."""
PIECE: Final = 4096
"""Bytes that are read at once."""
LOST: Final = 255
"""The exit code of a session that was lost, as that of ssh itself."""
REFUSED: Final = "the ssh that holds the connection opens no session"
"""What is said in front of the reason."""


class MuxUnavailable(Exception):
    """An ssh is to ask for the session: nothing has been asked for yet.

    Attributes:
        is_final: whoever holds the connection speaks another language; no use in trying again.

    """

    def __init__(self, *, is_final: bool = False) -> None:
        super().__init__(is_final)
        self.is_final: Final = is_final


async def ask_for_session(
    run: RunHandle, path: str, line: str, variables: Mapping[bytes, bytes], streams: Sequence[int]
) -> MuxSession:
    """Ask whoever listens on a socket for a session; whether it is opened is known later.

    Args:
        run: the run that it belongs to.
        path: the path of the socket.
        line: what the login shell of the node is to run.
        variables: those of this program; the node gets those that the user's settings name.
        streams: the descriptors of its standard input, output and error.

    Raises:
        MuxUnavailable: nothing was asked for.

    """
    request = _request(os.fsencode(line), variables)
    there = socket.socket(posix.AF_UNIX)
    try:
        there.setblocking(False)
        messages = Messages(there)
        try:
            there.connect(path)
            there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_REQUEST)  # all goes at once
            there.send(_message(struct.pack(">II", HELLO, VERSION)))
            while not (said := messages.read()):
                if messages.are_over:
                    raise MuxUnavailable
                await run.wait_readable(there.fileno())
            if said[0][:8] != struct.pack(">II", HELLO, VERSION):
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
        OSError: not all of it was sent.

    """
    await send_all(there, request)
    for stream in streams:
        await send_with_descriptors(there, b"\0", [stream])


def _request(command: bytes, variables: Mapping[bytes, bytes]) -> bytes:
    words = [b"", command, *(name + b"=" + value for name, value in variables.items())]  # the first: no terminal
    # the number of the request, and nothing that is reserved; no terminal, X11, the agent, no subsystem
    numbers = struct.pack(">8I", NEW_SESSION, 0, 0, False, True, True, False, NO_ESCAPE)
    message = _message(numbers + b"".join(map(_message, words)))
    if len(message) > LONGEST_REQUEST or b"\0" in command:
        raise MuxUnavailable
    return message


def _message(data: bytes) -> bytes:
    """Return bytes behind their length: a message, or a string in one."""
    return len(data).to_bytes(4, "big") + data


class Messages:
    """What comes from a socket, message by message.

    Attributes:
        are_over: no more will come.

    """

    def __init__(self, there: socket.socket) -> None:
        """Begin with nothing."""
        self.are_over = False
        self._socket: Final = there
        self._held = b""

    def read(self) -> Sequence[bytes]:
        """Return the messages that have come whole since the last time, if what is there now can be read at once."""
        with contextlib.suppress(BlockingIOError):
            try:
                data = self._socket.recv(PIECE)
            except ConnectionError:
                data = b""
            self.are_over = self.are_over or not data
            self._held += data
        found = list[bytes]()
        while (end := 4 + int.from_bytes(self._held[:4], "big")) <= len(self._held):
            found.append(self._held[4:end])
            self._held = self._held[end:]
        self.are_over = self.are_over or end > LONGEST_ANSWER
        return found


class MuxSession:
    """A session that was asked for, until its socket has been closed.

    Attributes:
        exit_descriptor: becomes readable when something has come; see `has_ended`.
        complaint: why it was refused, if it was.

    """

    def __init__(self, there: socket.socket, messages: Messages) -> None:
        """Take over the socket on which it was asked for."""
        self.exit_descriptor: Final = there.fileno()
        self.complaint: bytes = b""
        self._socket: Final = there
        self._messages: Final = messages
        self._code = LOST

    def has_ended(self) -> bool:
        """Take what has come; return whether it is over."""
        for message in self._messages.read():
            kind, body = int.from_bytes(message[:4], "big"), message[4:]
            if kind == EXITED and len(body) >= 8:
                self._code = body[7]  # of four bytes the last, as the exit code of a process
            elif kind in (DENIED, FAILURE):
                self.complaint = REFUSED.encode() + b": " + body[8:]
                return True
            elif kind not in (OPENED, NO_TERMINAL):
                return True  # nonsense
        return self._messages.are_over

    def kill(self) -> None:
        """End it here, as if its ssh were killed; no process that was forked in between keeps it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def finish(self) -> int:
        """Return the exit code of what has ended, and keep nothing."""
        self._socket.close()
        return self._code
