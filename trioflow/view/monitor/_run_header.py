"""`RunHeader`: the first two lines of a monitor's picture: the progress of the run, and the jobs in each state."""

from __future__ import annotations

import itertools
import math
from typing import Final, Protocol

from ..._core.api.views import JobState, duration_text
from .._state_styles import FOREVER, PRECEDENCE, STATE_STYLES
from ..text._symbols import UNICODE, Symbols, width
from ..text._verdict import Verdict
from ._display import Line, Piece
from ._model import JobCounts

RARE_STATES: Final = tuple(
    state for state in PRECEDENCE if state.is_settled and state not in (JobState.SUCCEEDED, JobState.FAILED)
)
"""The final states that are shown only if a job is in them. FAILED is not among them: the model counts failures."""

SHORT_TIME: Final = len("59.9 s")
"""The number of columns for an elapsed time; it grows when a time of more than a minute needs more."""

MIN_BAR: Final = 8


class Figures(Protocol):
    """The facts about a run that the header shows; `Model` satisfies this protocol."""

    @property
    def label(self) -> str: ...
    @property
    def total(self) -> int | None: ...
    @property
    def tally(self) -> JobCounts: ...
    @property
    def failed(self) -> int: ...
    @property
    def forever_jobs(self) -> int: ...
    @property
    def slots(self) -> int | None: ...
    @property
    def slots_taken(self) -> int: ...
    @property
    def ending(self) -> str: ...
    @property
    def ended(self) -> float | None: ...
    def verdict(self) -> Verdict:
        """Return the verdict on the run."""
        ...

    def elapsed(self) -> float:
        """Return the seconds since the run began, or its duration if it has ended."""
        ...


