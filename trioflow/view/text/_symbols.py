"""`Symbols`: the symbols that a stream can encode, and text escaped for it; and aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from ..._core.api.views import AnyJob, JobState, printable, shown
from .._state_styles import CRITICAL, FOREVER, STATE_STYLES, ended_as_meant


@dataclass(frozen=True, slots=True)
class SymbolSet:
    """A set of symbols for kinds and states of jobs; each is one column wide."""

    critical: str
    states: Mapping[JobState, str]
    forever: str

    def together(self) -> str:
        """Return all symbols as one string, to test an encoding."""
        return "".join((self.critical, *self.states.values(), self.forever))


UNICODE: Final = SymbolSet(
    CRITICAL.symbol, {state: look.symbol for state, look in STATE_STYLES.items()}, FOREVER.symbol
)
ASCII: Final = SymbolSet(CRITICAL.ascii, {state: look.ascii for state, look in STATE_STYLES.items()}, FOREVER.ascii)


class Symbols:
    r"""The symbols for a stream with a given encoding; without an encoding, all of Unicode.

    The symbols are all Unicode or all ASCII, so that none means two things. Characters of a label that the encoding
    lacks are escaped one by one: `\u6f22`.
    """

    columns: Final = 5  # the width of `for_job`: three symbols and the blanks between them

    def __init__(self, encoding: str | None = None) -> None:
        """Choose the set; an unknown encoding is treated as ASCII."""
        self._encoding: Final = encoding if encoding is None or _encodes(encoding, "") else "ascii"
        self.set: Final = UNICODE if self._encoding is None or _encodes(self._encoding, UNICODE.together()) else ASCII

    @classmethod
    def of(cls, stream: object) -> Symbols:
        """Return the symbols for a stream."""
        return cls(getattr(stream, "encoding", None))

    def for_job(self, job: AnyJob) -> str:
        """Return three symbols: `!` or a blank, the state, and the symbol of forever jobs or a blank.

        The state is blank for a forever job that ended as meant: it is CANCELLED, and nothing went wrong.
        """
        critical = self.set.critical if job.is_critical() else " "
        forever = self.set.forever if job.forever else " "
        state = " " if ended_as_meant(job) else self.set.states[job.state]
        return f"{critical} {state} {forever}"

    def legend(self) -> str:
        """Return the legend of a listing, on two lines."""
        states = "   ".join(f"{symbol} {state.value}" for state, symbol in self.set.states.items())
        others = f"{self.set.critical} critical", f"{self.set.forever} forever", "?n requires n, from elsewhere"
        return f"{states}\n{'   '.join(others)}"

    def line(self, text: str) -> str:
        """Return `text` on one line; control characters, and those that the stream cannot encode, are escaped."""
        shown = printable(text)
        if self._encoding is None or shown.isascii():
            return shown
        return shown.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def lines(self, text: str) -> str:
        """Return `text` with each line escaped as by `line`."""
        return "\n".join(self.line(line.expandtabs()) for line in text.rstrip("\n").split("\n"))


def _encodes(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def width(line: str) -> int:
    """Return the width of `line` in columns; all its characters must be printable."""
    if line.isascii():
        return len(line)
    import wcwidth  # here, because its tables take long to load, and most labels are ASCII

    return wcwidth.wcswidth(line)


def stream(file: TextIO | None, who: str) -> TextIO:
    """Return the stream to print to: `file`, or the standard output if it is None.

    Raises:
        TypeError: `file` is not a stream.

    """
    if file is None:
        return sys.stdout
    if not hasattr(file, "write"):
        raise TypeError(f"{who}: file={shown(file)} is not a stream; options go by name, as in list(details=True)")
    return file


def aligned(rows: Sequence[Sequence[str]], to_the_left: Collection[int]) -> Iterator[str]:
    """Yield a line for each row, its cells as wide as the widest of their column.

    Args:
        rows: the titles and the cells, as many in each row; all their characters are printable.
        to_the_left: the left-aligned columns; the others are right-aligned.

    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells: list[str] = []
        for place, (cell, columns) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (columns - width(cell))
            cells.append(cell + blanks if place in to_the_left else blanks + cell)
        yield "  ".join(cells).rstrip()
