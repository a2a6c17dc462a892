"""Proxies of the standard streams while a monitor draws."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO


class StreamProxy(io.TextIOBase):
    """A proxy of a stream, which delegates everything else to the real one."""

    def __init__(self, real: TextIO) -> None:
        """Replace `real`."""
        self._real: Final = real

    def isatty(self) -> bool:
        """Return whether the real stream is a terminal, as programs check before they print colours."""
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
    with contextlib.suppress(Exception):  # closed, or not really a stream
        return bool(stream.isatty())
    return False


class Input(StreamProxy):
    """A proxy of standard input, from which `input()`, `pdb` and others read.

    `input()` reads from it because standard output is a pipe; it has no history and no completion then.
    """

    def __init__(self, paused: Callable[[], AbstractContextManager[None]], real: TextIO) -> None:
        """Replace `real`; `paused` hides the picture for a block."""
        super().__init__(real)
        self._paused: Final = paused
        self._is_open = True

    def restore(self) -> None:
        """Restore the real stream, unless this one was replaced again since."""
        self._is_open = False
        if sys.stdin is self:
            sys.stdin = self._real

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Read a line, or up to `size` characters of it."""
        return self._read(lambda: self._real.readline(size))

    def read(self, size: int | None = -1, /) -> str:
        """Read everything, or up to `size` characters."""
        return self._read(lambda: self._real.read(-1 if size is None else size))

    def _read(self, read: Callable[[], str]) -> str:
        if not self._is_open:
            return read()
        with self._paused():
            return read()

    def readable(self) -> bool:
        """Return True: the stream can be read."""
        return True


def replaced_input(paused: Callable[[], AbstractContextManager[None]]) -> Input | None:
    """Replace standard input if it is a terminal, and return the proxy."""
    if not is_terminal(sys.stdin):
        return None
    replacement = Input(paused, sys.stdin)
    sys.stdin = replacement
    return replacement
