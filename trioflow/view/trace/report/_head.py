"""The head of a report as HTML: the verdict, the counts by state, and what took the time."""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from typing import Final
from urllib.parse import quote

from ...._core.api.views import JobState, duration_text, printable, shortened, without_middle
from ..._state_styles import COUNTING_ORDER, STATE_STYLES
from ...text import _verdict
from .._shares import PathPart, path_parts
from .._span_builder import TraceRecord
from .._spans import RunSpan, Span
from ._names import text_of

MAX_PARTS: Final = 6
"""Number of parts of the critical path that have a line of their own."""
LONGEST_NAME: Final = 32
"""Characters above which a name loses its middle: similar names often differ at their ends."""
MIN_SHARE: Final = 0.005
"""The least share of the time for which the rest has a line."""
GOOD, BAD, OPEN = "good", "bad", "open"


def verdict(record: TraceRecord) -> tuple[str, str]:
    """Return the style of the verdict, and its words."""
    found = dict.fromkeys(_verdict_on(record, run) for run in record.roots)
    styles = {style for style, _ in found}
    style = next((style for style in (BAD, OPEN, GOOD) if style in styles), OPEN)
    return style, "; ".join(words for _, words in found)


def _verdict_on(record: TraceRecord, run: RunSpan) -> tuple[str, str]:
    culprit = record.culprit(run)
    path = None if culprit is None else shortened(culprit.path)
    reason = None if run.finished_at is None else run.reason
    said = _verdict.verdict(reason, record.tally, record.now - record.began, path)
    style = GOOD if said.is_good else OPEN if reason is None and not record.tally.failed else BAD
    return style, printable(said.words)


def title(record: TraceRecord, name: str) -> str:
    """Return the symbol and name, the verdict, and the time and place of the run."""
    if not record.roots:
        return f"<h1><bdi>{text_of(name)}</bdi></h1>"
    style, words = verdict(record)
    looks = {
        GOOD: STATE_STYLES[JobState.SUCCEEDED],
        BAD: STATE_STYLES[JobState.FAILED],
        OPEN: STATE_STYLES[JobState.RUNNING],
    }
    began = datetime.datetime.fromtimestamp(record.began + record.wall_offset).astimezone()
    facts = [f"<bdi>{text_of(words)}</bdi>", began.isoformat(" ", "seconds")]
    facts += [f"on {text_of(platform.node())}"] * bool(platform.node())
    return (
        f'<h1 class="{style}"><span class="symbol">{looks[style].symbol}</span> <bdi>{text_of(name)}</bdi></h1>'
        f'<p class="verdict">{" · ".join(facts)}</p>'
    )


def is_folded(span: Span) -> bool:
    """Return whether this is a forever job without trouble, which a report lists folded and its counts leave out."""
    return span.forever and span.state not in _verdict.TROUBLE


def states(record: TraceRecord) -> str:
    """Return a bar with the share of each state, and the counts."""
    found = Counter(span.state for span in record.leaves if not is_folded(span))
    order = [state for state in COUNTING_ORDER if found[state]]
    parts = "".join(f'<span class="part {state.value}" style="flex-grow:{found[state]}"></span>' for state in order)
    return f'<div class="states" aria-hidden="true">{parts}</div><p class="note">{text_of(record.tally.in_words())}</p>'


def what_took_the_time(record: TraceRecord) -> str:
    """Return the parts of the critical path with their shares."""
    parts = path_parts(record)
    whole = record.now - record.began
    if not parts or not whole:
        return '<p class="note">Nothing took any time.</p>'
    shown = [part for part in parts[:MAX_PARTS] if part.seconds >= MIN_SHARE * whole]
    rest = parts[len(shown) :]
    jobs = [part for part in rest if not part.is_wait]
    if len(jobs) == 1 and jobs[0].seconds >= MIN_SHARE * whole:  # it has as much room as "1 more"
        shown, rest = [*shown, *jobs], [part for part in rest if part.is_wait]
    longest = max(part.seconds for part in parts)
    lines = [_line(record, part, longest, whole) for part in shown]
    seconds = sum(part.seconds for part in rest)
    if seconds >= MIN_SHARE * whole:
        number = sum(part.number for part in rest if not part.is_wait)
        lines.append(_row(f"{number} more" if number else "other waits", "more", seconds, longest, whole))
    return f'<ol class="path">{"".join(lines)}</ol>'


def _line(record: TraceRecord, part: PathPart, longest: float, whole: float) -> str:
    number = f" × {part.number}" * (part.number > 1)
    if part.is_wait:
        return _row(f"waited for {text_of(part.name)}{number}", "wait", part.seconds, longest, whole)
    short = without_middle(part.name, LONGEST_NAME)
    tip = f' title="{text_of(part.name)}"' * (short != part.name)
    name = f"<bdi{tip}>{text_of(short)}</bdi>"
    if part.number == 1:
        address = quote(printable(shortened(record.spans[part.span].path)), safe="")
        name = f'<a href="#job={address}">{name}</a>'
    return _row(name + number, "work", part.seconds, longest, whole)


def _row(name: str, style: str, seconds: float, longest: float, whole: float) -> str:
    width = 100 * min(1.0, seconds / longest)
    share = 100 * seconds / whole
    return (
        f'<li><span class="name">{name}</span><span class="room"><span class="bar {style}" style="width:{width:.1f}%">'
        f'</span></span><span class="number">{duration_text(seconds, in_column=True)}</span>'
        f'<span class="number">{share:.0f}\N{NO-BREAK SPACE}%</span></li>'
    )
