"""Names and other texts of a scenario as HTML."""

from __future__ import annotations

import html as escapes

from ...._core.api.views import printable, shortened
from .._spans import Span


def text_of(text: str) -> str:
    """Return a text as HTML."""
    return escapes.escape(printable(text))


def lines_of(text: str) -> str:
    """Return a text of several lines as HTML."""
    return escapes.escape("\n".join(printable(line.expandtabs()) for line in text.rstrip("\n").split("\n")))


def name_of(span: Span) -> str:
    """Return the name of a job as HTML, isolated from adjacent text in case it runs from right to left."""
    return f"<bdi>{text_of(shown_name(span))}</bdi>"


def shown_name(span: Span) -> str:
    """Return the path of a job, with the number of the run if there were several."""
    return (shortened(span.path) if span.path.strip() else "(empty label)") + f" (run {span.run})" * (span.run > 1)
