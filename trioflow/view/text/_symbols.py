"""Helpers for text output: symbols that a stream can encode, escaped labels, and the columns and lists of reports."""

from __future__ import annotations

import functools
import os
import re
import secrets
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, TextIO

from ..._core.base._text_forms import MAX_LISTED_NAMES, UNITS, short_repr
from ..._core.job import _job, _labels
from ..._core.words._job_queries import criticality, reported_state
from .._state_styles import (
    CRITICAL_BADGE,
    FOREVER_BADGE,
    STATE_STYLES,
    Badge,
    StateStyle,
    has_ended_normally,
)

MARKS: Final[tuple[Badge | StateStyle, ...]] = (
    CRITICAL_BADGE,
    *STATE_STYLES.values(),
    FOREVER_BADGE,
)
"""All that has a symbol, each of which is one column wide: the properties and the states of jobs."""


class Symbols:
    r"""The symbols for jobs in a text with a certain encoding, and the rules for escaping other text.

    The symbols are either all Unicode or all ASCII, so that no symbol has two meanings. Each character of a label that
    the encoding cannot represent is escaped, e.g. as `\u6f22`.
    """

    # The width of the result of `job_symbols`: three symbols, separated by blanks.
    job_symbols_width: Final = 5

    def __init__(self, encoding: str | None = None) -> None:
        """Choose the symbols for an encoding. None stands for all of Unicode. An unknown encoding counts as ASCII."""
        if encoding is not None and not _can_encode(encoding, ""):
            encoding = "ascii"
        self._encoding: Final = encoding
        symbols = "".join(mark.symbol for mark in MARKS)
        self.is_unicode: Final = encoding is None or _can_encode(encoding, symbols)
        self.ellipsis: Final = self.choose("…", "...")
        self.about_sign: Final = self.choose("≈", "~")
        self.separator: Final = self.choose(" · ", ", ")

    def choose(self, symbol: str, ascii_symbol: str) -> str:
        return symbol if self.is_unicode else ascii_symbol

    def of(self, mark: Badge | StateStyle) -> str:
        return self.choose(mark.symbol, mark.ascii_symbol)

    @classmethod
    def for_stream(cls, stream: object) -> Symbols:
        return cls(getattr(stream, "encoding", None))

    def job_symbols(self, job: _job.AnyJob) -> str:
        """Return three symbols: for a critical job, for the state, and for a forever job.

        A blank replaces a symbol that does not apply. It also replaces the state of a forever job that ended normally,
        because the state is CANCELLED although nothing went wrong.
        """
        critical = forever = state = " "
        if criticality(job):
            critical = self.of(CRITICAL_BADGE)
        if job.forever:
            forever = self.of(FOREVER_BADGE)
        if not has_ended_normally(job):
            state = self.of(STATE_STYLES[reported_state(job)])
        return f"{critical} {state} {forever}"

    def escape(self, text: str) -> str:
        """Escape control characters, including newlines, and characters that the encoding cannot represent."""
        return self.encodable(_labels.printable(text))

    def encodable(self, text: str) -> str:
        """Escape the characters that the encoding cannot represent. Microseconds become `us`."""
        if self._encoding is None or text.isascii():
            return text
        if not _can_encode(self._encoding, "µ"):
            text = text.replace("µs", "us")
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def escape_lines(self, text: str) -> str:
        """Escape each line of `text`, but keep the newlines between the lines."""
        return self.encodable(_labels.printable_lines(text))


STYLE_SEQUENCE: Final = re.compile(r"(\x1b\[(?:0|1|3\d)m)")
"""Matches an escape sequence of `click.style` for bold or colored text. It cannot do more to a terminal."""
FORMULA_START: Final = re.compile(
    r"(\A|[;\t])(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"
    r"(?![+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?\s*+(?:[;\t]|\Z))",
    re.ASCII,
)
"""Matches the text before the characters that a formula may begin with, but not before a number."""
WORKFLOW_COMMAND: Final = re.compile(r"^[^\S\n]*::|##\[", re.MULTILINE)
"""Matches the beginning of a possible command in the log of GitHub Actions."""


