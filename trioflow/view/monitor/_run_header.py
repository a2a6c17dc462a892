"""`RunHeader`: the first lines of a monitor's picture: the progress of the run, the jobs in each state, the budgets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..._core.base._states import MOVED_ON, JobState, ReportedState
from ..._core.base._text_forms import duration_text, fit
from .._estimate import TimeLeft
from .._state_styles import FOREVER_BADGE, STATE_PRECEDENCE, STATE_STYLES
from ..text._symbols import Symbols, display_width
from ..text._verdict import FOREVER_KEY, TOLERATED_KEY, Tally, Verdict
from ._records import StyledLine, StyledText, line_width

RARE_STATES: Final = tuple(
    state
    for state in STATE_PRECEDENCE
    if state.is_settled and state not in (JobState.SUCCEEDED, JobState.FAILED)
)
"""The final states that are shown only if there are jobs in them, in the order shown. They do not include FAILED,
because the header shows the number of failures, which also counts failed schedulers."""

MIN_TIME_WIDTH: Final = len("59.9 s")
"""The minimum number of columns for an elapsed time. The column grows when a longer time is shown."""

MIN_BAR_WIDTH: Final = 8


class RunProgress(NamedTuple):
    """The facts about a run that the header shows."""

    label: str
    tally: Tally
    elapsed: float
    """The seconds since the run began, or its duration if it has ended."""
    slots: tuple[int, int] | None = None
    """The number of slots in use, and of all slots, or None if there is no limit."""
    budget_texts: Sequence[str] = ()
    phase_text: str = ""
    """The word "ending" or "draining" if the run is about to end, or since when it is paused."""
    verdict: Verdict | None = None


class DisplayedCount(NamedTuple):
    """A number in the second line of the header, e.g. the number of jobs in a state."""

    symbol: str
    number: int
    word: str
    style: str


class RunHeader:
    """The header of the pictures of a run. Its columns keep their positions from picture to picture."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols: Final = symbols
        self._elapsed_width = MIN_TIME_WIDTH
        self._remaining_text_width = len("≈ 30 min left")

    def lines(
        self, progress: RunProgress, columns: int, remaining: TimeLeft | None
    ) -> list[StyledLine]:
        """Return the two lines, and a third line for budgets that have no room in the second.

        After the run, omit the second line if its counts only repeat the verdict.

        Args:
            progress: the progress of the run.
            columns: the width of the terminal.
            remaining: the remaining seconds of the run, or None if unknown.

        """
        if progress.verdict is None:
            counts_line = self._counts_line(progress, columns)
            lines = [self._progress_line(progress, columns, remaining), counts_line]
            budgets = f" {'   '.join(map(self._symbols.escape, progress.budget_texts))}"
            counts_text = "".join(text for text, _ in counts_line)
            if progress.budget_texts and not counts_text.endswith(budgets):
                ellipsis = self._symbols.ellipsis
                budgets = fit(budgets, columns, "start", display_width, ellipsis)
                lines.append([(budgets, "figures")])
            return lines
        outcome = self._outcome_line(progress.label, progress.verdict, columns)
        shown_words, _ = outcome[-1]
        is_whole = shown_words.endswith(self._symbols.escape(progress.verdict.sentence))
        if is_whole and not progress.tally.count(FOREVER_KEY):
            return [outcome]
        return [outcome, self._counts_line(progress, columns)]

    def counts_text(self, progress: RunProgress) -> str:
        """Return a text with the number of jobs in each state, e.g. `3 succeeded, 1 failed`."""
        return ", ".join(
            f"{count.number} {count.word}"
            for count in self._state_counts(progress)
            if count.number
        )

    # ---- the first line

    def _progress_line(
        self, progress: RunProgress, columns: int, remaining: TimeLeft | None
    ) -> StyledLine:
        """Return the first line: the label of the run, a bar, the percentage, the counts, and the times.

        In a narrow terminal, omit the label, the counts or the estimate.
        """
        settled = progress.tally.settled_count
        percent = ""
        counts = f"{settled}/?"
        if not progress.tally.may_grow:
            total = progress.tally.job_count
            percent = f"{100 * settled // max(total, 1):>3}%"
            counts = f"{settled:>{len(str(total))}}/{total}"
        elapsed = elapsed_text(progress.elapsed)
        self._elapsed_width = max(self._elapsed_width, len(elapsed))
        elapsed = elapsed.rjust(self._elapsed_width)
        label = self._symbols.escape(progress.label)
        # In a narrow terminal, this is shown instead of the label.
        remaining_text = progress.phase_text or estimate_words(
            remaining, self._symbols.about_sign
        )
        self._remaining_text_width = max(
            self._remaining_text_width, len(remaining_text)
        )
        padded_remaining = remaining_text.ljust(self._remaining_text_width)
        candidates: list[tuple[str, list[str], int]] = [
            (label, [percent, counts, elapsed, padded_remaining], 2 * MIN_BAR_WIDTH),
        ]
        if remaining_text:
            candidates += [
                ("", [percent, counts, elapsed, remaining_text], MIN_BAR_WIDTH),
                ("", [percent, elapsed, remaining_text], MIN_BAR_WIDTH),
            ]
        candidates += [
            (label, [percent, counts, elapsed], MIN_BAR_WIDTH),
            ("", [percent, counts, elapsed], MIN_BAR_WIDTH),
            ("", [percent, elapsed.strip()], MIN_BAR_WIDTH),
        ]
        for name, figures, min_bar_width in candidates:
            end = "  ".join(["", *filter(None, figures)])
            start = f" {name}  " if name else " "
            bar_width = columns - display_width(start) - display_width(end)
            if bar_width >= min_bar_width:
                return [
                    (start, "title"),
                    *self._progress_bar(progress, bar_width),
                    (end, "figures"),
                ]
        return [(f"{percent.strip()} {elapsed.strip()}"[:columns], "figures")]

    def _progress_bar(self, progress: RunProgress, columns: int) -> StyledLine:
        settled, running, waiting = list(self._symbols.choose("━╍─", "=>-"))
        tally = progress.tally
        counts = dict(tally.states())
        failed = sum(
            counts[state]
            for state in counts
            if STATE_STYLES[state].monitor_style in {"failed", "trouble"}
        )
        moved_on = tally.count(MOVED_ON)
        parts = [
            tally.settled_count - failed - moved_on,
            moved_on,
            failed,
            tally.count(JobState.RUNNING),
        ]
        widths = _divide_columns(
            parts, 0 if tally.may_grow else tally.job_count, columns
        )
        return [
            (settled * widths[0], "done"),
            (settled * widths[1], "moved on"),
            (settled * widths[2], "failed"),
            (running * widths[3], "running"),
            (waiting * (columns - sum(widths)), "dim"),
        ]

    def _outcome_line(self, label: str, verdict: Verdict, columns: int) -> StyledLine:
        words = (
            f"{verdict.symbol(self._symbols)} {self._symbols.escape(verdict.sentence)}"
        )
        label = self._symbols.escape(label)
        name = " "
        if display_width(label) + 3 + display_width(words) <= columns:
            name = f" {label}  "
        words = fit(
            words,
            columns - display_width(name),
            "start",
            display_width,
            self._symbols.ellipsis,
        )
        style = "good" if verdict.is_good else "failed"
        return [(name, "title"), (words, style)]

    # ---- the second line

    def _counts_line(self, progress: RunProgress, columns: int) -> StyledLine:
        """Return the second line. In a narrow terminal, omit the budgets, the slots, the words, or the last counts."""
        state_counts = self._state_counts(progress)
        digits = len(str(progress.tally.job_count))
        slot_counts = list[DisplayedCount]()
        budgets = StyledLine()
        if progress.verdict is None:
            # After the run, neither slots nor budgets are of interest.
            budgets = [
                (self._symbols.escape(text), "figures")
                for text in progress.budget_texts
            ]
            if progress.slots is not None:
                used, total = progress.slots
                slot_counts = [
                    DisplayedCount(
                        self._symbols.choose("▪", "="), used, f"of {total} slots", "dim"
                    )
                ]
        texts: StyledLine = []
        all_counts = [*state_counts, *slot_counts]
        no_budgets = StyledLine()
        choices = (
            (all_counts, budgets),
            (all_counts, no_budgets),
            (state_counts, no_budgets),
        )
        for number_width, (counts, more) in itertools.product((digits, 0), choices):
            texts = [
                (
                    f"{count.symbol} {count.number:>{number_width}} {count.word}",
                    count.style,
                )
                for count in counts
            ]
            texts += more
            if _total_width(texts, 3) <= columns:
                break
        else:
            # Without its word, a later count with the same symbol, as of tolerated failures, has no meaning.
            symbols: set[str] = set()
            texts = []
            for count in state_counts:
                text = f"{count.symbol} {count.number}"
                if count.symbol in symbols:
                    text += f" {count.word}"
                symbols.add(count.symbol)
                texts.append((text, count.style))
        while _total_width(texts, 2) > columns:
            texts.pop()
        gap = "   " if _total_width(texts, 3) <= columns else "  "
        line: StyledLine = []
        for text, style in texts:
            before = gap if line else " "
            line += [(before, ""), (text[0], style), (text[1:], "figures")]
        return line

    def _state_counts(self, progress: RunProgress) -> list[DisplayedCount]:
        tally = progress.tally
        idle = self._symbols.of(STATE_STYLES[JobState.IDLE])
        succeeded = self._state_count(
            JobState.SUCCEEDED, tally.count(JobState.SUCCEEDED)
        )
        if tally.restored.number:
            # The succeeded jobs include the restored jobs.
            succeeded = succeeded._replace(
                word=f"{succeeded.word} ({tally.restored.number} restored)"
            )
        failed = self._state_count(JobState.FAILED, tally.count(JobState.FAILED))
        tolerated = failed._replace(number=tally.count(TOLERATED_KEY), word="tolerated")
        groups = failed._replace(number=tally.failed_groups, word="groups failed")
        if groups.number == 1:
            groups = groups._replace(word="group failed")
        waiting_count = (
            tally.count(JobState.IDLE)
            + tally.count(JobState.SCHEDULED)
            - tally.unreached_count
        )
        waiting = DisplayedCount(idle, waiting_count, "waiting", "")
        common_counts = [
            succeeded,
            self._state_count(JobState.RUNNING, tally.count(JobState.RUNNING)),
        ]
        if not failed.number:
            failed = failed._replace(style="dim")
        common_counts.append(failed)
        if tolerated.number:
            common_counts.append(tolerated)
        if not tally.may_grow:
            # Otherwise, the number of waiting jobs is unknown.
            common_counts.append(waiting)
        rare_counts = [
            groups,
            *(self._state_count(state, tally.count(state)) for state in RARE_STATES),
            DisplayedCount(idle, tally.unreached_count, "never started", "trouble"),
            DisplayedCount(
                self._symbols.of(FOREVER_BADGE),
                tally.count(FOREVER_KEY),
                "forever",
                FOREVER_BADGE.monitor_style,
            ),
        ]
        if progress.verdict is not None:
            common_counts = [
                count for count in common_counts if count.number or count is succeeded
            ]
        return common_counts + [count for count in rare_counts if count.number]

    def _state_count(self, state: ReportedState, number: int) -> DisplayedCount:
        style = STATE_STYLES[state]
        return DisplayedCount(
            self._symbols.of(style), number, state.value, style.monitor_style
        )


