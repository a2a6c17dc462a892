"""The first lines of a picture: whole lines in terminals of any width, and how columns and estimates are rounded."""

import re
import pytest
from trioflow._core.base._states import StopReason
from trioflow.view._estimate import TimeLeft
from trioflow.view.monitor._run_header import (
    RunHeader,
    RunProgress,
    _divide_columns,
    estimate_text,
    estimate_words,
)
from trioflow.view.text._symbols import Symbols
from trioflow.view.text._verdict import create_verdict
from ..text.tallies import tally

COUNTS = (
    "3 succeeded, 1 failed, 2 running, 4 idle, 2 scheduled, 1 blocked, 1 moved, 1 skipped, 1 tolerated, 2 forever, "
    "1 groups, 1 restored"
)
BUSY = RunProgress("run", tally(COUNTS), 61.9, (2, 3), ["usd 3 of 10 spent"])
WORDS = (
    " ✓  3 succeeded (1 restored)   ▸  2 running   ✗  1 failed   ✗  1 tolerated   ·  6 waiting   ✗  1 group failed   "
    "⊗  1 blocked   »  1 moved on   ⤼  1 skipped   ∞  2 forever"
)
SYMBOLS = (
    " ✓ 3   ▸ 2   ✗ 1   ✗ 1 tolerated   · 6   ✗ 1 group failed   ⊗ 1   » 1   ⤼ 1   ∞ 2"
)
WORDS_ALONE = re.sub(r"(\S)  (\d)", r"\1 \2", WORDS)
BUDGET = " usd 3 of 10 spent"


def lines_of(
    progress: RunProgress, columns: int, left: TimeLeft | None = None
) -> list[str]:
    lines = RunHeader(Symbols()).lines(progress, columns, left)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


@pytest.mark.parametrize(
    ("columns", "counts"),
    [
        (250, [f"{WORDS}   ▪  2 of 3 slots   usd 3 of 10 spent"]),
        (190, [f"{WORDS}   ▪  2 of 3 slots", BUDGET]),
        (170, [WORDS, BUDGET]),
        (169, [WORDS_ALONE, BUDGET]),
        (160, [WORDS_ALONE, BUDGET]),
        (159, [SYMBOLS, BUDGET]),
        (81, [SYMBOLS, BUDGET]),
        (80, [SYMBOLS.replace("   ", "  "), BUDGET]),
        (72, [SYMBOLS.replace("   ", "  "), BUDGET]),
        (71, [SYMBOLS.replace("   ", "  ").removesuffix("  ∞ 2"), BUDGET]),
        (38, [" ✓ 3   ▸ 2   ✗ 1   ✗ 1 tolerated   · 6", BUDGET]),
        (37, [" ✓ 3  ▸ 2  ✗ 1  ✗ 1 tolerated  · 6", BUDGET]),
        (18, [" ✓ 3   ▸ 2   ✗ 1", BUDGET]),
        (14, [" ✓ 3  ▸ 2  ✗ 1", " usd 3 of 10 …"]),
        (13, [" ✓ 3   ▸ 2", " usd 3 of 10…"]),
    ],
)
def test_counts_lose_budgets_slots_words_gaps_and_then_the_last_counts(
    columns: int, counts: list[str]
) -> None:
    """Each line is as wide as the terminal, or less: that of budgets once was not."""
    assert lines_of(BUSY, columns)[1:] == counts


@pytest.mark.parametrize(
    ("columns", "left", "line"),
    [
        (80, None, " run  ━━━━━━━━━━━━━━━━━╍╍╍╍─────────────   50%   8/16  1 min 01 s"),
        (80, TimeLeft(50.5, False), " run  ━━━━━━━━━━━━━━━━━╍╍╍╍─────────────   50%   8/16  1 min 01 s  ≈ 55 s left"),
        (60, None, " run  ━━━━━━━━━━━━━━╍╍╍╍───────────   50%   8/16  1 min 01 s"),
        (60, TimeLeft(50.5, False), " ━━━━━━━━━━╍╍╍────────   50%   8/16  1 min 01 s  ≈ 55 s left"),
        (48, TimeLeft(50.5, True), " ━━━━╍───   50%  1 min 01 s  more than 50 s left"),
        (40, TimeLeft(50.5, False), " ━━━━╍───   50%  1 min 01 s  ≈ 55 s left"),
        (40, None, " run  ━━━━╍────   50%   8/16  1 min 01 s"),
        (39, TimeLeft(50.5, False), " run  ━━━━╍───   50%   8/16  1 min 01 s"),
        (38, None, " ━━━━━━╍─────   50%   8/16  1 min 01 s"),
        (30, TimeLeft(50.5, False), " ━━━━━╍─────   50%  1 min 01 s"),
        (27, None, " ━━━━╍───   50%  1 min 01 s"),
        (26, None, "50% 1 min 01 s"),
        (10, None, "50% 1 min"),
    ],
)  # fmt: skip
def test_the_first_line_loses_its_label_its_counts_and_then_its_bar(
    columns: int, left: TimeLeft | None, line: str
) -> None:
    assert lines_of(BUSY, columns, left)[0] == line


