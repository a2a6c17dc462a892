"""The timeline of a run with many jobs: a row for each slot, colours by kind, hatching for why a slot was empty.

Adjacent jobs of one kind that are too narrow for a word share one bar with their number. Below the slots, the
critical path is a row of words, and each resource has a strip.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, duration_text, printable
from ..._state_styles import STATE_STYLES
from .._resource_use import Steps
from .._shares import PathPart, path_steps
from .._slots import NOTHING_READY, Bar, Reason, SlotUse, reason_words, slot_use
from .._span_builder import TraceRecord
from .._spans import Span
from ._bars import FAILED, details
from ._gaps import Patterns, draw_word
from ._geometry import MARGIN, SHORTEST
from ._svg import add, clipped, clipped_name, text_width

LEFT: Final = 92.0
"""Pixels for the names of rows."""
KINDS: Final = 6
"""Number of kinds that have a colour of their own; the others are grey."""
NARROW: Final = 30.0
"""Pixels below which adjacent jobs of one kind share a bar."""
COLUMN: Final = 2.0
"""Pixels of a column, in which a slot is empty for one reason."""
PITCHES: Final = ((24, 20.0), (40, 14.0), (100, 6.0), (400, 3.0))
"""Pairs of a number of rows and their height in pixels up to this number; above all of them, 1.5."""
MAX_NAMED: Final = 20_000
"""Number of jobs above which shared bars do not name their jobs."""
STRIP: Final = 34.0
MAX_STRIPS: Final = 12
LINE: Final = 18.0


@dataclass(frozen=True, slots=True)
class Block:
    """One job in a slot, or several adjacent ones of one kind."""

    began: float
    ended: float
    spans: tuple[Span, ...]
    style: str
    kind: str


class SlotPlaces:
    """The geometry of the picture, and the colours."""

    def __init__(self, record: TraceRecord, width: float, top: float) -> None:
        self.record: Final = record
        self.use: Final = slot_use(record)
        self.width: Final = width
        self.left: Final = MARGIN + LEFT
        self.began: Final = record.began
        self.seconds: Final = max(record.now - record.began, SHORTEST)
        self.top: Final = top
        number = max(self.use.slots, 1)
        self.pitch: Final = next((size for most, size in PITCHES if number <= most), 1.5)
        self.font: Final = 11.0 if self.pitch >= 20 else 9.0
        self.has_words: Final = self.pitch >= 14
        self.gap: Final = 2.0 if self.pitch >= 14 else 1.0 if self.pitch >= 6 else 0.0
        self.bottom: Final = top + number * self.pitch
        self.kinds: Final = _kinds(record, self.use)

    def x(self, at: float) -> float:
        """Return the x coordinate of a time, in pixels."""
        return self.left + (at - self.began) * (self.width - MARGIN - self.left) / self.seconds

    def style(self, span: Span) -> str:
        """Return the CSS class of a bar: its state if it did not succeed, otherwise its kind."""
        if span.state is not JobState.SUCCEEDED:
            return str(span.state.value)
        return self.kinds[self.record.kinds[span.number]].css


@dataclass(slots=True)
class KindOfBars:
    """The jobs of one kind."""

    name: str
    css: str = "kind-other"
    count: int = 0
    failed: int = 0
    work: float = 0.0


def _kinds(record: TraceRecord, use: SlotUse) -> dict[str, KindOfBars]:
    """Return the kinds of the started jobs, the one with most work first; the first ones have colours."""
    found: dict[str, KindOfBars] = {}
    for bar in itertools.chain.from_iterable(use.rows):
        name = record.kinds[bar.span.number]
        kind = found.setdefault(name, KindOfBars(bar.span.label))
        kind.name = name if kind.count else kind.name
        kind.count += 1
        kind.failed += bar.span.state is JobState.FAILED
        kind.work += bar.ended - bar.began
    ordered = dict(sorted(found.items(), key=lambda item: -item[1].work))
    for place, kind in enumerate(itertools.islice(ordered.values(), KINDS)):
        kind.css = f"kind{place}"
    return ordered


def draw(svg: Tree.Element, definitions: Tree.Element, places: SlotPlaces) -> float:
    """Draw the rows and the strips below them; return the lower edge."""
    patterns = Patterns(definitions, (reason for reason, seconds in places.use.empty.items() if seconds > 0))
    for row in range(places.use.slots):
        y, height = places.top + row * places.pitch + places.gap / 2, places.pitch - places.gap
        add(svg, "rect", css="empty", x=places.left, y=y, width=places.width - MARGIN - places.left, height=height)
        if places.has_words or row == 0:
            text = f"slot {row + 1}" if places.has_words else f"{places.use.slots} slots"
            add(svg, "text", text, css="name", x=MARGIN, y=y + max(height / 2 + 4, 9))
    _draw_empty(svg, places, patterns)
    for row, bars in enumerate(places.use.rows):
        for block in sorted(_blocks(places, bars), key=lambda block: block.style == JobState.FAILED.value):
            _draw_block(svg, places, block, row)
    y = _draw_path(svg, places, places.bottom + 12)
    y = draw_strips(svg, places.record, places.x, places.left, places.width, y + 8)
    return _draw_legend(svg, places, patterns, y + 12)


# ---- why slots were empty


def _draw_empty(svg: Tree.Element, places: SlotPlaces, patterns: Patterns) -> None:
    """Hatch the slots that were empty for a reason: the upper ones of those without a job."""
    rows = [*places.use.rows, *[()] * (places.use.slots - len(places.use.rows))]
    times = [at for at, _ in places.use.empty_steps]
    number = int((places.width - MARGIN - places.left) / COLUMN)
    pointers = [0] * len(rows)
    found: list[tuple[int, int, Reason]] = []  # column, row, reason
    for column in range(number):
        at = places.began + places.seconds * (column + 0.5) / number
        reasons = places.use.empty_steps[bisect.bisect_right(times, at) - 1][1] if times else ()
        wanted = list(itertools.chain.from_iterable(itertools.repeat(reason, slots) for reason, slots in reasons))
        for row, bars in enumerate(rows):
            if not wanted:
                break
            while pointers[row] < len(bars) and bars[pointers[row]].ended <= at:
                pointers[row] += 1
            if pointers[row] == len(bars) or bars[pointers[row]].began > at:
                found.append((row, column, wanted.pop(0)))
    found.sort(key=lambda entry: entry[:2])
    named: dict[Reason, tuple[int, float]] = {}  # the word is in the first of several rows
    for (row, reason, _), group in itertools.groupby(
        enumerate(found), key=lambda entry: (entry[1][0], entry[1][2], entry[1][1] - entry[0])
    ):
        columns = [column for _, (_, column, _) in group]
        left, right = places.left + columns[0] * COLUMN, places.left + (columns[-1] + 1) * COLUMN
        y, height = places.top + row * places.pitch + places.gap / 2, places.pitch - places.gap
        fill = patterns.fill(reason)
        add(svg, "rect", css="why", x=left, y=y, width=right - left, height=height, fill=fill)
        above = named.get(reason)
        if places.has_words and (above is None or above[0] < row - 1 or abs(above[1] - left) > 60):
            draw_word(svg, printable(reason_words(reason)), left, y, right - left, height, places.font)
        named[reason] = row, left


def _base(places: SlotPlaces, y: float) -> float:
    return y + (places.pitch - places.gap) / 2 + places.font * 0.36


# ---- the jobs


def _blocks(places: SlotPlaces, bars: Sequence[Bar]) -> Iterator[Block]:
    """Yield the bars of a row; narrow adjacent ones of one kind are merged."""
    open_block: Block | None = None
    for bar in bars:
        kind, style = places.record.kinds[bar.span.number], places.style(bar.span)
        block = Block(bar.began, bar.ended, (bar.span,), style, kind)
        is_narrow = places.x(bar.ended) - places.x(bar.began) < NARROW
        if (
            open_block is not None
            and is_narrow
            and (open_block.style, open_block.kind) == (style, kind)
            and places.x(bar.began) - places.x(open_block.ended) < 1
        ):
            open_block = replace(open_block, ended=bar.ended, spans=(*open_block.spans, bar.span))
            continue
        if open_block is not None:
            yield open_block
        open_block = block if is_narrow else None
        if not is_narrow:
            yield block
    if open_block is not None:
        yield open_block


def _draw_block(svg: Tree.Element, places: SlotPlaces, block: Block, row: int) -> None:
    left, right = places.x(block.began), places.x(block.ended)
    y, height = places.top + row * places.pitch + places.gap / 2, places.pitch - places.gap
    is_failed = block.style == JobState.FAILED.value
    first, number = block.spans[0], len(block.spans)
    group = add(svg, "g", css="job", data_number=first.number)
    if number > 1 and len(places.record.spans) <= MAX_NAMED:
        group.set("data-numbers", " ".join(str(span.number) for span in block.spans))
    name = places.kinds[block.kind].name if number > 1 else first.label
    several = f"{number} jobs: {name}\nfrom {duration_text(block.began - places.began)} on"
    several += f", for {duration_text(block.ended - block.began)}"
    told = several if number > 1 else "\n".join(map(printable, details(places.record, first)))
    add(group, "title", told)
    width = max(right - left, 3.0 if is_failed else 0.5)
    outlined = "bar " * (width >= 3 and places.pitch >= 6)
    add(group, "rect", css=f"{outlined}{block.style}", x=left, y=y, width=width, height=height)
    if not places.has_words:
        return
    symbol = f"{FAILED} " if is_failed else ""
    text = f"{name} × {number}" if number > 1 else clipped_name(symbol + name, width - 7, places.font, is_failed)
    text = clipped(text, width - 7, places.font) if number > 1 else text
    if not text and is_failed and width >= 12:
        text = FAILED
    if text:
        css = "label on-dark" if is_failed else "label"
        x = left + (4 if width > 16 else 2)
        add(svg, "text", text, css=css, x=x, y=_base(places, y), font_size=places.font)


# ---- the critical path


def _draw_path(svg: Tree.Element, places: SlotPlaces, top: float) -> float:
    """Draw the critical path as a row of words: adjacent jobs of one kind share a box."""
    parts = list(_path_boxes(places.record))
    if not parts:
        return top
    height = 22.0
    add(svg, "text", "critical path", css="name strong", x=MARGIN, y=top + 15)
    for part, waited in parts:
        left, right = places.x(part.began), places.x(part.began + part.seconds)
        group = add(svg, "g", css="job" if part.count == 1 else "", data_number=part.span)
        share = 100 * part.seconds / places.seconds
        said = f"{part.text}  {duration_text(part.seconds)}  {share:.0f} %"
        wait = f" ({duration_text(waited)} of it waiting)" if waited > 0.01 * part.seconds else ""
        add(group, "title", said + wait)
        add(group, "rect", css="on-path step", x=left, y=top, width=max(right - left, 1.0), height=height)
        room = right - left - 10
        text = next((words for words in (said + wait, said) if text_width(words, 11) <= room), None)
        text = text or clipped_name(part.text, room, 11)
        if text:
            add(svg, "text", text, css="label", x=left + 6, y=top + 15, font_size=11)
    return top + height


def _path_boxes(record: TraceRecord) -> Iterator[tuple[PathPart, float]]:
    """Yield the parts of the path in chronological order, each with its wait."""
    found: list[tuple[str, PathPart, float]] = []
    waited = 0.0
    for part in path_steps(record):
        if part.is_wait:
            waited += part.seconds
            continue
        kind = record.kinds[part.span]
        began = part.began - waited
        if found and found[-1][0] == kind:
            before = found[-1][1]
            seconds = part.began + part.seconds - before.began
            whole = replace(before, name=kind, count=before.count + 1, seconds=seconds)
            found[-1] = kind, whole, found[-1][2] + waited
        else:
            found.append((kind, replace(part, began=began, seconds=part.seconds + waited), waited))
        waited = 0.0
    return ((part, waits) for _, part, waits in found)


# ---- the use of resources


def draw_strips(
    svg: Tree.Element, record: TraceRecord, x_of: Callable[[float], float], left: float, width: float, top: float
) -> float:
    """Draw the use of each resource over time; return the lower edge."""
    for name, note, (times, values), total in itertools.islice(_uses(record), MAX_STRIPS):
        base, most = top + STRIP - 8, max([total or 0.0, *values])
        unit = (STRIP - 12) / most if most else 0.0
        outline = "".join(
            f"H{x_of(min(max(at, record.began), record.now)):.1f}V{base - value * unit:.1f}"
            for at, value in zip(times, values, strict=True)
        )
        add(svg, "path", css="load", d=f"M{left:.1f} {base:.1f}{outline}H{width - MARGIN:.1f}V{base:.1f}Z")
        if total:
            y = base - total * unit
            add(svg, "line", css="window", x1=left, y1=y, x2=width - MARGIN, y2=y)
        add(svg, "line", css="frame", x1=left, y1=base, x2=width - MARGIN, y2=base)
        room = left - MARGIN - 6
        if room > 0:
            add(svg, "text", clipped(name, room, 11), css="name strong", x=MARGIN, y=base - 12)
            add(svg, "text", clipped(note, room, 11), css="tick", x=MARGIN, y=base + 1)
        else:
            add(svg, "text", clipped(f"{name}, {note}", width / 2, 11), css="note", x=left + 4, y=base - 5)
        top += STRIP
    return top


def _uses(record: TraceRecord) -> Iterator[tuple[str, str, Steps, float | None]]:
    """Yield the name, a note, the use over time and the total of each resource."""
    seconds = max(record.now - record.began, SHORTEST)
    for resource in record.resources:
        if not resource.uses or resource.is_reservation:
            continue
        found = resource.amount_over_time(record.now)
        if resource.total is None:
            yield f"jobs on {resource.name}", f"at most {max(found[1], default=0):.0f}", found, None
            continue
        used = sum(amount * (min(until, record.now) - since) for since, until, amount, _ in resource.uses)
        share = used / (resource.total * seconds) if resource.total else 0.0
        yield resource.name, f"{100 * share:.0f} % of {resource.format_amount(resource.total)}", found, resource.total


# ---- the legend


def _draw_legend(svg: Tree.Element, places: SlotPlaces, patterns: Patterns, top: float) -> float:
    x, y = MARGIN, top
    for css, fill, text in _entries(places, patterns):
        shown = clipped(text, 300, 11)
        needed = 17 + text_width(shown, 11) + 16
        if x + needed > places.width and x > MARGIN:
            x, y = MARGIN, y + LINE
        more = {} if fill is None else {"fill": fill}
        add(svg, "rect", css=css, x=x, y=y - 9, width=12, height=12, **more)
        add(svg, "text", shown, css="legend", x=x + 17, y=y + 1)
        x += needed
    return y


def _entries(places: SlotPlaces, patterns: Patterns) -> Iterator[tuple[str, str | None, str]]:
    """Yield the style, the fill and the text for each thing in the picture."""
    kinds = list(places.kinds.values())
    for kind in kinds[:KINDS]:
        failed = f", {kind.failed} failed" * bool(kind.failed)
        yield f"bar {kind.css}", None, f"{kind.name}: {kind.count}, {duration_text(kind.work)}{failed}"
    if len(kinds) > KINDS:
        rest = kinds[KINDS:]
        yield "bar kind-other", None, f"{len(rest)} other kinds: {sum(kind.count for kind in rest)}"
    states = Counter(bar.span.state for bars in places.use.rows for bar in bars)
    for state in STATE_STYLES:
        if states[state] and state is not JobState.SUCCEEDED:
            yield f"bar {state.value}", None, f"{STATE_STYLES[state].symbol} {state.value}"
    for reason in patterns:
        yield "why", patterns.fill(reason), f"empty: {reason_words(reason)}"
    if places.use.empty.get(NOTHING_READY, 0) > 0:
        yield "empty", None, f"empty: {reason_words(NOTHING_READY)}"
