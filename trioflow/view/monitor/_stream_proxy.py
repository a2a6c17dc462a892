"""Proxies that replace the standard streams while a monitor draws."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO


class StreamProxy(io.TextIOBase):
    """A proxy for a text stream. Attributes that `io.TextIOBase` lacks are looked up in the real stream."""

    def __init__(self, real_stream: TextIO) -> None:
        """Create a proxy for `real_stream`."""
        self._real_stream: Final = real_stream

    def isatty(self) -> bool:
        """Return whether the real stream is a terminal."""
        return self._real_stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the real stream."""
        return self._real_stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the real stream."""
        return self._real_stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The error handler of the real stream's encoding."""
        return self._real_stream.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real_stream, name)


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal on which no monitor is drawing."""
    if stream is None or isinstance(stream, StreamProxy):
        return False
    with contextlib.suppress(Exception):  # raised if the stream is closed, or is not a stream
        return bool(stream.isatty())
    return False


class InputProxy(StreamProxy):
    """A proxy for standard input that hides the picture while `input()`, `pdb` or other code reads from it.

    While the proxy is installed, descriptor 1 is a pipe, not the terminal. So `input()` calls the methods of
    `sys.stdin`, but offers neither history nor completion.
    """

    def __init__(self, pause: Callable[[], AbstractContextManager[None]], real_stream: TextIO) -> None:
        """Create a proxy for `real_stream`; `pause()` returns a context manager that hides the picture."""
        super().__init__(real_stream)
        self._pause: Final = pause
        self._should_hide_picture = True

    def restore(self) -> None:
        """Restore the real stream, unless other code has replaced this proxy."""
        self._should_hide_picture = False
        if sys.stdin is self:
            sys.stdin = self._real_stream

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Read one line; if `size` is not negative, read at most `size` characters of the line."""
        return self._read(lambda: self._real_stream.readline(size))

    def read(self, size: int | None = -1, /) -> str:
        """Read until the end of the file; if `size` is neither negative nor None, read at most `size` characters."""
        return self._read(lambda: self._real_stream.read(-1 if size is None else size))

    def _read(self, read: Callable[[], str]) -> str:
        if not self._should_hide_picture:
            return read()
        with self._pause():
            return read()

    def readable(self) -> bool:
        """Return True, because the stream is for input."""
        return True


def replace_input(pause: Callable[[], AbstractContextManager[None]]) -> InputProxy | None:
    """Replace `sys.stdin` with a proxy, and return the proxy. If `sys.stdin` is not a terminal, return None instead."""
    if not is_terminal(sys.stdin):
        return None
    replacement = InputProxy(pause, sys.stdin)
    sys.stdin = replacement
    return replacement