def test_a_percentage_is_rounded_down() -> None:
    """100 % is for a run in which each job has settled."""
    for counts, percentage in (
        ("2 succeeded, 1 idle", "66%  2/3"),
        ("199 succeeded, 1 running", "99%  199/200"),
        ("2 succeeded", "100%  2/2"),
    ):
        [first, _] = lines_of(RunProgress("run", tally(counts), 1.0), 80)
        assert f" {percentage} " in first


def test_a_phase_replaces_the_estimate() -> None:
    draining = BUSY._replace(phase_text="draining")
    [first, *_] = lines_of(draining, 80, TimeLeft(50.5, False))
    assert first.endswith("  1 min 01 s  draining")


def test_a_run_that_may_grow_has_neither_a_percentage_nor_waiting_jobs() -> None:
    growing = RunProgress("漢字", tally("3 succeeded, 1 running, grows"), 3.9)
    assert lines_of(growing, 60) == [
        " 漢字  ━╍───────────────────────  3/?     3 s",
        " ✓ 3 succeeded   ▸ 1 running   ✗ 0 failed",
    ]


@pytest.mark.parametrize(
    ("counts", "columns", "lines"),
    [
        ("3 succeeded", 35, [" run  ✓ all 3 jobs succeeded, 2.0 s"]),
        ("3 succeeded", 34, [" ✓ all 3 jobs succeeded, 2.0 s"]),
        ("3 succeeded", 30, [" ✓ all 3 jobs succeeded, 2.0 s"]),
        ("3 succeeded", 29, [" ✓ all 3 jobs succeeded, 2.0…", " ✓ 3 succeeded"]),
        ("3 succeeded, 1 forever", 60, [" run  ✓ all 3 jobs succeeded, 2.0 s", " ✓ 3 succeeded   ∞ 1 forever"]),
        ("0 succeeded, 1 skipped", 60, [" run  ✓ 0 of 1 job succeeded, 1 skipped, 2.0 s"]),
    ],
)  # fmt: skip
def test_counts_remain_after_the_run_if_the_verdict_does_not_have_them(
    counts: str, columns: int, lines: list[str]
) -> None:
    """Slots and budgets go."""
    done = tally(counts)
    verdict = create_verdict(StopReason.COMPLETED, done, 2.0)
    progress = RunProgress("run", done, 2.0, (0, 3), ["usd 3 of 10"], verdict=verdict)
    assert lines_of(progress, columns) == lines


@pytest.mark.parametrize(
    ("parts", "whole", "columns", "widths"),
    [
        ([0, 0, 0, 0], 0, 10, [0, 0, 0, 0]), ([1, 0, 0, 0], 100, 10, [1, 0, 0, 0]),
        ([1, 0, 1, 1], 100, 10, [1, 0, 1, 1]),
        ([50, 0, 1, 49], 100, 10, [5, 0, 1, 4]), ([98, 1, 1, 0], 100, 4, [3, 1, 0, 0]),
        ([1, 1, 1, 1], 4, 3, [1, 1, 1, 0]),
        ([10, 0, 0, 0], 10, 10, [10, 0, 0, 0]), ([3, 3, 3, 0], 10, 10, [3, 3, 3, 0]),
        ([2, 0, 0, 3], 0, 9, [1, 0, 0, 1]),
    ],
)  # fmt: skip
def test_each_part_of_a_bar_that_is_not_empty_has_a_column_if_any_is_left(
    parts: list[int], whole: int, columns: int, widths: list[int]
) -> None:
    assert _divide_columns(parts, whole, columns) == widths


@pytest.mark.parametrize(
    ("seconds", "about", "least"),
    [
        (0.2, "1 s", "1 s"), (9.2, "10 s", "9 s"), (10, "10 s", "10 s"), (11, "15 s", "10 s"),
        (61, "1 min 05 s", "1 min"),
        (119.9, "2 min", "1 min 55 s"), (120, "2 min", "2 min"), (121, "2 min 30 s", "2 min"),
        (599, "10 min", "9 min 30 s"),
        (600, "10 min", "10 min"), (601, "11 min", "10 min"), (3600, "1 h", "1 h"),
    ],
)  # fmt: skip
def test_an_estimate_is_rounded_up_and_a_lower_bound_down(
    seconds: float, about: str, least: str
) -> None:
    assert (estimate_text(seconds), estimate_text(seconds, True)) == (about, least)
    assert estimate_words(TimeLeft(seconds, False), "≈") == f"≈ {about} left"
    assert estimate_words(TimeLeft(seconds, True), "≈") == f"more than {least} left"
    assert estimate_words(None) == ""