class RunHeader:
    """The header of the pictures of one run; its columns keep their positions from picture to picture."""

    def __init__(self, model: Figures, symbols: Symbols) -> None:
        self._model: Final = model
        self._symbols: Final = symbols
        self._is_unicode: Final = symbols.set is UNICODE
        self._elapsed_columns = SHORT_TIME
        self._left_columns = len("≈ 30 min left")

    def lines(self, columns: int, remaining: float | None) -> list[Line]:
        """Return the two lines; after the run, only the first one if the counts repeat the verdict.

        Args:
            columns: the width of the terminal.
            remaining: the remaining seconds of the run; None if unknown.

        """
        if self._model.ended is None:
            return [self._progress_line(columns, remaining), self._counts_line(columns)]
        return [self._outcome_line(columns), *[self._counts_line(columns)] * self.counts_add_to_verdict()]

    def counts(self) -> str:
        """Return the number of jobs in each state as text: `3 succeeded, 1 failed`."""
        return ", ".join(f"{number} {word}" for _, number, word, _ in self._state_counts() if number)

    def counts_add_to_verdict(self) -> bool:
        """Return whether the counts say more than the verdict, which counts succeeded and failed jobs."""
        words = {word for _, number, word, _ in self._state_counts() if number}
        return len(words) > 1 or not words <= {JobState.SUCCEEDED.value, JobState.FAILED.value}

    # ---- the first line

    def _progress_line(self, columns: int, remaining: float | None) -> Line:
        """Return label, bar and figures; omit the label, the counts and the estimate as a narrow terminal requires."""
        tally = self._model.tally
        settled = sum(tally.settled.values())
        total = self._model.total
        percent = "" if total is None else f"{100 * settled // total if total else 0:>3}%"
        counts = f"{settled}/?" if total is None else f"{settled:>{len(str(total))}}/{total}"
        elapsed = elapsed_text(self._model.elapsed())
        self._elapsed_columns = max(self._elapsed_columns, len(elapsed))
        elapsed = elapsed.rjust(self._elapsed_columns)
        label = self._symbols.escape(self._model.label)
        time_left = self._time_left(remaining)
        end_text = time_left.strip()  # more important than the label
        candidates: list[tuple[str, list[str], int]] = [
            (label, [percent, counts, elapsed, time_left], 2 * MIN_BAR),
            *[("", [percent, counts, elapsed, end_text], MIN_BAR)] * bool(end_text),
            *[("", [percent, elapsed, end_text], MIN_BAR)] * bool(end_text),
            (label, [percent, counts, elapsed], MIN_BAR),
            ("", [percent, counts, elapsed], MIN_BAR),
            ("", [percent, elapsed.strip()], MIN_BAR),
        ]
        for name, figures, min_bar in candidates:
            end = "  ".join(["", *filter(None, figures)])
            start = f" {name}  " if name else " "
            bar = columns - width(start) - width(end)
            if bar >= min_bar:
                return [(start, "title"), *self._bar_pieces(bar, tally), (end, "figures")]
        return [(f"{percent.strip()} {elapsed.strip()}"[:columns], "figures")]

    def _time_left(self, remaining: float | None) -> str:
        """Return the estimate, or the word for a run that is about to end, in a column whose width never shrinks."""
        text = self._end_text(remaining)
        self._left_columns = max(self._left_columns, len(text))
        return text.ljust(self._left_columns)

    def _end_text(self, remaining: float | None) -> str:
        if self._model.ending:
            return self._model.ending
        about = "≈" if self._is_unicode else "~"
        return "" if remaining is None else f"{about} {estimate_text(remaining)} left"

    def _bar_pieces(self, columns: int, tally: JobCounts) -> Line:
        done, active, pending = ("━", "╍", "─") if self._is_unicode else ("=", ">", "-")
        bad = sum(
            number for state, number in tally.settled.items() if STATE_STYLES[state].style in {"failed", "trouble"}
        )
        parts = _divide_columns(
            [sum(tally.settled.values()) - bad, bad, tally.running], self._model.total or 0, columns
        )
        bar = [(done * parts[0], "done"), (done * parts[1], "failed"), (active * parts[2], "running")]
        return [*bar, (pending * (columns - sum(parts)), "dim")]

    def _outcome_line(self, columns: int) -> Line:
        verdict = self._model.verdict()
        style = "good" if verdict.is_good else "failed"
        words = f"{verdict.symbol(self._symbols)} {self._symbols.escape(verdict.words)}"
        label = self._symbols.escape(self._model.label)
        name = f" {label}  " if width(label) + 3 + width(words) <= columns else " "
        return [(name, "title"), (words[: max(0, columns - width(name))], style)]

    # ---- the second line

    def _counts_line(self, columns: int) -> Line:
        """Return the second line, with as much of the words and the window as fits."""
        counted, digits = self._state_counts(), len(str(self._model.tally.jobs))
        pieces: Line = []
        for places, shown in itertools.product((digits, 0), ([*counted, *self._window_counts()], counted)):
            pieces = [(f"{symbol} {number:>{places}} {word}", style) for symbol, number, word, style in shown]
            if _total_width(pieces, 3) <= columns:
                break
        else:
            pieces = [(f"{symbol} {number}", style) for symbol, number, _, style in counted]
        while _total_width(pieces, 2) > columns:
            pieces.pop()
        gap = "   " if _total_width(pieces, 3) <= columns else "  "
        line: Line = []
        for text, style in pieces:
            line += [(gap if line else " ", ""), (text[0], style), (text[1:], "figures")]
        return line

    def _window_counts(self) -> list[tuple[str, int, str, str]]:
        """Return the number of slots in use, in the form of `_state_counts`, if the window is limited."""
        size = self._model.slots
        if size is None or self._model.ended is not None:
            return []
        return [("▪" if self._is_unicode else "=", self._model.slots_taken, f"of {size} slots", "dim")]

    def _state_counts(self) -> list[tuple[str, int, str, str]]:
        """Return a tuple for each state to show: its symbol, the number of jobs, a word, and a style."""
        tally = self._model.tally
        done = self._state_count(JobState.SUCCEEDED, tally.settled[JobState.SUCCEEDED])
        if tally.restored:  # the restored jobs are among those that succeeded
            done = (*done[:2], f"{done[2]} ({tally.restored} restored)", done[3])
        failed = self._state_count(JobState.FAILED, self._model.failed)
        symbols = self._symbols.set
        counts = [
            done,
            self._state_count(JobState.RUNNING, tally.running),
            failed if failed[1] else (*failed[:3], "dim"),
            (symbols.states[JobState.IDLE], tally.waiting, "waiting", ""),
        ]
        if self._model.total is None:  # the number of waiting jobs is unknown
            counts.pop()
        rare = [
            *(self._state_count(state, tally.settled[state]) for state in RARE_STATES),
            (symbols.states[JobState.IDLE], tally.unreached, "never started", "trouble"),
            (symbols.forever, self._model.forever_jobs, "forever", FOREVER.style),
        ]
        if self._model.ended is not None:
            counts = [count for count in counts if count[1] or count is done]
        return counts + [count for count in rare if count[1]]

    def _state_count(self, state: JobState, number: int) -> tuple[str, int, str, str]:
        return self._symbols.set.states[state], number, state.value, STATE_STYLES[state].style


def elapsed_text(seconds: float) -> str:
    """Return an elapsed time as text in whole seconds, because fractions would flicker."""
    return duration_text(max(0, math.floor(seconds)))


def estimate_text(seconds: float) -> str:
    """Return an estimate as text: rounded up to 5 s, from 2 minutes on to 30 s, and from 10 minutes on to minutes."""
    step = 5 if seconds < 120 else 30 if seconds < 600 else 60
    return duration_text(max(5, math.ceil(seconds / step) * step))


def _total_width(pieces: list[Piece], gap: int) -> int:
    return sum(width(text) for text, _ in pieces) + gap * (len(pieces) - 1) + 1


def _divide_columns(parts: list[int], whole: int, columns: int) -> list[int]:
    """Divide columns in proportion to the parts of a whole; nonzero parts get at least one column while any is free."""
    shares: list[int] = []
    before = 0
    for part in parts:
        end = (before + part) * columns // whole if whole else 0
        share = max(end - sum(shares), 1 if part else 0)
        shares.append(max(0, min(share, columns - sum(shares))))
        before += part
    return shares
