"""The two lines of a monitor that tell of the whole run: how far it is, and how many jobs are where."""

from __future__ import annotations

from typing import Final

from .._core._states import JobState, StopReason
from . import _monitor_units as units
from ._monitor_model import Model, Tally
from ._monitor_text import Line, Piece
from ._script import UNICODE, Script, width

ENDS: Final = {
    StopReason.COMPLETED: "completed",
    StopReason.CRITICAL: "stopped by a critical failure",
    StopReason.TIMEOUT: "timed out",
    StopReason.CANCELLED: "cancelled",
    StopReason.INTERRUPTED: "interrupted",
}

SHORTEST_BAR: Final = 8


class Head:
    """The head of each picture of one run."""

    def __init__(self, model: Model, script: Script) -> None:
        self._model: Final = model
        self._script: Final = script
        self._is_unicode: Final = script.symbols is UNICODE

    def lines(self, columns: int, remaining: float | None) -> list[Line]:
        """Return the two lines; `remaining` is how many seconds the run still takes, None if nobody knows."""
        first = self._progress(columns, remaining) if self._model.ended is None else self._outcome(columns)
        return [first, self._counts(columns)]

    def outcome(self) -> str:
        """Return how the run has ended, in words, and how long it took."""
        scheduler = self._model.root
        words = ENDS[scheduler.stop_reason] if scheduler.stop_reason is not None else "ended"
        culprit = scheduler.culprit
        at = f" of {self._script.line(culprit.label)}" if culprit is not None else ""
        return f"{words}{at} in {units.duration(self._model.elapsed())}"

    def counts(self) -> str:
        """Return how many jobs are where, in words."""
        return ", ".join(f"{number} {word}" for _, number, word, _ in self._counted() if number)

    # ---- the first line

    def _progress(self, columns: int, remaining: float | None) -> Line:
        """Return label, bar and figures; what does not fit is left out: the label, the counts, the estimate."""
        tally = self._model.tally
        settled = sum(tally.settled.values())
        percent = f"{100 * settled // tally.jobs if tally.jobs else 0:>3}%"
        counts = f"{settled:>{len(str(tally.jobs))}}/{tally.jobs}"
        elapsed = f"{units.running(self._model.elapsed()):>{units.COLUMNS}}"
        label = self._script.line(self._model.root.label)
        tries: list[tuple[str, list[str]]] = [
            (label, [percent, counts, elapsed, self._left(remaining)]),
            ("", [percent, counts, elapsed, self._left(remaining)]),
            ("", [percent, counts, elapsed]),
            ("", [percent, elapsed.strip()]),
        ]
        for name, figures in tries:
            end = "  ".join(["", *figures])
            start = f" {name}  " if name else " "
            bar = columns - width(start) - width(end)
            if bar >= (2 * SHORTEST_BAR if name else SHORTEST_BAR):
                return [(start, "title"), *self._bar(bar, tally), (end, "figures")]
        return [(f"{percent.strip()} {elapsed.strip()}"[:columns], "figures")]

    def _left(self, remaining: float | None) -> str:
        """Return the estimate, or that the run is about to end; always in as many columns."""
        run = self._model.root._run
        if run is not None and run.stopping and run.reason is not StopReason.COMPLETED:
            return "ending".ljust(units.COLUMNS + 7)
        about = "≈" if self._is_unicode else "~"
        return ("" if remaining is None else f"{about} {units.estimate(remaining)} left").ljust(units.COLUMNS + 7)

    def _bar(self, columns: int, tally: Tally) -> Line:
        done, active, rest = ("━", "╍", "─") if self._is_unicode else ("=", ">", "-")
        bad = sum(tally.settled[state] for state in (JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED))
        parts = _shares([sum(tally.settled.values()) - bad, bad, tally.running], tally.jobs, columns)
        bar = [(done * parts[0], "done"), (done * parts[1], "failed"), (active * parts[2], "running")]
        return [*bar, (rest * (columns - sum(parts)), "dim")]

    def _outcome(self, columns: int) -> Line:
        good = self._model.root.stop_reason is StopReason.COMPLETED and not self._model.failures
        label = self._script.line(self._model.root.label)
        name = f" {label}  " if width(label) + 3 + len(self.outcome()) <= columns else " "
        return [(name, "title"), (self.outcome()[: max(0, columns - width(name))], "done" if good else "failed")]

    # ---- the second line

    def _counts(self, columns: int) -> Line:
        counted = self._counted()
        digits = len(str(self._model.tally.jobs))
        pieces: Line = [(f"{symbol} {number:>{digits}} {word}", style) for symbol, number, word, style in counted]
        if _length(pieces, 3) > columns:
            pieces = [(f"{symbol} {number} {word}", style) for symbol, number, word, style in counted]
        if _length(pieces, 3) > columns:
            pieces = [(f"{symbol} {number}", style) for symbol, number, _, style in counted]
        while _length(pieces, 2) > columns:
            pieces.pop()
        gap = "   " if _length(pieces, 3) <= columns else "  "
        return [
            piece for text, style in pieces for piece in ((" " if text == pieces[0][0] else gap, ""), (text, style))
        ]

    def _counted(self) -> list[tuple[str, int, str, str]]:
        """Return, of each kind of jobs, its symbol, how many there are, a word and a style."""
        tally, symbols = self._model.tally, self._script.symbols
        failed = len(self._model.failures)
        found = [
            (symbols.states[JobState.SUCCEEDED], tally.settled[JobState.SUCCEEDED], "done", "done"),
            (symbols.states[JobState.RUNNING], tally.running, "running", "running"),
            (symbols.marks[JobState.FAILED], failed, "failed", "failed" if failed else "dim"),
            (symbols.states[JobState.IDLE], tally.waiting, "waiting", ""),
        ]
        further = [
            (symbols.states[JobState.BLOCKED], tally.settled[JobState.BLOCKED], "blocked", "trouble"),
            (symbols.states[JobState.CANCELLED], tally.settled[JobState.CANCELLED], "cancelled", "trouble"),
            (symbols.states[JobState.SKIPPED], tally.settled[JobState.SKIPPED], "skipped", "dim"),
            (symbols.states[JobState.IDLE], tally.unreached, "never started", "trouble"),
            (symbols.forever, len(self._model.beside), "beside", "beside"),
        ]
        if self._model.ended is not None:
            found = [one for one in found if one[1] or one[2] == "done"]
            further.pop()
        return found + [one for one in further if one[1]]


def _length(pieces: list[Piece], gap: int) -> int:
    return sum(width(text) for text, _ in pieces) + gap * (len(pieces) - 1) + 1


def _shares(parts: list[int], whole: int, columns: int) -> list[int]:
    """Share columns out in proportion; what there is at all gets one, as long as there are any."""
    shares: list[int] = []
    before = 0
    for part in parts:
        end = (before + part) * columns // whole if whole else 0
        share = max(end - sum(shares), 1 if part else 0)
        shares.append(max(0, min(share, columns - sum(shares))))
        before += part
    return shares
