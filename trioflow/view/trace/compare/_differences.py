"""`compare`: why two runs took different times, explained along their critical paths.

Each critical path fills the time of its run without gaps, divided into the times of jobs and of waits. Such a part has
become longer or shorter if it is on both paths, and otherwise is new or gone. The changes of all parts add up exactly
to the difference between the durations of the runs. A list of all jobs that became slower would not explain it: most
of them do not matter, because other jobs took longer at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ...._core.api.views import duration_text, durations_in_column
from ...text import _symbols
from ._trace_reader import JobTimes, RunTimes

MIN_CHANGE: Final = 0.005
"""The share of the longer run's duration below which changes are combined in one line."""
NOTABLE_CHANGE: Final = 0.2
"""The relative change from which a job that is on neither path is listed."""
ROUNDING_ERROR: Final = 1e-5
"""The share of the longer run's duration below which the sum of small changes is a rounding error."""
MAX_ROWS: Final = 10
"""The number of lines below each title."""
MAX_PATH_LENGTH: Final = 60
"""Number of characters above which a path loses its middle: the paths of similar jobs often differ only at the end."""


@dataclass(frozen=True, slots=True)
class PathChange:
    """The change of one part of the critical path between two runs."""

    path: str
    """The path of the job; empty if the change belongs to no single job."""
    description: str
    """The change in words, such as "waited longer for gpu"."""
    before: float | None
    """The seconds in the first run; None if the part is not on its critical path."""
    after: float | None
    """The seconds in the second run; None if the part is not on its critical path."""
    note: str = ""
    """A remark that follows the change, or an empty string."""

    @property
    def seconds(self) -> float:
        """The seconds by which this part made the second run longer."""
        return (self.after or 0.0) - (self.before or 0.0)

    @property
    def text(self) -> str:
        """The job and the description of its change."""
        return f"{_clip_path(self.path)}: {self.description}" if self.path else self.description


@dataclass(frozen=True, slots=True)
class Comparison:
    """The changes between two runs."""

    before: RunTimes
    after: RunTimes
    changes: tuple[PathChange, ...]
    """The changes along the critical paths, the greatest first."""
    off_path: tuple[tuple[str, float, float], ...]
    """The jobs on neither critical path whose duration changed notably: path, and seconds before and after."""
    waited_longer: tuple[tuple[str, JobTimes, JobTimes], ...]
    """The jobs on a critical path that waited longer after their requirements had settled: path, times in both runs."""
    state_changes: tuple[tuple[str, str, str], ...]
    """The jobs that ended in different states: path, and the states before and after."""

    @property
    def seconds(self) -> float:
        """The seconds by which the second run took longer than the first."""
        return self.after.seconds - self.before.seconds

    @property
    def share(self) -> float:
        """`seconds` as a share of the first run's duration; 0 if neither run took any time."""
        if self.before.seconds == 0:
            return float("inf") if self.after.seconds else 0.0
        return self.seconds / self.before.seconds


def compare(before: RunTimes, after: RunTimes) -> Comparison:
    """Compare two runs. O(n log n)."""
    longer = max(before.seconds, after.seconds)
    min_change = MIN_CHANGE * longer
    changes = sorted(_path_changes(before, after, min_change), key=lambda change: -abs(change.seconds))
    shown = [change for change in changes if abs(change.seconds) >= min_change]
    small = changes[len(shown) :]
    min_sum = ROUNDING_ERROR * longer if shown else min_change / 10
    if small and abs(sum(change.seconds for change in small)) >= min_sum:
        old = sum(change.before or 0.0 for change in small)
        new = sum(change.after or 0.0 for change in small)
        words = f"{len(small)} smaller change{'s' * (len(small) != 1)}"
        shown.append(PathChange("", words, old or None, new or None))
    on_path = {segment.path for run in (before, after) for segment in run.path_segments}
    both = [(path, job, after.jobs[path]) for path, job in before.jobs.items() if path in after.jobs]
    off_path = [
        (path, old.seconds, new.seconds)
        for path, old, new in both
        if path not in on_path and _is_notable(old.seconds, new.seconds, min_change)
    ]
    waited_longer = [job for job in both if job[0] in on_path and job[2].waited - job[1].waited >= min_change]
    old_states, new_states = (
        {path: job.state for path, job in run.jobs.items()} | run.not_started for run in (before, after)
    )
    return Comparison(
        before,
        after,
        tuple(shown),
        tuple(sorted(off_path, key=lambda job: -abs(job[2] - job[1]))),
        tuple(sorted(waited_longer, key=lambda job: (job[1].waited - job[2].waited, job[0]))),
        tuple(
            (path, state, new_states[path])
            for path, state in old_states.items()
            if path in new_states and new_states[path] != state
        ),
    )


