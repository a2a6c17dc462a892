"""Names and other texts of a scenario as HTML."""

from __future__ import annotations

import html as escapes

from ...._core.api.views import printable, shortened
from .._spans import Span


def escape(text: str) -> str:
    """Return a text as HTML."""
    return escapes.escape(printable(text))


def escape_lines(text: str) -> str:
    """Return a text of several lines as HTML."""
    return escapes.escape("\n".join(printable(line.expandtabs()) for line in text.rstrip("\n").split("\n")))


def name_html(span: Span) -> str:
    """Return the name of a job as HTML, isolated from adjacent text in case it runs from right to left."""
    return f"<bdi>{escape(display_name(span))}</bdi>"


def display_name(span: Span) -> str:
    """Return the path of a job, with the number of the run if there were several."""
    return (shortened(span.path) if span.path.strip() else "(empty label)") + f" (run {span.run})" * (span.run > 1)
