"""Proxies that replace the standard streams while a monitor draws."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO


class StreamProxy(io.TextIOBase):
    """Base class of proxies, which delegate to the real stream what they do not override."""

    def __init__(self, real: TextIO) -> None:
        """Create a proxy of `real`."""
        self._real: Final = real

    def isatty(self) -> bool:
        """Return whether the real stream is a terminal."""
        return self._real.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the real stream."""
        return self._real.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the real stream."""
        return self._real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The error handler of the real stream's encoding."""
        return self._real.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal on which no monitor draws yet."""
    if stream is None or isinstance(stream, StreamProxy):
        return False
    with contextlib.suppress(Exception):  # the stream is closed, or another kind of object
        return bool(stream.isatty())
    return False


class InputProxy(StreamProxy):
    """A proxy of standard input that hides the picture while `input()`, `pdb` or other code reads from it.

    `input()` uses `sys.stdin` because standard output is not a terminal but a pipe; it then has neither history nor
    completion.
    """

    def __init__(self, pause: Callable[[], AbstractContextManager[None]], real: TextIO) -> None:
        """Create a proxy of `real`; `pause()` is a context manager that hides the picture."""
        super().__init__(real)
        self._pause: Final = pause
        self._is_open = True

    def restore(self) -> None:
        """Restore the real stream, unless other code has replaced this proxy."""
        self._is_open = False
        if sys.stdin is self:
            sys.stdin = self._real

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Read one line, at most `size` characters of it."""
        return self._read(lambda: self._real.readline(size))

    def read(self, size: int | None = -1, /) -> str:
        """Read until end of file, at most `size` characters."""
        return self._read(lambda: self._real.read(-1 if size is None else size))

    def _read(self, read: Callable[[], str]) -> str:
        if not self._is_open:
            return read()
        with self._pause():
            return read()

    def readable(self) -> bool:
        """Return True: the stream is for input."""
        return True


def replace_input(pause: Callable[[], AbstractContextManager[None]]) -> InputProxy | None:
    """Replace `sys.stdin` by a proxy if it is a terminal; return the proxy, or None."""
    if not is_terminal(sys.stdin):
        return None
    replacement = InputProxy(pause, sys.stdin)
    sys.stdin = replacement
    return replacement