def _clip_path(path: str) -> str:
    """Return a path without its middle if it is too long for a line."""
    half = MAX_PATH_LENGTH // 2
    return path if len(path) <= MAX_PATH_LENGTH else f"{path[:half]}…{path[1 - half :]}"


def _is_notable(before: float, after: float, min_change: float) -> bool:
    return abs(after - before) > max(NOTABLE_CHANGE * before, min_change)


def _path_changes(before: RunTimes, after: RunTimes, min_change: float) -> Iterator[PathChange]:
    old, new = _seconds_by_part(before), _seconds_by_part(after)
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
            is_longer = path in before.jobs and after.jobs[path].seconds - before.jobs[path].seconds >= min_change
            words = f"{'longer, and ' * is_longer}new on the critical path" if path in before.jobs else "new"
            yield PathChange(path, words, was, now, _time_beside_path("it took", before.jobs.get(path)))
        elif now is None:
            more_by = after.jobs[path].seconds - before.jobs[path].seconds if path in after.jobs else None
            more = ", though it takes longer" if more_by is not None and more_by >= min_change else ""
            words = "gone" if more_by is None else f"off the critical path{more}"
            state = after.not_started.get(path, "")
            yield PathChange(path, words, was, now, state or _time_beside_path("it takes", after.jobs.get(path)))
        else:
            yield PathChange(path, "longer" if is_more else "shorter", was, now)


def _seconds_by_part(run: RunTimes) -> dict[tuple[str, bool], float]:
    """Return the seconds of each job and each wait on a critical path, summed over several runs of one job."""
    sums: dict[tuple[str, bool], float] = {}
    for path, is_wait, seconds in run.path_segments:
        sums[path, is_wait] = sums.get((path, is_wait), 0.0) + seconds
    return sums


def _time_beside_path(verb: str, job: JobTimes | None) -> str:
    return "" if job is None else f"beside it, {verb} {duration_text(job.seconds)}"


# ---- as text


def headline(compared: Comparison) -> str:
    """Return the durations of both runs in a line: `build: 16.3 s, before 14.2 s: 2.1 s longer (+15 %)`."""
    before, after = (duration_text(run.seconds) for run in (compared.before, compared.after))
    more = "longer" if compared.seconds > 0 else "less"
    share = f" ({100 * compared.share:+.0f} %)" if compared.before.seconds else ""
    change = "as long as before" if before == after else f"{duration_text(abs(compared.seconds))} {more}{share}"
    return f"{compared.after.name}: {after}, before {before}: {change}"


def comparison_lines(compared: Comparison, symbols: _symbols.Symbols) -> Iterator[str]:
    """Yield the lines of the comparison: the durations, the changes along the critical paths, then the others."""
    yield symbols.escape(headline(compared))
    if compared.changes:
        yield ""
        yield "Along the critical paths:"
        yield from _table_lines(compared, symbols)
    for title, texts in other_changes(compared):
        yield ""
        yield f"{title}:"
        yield from (f"  {symbols.escape(text)}" for text in texts[:MAX_ROWS])
        if len(texts) > MAX_ROWS:
            yield f"  and {len(texts) - MAX_ROWS} more"
    if not {*compared.before.jobs} & {*compared.after.jobs}:
        yield ""
        yield "The two runs have no job in common: are these traces of the same scenario?"


def other_changes(compared: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Yield the changes off the critical paths: for each kind of change a title, and a line for each job."""
    for title, texts in (
        ("Waited longer", [_wait_text(path, before, after) for path, before, after in compared.waited_longer]),
        ("On neither critical path, but changed by more than 20 %", [*_off_path_lines(compared)]),
        ("Ended otherwise", [f"{_clip_path(path)}: {was}, now {now}" for path, was, now in compared.state_changes]),
    ):
        if texts:
            yield title, texts


def _wait_text(path: str, before: JobTimes, after: JobTimes) -> str:
    cause = f" for {after.waited_for}" if after.waited_for else ""
    return f"{_clip_path(path)}: {duration_text(before.waited)}, now {duration_text(after.waited)}{cause}"


def _off_path_lines(compared: Comparison) -> Iterator[str]:
    for path, before, after in compared.off_path:
        yield f"{_clip_path(path)}: {duration_text(before)}, now {duration_text(after)}"


def _table_lines(compared: Comparison, symbols: _symbols.Symbols) -> Iterator[str]:
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
    longest = max(map(_symbols.width, words))
    for row, text, note in zip(rows, ["", *words], ["", *(change.note for change in changes)], strict=True):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        blanks = " " * (longest - _symbols.width(text))
        yield "  ".join(["", first, f"{text}{blanks}", *others, note]).rstrip()
