"""`compare`: the difference between two runs, along both critical paths.

Each critical path fills its run without a gap, so it is cut into parts: what a job took, and what it waited. A part
that is in both has become longer or shorter; one that is in a single one has come or gone. All of these together are
the difference of the two runs, to the last digit. That is what a list of all jobs that became slower cannot say:
most of them do not matter, because something else took longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ...._core.api.views import duration_text, durations_in_column
from ...text import _symbols
from ._trace_reader import JobTimes, RunTimes

SMALL: Final = 0.005
"""Changes of less than this share of the longer run are added up."""
NOTABLE: Final = 0.2
"""The change from which a job on neither path is listed."""
ROUNDED: Final = 1e-5
"""The share of the longer run below which the rest of a sum is a rounding error."""
MAX_ROWS: Final = 10
"""Lines below each title of the text."""
LONGEST: Final = 60
"""Characters of a path; longer ones lose their middle, because those of one kind often differ at their ends alone."""


@dataclass(frozen=True, slots=True)
class PathChange:
    """One changed part of the critical path."""

    path: str
    what: str
    """In words, such as "waited longer for gpu"."""
    before: float | None
    """Seconds; None if it is not in that run."""
    after: float | None
    note: str = ""
    """A further remark."""

    @property
    def seconds(self) -> float:
        """The seconds by which the run became longer."""
        return (self.after or 0.0) - (self.before or 0.0)

    @property
    def text(self) -> str:
        """The job, and its change."""
        return f"{_cut(self.path)}: {self.what}" if self.path else self.what


@dataclass(frozen=True, slots=True)
class Comparison:
    """The changes between two runs, the greatest first."""

    before: RunTimes
    after: RunTimes
    changes: tuple[PathChange, ...]
    beside: tuple[tuple[str, float, float], ...]
    """Jobs on neither path that took longer or shorter by more than a fifth: path, and seconds before and after."""
    waited: tuple[tuple[str, JobTimes, JobTimes], ...]
    """Jobs on one of the paths that waited longer, though what they require had settled: path, before, after."""
    ended_otherwise: tuple[tuple[str, str, str], ...]
    """Jobs with another state: path, and the states before and after."""

    @property
    def seconds(self) -> float:
        """The seconds by which the second run took longer."""
        return self.after.seconds - self.before.seconds

    @property
    def share(self) -> float:
        """The same as a share of the first; 0 if neither took any time."""
        if self.before.seconds == 0:
            return float("inf") if self.after.seconds else 0.0
        return self.seconds / self.before.seconds


def compare(before: RunTimes, after: RunTimes) -> Comparison:
    """Return the comparison of two runs. O(n log n)."""
    least = SMALL * max(before.seconds, after.seconds)
    changes = sorted(_changes(before, after, least), key=lambda change: -abs(change.seconds))
    shown = [change for change in changes if abs(change.seconds) >= least]
    small = changes[len(shown) :]
    if small and abs(sum(change.seconds for change in small)) >= (ROUNDED * least / SMALL if shown else least / 10):
        old = sum(change.before or 0.0 for change in small)
        new = sum(change.after or 0.0 for change in small)
        words = f"{len(small)} smaller change{'s' * (len(small) != 1)}"
        shown.append(PathChange("", words, old or None, new or None))
    on_path = {piece.path for run in (before, after) for piece in run.pieces}
    beside = [
        (path, job.seconds, after.jobs[path].seconds)
        for path, job in before.jobs.items()
        if path in after.jobs and path not in on_path and _is_notable(job.seconds, after.jobs[path].seconds, least)
    ]
    both = (
        (path, before.jobs[path], after.jobs[path]) for path in on_path if path in before.jobs and path in after.jobs
    )
    waited = [job for job in both if job[2].waited - job[1].waited >= least]
    states = {path: job.state for path, job in before.jobs.items()} | before.not_started
    now = {path: job.state for path, job in after.jobs.items()} | after.not_started
    return Comparison(
        before,
        after,
        tuple(shown),
        tuple(sorted(beside, key=lambda job: -abs(job[2] - job[1]))),
        tuple(sorted(waited, key=lambda job: (job[1].waited - job[2].waited, job[0]))),
        tuple((path, state, now[path]) for path, state in states.items() if path in now and now[path] != state),
    )


def _cut(path: str) -> str:
    """Return a path, without its middle if it is too long for a line."""
    half = LONGEST // 2
    return path if len(path) <= LONGEST else f"{path[:half]}…{path[1 - half :]}"


def _is_notable(before: float, after: float, least: float) -> bool:
    return abs(after - before) > max(NOTABLE * before, least)


def _changes(before: RunTimes, after: RunTimes, least: float) -> Iterator[PathChange]:
    old, new = _lengths(before), _lengths(after)
    for path, is_wait in dict.fromkeys([*old, *new]):
        was, now = old.get((path, is_wait)), new.get((path, is_wait))
        is_more = (now or 0.0) > (was or 0.0)
        if path == "":
            yield PathChange("", f"the end, after the last job: {'longer' if is_more else 'shorter'}", was, now)
        elif is_wait:
            job = (after if now is not None else before).jobs[path]
            cause = f" for {job.waited_for}" if job.waited_for else ""
            yield PathChange(path, f"waited {'longer' if is_more else 'less'}{cause}", was, now)
        elif was is None:
            is_longer = path in before.jobs and after.jobs[path].seconds - before.jobs[path].seconds >= least
            what = f"{'longer, and ' * is_longer}new on the critical path" if path in before.jobs else "new"
            yield PathChange(path, what, was, now, _took("it took", before.jobs.get(path)))
        elif now is None:
            more_by = after.jobs[path].seconds - before.jobs[path].seconds if path in after.jobs else None
            more = ", though it takes longer" if more_by is not None and more_by >= least else ""
            what = "gone" if more_by is None else f"off the critical path{more}"
            state = after.not_started.get(path, "")
            yield PathChange(path, what, was, now, state or _took("it takes", after.jobs.get(path)))
        else:
            yield PathChange(path, "longer" if is_more else "shorter", was, now)


def _lengths(run: RunTimes) -> dict[tuple[str, bool], float]:
    """Return the seconds of each part of a critical path; what a job did in several runs of its scheduler is added."""
    found: dict[tuple[str, bool], float] = {}
    for path, is_wait, seconds in run.pieces:
        found[path, is_wait] = found.get((path, is_wait), 0.0) + seconds
    return found


def _took(words: str, job: JobTimes | None) -> str:
    return "" if job is None else f"beside it, {words} {duration_text(job.seconds)}"


# ---- as text


def headline(compared: Comparison) -> str:
    """Return the durations of both: `words: 16.3 s, before 14.2 s: 2.1 s longer (+15 %)`."""
    before, after = (duration_text(run.seconds) for run in (compared.before, compared.after))
    more = "longer" if compared.seconds > 0 else "less"
    share = f" ({100 * compared.share:+.0f} %)" if compared.before.seconds else ""
    change = "as long as before" if before == after else f"{duration_text(abs(compared.seconds))} {more}{share}"
    return f"{compared.after.name}: {after}, before {before}: {change}"


def lines(compared: Comparison, symbols: _symbols.Symbols) -> Iterator[str]:
    """Yield the comparison line by line: the changes along the paths, then the others."""
    yield symbols.escape(headline(compared))
    if compared.changes:
        yield ""
        yield "Along the critical paths:"
        yield from _table(compared, symbols)
    for title, found in asides(compared):
        yield ""
        yield f"{title}:"
        yield from (f"  {symbols.escape(text)}" for text in found[:MAX_ROWS])
        if len(found) > MAX_ROWS:
            yield f"  and {len(found) - MAX_ROWS} more"
    if not {*compared.before.jobs} & {*compared.after.jobs}:
        yield ""
        yield "The two runs have no job in common: are these traces of the same scenario?"


def asides(compared: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Yield the other changes: a title, and a line for each job."""
    for title, found in (
        ("Waited longer", [_waited(path, before, after) for path, before, after in compared.waited]),
        ("On neither critical path, but changed by more than 20 %", [*_beside(compared)]),
        ("Ended otherwise", [f"{_cut(path)}: {was}, now {now}" for path, was, now in compared.ended_otherwise]),
    ):
        if found:
            yield title, found


def _waited(path: str, before: JobTimes, after: JobTimes) -> str:
    cause = f" for {after.waited_for}" if after.waited_for else ""
    return f"{_cut(path)}: {duration_text(before.waited)}, now {duration_text(after.waited)}{cause}"


def _beside(compared: Comparison) -> Iterator[str]:
    for path, before, after in compared.beside:
        yield f"{_cut(path)}: {duration_text(before)}, now {duration_text(after)}"


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
    words = [symbols.escape(change.text) for change in changes]
    rows = [(f"change, {unit}", "before", "after"), *zip(signed, before, after, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    wide = max(map(_symbols.width, words))
    for figures_of_row, what, note in zip(rows, ["", *words], ["", *(change.note for change in changes)], strict=True):
        first, *others = (text.rjust(width) for text, width in zip(figures_of_row, widths, strict=True))
        blanks = " " * (wide - _symbols.width(what))
        yield "  ".join(["", first, f"{what}{blanks}", *others, note]).rstrip()
