"""What stands in the place of a standard stream while a monitor draws: it answers as the real one does."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Final, TextIO


class StandIn(io.TextIOBase):
    """A stream in the place of the real one, which answers whatever is not asked of it alone."""

    def __init__(self, real: TextIO) -> None:
        """Take the place of `real`."""
        self._real: Final = real

    def isatty(self) -> bool:
        """Return whether the real stream is a terminal, so that what is printed may have colours."""
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
        """What the real stream does with characters that it cannot encode or decode."""
        return self._real.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal on which no monitor draws yet."""
    if stream is None or isinstance(stream, StandIn):
        return False
    with contextlib.suppress(Exception):  # closed, or not really a stream
        return bool(stream.isatty())
    return False