def terminal_text(text: str, stream: object) -> str:
    """Return a text as it may be written to a terminal or to the log of a CI system: all such text comes from here.

    Newlines, colors and bold text are kept. Other control characters, and characters that the stream cannot encode, are
    escaped. In GitHub Actions, lines that would be commands have no effect.
    """
    symbols = Symbols.for_stream(stream)

    def escape(line: str) -> str:
        if "\x1b" not in line:
            return symbols.escape(line.expandtabs())
        # Each second part is a sequence.
        parts = STYLE_SEQUENCE.split(line)
        parts[::2] = [symbols.escape(part.expandtabs()) for part in parts[::2]]
        return "".join(parts)

    escaped = "\n".join(map(escape, text.split("\n")))
    if os.environ.get("GITHUB_ACTIONS") and WORKFLOW_COMMAND.search(escaped):
        # The token is random, so that no text can contain it. See "Stopping and starting workflow commands" in
        # https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands.
        resume_token = secrets.token_hex(16)
        return f"::stop-commands::{resume_token}\n{escaped}\n::{resume_token}::"
    return escaped


def _can_encode(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def escape_formula(text: str) -> str:
    """Return a text as a cell that a spreadsheet does not compute, whether its separator is `,`, `;` or a tab.

    OWASP ("CSV Injection") lists the characters that begin a formula. A number is left as it is.
    """
    return FORMULA_START.sub(r"\1'", text)


def display_width(line: str) -> int:
    """Return the number of terminal columns that `line` takes. All of its characters must be printable."""
    if line.isascii():
        return len(line)
    return sum(map(_character_width, line))


@functools.cache
def _character_width(character: str) -> int:
    """Return the columns of a printable character: 2 if it is wide, 0 if it changes the character before it."""
    is_skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    if is_skin_tone or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "FW" else 1


def output_stream(file: TextIO | None, caller: str) -> TextIO:
    """Return the stream to print to: `file`, or `sys.stdout` if `file` is None.

    Args:
        file: the stream, as the user passed it.
        caller: the name of the method that the user called, for the error message.

    Raises:
        TypeError: `file` has no `write`.

    """
    if file is None:
        return sys.stdout
    if not hasattr(file, "write"):
        raise TypeError(
            f"{caller}: file={short_repr(file)} is not a stream; options have names: list(details=True)"
        )
    return file


# ---- tables and lists


def align_columns(
    rows: Sequence[Sequence[str]], left_aligned: Collection[int]
) -> Iterator[str]:
    """Yield each row as a line, with the cells of a column padded to the same width.

    Args:
        rows: the rows of cells, headings first. All rows have the same length, and all characters are printable.
        left_aligned: the indices of the left-aligned columns. The other columns are right-aligned.

    """
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells: list[str] = []
        for index, (cell, column_width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (column_width - display_width(cell))
            cells.append(cell + padding if index in left_aligned else padding + cell)
        yield "  ".join(cells).rstrip()


HOUR: Final = 3600.0


def listed_lines(items: Sequence[str], max_items: int = MAX_LISTED_NAMES) -> list[str]:
    """Return the first `max_items` items, and a line with the number of the others, e.g. "and 3 more"."""
    lines = list(items[:max_items])
    if len(items) > max_items:
        lines.append(f"and {len(items) - max_items} more")
    return lines


def durations_in_column(seconds: Iterable[float | None]) -> tuple[str, list[str]]:
    """Return the texts of durations for a column of a table: their common unit, and the texts without it.

    The longest duration decides the unit: "s", "ms", "µs" or "ns" below 100 s, otherwise "min:s" or "h:min:s". All
    texts have the same number of decimals. The text of None is empty.

    Example:
        >>> durations_in_column([0.0104, 12.5, None])
        ('s', ['0.01', '12.50', ''])

    """
    times = [*seconds]
    known = [time for time in times if time is not None]
    longest = max(map(abs, known), default=0.0)
    size, unit = next(
        (scale for scale in UNITS if longest >= scale[0] * 0.9995), UNITS[0]
    )
    decimals = 1
    if longest / size < 9.9995:
        decimals = 3
    elif longest / size < 99.995:
        decimals = 2
    if longest >= HOUR - 0.05:
        unit = "h:min:s"
    elif longest >= 99.995:
        unit = "min:s"
    texts = list[str]()
    for time in times:
        if time is None:
            texts.append("")
        elif ":" in unit:
            sign = "-" if time < 0 else ""
            texts.append(sign + _clock_text(abs(time), longest >= HOUR - 0.05))
        else:
            texts.append(f"{time / size:.{decimals}f}")
    return unit, texts


def _clock_text(seconds: float, has_hours: bool) -> str:
    if has_hours:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes}:{rest / 10:04.1f}"
