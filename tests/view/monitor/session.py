"""A program in a terminal of its own, and the contents of its screen."""

import fcntl
import os
import select
import struct
import termios
import textwrap
import time
from collections.abc import Callable
import pyte
from ...places import PATIENCE
from ...pythons import Python


class Session:
    """A program that is the foreground process of its own terminal, and the contents of the screen."""

    def __init__(
        self, code: str, columns: int = 60, lines: int = 12, **environment: str
    ) -> None:
        self.master, terminal = os.openpty()
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.resize(columns, lines)
        names = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"}
        kept = {name: value for name, value in os.environ.items() if name not in names}
        self.process = Python(
            ["-c", textwrap.dedent(code)], start_new_session=True, stdin=terminal, stdout=terminal, stderr=terminal,
            env={**kept, "TERM": "xterm", **environment},
        )  # fmt: skip
        os.close(terminal)
        self.written = bytearray()
        self.is_watched = (
            True  # what is on the screen; to work that out for megabytes takes long
        )

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(
            self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0)
        )
        self.screen.resize(lines, columns)
        self.screen.ensure_vbounds()  # a terminal keeps the cursor inside; pyte leaves it where it was

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def shown(self) -> list[str]:
        return (
            "\n".join(line.rstrip() for line in self.screen.display)
            .rstrip()
            .splitlines()
        )

    def until(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Read until the screen is as expected, and return its lines."""
        deadline = time.monotonic() + PATIENCE
        while not condition(self.shown()):
            assert self._read(deadline), f"the program has ended: {self.shown()}"
            assert time.monotonic() < deadline, self.shown()
        return self.shown()

    def end(self) -> list[str]:
        """Read until the program has ended, and return what is left on the screen."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            assert time.monotonic() < deadline, self.shown()
        self.process.wait(PATIENCE)
        return self.shown()

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select(
            [self.master], [], [], max(0, deadline - time.monotonic())
        )
        try:
            data = os.read(self.master, 65536) if ready else b""
        except OSError:  # Linux says so when the other end is closed
            return False
        self.written += data
        if self.is_watched:
            self._stream.feed(data)
        return bool(data)

    def hang_up(self) -> None:
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.master >= 0:
            os.close(self.master)
