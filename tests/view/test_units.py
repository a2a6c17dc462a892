"""Durations and sizes as people say them: the same in each view, log and error."""

from __future__ import annotations

import pytest

from trioflow._core.door.reading import amount_of, duration_text, durations_in_column, shown, size_text
from trioflow.view.monitor._run_lines import estimate, so_far


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1e-12, "0 s"),
        (2.5e-7, "250 ns"),
        (1.25e-5, "12.5 µs"),
        (0.000_999_9, "1 ms"),
        (0.0123, "12.3 ms"),
        (0.1004, "100 ms"),
        (0.9999, "1 s"),
        (1.2345, "1.23 s"),
        (9.999, "10 s"),
        (59.94, "59.9 s"),
        (59.95, "1 min"),
        (59.96, "1 min"),
        (61, "1 min 01 s"),
        (750, "12 min 30 s"),
        (3599.7, "1 h"),
        (11_100, "3 h 05 min"),
        (86_399, "1 d"),
        (187_200, "2 d 04 h"),
        (-1.5, "-1.5 s"),
    ],
)
def test_a_duration_has_three_figures(seconds: float, text: str) -> None:
    """Or two units that people say together; nothing is rounded up to 60 of a unit."""
    assert duration_text(seconds) == text


def test_a_column_of_the_shortest_times_is_in_nanoseconds() -> None:
    """The longest decides, however short it is."""
    assert durations_in_column([2e-9, None, 1.5e-9]) == ("ns", ["2.000", "", "1.500"])


@pytest.mark.parametrize(
    ("seconds", "said"), [(-0.1, "0 s"), (0.9, "0 s"), (9.9, "9 s"), (59.9, "59 s"), (60, "1 min"), (61, "1 min 01 s")]
)
def test_times_that_go_on(seconds: float, said: str) -> None:
    """Whole seconds, rounded down: the figure changes once a second."""
    assert so_far(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "5 s"), (6, "10 s"), (118, "2 min"), (121, "2 min 30 s"), (601, "11 min"), (7200, "2 h")],
)
def test_estimates_are_rough(seconds: float, said: str) -> None:
    """Steps of 5 seconds, then 30, then minutes, upwards."""
    assert estimate(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5_872_025, "5.6 MiB"),
        (4 << 30, "4 GiB"),
        (1 << 60, "1024 PiB"),
    ],
)
def test_sizes_have_the_units_of_memory(number: int, said: str) -> None:
    """Powers of 1024, with the names that say so, as in `needs=` and pools."""
    assert size_text(number) == said


def test_a_column_is_in_minutes_when_its_longest_time_would_have_three_digits_of_seconds() -> None:
    """Less than 100 s is said in seconds, with as many decimals as four figures have."""
    assert durations_in_column([99.99]) == ("s", ["99.99"])
    assert durations_in_column([100, 1]) == ("min:s", ["1:40.0", "0:01.0"])
    assert durations_in_column([99.997]) == ("min:s", ["1:40.0"])


def test_a_huge_number_is_shown_by_its_size() -> None:
    """To convert it would take long, and Python refuses more than some thousand digits."""
    assert shown(10**400) == "<a whole number of some 401 digits>"


@pytest.mark.parametrize("text", ["much", "4 parsecs", "4 xB", ""])
def test_a_size_that_is_none_says_what_one_is(text: str) -> None:
    """A number and a unit."""
    with pytest.raises(ValueError, match=r"^mem: write a number and a unit: B, kB"):
        amount_of(text, "mem")
