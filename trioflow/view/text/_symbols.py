"""`Symbols`: the symbols and characters that a stream can show, and text escaped for it; and aligned lines of it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from ..._core.api.views import AnyJob, JobState, printable, shown
from .._state_styles import CRITICAL, FOREVER, STATE_STYLES, ended_as_meant


@dataclass(frozen=True, slots=True)
class SymbolSet:
    """One way to write what a job is and what became of it; each symbol is one column wide."""

    critical: str
    states: Mapping[JobState, str]
    forever: str

    def together(self) -> str:
        """Return all of them as one string, to test whether an encoding has them."""
        return "".join((self.critical, *self.states.values(), self.forever))


UNICODE: Final = SymbolSet(
    CRITICAL.symbol, {state: look.symbol for state, look in STATE_STYLES.items()}, FOREVER.symbol
)
ASCII: Final = SymbolSet(CRITICAL.ascii, {state: look.ascii for state, look in STATE_STYLES.items()}, FOREVER.ascii)


class Symbols:
    r"""What a stream with a given encoding can show; without an encoding, everything.

    The symbols are all Unicode or all ASCII, so that none means two things. Characters of a label that the encoding
    lacks are escaped one by one: `\u6f22`.
    """

    columns: Final = 5  # of `for_job`: three symbols and the blanks between them

    def __init__(self, encoding: str | None = None) -> None:
        """Choose the set; an encoding that Python does not know is treated as ASCII."""
        self._encoding: Final = encoding if encoding is None or _encodes(encoding, "") else "ascii"
        self.set: Final = UNICODE if self._encoding is None or _encodes(self._encoding, UNICODE.together()) else ASCII

    @classmethod
    def of(cls, stream: object) -> Symbols:
        """Return what a stream can show."""
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
        """Return what all symbols of a listing mean, on two lines."""
        states = "   ".join(f"{symbol} {state.value}" for state, symbol in self.set.states.items())
        others = f"{self.set.critical} critical", f"{self.set.forever} forever", "?n requires n, from elsewhere"
        return f"{states}\n{'   '.join(others)}"

    def line(self, text: str) -> str:
        """Return `text` on one line; control characters, and what the stream cannot show, are escaped."""
        shown = printable(text)
        if self._encoding is None or shown.isascii():
            return shown
        return shown.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def lines(self, text: str) -> str:
        """Return `text` with its lines kept, each as `line` would show it."""
        return "\n".join(self.line(line.expandtabs()) for line in text.rstrip("\n").split("\n"))


def _encodes(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def width(line: str) -> int:
    """Return how many columns of a terminal `line` takes; all its characters must be printable."""
    if line.isascii():
        return len(line)
    import wcwidth  # here, because its tables take long to load, and most labels are ASCII

    return wcwidth.wcswidth(line)


def stream(file: TextIO | None, who: str) -> TextIO:
    """Return where to print: `file`, or the standard output if it is None.

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
        to_the_left: the columns whose cells begin at the left; those of the others end at the right.

    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells: list[str] = []
        for place, (cell, columns) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (columns - width(cell))
            cells.append(cell + blanks if place in to_the_left else blanks + cell)
        yield "  ".join(cells).rstrip()
