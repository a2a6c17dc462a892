"""The escaping of jobs' names and other texts for HTML."""

from __future__ import annotations

import html as escapes

from ...._core.api.views import printable, shorten
from .._spans import Span


def escape(text: str) -> str:
    """Escape a text for HTML, and make its control characters visible."""
    return escapes.escape(printable(text))


def escape_lines(text: str) -> str:
    """Escape each line of a text, keeping the newlines between them."""
    return escapes.escape("\n".join(printable(line.expandtabs()) for line in text.rstrip("\n").split("\n")))


def name_html(span: Span) -> str:
    """Return the name of a job as HTML. Its text direction is isolated, because labels may be right-to-left."""
    return f"<bdi>{escape(display_name(span))}</bdi>"


def display_name(span: Span) -> str:
    """Return the path of a job. If its scheduler ran several times, add the number of the run, e.g. `a/b (run 2)`."""
    return (shorten(span.path) if span.path.strip() else "(empty label)") + f" (run {span.run})" * (span.run > 1)
