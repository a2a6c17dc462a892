"""In a report: where the time went, as picture and as a table by kind of job."""

from __future__ import annotations

import html as escapes
from typing import Final

from ...._core.api.views import printable
from .._record import TraceRecord
from .._time_spent import HEADINGS, MOST_KINDS, KindTime, in_columns, time_spent
from ..timeline import _time_spent

WIDTH: Final = 1200
NUMBER: Final = ' class="number"'
FURTHER: Final = ' class="number further"'
"""Of columns for wider windows."""
CLASSES: Final = {"count": NUMBER, "work": NUMBER, "waits": NUMBER, "p50": FURTHER, "p95": FURTHER}
"""Of the columns with numbers, as in `HEADINGS`."""


def section(record: TraceRecord) -> str:
    """Return the section as HTML."""
    spent = time_spent(record)
    if not spent.kinds:
        return '<p class="note">No job took any time.</p>'
    titles, cells = in_columns(spent.kinds[:MOST_KINDS])
    heads = "".join(f"<th{CLASSES.get(name, '')}>{title}</th>" for name, title in zip(HEADINGS, titles, strict=True))
    rows = "".join(map(_row, spent.kinds, cells))
    more = len(spent.kinds) - MOST_KINDS
    note = f'<p class="note">{more} more kinds took less.</p>' if more > 0 else ""
    told = str(spent)[:1].upper() + str(spent)[1:]
    picture = _time_spent.svg(record, WIDTH)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        f'<p class="note">{_text(told)}. '
        f"Half of the jobs of a kind worked for p50 or less, and 95 % of them for p95 or less.</p>"
        f'<div class="card scroll" tabindex="0">{picture}</div>'
        f'<div class="card scroll kinds" tabindex="0">{table}</div>{note}'
    )


def _row(one: KindTime, cells: tuple[list[str], list[tuple[str, str]]]) -> str:
    times, waits = cells
    numbers = "".join(f"<td{css}>{cell}</td>" for css, cell in zip(CLASSES.values(), (one.count, *times), strict=True))
    waited = ", ".join(f"{_text(what)}\N{NO-BREAK SPACE}{text}" for what, text in waits)
    return f"<tr><td><bdi>{_text(one.kind) or '(no label)'}</bdi></td>{numbers}<td>{waited}</td></tr>"


def _text(text: str) -> str:
    return escapes.escape(printable(text[:200]))