def elapsed_text(seconds: float) -> str:
    """Return an elapsed time as text, rounded down to whole seconds, because changing fractions would flicker."""
    return duration_text(max(0, math.floor(seconds)))


def estimate_text(seconds: float, is_least: bool = False) -> str:
    """Return an estimate as text, rounded up, or a lower bound, rounded down.

    It is rounded to a multiple of 1 s below 10 s, of 5 s below 2 min, of 30 s below 10 min, and otherwise of 1 min.
    """
    step = next(
        step
        for limit, step in ((10, 1), (120, 5), (600, 30), (math.inf, 60))
        if seconds < limit
    )
    return duration_text(
        max(1, (math.floor if is_least else math.ceil)(seconds / step)) * step
    )


def estimate_words(left: TimeLeft | None, about: str = "about") -> str:
    """Return how long a run goes on, such as "more than 9 s left", or "" if that is unknown."""
    if left is None:
        return ""
    if left.is_least:
        about = "more than"
    return f"{about} {estimate_text(*left)} left"


def _total_width(texts: list[StyledText], gap: int) -> int:
    return line_width(texts) + gap * (len(texts) - 1) + 1


def _divide_columns(parts: list[int], whole: int, columns: int) -> list[int]:
    """Return the number of columns for each part, in proportion to its share of `whole`.

    A part that is not zero gets at least a column if any is left.
    """
    widths: list[int] = []
    total = 0
    for part in parts:
        total += part
        end = total * columns // whole if whole else 0
        part_width = max(end - sum(widths), 1 if part else 0)
        widths.append(max(0, min(part_width, columns - sum(widths))))
    return widths
