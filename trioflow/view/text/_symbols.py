"""Text that a stream can encode: symbols for jobs, escaped labels, and aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from ..._core.api.views import AnyJob, JobState, printable, short_repr
from .._state_styles import CRITICAL, FOREVER, STATE_STYLES, ended_normally


@dataclass(frozen=True, slots=True)
class SymbolSet:
    """The symbols for the states and properties of jobs; each is one column wide."""

    critical: str
    states: Mapping[JobState, str]
    forever: str

    def joined(self) -> str:
        """Return all symbols as one string, with which to test an encoding."""
        return "".join((self.critical, *self.states.values(), self.forever))


UNICODE: Final = SymbolSet(
    CRITICAL.symbol, {state: look.symbol for state, look in STATE_STYLES.items()}, FOREVER.symbol
)
ASCII: Final = SymbolSet(CRITICAL.ascii, {state: look.ascii for state, look in STATE_STYLES.items()}, FOREVER.ascii)


class Symbols:
    r"""The symbols for a stream with a certain encoding, and the escaping of text; None allows all of Unicode.

    The symbols are either all Unicode or all ASCII, so that no symbol has two meanings. Each character of a label that
    the encoding lacks is escaped: `\u6f22`.
    """

    columns: Final = 5  # the width of the result of `for_job`: three symbols, separated by blanks

    def __init__(self, encoding: str | None = None) -> None:
        """Choose the set of symbols; an unknown encoding counts as ASCII."""
        self._encoding: Final = encoding if encoding is None or _can_encode(encoding, "") else "ascii"
        self.set: Final = UNICODE if self._encoding is None or _can_encode(self._encoding, UNICODE.joined()) else ASCII

    @classmethod
    def for_stream(cls, stream: object) -> Symbols:
        """Return the symbols that `stream` can encode."""
        return cls(getattr(stream, "encoding", None))

    def for_job(self, job: AnyJob) -> str:
        """Return the symbols for critical, the state, and forever, each replaced by a blank where it does not apply.

        The state is left blank for a forever job that ended normally: it is CANCELLED, but nothing went wrong.
        """
        critical = self.set.critical if job.is_critical() else " "
        forever = self.set.forever if job.forever else " "
        state = " " if ended_normally(job) else self.set.states[job.state]
        return f"{critical} {state} {forever}"

    def legend(self) -> str:
        """Return the legend of a listing, on two lines."""
        states = "   ".join(f"{symbol} {state.value}" for state, symbol in self.set.states.items())
        others = f"{self.set.critical} critical", f"{self.set.forever} forever", "?n requires n, from elsewhere"
        return f"{states}\n{'   '.join(others)}"

    def escape(self, text: str) -> str:
        """Escape control characters, newlines included, and characters that the stream cannot encode."""
        escaped = printable(text)
        if self._encoding is None or escaped.isascii():
            return escaped
        return escaped.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def escape_lines(self, text: str) -> str:
        """Escape each line of `text`, keeping the newlines between them."""
        return "\n".join(self.escape(line.expandtabs()) for line in text.rstrip("\n").split("\n"))


def _can_encode(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def width(line: str) -> int:
    """Return the number of terminal columns of `line`, whose characters must all be printable."""
    if line.isascii():
        return len(line)
    import wcwidth  # imported late: its tables load slowly, and most labels are ASCII

    return wcwidth.wcswidth(line)


def output_stream(file: TextIO | None, caller: str) -> TextIO:
    """Return the stream to print to: `file`, or `sys.stdout` if it is None.

    Args:
        file: the stream, as the user passed it.
        caller: the method that the user called, for the error.

    Raises:
        TypeError: `file` has no `write`.

    """
    if file is None:
        return sys.stdout
    if not hasattr(file, "write"):
        raise TypeError(
            f"{caller}: file={short_repr(file)} is not a stream; options go by name, as in list(details=True)"
        )
    return file


def align_columns(rows: Sequence[Sequence[str]], left_aligned: Collection[int]) -> Iterator[str]:
    """Yield each row as a line, with the cells of a column padded to the same width.

    Args:
        rows: the rows of cells, the headings first; all rows have the same length, and all characters are printable.
        left_aligned: the indices of the left-aligned columns; the others are right-aligned.

    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells: list[str] = []
        for column, (cell, columns) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (columns - width(cell))
            cells.append(cell + blanks if column in left_aligned else blanks + cell)
        yield "  ".join(cells).rstrip()
