"""`Script`: the symbols and characters that one stream can show, and text made fit for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

from .._core import _labels
from .._core._jobs import AbstractJob
from .._core._states import JobState


@dataclass(frozen=True, slots=True)
class Symbols:
    """One way to write what a job is and what became of it; each symbol is one column wide."""

    critical: str
    marks: Mapping[JobState, str]  # no mark in the states that are not in here
    states: Mapping[JobState, str]
    forever: str

    def together(self) -> str:
        """Return all of them, for a stream to be tried with."""
        return "".join((self.critical, *self.marks.values(), *self.states.values(), self.forever))


UNICODE: Final = Symbols(
    critical="⚠",
    marks={JobState.FAILED: "★", JobState.RUNNING: "☉", JobState.SUCCEEDED: "☉", JobState.CANCELLED: "☉"},
    states={
        JobState.IDLE: "⚐",
        JobState.SCHEDULED: "⚑",
        JobState.RUNNING: "↺",
        JobState.SUCCEEDED: "☓",
        JobState.FAILED: "☓",
        JobState.CANCELLED: "⊘",
        JobState.BLOCKED: "⊗",
        JobState.SKIPPED: "⤼",
    },
    forever="∞",
)
ASCII: Final = Symbols(
    critical="!",
    marks={JobState.FAILED: "*", JobState.RUNNING: ".", JobState.SUCCEEDED: ".", JobState.CANCELLED: "."},
    states={
        JobState.IDLE: "-",
        JobState.SCHEDULED: "w",
        JobState.RUNNING: ">",
        JobState.SUCCEEDED: "x",
        JobState.FAILED: "x",
        JobState.CANCELLED: "c",
        JobState.BLOCKED: "b",
        JobState.SKIPPED: "s",
    },
    forever="8",
)


class Script:
    r"""What a stream of one encoding can show; without an encoding, everything.

    The symbols are all Unicode or all ASCII, lest one sign mean two things. Characters of a label that the encoding
    lacks are escaped one by one: `\u6f22`.
    """

    columns: Final = 7  # of `signs`: four symbols and the blanks between them

    def __init__(self, encoding: str | None = None) -> None:
        """Find out what `encoding` has; one that Python does not know is taken for ASCII."""
        self._encoding: Final = encoding if encoding is None or _encodes(encoding, "") else "ascii"
        self.symbols: Final = UNICODE if self._has(UNICODE.together()) else ASCII

    def signs(self, job: AbstractJob[Any]) -> str:
        """Return whether the job is critical, its mark, its state and whether it is forever: one symbol each."""
        symbols, state = self.symbols, job.state
        critical = symbols.critical if job.is_critical() else " "
        forever = symbols.forever if job.forever else " "
        return f"{critical} {symbols.marks.get(state, ' ')} {symbols.states[state]} {forever}"

    def line(self, text: str) -> str:
        """Return `text` on one line: control characters, and what the stream has no signs for, are escaped."""
        shown = _labels.printable(text)
        if self._encoding is None or shown.isascii():
            return shown
        return shown.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def lines(self, text: str) -> str:
        """Return `text` with its lines kept apart, each of them as `line` would show it."""
        return "\n".join(self.line(line.expandtabs()) for line in text.rstrip("\n").split("\n"))

    def _has(self, text: str) -> bool:
        return self._encoding is None or _encodes(self._encoding, text)


def _encodes(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def width(line: str) -> int:
    """Return how many columns of a terminal `line` takes; it must be printable."""
    if line.isascii():
        return len(line)
    import wcwidth  # its tables take long to load, and most labels are ASCII

    return wcwidth.wcswidth(line)


def stream(file: TextIO | None, who: str) -> TextIO:
    """Return where to print: `file`, or what is the standard output now.

    Raises:
        TypeError: `file` is no stream.

    """
    if file is None:
        return sys.stdout
    if not hasattr(file, "write"):
        raise TypeError(f"{who}: file={file!r} is no stream; options go by name, as in list(details=True)")
    return file
