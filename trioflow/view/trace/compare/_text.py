"""A comparison as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...._core.api.views import duration_text, durations_in_column
from ...text import _symbols
from ._differences import Comparison, cut
from ._read import JobTimes

MOST: Final = 10
"""Lines below each title."""


def headline(compared: Comparison) -> str:
    """Return how long both took: `words: 16.3 s, before 14.2 s: 2.1 s longer (+15 %)`."""
    before, after = (duration_text(run.seconds) for run in (compared.before, compared.after))
    more = "longer" if compared.seconds > 0 else "less"
    share = f" ({100 * compared.share:+.0f} %)" if compared.before.seconds else ""
    change = "as long as before" if before == after else f"{duration_text(abs(compared.seconds))} {more}{share}"
    return f"{compared.after.name}: {after}, before {before}: {change}"


def lines(compared: Comparison, symbols: _symbols.Symbols) -> Iterator[str]:
    """Yield the comparison, line by line: what made the difference, then what else has changed."""
    yield symbols.line(headline(compared))
    if compared.changes:
        yield ""
        yield "Along the critical paths:"
        yield from _table(compared, symbols)
    for title, found in asides(compared):
        yield ""
        yield f"{title}:"
        yield from (f"  {symbols.line(one)}" for one in found[:MOST])
        if len(found) > MOST:
            yield f"  and {len(found) - MOST} more"
    if not {*compared.before.jobs} & {*compared.after.jobs}:
        yield ""
        yield "The two runs have no job in common: are these traces of the same scenario?"


def asides(compared: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Yield what else has changed: a title, and a line for each job."""
    for title, found in (
        ("Waited longer", [_waited(path, before, after) for path, before, after in compared.waited]),
        ("On neither critical path, but changed by more than 20 %", [*_beside(compared)]),
        ("Ended otherwise", [f"{cut(path)}: {was}, now {now}" for path, was, now in compared.ended_otherwise]),
    ):
        if found:
            yield title, found


def _waited(path: str, before: JobTimes, after: JobTimes) -> str:
    cause = f" for {after.waited_for}" if after.waited_for else ""
    return f"{cut(path)}: {duration_text(before.waited)}, now {duration_text(after.waited)}{cause}"


def _beside(compared: Comparison) -> Iterator[str]:
    for path, before, after in compared.beside:
        yield f"{cut(path)}: {duration_text(before)}, now {duration_text(after)}"


def _table(compared: Comparison, symbols: _symbols.Symbols) -> Iterator[str]:
    changes = compared.changes
    figures = [
        *(change.before for change in changes),
        *(change.after for change in changes),
        *(abs(change.seconds) for change in changes),
    ]
    unit, texts = durations_in_column(figures)
    number = len(changes)
    before, after, by = (texts[place * number : (place + 1) * number] for place in range(3))
    signed = [("+" if change.seconds > 0 else "-") + text for change, text in zip(changes, by, strict=True)]
    words = [symbols.line(change.text) for change in changes]
    rows = [(f"change, {unit}", "before", "after"), *zip(signed, before, after, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    wide = max(map(_symbols.width, words))
    for figures_of_row, what, note in zip(rows, ["", *words], ["", *(change.note for change in changes)], strict=True):
        first, *others = (text.rjust(width) for text, width in zip(figures_of_row, widths, strict=True))
        blanks = " " * (wide - _symbols.width(what))
        yield "  ".join(["", first, f"{what}{blanks}", *others, note]).rstrip()
