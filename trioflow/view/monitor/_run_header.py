"""The two lines of a monitor about the whole run: its progress, and the number of jobs in each state."""

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

FURTHER: Final = tuple(
    state for state in PRECEDENCE if state.is_settled and state not in (JobState.SUCCEEDED, JobState.FAILED)
)
"""The final states that are shown only if a job is in them. The model counts failures."""

SHORT_TIME: Final = len("59.9 s")
"""Columns for a time, until one is longer than a minute."""

SHORTEST_BAR: Final = 8


class Figures(Protocol):
    """The figures in the lines, of a `Model` or something like it."""

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
        """Return the seconds since the beginning."""
        ...


class RunLines:
    """The head of each picture of one run."""

    def __init__(self, model: Figures, symbols: Symbols) -> None:
        self._model: Final = model
        self._symbols: Final = symbols
        self._is_unicode: Final = symbols.set is UNICODE
        self._elapsed_columns = SHORT_TIME
        self._left_columns = len("≈ 30 min left")

    def lines(self, columns: int, remaining: float | None) -> list[Line]:
        """Return the two lines; after the run only the first, if the second adds nothing.

        Args:
            columns: the width of the terminal.
            remaining: the remaining seconds of the run; None if unknown.

        """
        if self._model.ended is None:
            return [self._progress(columns, remaining), self._counts(columns)]
        return [self._outcome(columns), *[self._counts(columns)] * self.counts_say_more()]

    def counts(self) -> str:
        """Return the number of jobs in each state, in words."""
        return ", ".join(f"{number} {word}" for _, number, word, _ in self._state_counts() if number)

    def counts_say_more(self) -> bool:
        """Return whether the counts add to the verdict, which counts two states."""
        words = {word for _, number, word, _ in self._state_counts() if number}
        return len(words) > 1 or not words <= {JobState.SUCCEEDED.value, JobState.FAILED.value}

    # ---- the first line

    def _progress(self, columns: int, remaining: float | None) -> Line:
        """Return label, bar and figures; in a narrow terminal drop the label, then the counts, then the estimate."""
        tally = self._model.tally
        settled = sum(tally.settled.values())
        total = self._model.total
        percent = "" if total is None else f"{100 * settled // total if total else 0:>3}%"
        counts = f"{settled}/?" if total is None else f"{settled:>{len(str(total))}}/{total}"
        elapsed = so_far(self._model.elapsed())
        self._elapsed_columns = max(self._elapsed_columns, len(elapsed))
        elapsed = elapsed.rjust(self._elapsed_columns)
        label = self._symbols.escape(self._model.label)
        left = self._time_left(remaining)
        known = left.strip()  # the end of a run comes before its label
        tries: list[tuple[str, list[str], int]] = [
            (label, [percent, counts, elapsed, left], 2 * SHORTEST_BAR),
            *[("", [percent, counts, elapsed, known], SHORTEST_BAR)] * bool(known),
            *[("", [percent, elapsed, known], SHORTEST_BAR)] * bool(known),
            (label, [percent, counts, elapsed], SHORTEST_BAR),
            ("", [percent, counts, elapsed], SHORTEST_BAR),
            ("", [percent, elapsed.strip()], SHORTEST_BAR),
        ]
        for name, figures, least in tries:
            end = "  ".join(["", *filter(None, figures)])
            start = f" {name}  " if name else " "
            bar = columns - width(start) - width(end)
            if bar >= least:
                return [(start, "title"), *self._bar(bar, tally), (end, "figures")]
        return [(f"{percent.strip()} {elapsed.strip()}"[:columns], "figures")]

    def _time_left(self, remaining: float | None) -> str:
        """Return the estimate, or the word for a run about to end; its width never shrinks."""
        text = self._about_the_end(remaining)
        self._left_columns = max(self._left_columns, len(text))
        return text.ljust(self._left_columns)

    def _about_the_end(self, remaining: float | None) -> str:
        if self._model.ending:
            return self._model.ending
        about = "≈" if self._is_unicode else "~"
        return "" if remaining is None else f"{about} {estimate(remaining)} left"

    def _bar(self, columns: int, tally: JobCounts) -> Line:
        done, active, rest = ("━", "╍", "─") if self._is_unicode else ("=", ">", "-")
        bad = sum(
            number for state, number in tally.settled.items() if STATE_STYLES[state].style in {"failed", "trouble"}
        )
        parts = _shares([sum(tally.settled.values()) - bad, bad, tally.running], self._model.total or 0, columns)
        bar = [(done * parts[0], "done"), (done * parts[1], "failed"), (active * parts[2], "running")]
        return [*bar, (rest * (columns - sum(parts)), "dim")]

    def _outcome(self, columns: int) -> Line:
        said = self._model.verdict()
        style = "good" if said.is_good else "failed"
        words = f"{said.symbol(self._symbols)} {self._symbols.escape(said.words)}"
        label = self._symbols.escape(self._model.label)
        name = f" {label}  " if width(label) + 3 + width(words) <= columns else " "
        return [(name, "title"), (words[: max(0, columns - width(name))], style)]

    # ---- the second line

    def _counts(self, columns: int) -> Line:
        counted, digits = self._state_counts(), len(str(self._model.tally.jobs))
        pieces: Line = []
        for places, shown in itertools.product((digits, 0), ([*counted, *self._window()], counted)):
            pieces = [(f"{symbol} {number:>{places}} {word}", style) for symbol, number, word, style in shown]
            if _length(pieces, 3) <= columns:
                break
        else:
            pieces = [(f"{symbol} {number}", style) for symbol, number, _, style in counted]
        while _length(pieces, 2) > columns:
            pieces.pop()
        gap = "   " if _length(pieces, 3) <= columns else "  "
        line: Line = []
        for text, style in pieces:
            line += [(gap if line else " ", ""), (text[0], style), (text[1:], "figures")]
        return line

    def _window(self) -> list[tuple[str, int, str, str]]:
        """Return the taken slots of the window, in the same form."""
        size = self._model.slots
        if size is None or self._model.ended is not None:
            return []
        return [("▪" if self._is_unicode else "=", self._model.slots_taken, f"of {size} slots", "dim")]

    def _state_counts(self) -> list[tuple[str, int, str, str]]:
        """Return for each state its symbol, the number of jobs, a word and a style."""
        tally = self._model.tally
        done = self._of(JobState.SUCCEEDED, tally.settled[JobState.SUCCEEDED])
        if tally.restored:  # these have succeeded too, so they are not counted once more
            done = (*done[:2], f"{done[2]} ({tally.restored} restored)", done[3])
        failed = self._of(JobState.FAILED, self._model.failed)
        symbols = self._symbols.set
        found = [
            done,
            self._of(JobState.RUNNING, tally.running),
            failed if failed[1] else (*failed[:3], "dim"),
            (symbols.states[JobState.IDLE], tally.waiting, "waiting", ""),
        ]
        if self._model.total is None:  # the number of waiting jobs is unknown
            found.pop()
        further = [
            *(self._of(state, tally.settled[state]) for state in FURTHER),
            (symbols.states[JobState.IDLE], tally.unreached, "never started", "trouble"),
            (symbols.forever, self._model.forever_jobs, "forever", FOREVER.style),
        ]
        if self._model.ended is not None:
            found = [count for count in found if count[1] or count is done]
        return found + [count for count in further if count[1]]

    def _of(self, state: JobState, number: int) -> tuple[str, int, str, str]:
        return self._symbols.set.states[state], number, state.value, STATE_STYLES[state].style


def so_far(seconds: float) -> str:
    """Return an elapsed time in whole seconds, which do not flicker."""
    return duration_text(max(0, math.floor(seconds)))


def estimate(seconds: float) -> str:
    """Return an estimate of a time, rounded up to 5 s, from 2 minutes on to 30 s, and from 10 minutes on to minutes."""
    step = 5 if seconds < 120 else 30 if seconds < 600 else 60
    return duration_text(max(5, math.ceil(seconds / step) * step))


def _length(pieces: list[Piece], gap: int) -> int:
    return sum(width(text) for text, _ in pieces) + gap * (len(pieces) - 1) + 1


def _shares(parts: list[int], whole: int, columns: int) -> list[int]:
    """Divide columns in proportion to the parts; a part that is not 0 gets at least one, while there are any left."""
    shares: list[int] = []
    before = 0
    for part in parts:
        end = (before + part) * columns // whole if whole else 0
        share = max(end - sum(shares), 1 if part else 0)
        shares.append(max(0, min(share, columns - sum(shares))))
        before += part
    return shares
